"""`deputy app`: human-facing applications."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from app.cli.agent import read_json
from app.cli.answer import OPERATOR, answers, server_of, show, shown_once, table
from app.cli.bound import WAYS, said_bound, ways_of
from app.cli.pairs import pairs_of


@click.group("app")
def app() -> None:
    """Human-facing applications: they sign people in."""


@app.command()
@click.argument("name")
@click.option("--redirect-uri", "redirect_uris", multiple=True, required=True)
@click.option("--native", is_flag=True, help="A program on a computer or phone: loopback and private-use redirect URIs.")
@click.option(
    "--auth", default="client_secret_basic", show_default=True, help="none, client_secret_basic, client_secret_post, private_key_jwt."
)
@click.option("--id-token-alg", default="RS256", show_default=True, help="RS256, ES256, EdDSA, PS256.")
@click.option("--resource", "resources", multiple=True, metavar="URI", help="An API it may reach for a signed-in human; repeat it.")
@click.option("--scope", "scopes", multiple=True, help="What it may ask for there; repeat it.")
@click.option("--post-logout-redirect-uri", "post_logout", multiple=True)
@click.option("--bound", type=click.Choice(WAYS), help="It gets only tokens bound by DPoP, by mutual TLS, or by either.")
@click.option("--jwks", type=click.Path(dir_okay=False, path_type=Path), help="Its public keys, for private_key_jwt.")
@click.pass_context
@answers
def add(context: click.Context, /, name: str, jwks: Path | None, as_json: bool, **asked: Any) -> None:  # noqa: FBT001
    """Register an application. Prints its client_id, and its secret this once."""
    server = server_of(context)
    made = server.apps.add(
        name,
        redirect_uris=asked["redirect_uris"],
        auth=asked["auth"],
        pairs=pairs_of(server, asked["resources"], asked["scopes"]),
        native=asked["native"],
        id_token_alg=asked["id_token_alg"],
        post_logout_redirect_uris=asked["post_logout"],
        bound=ways_of(asked["bound"]),
        jwks=read_json(jwks) if jwks is not None else None,
        by=OPERATOR,
    )
    facts = {"client_id": made.client_id}
    if made.client_secret is not None:
        facts["client_secret"] = made.client_secret
    show(facts, as_json=as_json)


@app.command("list")
@click.pass_context
@answers
def list_(context: click.Context, as_json: bool) -> None:  # noqa: FBT001
    """Every application, by name."""
    rows = [
        {"name": row.name, "client_id": row.client_id, "auth": row.auth_method, "enabled": row.enabled}
        for row in server_of(context).apps.list()
    ]
    table(rows, as_json=as_json, none="No application is registered yet.")


@app.command("show")
@click.argument("client_id")
@click.pass_context
@answers
def show_(context: click.Context, client_id: str, as_json: bool) -> None:  # noqa: FBT001
    """All that is registered of an application."""
    row = server_of(context).apps.get(client_id)
    facts = {
        "client_id": row.client_id,
        "name": row.name,
        "auth": row.auth_method,
        "native": row.native,
        "redirect_uris": row.redirect_uris,
        "post_logout_redirect_uris": row.post_logout_redirect_uris,
        "id_token_alg": row.id_token_alg,
        "scopes": [" ".join(pair) for pair in row.pairs],
        "bound": said_bound(row.bound),
        "enabled": row.enabled,
    }
    show(facts, as_json=as_json)


@app.command()
@click.argument("client_id")
@click.pass_context
@answers
def disable(context: click.Context, client_id: str, as_json: bool) -> None:  # noqa: FBT001
    """End all that hangs on the application, and keep it out."""
    server_of(context).apps.disable(client_id, by=OPERATOR)
    show({"client_id": client_id, "enabled": False}, as_json=as_json)


@app.command()
@click.argument("client_id")
@click.pass_context
@answers
def enable(context: click.Context, client_id: str, as_json: bool) -> None:  # noqa: FBT001
    """Let the application in again. What ended stays ended."""
    server_of(context).apps.enable(client_id, by=OPERATOR)
    show({"client_id": client_id, "enabled": True}, as_json=as_json)


@app.command()
@click.argument("client_id")
@click.pass_context
@answers
def secret(context: click.Context, client_id: str, as_json: bool) -> None:  # noqa: FBT001
    """Give the application a fresh secret; the old one is good no more."""
    server = server_of(context)
    with shown_once(as_json=as_json):
        fresh = server.apps.new_secret(client_id, by=OPERATOR)
        show({"client_id": client_id, "client_secret": fresh}, as_json=as_json)
