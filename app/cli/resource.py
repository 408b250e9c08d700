"""`deputy resource`: the APIs."""

from __future__ import annotations

from typing import Any

import click

from app.cli.answer import OPERATOR, answers, server_of, show, shown_once, table
from app.cli.bound import WAYS, said_bound, ways_of
from app.errors import Refused
from app.resources.models import ResourceRow


@click.group()
def resource() -> None:
    """APIs: their URI, scopes in plain words, and the credential they introspect with."""


@resource.command()
@click.argument("uri")
@click.option("--name", required=True, help="As the consent page shows it.")
@click.option(
    "--scope", "scopes", multiple=True, required=True, metavar="NAME=WORDS", help="'calendar:read=Read your calendar'; repeat it."
)
@click.option("--label", "labels", multiple=True, help="A label such as confidential; repeat it.")
@click.option("--scope-label", "scope_labels", multiple=True, metavar="NAME=LABEL", help="'mail:send=external-send'; repeat it.")
@click.option("--alg", default="ES256", show_default=True, help="What its tokens are signed with: ES256, EdDSA, RS256, PS256.")
@click.option(
    "--bound",
    type=click.Choice(WAYS),
    help="It takes only tokens bound to a key by DPoP, to a client certificate by mutual TLS, or to either; no bearer token is issued for it.",
)
@click.option("--dpop-required", is_flag=True, help="The same as --bound dpop.")
@click.pass_context
@answers
def add(
    context: click.Context,
    uri: str,
    name: str,
    scopes: tuple[str, ...],
    labels: tuple[str, ...],
    scope_labels: tuple[str, ...],
    alg: str,
    bound: str | None,
    dpop_required: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Register an API. Prints the credential with which it introspects, this once."""
    words = {}
    for text in scopes:
        scope, equals, meaning = text.partition("=")
        if not equals or scope in words:
            raise Refused("each --scope is NAME=WORDS, each name once")
        words[scope] = meaning
    touching: dict[str, list[str]] = {}
    for text in scope_labels:
        scope, equals, label = text.partition("=")
        if not equals:
            raise Refused("each --scope-label is NAME=LABEL")
        touching.setdefault(scope, []).append(label)
    if dpop_required and bound not in {None, "dpop"}:
        raise Refused("--dpop-required is --bound dpop, and another was named")
    ways = ways_of("dpop" if dpop_required else bound)
    registry = server_of(context).resource_registry
    made = registry.add(uri, name=name, scopes=words, labels=labels, scope_labels=touching, alg=alg, bound=ways, by=OPERATOR)
    show({"resource": uri, "client_id": made.client_id, "client_secret": made.client_secret}, as_json=as_json)


@resource.command("list")
@click.pass_context
@answers
def list_(context: click.Context, as_json: bool) -> None:  # noqa: FBT001
    """Every API, by URI."""
    rows = [
        {"resource": row.uri, "name": row.name, "scopes": sorted(row.scopes), "labels": row.labels, "enabled": row.enabled}
        for row in server_of(context).resource_registry.list()
    ]
    table(rows, as_json=as_json, none="No API is registered yet.")


@resource.command("show")
@click.argument("uri")
@click.pass_context
@answers
def show_(context: click.Context, uri: str, as_json: bool) -> None:  # noqa: FBT001
    """All that is registered of an API."""
    show(_facts(server_of(context).resource_registry.get(uri)), as_json=as_json)


@resource.command()
@click.argument("uri")
@click.pass_context
@answers
def disable(context: click.Context, uri: str, as_json: bool) -> None:  # noqa: FBT001
    """End every token for the API; nothing is issued for it."""
    registry = server_of(context).resource_registry
    registry.disable(uri, by=OPERATOR)
    show({"resource": registry.get(uri).uri, "enabled": False}, as_json=as_json)


@resource.command()
@click.argument("uri")
@click.pass_context
@answers
def enable(context: click.Context, uri: str, as_json: bool) -> None:  # noqa: FBT001
    """Open the API again. What ended stays ended."""
    registry = server_of(context).resource_registry
    registry.enable(uri, by=OPERATOR)
    show({"resource": registry.get(uri).uri, "enabled": True}, as_json=as_json)


@resource.command()
@click.argument("uri")
@click.pass_context
@answers
def secret(context: click.Context, uri: str, as_json: bool) -> None:  # noqa: FBT001
    """Give the API a fresh secret; the old one is good no more."""
    server = server_of(context)
    with shown_once(as_json=as_json):
        client_id, fresh = server.resource_registry.new_secret(uri, by=OPERATOR)
        show({"client_id": client_id, "client_secret": fresh}, as_json=as_json)


def _facts(row: ResourceRow) -> dict[str, Any]:
    return {
        "resource": row.uri,
        "name": row.name,
        "scopes": row.scopes,
        "labels": row.labels,
        "scope_labels": {scope: " ".join(labels) for scope, labels in row.scope_labels.items()},
        "alg": row.alg,
        "bound": said_bound(row.bound),
        "client_id": row.client_id,
        "enabled": row.enabled,
        "id": row.id,
    }
