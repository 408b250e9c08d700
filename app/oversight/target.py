"""What can be stopped: anything that something hangs on, by the reference people know it by."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from app.agents.models import AgentRow
from app.audit.events import TokenIssued
from app.clients.models import ClientRow, InstanceRow
from app.database import Database
from app.delegation.models import ConsentRow, TaskRow
from app.errors import NotFound, Refused
from app.humans.models import HumanRow
from app.keys.models import SigningKeyRow
from app.ledger.models import EntryRow
from app.live.things import DEPLOYMENT
from app.resources.models import ResourceRow
from app.tokens.models import FamilyRow

JTI = re.compile(r"tok_[A-Za-z0-9_-]{22}")
MAX_REFERENCE = 500


class What(StrEnum):
    """Kinds of things that can be stopped."""

    TOKEN = "token"
    FAMILY = "family"
    TASK = "task"
    CONSENT = "consent"
    AGENT = "agent"
    INSTANCE = "instance"
    CLIENT = "client"
    OWNER = "owner"
    """All agents of a human who answers for them."""
    HUMAN = "human"
    RESOURCE = "resource"
    KEY = "key"
    EVERYTHING = "everything"


KEEPS_OUT = frozenset({What.AGENT, What.OWNER, What.HUMAN, What.RESOURCE})
"""What can be kept out beside: suspended or disabled until an operator lets it in again."""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to stop."""

    what: What
    id: str
    name: str
    """As people know it: written by others, so whoever shows it makes it harmless."""
    reference: str
    """Its id, URI or username."""
    owner: str | None = None
    """Id of the human who answers for it, where that is an agent, or hangs on one alone."""


class Targets:
    """Finds them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, what: What, reference: str = "") -> Target:
        """The target. Raises `NotFound`, `Refused` for what cannot be a reference."""
        if what is What.EVERYTHING:
            return Target(what, DEPLOYMENT.id, "everything", "everything")
        if not reference or len(reference) > MAX_REFERENCE or not reference.isprintable():
            raise Refused(f"name the {what}")
        with self._database.reading() as session:
            target = FIND[what](session, reference)
        if target is None:
            raise NotFound(f"no {what} {reference}" if what is not What.OWNER else f"nobody called {reference}")
        return target


def _token(session: Session, jti: str) -> Target | None:
    if not JTI.fullmatch(jti):
        raise Refused("a jti of this server is tok_ and 22 characters")
    issued = session.execute(
        select(EntryRow.agent).where(EntryRow.jti == jti, EntryRow.event == TokenIssued.name).order_by(EntryRow.seq).limit(1)
    ).one_or_none()
    owner = _owner_of(session, AgentRow.uri == issued.agent) if issued is not None and issued.agent else None
    # One that the ledger does not have yet can be stopped all the same.
    return Target(What.TOKEN, jti, jti, jti, owner)


def _family(session: Session, reference: str) -> Target | None:
    row = session.get(FamilyRow, reference)
    return None if row is None else Target(What.FAMILY, row.id, row.id, row.id, _owner_of(session, AgentRow.client_id == row.client_id))


def _task(session: Session, reference: str) -> Target | None:
    row = session.get(TaskRow, reference)
    return None if row is None else Target(What.TASK, row.id, row.purpose or row.id, row.id, _owner_of(session, AgentRow.id == row.agent))


def _consent(session: Session, reference: str) -> Target | None:
    row = session.get(ConsentRow, reference)
    return None if row is None else Target(What.CONSENT, row.id, row.id, row.id, _owner_of(session, AgentRow.id == row.agent))


def _agent(session: Session, reference: str) -> Target | None:
    exact = or_(AgentRow.id == reference, AgentRow.uri == reference, AgentRow.client_id == reference)
    row = session.scalar(select(AgentRow).where(exact))
    if row is None:
        named = session.scalars(select(AgentRow).where(AgentRow.name == reference).limit(2)).all()
        if len(named) > 1:
            raise NotFound(f"several agents are called {reference}; use the identifier")
        row = named[0] if named else None
    return None if row is None else Target(What.AGENT, row.id, row.name, row.uri, row.owner)


def _instance(session: Session, reference: str) -> Target | None:
    row = session.get(InstanceRow, reference)
    return None if row is None else Target(What.INSTANCE, row.id, row.id, row.id, _owner_of(session, AgentRow.client_id == row.client_id))


def _client(session: Session, reference: str) -> Target | None:
    row = session.get(ClientRow, reference)
    return (
        None
        if row is None
        else Target(What.CLIENT, row.client_id, row.name, row.client_id, _owner_of(session, AgentRow.client_id == row.client_id))
    )


def _owner(session: Session, reference: str) -> Target | None:
    row = _person(session, reference)
    return None if row is None else Target(What.OWNER, row.id, row.name, row.username, row.id)


def _human(session: Session, reference: str) -> Target | None:
    row = _person(session, reference)
    return None if row is None else Target(What.HUMAN, row.id, row.name, row.username)


def _resource(session: Session, reference: str) -> Target | None:
    row = session.scalar(select(ResourceRow).where(or_(ResourceRow.uri == reference, ResourceRow.id == reference)))
    return None if row is None else Target(What.RESOURCE, row.id, row.name, row.uri)


def _key(session: Session, reference: str) -> Target | None:
    row = session.get(SigningKeyRow, reference)
    return None if row is None else Target(What.KEY, row.kid, row.kid, row.kid)


def _person(session: Session, reference: str) -> HumanRow | None:
    row = session.scalar(select(HumanRow).where(HumanRow.username == reference))
    return row or session.get(HumanRow, reference)


def _owner_of(session: Session, which: ColumnElement[bool]) -> str | None:
    return session.scalar(select(AgentRow.owner).where(which))


FIND = {
    What.TOKEN: _token,
    What.FAMILY: _family,
    What.TASK: _task,
    What.CONSENT: _consent,
    What.AGENT: _agent,
    What.INSTANCE: _instance,
    What.CLIENT: _client,
    What.OWNER: _owner,
    What.HUMAN: _human,
    What.RESOURCE: _resource,
    What.KEY: _key,
}
