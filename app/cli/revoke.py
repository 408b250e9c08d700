"""`deputy revoke`: end authority, whatever hangs below; first, if asked, how much that is."""

from __future__ import annotations

import sys
from typing import Any

import click

from app.cli.answer import OPERATOR, answers, server_of, show
from app.errors import NotFound, Refused
from app.keys.verifier import JWTRefused, read_unverified_claims
from app.oversight.target import KEEPS_OUT, What
from app.tokens.families import PREFIX


@click.group()
def revoke() -> None:
    """End a token, family, task, consent, agent, instance, owner's agents, human, client, resource, key, or everything.

    Returns when it holds everywhere, with what it ended: live tokens, standing consents, tasks, agents and people, counted up to
    the named entry of the ledger. --preview says the same without doing it. Exit code 3: recorded, not yet in force; repeat it
    to confirm. What was revoked may be asked for again; to keep an agent, human, application or API out, suspend or disable it.
    """


preview_option = click.option("--preview", is_flag=True, help="Say what it would end, and end nothing.")
keep_out_option = click.option("--keep-out", is_flag=True, help="Keep it out as well: suspended or disabled until let in again.")


@revoke.command()
@click.argument("token", metavar="JTI|TOKEN|-")
@preview_option
@click.pass_context
@answers
def token(context: click.Context, token: str, preview: bool, as_json: bool) -> None:  # noqa: FBT001
    """One token, and what was derived from it: its jti, the token itself, or - to read that from standard input.

    A refresh token ends with its family.
    """
    value = sys.stdin.readline().strip() if token == "-" else token
    if value.startswith(PREFIX):
        refresh = server_of(context).families.find(value)
        if refresh is None:
            raise NotFound("there is no such refresh token")
        _stop(context, What.FAMILY, refresh.authorization.family, preview=preview, as_json=as_json)
        return
    _stop(context, What.TOKEN, _jti_of(value) if "." in value else value, preview=preview, as_json=as_json)


@revoke.command()
@click.option("--yes", is_flag=True, help="Do it.")
@preview_option
@click.pass_context
@answers
def everything(context: click.Context, yes: bool, preview: bool, as_json: bool) -> None:  # noqa: FBT001
    """Every token, family, consent and sign-in of the deployment. Registrations stay."""
    if not yes and not preview:
        raise Refused("this ends everything that was issued and allowed; say --yes")
    _stop(context, What.EVERYTHING, "", preview=preview, as_json=as_json)


def _stop(context: click.Context, what: What, reference: str, *, preview: bool, as_json: bool, keep_out: bool = False) -> None:
    server = server_of(context)
    target = server.targets.find(what, reference)
    count = server.kill.preview(target) if preview else server.kill.end(target, keep_out=keep_out, by=OPERATOR)
    facts: dict[str, Any] = {"would revoke" if preview and not as_json else "revoked": target.reference}
    if as_json:
        facts["preview"] = preview
    facts |= {
        "tokens": count.tokens,
        "consents": count.consents,
        "tasks": count.tasks,
        "agents": count.agents,
        "humans": count.humans,
        "entry": count.entry,
        "complete": count.complete,
    }
    show(facts, as_json=as_json)


def _command(what: What, metavar: str, words: str) -> click.Command:
    @click.pass_context
    @answers
    def stop(context: click.Context, /, reference: str, preview: bool, as_json: bool, keep_out: bool = False) -> None:  # noqa: FBT001, FBT002
        _stop(context, what, reference, preview=preview, keep_out=keep_out, as_json=as_json)

    named = click.argument("reference", metavar=metavar)(preview_option(keep_out_option(stop) if what in KEEPS_OUT else stop))
    return click.command(what.value, help=words)(named)


def _jti_of(unverified_jwt: str) -> str:
    try:
        return str(read_unverified_claims(unverified_jwt)["jti"])
    except (JWTRefused, KeyError):
        raise Refused("that is not a token") from None


STOPPED = (
    (What.FAMILY, "FAMILY", "All tokens of one authorization, its refresh token too."),
    (What.TASK, "TASK", "A task, for good."),
    (What.CONSENT, "CONSENT", "A consent and everything under it."),
    (What.AGENT, "AGENT", "All tokens and consents of an agent. It may ask again, unless it is kept out."),
    (What.INSTANCE, "INSTANCE", "One running copy of an agent, for good, and all it got. Its siblings go on."),
    (What.OWNER, "USERNAME", "All tokens and consents of every agent that a person answers for."),
    (What.HUMAN, "USERNAME", "All that acts for a person, and her sign-in sessions. She may sign in again, unless she is kept out."),
    (What.CLIENT, "CLIENT_ID", "All that was issued to a client_id."),
    (What.RESOURCE, "URI", "Every token for an API."),
    (What.KEY, "KID", "A signing key: every token it signed is dead; an active one is replaced at once."),
)

for _what, _metavar, _words in STOPPED:
    revoke.add_command(_command(_what, _metavar, _words))
