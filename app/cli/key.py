"""`deputy key`: the signing keys."""

from __future__ import annotations

import click

from app.cli.answer import answers, server_of, show, table
from app.errors import Refused
from app.vocabulary import SigningAlg


@click.group()
def key() -> None:
    """Signing keys: next, active, retiring, revoked."""


@key.command("list")
@click.pass_context
@answers
def list_(context: click.Context, as_json: bool) -> None:  # noqa: FBT001
    """Every key; with --json also the public part of the ledger's."""
    server = server_of(context)
    rows = [
        {"kid": one.kid, "use": one.use.value, "alg": one.alg.value, "state": one.state.value, "created_at": one.created_at}
        for one in server.keys.list()
    ]
    if as_json:
        show({"keys": rows, "ledger_jwks": server.keys.ledger_jwks()}, as_json=True)
    else:
        table(rows, as_json=False, none="There are no keys.")


@key.command()
@click.option("--alg", default="ES256", show_default=True, help="ES256, EdDSA, RS256, PS256.")
@click.option("--ledger", is_flag=True, help="The ledger's key instead.")
@click.pass_context
@answers
def rotate(context: click.Context, alg: str, ledger: bool, as_json: bool) -> None:  # noqa: FBT001
    """The next key signs from now on; tokens of the last stay good until they expire."""
    keys = server_of(context).keys
    try:
        kid = keys.rotate_ledger() if ledger else keys.rotate(SigningAlg(alg))
    except ValueError:
        raise Refused("alg is one of " + ", ".join(SigningAlg)) from None
    show({"active": kid}, as_json=as_json)
