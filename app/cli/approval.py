"""`deputy approval`: what agents ask people. Only the person herself says yes."""

from __future__ import annotations

import click

from app.cli.answer import OPERATOR, answers, server_of, show, table, when
from app.cli.human import find_human


@click.group()
def approval() -> None:
    """What agents wait for a person to approve. She says yes on /my/approvals; nobody can in her place."""


@approval.command("list")
@click.option("--human", help="Put to this person only: username or id.")
@click.pass_context
@answers
def list_(context: click.Context, human: str | None, as_json: bool) -> None:  # noqa: FBT001
    """The questions that wait for an answer, the oldest first."""
    server = server_of(context)
    whose = find_human(server, human).id if human is not None else None
    people = {one.id: one.username for one in server.accounts.list()}
    rows = [
        {
            "approval": one.id,
            "human": people.get(one.parameters.human, one.parameters.human),
            "agent": one.parameters.chain.actors[0].sub,
            "audience": one.parameters.audience,
            "scopes": [" ".join(pair) for pair in sorted(one.parameters.pairs)],
            "policies": list(one.policies),
            "until": when(one.expires_at, as_json=as_json),
        }
        for one in server.approvals.waiting(whose)
    ]
    table(rows, as_json=as_json, none="Nothing waits for an answer.")


@approval.command()
@click.argument("approval", metavar="APPROVAL")
@click.pass_context
@answers
def deny(context: click.Context, approval: str, as_json: bool) -> None:  # noqa: FBT001
    """Say no in a person's place, to a question that waits."""
    server_of(context).approvals.deny(approval, by=OPERATOR)
    show({"approval": approval, "denied": True}, as_json=as_json)
