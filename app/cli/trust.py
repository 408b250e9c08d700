"""`deputy trust`: whose word about running copies of agents is taken."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.cli.agent import KEY_FILE, read_json
from app.cli.answer import OPERATOR, answers, server_of, show, table, when
from app.errors import NotFound, Refused

if TYPE_CHECKING:
    from app.agents.models import TrustRow
    from app.wiring import Server


@click.group()
def trust() -> None:
    """Trusts: whose word about a running copy of an agent is taken, and which claims it must have."""


@trust.command()
@click.argument("issuer")
@click.option("--agent", "reference", required=True, metavar="AGENT", help="The one agent it is taken for.")
@click.option("--claim", "claims", multiple=True, required=True, metavar="NAME=VALUE", help="Must be so, byte for byte; repeat it.")
@click.option("--jwks", type=KEY_FILE, help="The issuer's public keys as a JWK Set.")
@click.option("--jwks-uri", default="", metavar="URL", help="Where they are fetched, instead.")
@click.option("--audience", default="", help="The issuer of this server, by default, or its token endpoint.")
@click.option("--alg", "algorithms", multiple=True, help="ES256, EdDSA, RS256, PS256; repeat it. By default all.")
@click.option("--max-age", type=int, default=600, show_default=True, help="Seconds its word is good for after it was given.")
@click.option("--hours", type=int, default=8, show_default=True, help="How long an instance lives that is born of it.")
@click.pass_context
@answers
def add(context: click.Context, /, issuer: str, reference: str, jwks: Path | None, as_json: bool, **asked: Any) -> None:  # noqa: FBT001
    """Take an issuer's word about workloads with exactly these claims, for one agent.

    A claim inside another is named by a JSON Pointer: --claim /kubernetes.io/namespace=agents
    """
    server = server_of(context)
    row = server.trusts.add(
        issuer,
        server.agent_registry.get(reference).client_id,
        claims=_rules(asked["claims"]),
        jwks=read_json(jwks) if jwks is not None else None,
        jwks_uri=asked["jwks_uri"],
        audience=asked["audience"],
        algorithms=asked["algorithms"],
        max_age=asked["max_age"],
        hours=asked["hours"],
        by=OPERATOR,
    )
    show(_facts(server, row, as_json=as_json), as_json=as_json)


@trust.command("list")
@click.pass_context
@answers
def list_(context: click.Context, as_json: bool) -> None:  # noqa: FBT001
    """Every trust, by issuer."""
    server = server_of(context)
    rows = [
        {
            "trust": row.id,
            "issuer": row.issuer,
            "agent": _agent(server, row.client_id),
            "claims": [f"{name}={value}" for name, value in row.claims.items()],
            "enabled": row.enabled,
        }
        for row in server.trusts.list()
    ]
    table(rows, as_json=as_json, none="Nobody's word is taken.")


@trust.command("show")
@click.argument("identifier", metavar="TRUST")
@click.pass_context
@answers
def show_(context: click.Context, identifier: str, as_json: bool) -> None:  # noqa: FBT001
    """All that is registered of a trust."""
    server = server_of(context)
    show(_facts(server, server.trusts.get(identifier), as_json=as_json), as_json=as_json)


@trust.command()
@click.argument("identifier", metavar="TRUST")
@click.option("--jwks", type=KEY_FILE, help="The issuer's public keys as a JWK Set.")
@click.option("--jwks-uri", default="", metavar="URL", help="Where they are fetched, instead.")
@click.pass_context
@answers
def keys(context: click.Context, identifier: str, jwks: Path | None, jwks_uri: str, as_json: bool) -> None:  # noqa: FBT001
    """Take other keys of the issuer, or fetch them elsewhere."""
    server = server_of(context)
    server.trusts.set_keys(identifier, jwks=read_json(jwks) if jwks is not None else None, jwks_uri=jwks_uri, by=OPERATOR)
    show(_facts(server, server.trusts.get(identifier), as_json=as_json), as_json=as_json)


@trust.command()
@click.argument("identifier", metavar="TRUST")
@click.pass_context
@answers
def disable(context: click.Context, identifier: str, as_json: bool) -> None:  # noqa: FBT001
    """Take the issuer's word no more, and end every instance that was born of it."""
    show({"trust": identifier, "instances_ended": server_of(context).trusts.disable(identifier, by=OPERATOR)}, as_json=as_json)


@trust.command()
@click.argument("identifier", metavar="TRUST")
@click.pass_context
@answers
def enable(context: click.Context, identifier: str, as_json: bool) -> None:  # noqa: FBT001
    """Take its word again. What ended stays ended."""
    server_of(context).trusts.enable(identifier, by=OPERATOR)
    show({"trust": identifier, "enabled": True}, as_json=as_json)


@trust.command()
@click.argument("identifier", metavar="TRUST")
@click.pass_context
@answers
def remove(context: click.Context, identifier: str, as_json: bool) -> None:  # noqa: FBT001
    """Disable it, and forget it."""
    show({"removed": identifier, "instances_ended": server_of(context).trusts.remove(identifier, by=OPERATOR)}, as_json=as_json)


def _rules(claims: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for claim in claims:
        name, equals, value = claim.partition("=")
        if not equals or name in found:
            raise Refused("a claim is NAME=VALUE, each name once")
        found[name] = value
    return found


def _agent(server: Server, client_id: str) -> str:
    try:
        return server.agent_registry.get(client_id).name
    except NotFound:
        return client_id


def _facts(server: Server, row: TrustRow, *, as_json: bool) -> dict[str, Any]:
    return {
        "trust": row.id,
        "issuer": row.issuer,
        "agent": _agent(server, row.client_id),
        "claims": row.claims if as_json else [f"{name}={value}" for name, value in row.claims.items()],
        "audience": row.audience,
        "keys": row.jwks_uri or [key.get("kid") or "without kid" for key in row.jwks["keys"]],
        "algorithms": row.algorithms,
        "max_age": row.max_age,
        "hours": row.hours,
        "enabled": row.enabled,
        "made": when(row.made_at, as_json=as_json),
    }
