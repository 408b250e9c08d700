"""`deputy consent`: what people allowed."""

from __future__ import annotations

import click

from app.cli.answer import OPERATOR, answers, server_of, show, table, when
from app.cli.human import find_human


@click.group()
def consent() -> None:
    """What people allowed agents and applications to do."""


@consent.command("list")
@click.option("--human", help="Of this person only: username or id.")
@click.pass_context
@answers
def list_(context: click.Context, human: str | None, as_json: bool) -> None:  # noqa: FBT001
    """The consents that stand, the newest first."""
    server = server_of(context)
    whose = find_human(server, human).id if human is not None else None
    people = {one.id: one.username for one in server.accounts.list()}
    rows = [
        {
            "consent": one.id,
            "human": people.get(one.human, one.human),
            "client_id": one.client_id,
            "until": when(one.until, as_json=as_json),
            "away": one.away,
            "paused": one.paused,
            "scopes": [" ".join(pair) for pair in sorted(one.pairs)],
        }
        for one in server.consents.every(whose)
    ]
    table(rows, as_json=as_json, none="Nothing is allowed just now.")


@consent.command()
@click.argument("consent_id", metavar="CONSENT")
@click.pass_context
@answers
def withdraw(context: click.Context, consent_id: str, as_json: bool) -> None:  # noqa: FBT001
    """End a consent and everything under it, refresh tokens too."""
    server_of(context).consents.withdraw(consent_id, by=OPERATOR)
    show({"consent": consent_id, "withdrawn": True}, as_json=as_json)
