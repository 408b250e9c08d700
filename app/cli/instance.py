"""`deputy agent enrol`, `deputy agent instances`: running copies of agents and the codes they begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from app import clock
from app.cli.answer import OPERATOR, answers, server_of, show, table, when

if TYPE_CHECKING:
    from app.clients.models import InstanceRow


@click.command()
@click.argument("reference", metavar="AGENT")
@click.option("--minutes", type=int, default=10, show_default=True, help="How long the code may wait.")
@click.option("--hours", type=int, default=8, show_default=True, help="How long the instance lives.")
@click.pass_context
@answers
def enrol(context: click.Context, reference: str, minutes: int, hours: int, as_json: bool) -> None:  # noqa: FBT001
    """Make a code with which one running copy of the agent registers a key of its own. It is good once, and shown this once."""
    server = server_of(context)
    row = server.agent_registry.get(reference)
    made = server.enrolments.give(row.client_id, minutes=minutes, hours=hours, by=OPERATOR)
    facts = {
        "agent": row.uri,
        "enrolment_code": made.code,
        "register_at": server.settings.issuer + "/agents/instances",
        "good_until": when(made.expires_at, as_json=as_json),
        "hours": made.hours,
    }
    show(facts, as_json=as_json)


@click.command()
@click.argument("reference", metavar="AGENT")
@click.option("--all", "every", is_flag=True, help="Those that ended or expired, too.")
@click.pass_context
@answers
def instances(context: click.Context, reference: str, every: bool, as_json: bool) -> None:  # noqa: FBT001
    """The running copies of an agent, the newest first."""
    server = server_of(context)
    client_id = server.agent_registry.get(reference).client_id
    held = server.clients.reread(client_id)
    epoch = held.reading.epoch if held is not None else 0
    rows = [
        {
            "instance": row.id,
            "state": state,
            "via": row.via,
            "subject": row.subject,
            "registered": when(row.registered_at, as_json=as_json),
            "until": when(row.ended_at or row.expires_at, as_json=as_json),
        }
        for row in server.instances.of_client(client_id)
        if (state := _state(row, epoch)) == "live" or every
    ]
    table(rows, as_json=as_json, none="No instance of this agent lives.")


def _state(row: InstanceRow, epoch: int) -> str:
    if row.ended_at is not None:
        return "ended"
    if row.expires_at <= clock.timestamp():
        return "expired"
    return "live" if row.born == epoch else "ended with its agent"
