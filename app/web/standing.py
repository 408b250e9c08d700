"""What a human allowed, read from SQL and put into words for her."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import clock
from app.agents.models import AgentRow
from app.clients.models import ClientRow
from app.database import Database
from app.delegation.models import ConsentRow, TaskRow
from app.humans.models import HumanRow, SessionRow
from app.live.models import unmoved
from app.resources.models import ResourceRow
from app.vocabulary import AgentState

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Our identifiers; PostgreSQL refuses to be asked about anything with a NUL."""

HISTORY = 20
"""Ended consents shown."""


@dataclass(frozen=True, slots=True)
class Action:
    """One scope, and what it means."""

    scope: str
    words: str


@dataclass(frozen=True, slots=True)
class At:
    """What may be done at one resource."""

    name: str
    host: str
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Allowed:
    """A consent, with everything its giver would want to know. Times in seconds since 1970."""

    id: str
    client_id: str
    name: str
    is_agent: bool
    owner: str
    purpose: str
    app: str
    resources: tuple[At, ...]
    hands_to: tuple[str, ...]
    away: bool
    halted: bool
    given_at: int
    until: int
    ended_at: int | None
    why: str
    uses: int
    last_used: int | None

    @property
    def noun(self) -> str:
        """`agent` or `application`."""
        return "agent" if self.is_agent else "application"

    @property
    def kind_words(self) -> str:
        """The same, for the line under the name."""
        return "An AI agent" if self.is_agent else "An application"


class Standing:
    """What each human allowed: still standing, and lately ended."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, human: str) -> tuple[list[Allowed], list[Allowed]]:
        """The standing ones, the newest first, and the last few that ended, the latest first."""
        statement = select(ConsentRow).where(ConsentRow.human == human).order_by(ConsentRow.given_at.desc(), ConsentRow.id)
        with self._database.reading() as session:
            every = [_allowed(session, row) for row in session.scalars(statement)]
        ended = sorted((one for one in every if one.ended_at is not None), key=lambda one: -(one.ended_at or 0))
        return [one for one in every if one.ended_at is None], ended[:HISTORY]

    def find(self, human: str, consent_id: str) -> Allowed | None:
        """One consent, if it is that human's."""
        if not ID.fullmatch(consent_id):
            return None
        with self._database.reading() as session:
            row = session.get(ConsentRow, consent_id)
            return None if row is None or row.human != human else _allowed(session, row)


def _allowed(session: Session, row: ConsentRow) -> Allowed:
    agent = session.get(AgentRow, row.agent) if row.agent else None
    client = session.get(ClientRow, row.client_id)
    ended_at, why = _ending(session, row)
    uses, last_used = session.execute(
        select(func.coalesce(func.sum(TaskRow.uses), 0), func.max(TaskRow.last_used_at)).where(TaskRow.consent == row.id)
    ).one()
    return Allowed(
        id=row.id,
        client_id=row.client_id,
        name=agent.name if agent else client.name if client else row.client_id,
        is_agent=row.agent is not None,
        owner=_human_name(session, agent.owner) if agent else "",
        purpose=agent.purpose if agent else "",
        app=_client_name(session, row.app),
        resources=_resources(session, row.pairs),
        hands_to=_hands_to(session, agent, row.depth),
        away=row.away,
        halted=(agent is not None and agent.state != AgentState.ACTIVE) or client is None or not client.enabled,
        given_at=row.given_at,
        until=row.until,
        ended_at=ended_at,
        why=why,
        uses=int(uses),
        last_used=last_used,
    )


def _ending(session: Session, row: ConsentRow) -> tuple[int | None, str]:
    """When and why a consent ended; (None, "") while it stands, 0 for a moment only the ledger knows."""
    if row.ended_at is not None:
        return row.ended_at, "Withdrawn"
    now = clock.timestamp()
    held = session.get(SessionRow, row.session) if row.session else None
    if held is not None and held.ended_at is not None:
        return held.ended_at, "You signed out"
    if held is not None and held.expires_at <= min(now, row.until):
        return held.expires_at, "Your sign-in ended"
    if row.until <= now:
        return row.until, "Its time was up"
    return (None, "") if unmoved(session, row.born) else (0, "Stopped by an operator")


def _resources(session: Session, pairs: list[list[str]]) -> tuple[At, ...]:
    found = []
    for uri in sorted({uri for uri, _scope in pairs}):
        row = session.scalar(select(ResourceRow).where(ResourceRow.uri == uri))
        words = row.scopes if row else {}
        scopes = sorted(scope for held, scope in pairs if held == uri)
        found.append(
            At(
                name=row.name if row else uri,
                host=urlsplit(uri).netloc or uri,
                actions=tuple(Action(scope, words.get(scope, scope)) for scope in scopes),
            )
        )
    return tuple(found)


def _hands_to(session: Session, agent: AgentRow | None, depth: int) -> tuple[str, ...]:
    if agent is None or depth < 2 or not agent.hands_to:
        return ()
    return tuple(session.scalars(select(AgentRow.name).where(AgentRow.id.in_(agent.hands_to)).order_by(AgentRow.name)))


def _human_name(session: Session, human: str) -> str:
    row = session.get(HumanRow, human)
    return row.name if row else ""


def _client_name(session: Session, client_id: str | None) -> str:
    row = session.get(ClientRow, client_id) if client_id else None
    return row.name if row else ""
