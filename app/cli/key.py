"""`deputy key`: the signing keys."""

from __future__ import annotations

import click

from app.cli.answer import answers, not_yet, server_of, show, table, when
from app.errors import Refused
from app.live.deeds import NotYetInForce
from app.vocabulary import KeyState, KeyUse, SigningAlg


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
        {
            "kid": one.kid,
            "use": one.use.value,
            "alg": one.alg.value,
            "state": one.state.value,
            "created_at": when(one.created_at, as_json=as_json),
        }
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
    if alg not in set(SigningAlg):
        raise Refused("alg is one of " + ", ".join(SigningAlg))
    try:
        kid = keys.rotate_ledger() if ledger else keys.rotate(SigningAlg(alg))
    except NotYetInForce as pending:
        use = KeyUse.LEDGER if ledger else KeyUse.TOKEN
        active = [one.kid for one in keys.list() if one.use is use and one.state is KeyState.ACTIVE and (ledger or one.alg == alg)]
        show({"active": active[0]}, as_json=as_json)
        not_yet(f"{pending.reason}. The server takes it up when it runs; repeating rotates once more.")
    show({"active": kid}, as_json=as_json)
