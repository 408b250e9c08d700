"""`deputy revoke`: end authority, whatever hangs below."""

from __future__ import annotations

import re
import sys

import click

from app import clock
from app.cli.answer import OPERATOR, answers, server_of, show
from app.cli.human import find_human
from app.errors import NotFound, Refused
from app.keys.verifier import JWTRefused, read_unverified_claims
from app.live.things import Kind, Thing
from app.tokens.families import PREFIX
from app.tokens.models import FamilyRow

LONGEST = 900
"""Seconds a token lives at most: how long a jti is worth remembering. What a token says of itself is not believed here."""

JTI = re.compile(r"tok_[A-Za-z0-9_-]{22}")


@click.group()
def revoke() -> None:
    """End a token, family, task, consent, agent, human, client, resource, key, or everything.

    Returns when it holds everywhere. Exit code 3: recorded, not yet in force; repeat it to confirm. What was revoked may be
    asked for again; to keep an agent, human, application or API out, suspend or disable it.
    """


@revoke.command()
@click.argument("token", metavar="JTI|TOKEN|-")
@click.pass_context
@answers
def token(context: click.Context, token: str, as_json: bool) -> None:  # noqa: FBT001
    """One token, and what was derived from it: its jti, the token itself, or - to read that from standard input.

    A refresh token ends with its family.
    """
    value = sys.stdin.readline().strip() if token == "-" else token
    server = server_of(context)
    if value.startswith(PREFIX):
        refresh = server.families.find(value)
        if refresh is None:
            raise NotFound("there is no such refresh token")
        server.revocation.family(refresh.authorization.family, by=OPERATOR)
        show({"revoked": refresh.authorization.family}, as_json=as_json)
        return
    jti = _jti_of(value) if "." in value else value
    if not JTI.fullmatch(jti):
        raise Refused("a jti of this server is tok_ and 22 characters")
    server.revocation.token(jti, clock.timestamp() + LONGEST, by=OPERATOR)
    show({"revoked": jti}, as_json=as_json)


@revoke.command()
@click.argument("family")
@click.pass_context
@answers
def family(context: click.Context, family: str, as_json: bool) -> None:  # noqa: FBT001
    """All tokens of one authorization, its refresh token too."""
    server = server_of(context)
    with server.database.reading() as session:
        if session.get(FamilyRow, family) is None:
            raise NotFound(f"no family {family}")
    server.revocation.family(family, by=OPERATOR)
    show({"revoked": family}, as_json=as_json)


@revoke.command()
@click.argument("task")
@click.pass_context
@answers
def task(context: click.Context, task: str, as_json: bool) -> None:  # noqa: FBT001
    """A task, for good."""
    server_of(context).tasks.end(task, by=OPERATOR)
    show({"revoked": task}, as_json=as_json)


@revoke.command()
@click.argument("consent")
@click.pass_context
@answers
def consent(context: click.Context, consent: str, as_json: bool) -> None:  # noqa: FBT001
    """A consent and everything under it."""
    server_of(context).consents.withdraw(consent, by=OPERATOR)
    show({"revoked": consent}, as_json=as_json)


@revoke.command()
@click.argument("agent")
@click.pass_context
@answers
def agent(context: click.Context, agent: str, as_json: bool) -> None:  # noqa: FBT001
    """All tokens and consents of an agent. It may ask again; `agent suspend` keeps it out."""
    server = server_of(context)
    row = server.agent_registry.get(agent)
    server.revocation.end(Thing(Kind.AGENT, row.id), Thing(Kind.CLIENT, row.client_id), by=OPERATOR)
    show({"revoked": row.uri}, as_json=as_json)


@revoke.command()
@click.argument("human", metavar="USERNAME")
@click.pass_context
@answers
def human(context: click.Context, human: str, as_json: bool) -> None:  # noqa: FBT001
    """All that acts for a person, and her sign-in sessions. She may sign in again; `human disable` keeps her out."""
    server = server_of(context)
    found = find_human(server, human)
    server.accounts.end_all(found.id, by=OPERATOR)
    show({"revoked": found.username}, as_json=as_json)


@revoke.command()
@click.argument("client_id")
@click.pass_context
@answers
def client(context: click.Context, client_id: str, as_json: bool) -> None:  # noqa: FBT001
    """All that was issued to a client_id."""
    server = server_of(context)
    if server.clients.find(client_id) is None:
        raise NotFound(f"no client {client_id}")
    server.revocation.end(Thing(Kind.CLIENT, client_id), by=OPERATOR)
    show({"revoked": client_id}, as_json=as_json)


@revoke.command()
@click.argument("resource", metavar="URI")
@click.pass_context
@answers
def resource(context: click.Context, resource: str, as_json: bool) -> None:  # noqa: FBT001
    """Every token for an API."""
    server = server_of(context)
    row = server.resource_registry.get(resource)
    server.revocation.end(Thing(Kind.RESOURCE, row.id), by=OPERATOR)
    show({"revoked": row.uri}, as_json=as_json)


@revoke.command()
@click.argument("kid")
@click.pass_context
@answers
def key(context: click.Context, kid: str, as_json: bool) -> None:  # noqa: FBT001
    """A signing key: every token it signed is dead; an active one is replaced at once."""
    server_of(context).keys.revoke(kid)
    show({"revoked": kid}, as_json=as_json)


@revoke.command()
@click.option("--yes", is_flag=True, help="Do it.")
@click.pass_context
@answers
def everything(context: click.Context, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Every token, family, consent and sign-in of the deployment. Registrations stay."""
    if not yes:
        raise Refused("this ends everything that was issued and allowed; say --yes")
    server_of(context).sessions.end_everything(by=OPERATOR)
    show({"revoked": "everything"}, as_json=as_json)


def _jti_of(unverified_jwt: str) -> str:
    try:
        return str(read_unverified_claims(unverified_jwt)["jti"])
    except (JWTRefused, KeyError):
        raise Refused("that is not a token") from None
