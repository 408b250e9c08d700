"""What a human allowed, read from SQL and put into words for her: agent by agent, and what each is doing just now."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import func, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from app import clock
from app.agents.models import AgentRow
from app.clients.models import ClientRow
from app.delegation.limits import in_words
from app.delegation.models import ConsentRow, TaskRow
from app.errors import TemporarilyUnavailable
from app.humans.models import HumanRow, SessionRow
from app.live.commit import Live
from app.live.history import Histories
from app.live.models import ThingRow
from app.live.things import Thing
from app.policy.question import AT
from app.resources.models import ResourceRow
from app.vocabulary import AgentState

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Our identifiers; PostgreSQL refuses to be asked about anything with a NUL."""

HISTORY = 20
"""Ended consents shown."""

MOST = 200
"""Standing consents, and running tasks, shown."""


@dataclass(frozen=True, slots=True)
class Action:
    """One scope, and what it means."""

    scope: str
    words: str


@dataclass(frozen=True, slots=True)
class At:
    """What may be done at one resource."""

    uri: str
    name: str
    host: str
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """A task that runs. Times in seconds since 1970, here and below."""

    id: str
    consent: str
    purpose: str
    """As its agent said it; empty for work without a task of its own."""
    opened_at: int
    deadline: int
    uses: int
    last_used: int | None
    limits: tuple[str, ...]
    resources: tuple[At, ...]
    """What it narrows its consent to; empty: nothing."""
    touched: tuple[str, ...]
    """Names of the APIs it has reached."""
    labels: tuple[str, ...]

    @property
    def default(self) -> bool:
        """Whether it is what is done without a task of its own."""
        return not self.purpose


@dataclass(frozen=True, slots=True)
class Allowed:
    """A consent, with everything its giver would want to know."""

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
    paused_at: int | None
    given_at: int
    until: int
    ended_at: int | None
    why: str
    uses: int
    last_used: int | None
    bounds: Mapping[str, Any]
    """What all done under it may use up together, as `Limits.stored` has it."""
    work: tuple[Work, ...]

    @property
    def limits(self) -> tuple[str, ...]:
        """The same in words."""
        return in_words(self.bounds)

    @property
    def noun(self) -> str:
        """`agent` or `application`."""
        return "agent" if self.is_agent else "application"


@dataclass(frozen=True, slots=True)
class Party:
    """An agent or application, with all its standing consents of one human, the newest first."""

    allowed: tuple[Allowed, ...]

    @property
    def one(self) -> Allowed:
        """The newest: what is said of the party itself is the same in all."""
        return self.allowed[0]

    @property
    def paused(self) -> bool:
        """Whether every consent is paused."""
        return all(one.paused_at is not None for one in self.allowed)

    @property
    def last_used(self) -> int | None:
        """When any of it was used last."""
        return max((one.last_used for one in self.allowed if one.last_used is not None), default=None)

    @property
    def uses(self) -> int:
        """How often, in all."""
        return sum(one.uses for one in self.allowed)


@dataclass(frozen=True, slots=True)
class Overview:
    """What stands, by who was allowed it, and what ended lately, the latest first."""

    parties: tuple[Party, ...]
    ended: tuple[Allowed, ...]

    def party(self, client_id: str) -> Party | None:
        """Who was allowed something under that `client_id`."""
        return next((one for one in self.parties if one.one.client_id == client_id), None)


class Standing:
    """What each human allowed."""

    def __init__(self, live: Live, histories: Histories) -> None:
        self._live = live
        self._histories = histories

    def of(self, human: str) -> Overview:
        """Everything that stands, and the last few that ended. The number of queries does not depend on how much that is."""
        now = clock.timestamp()
        hers = select(ConsentRow).where(ConsentRow.human == human)
        open_ = hers.where(ConsentRow.ended_at.is_(None), ConsentRow.until > now).order_by(ConsentRow.given_at.desc(), ConsentRow.id)
        closed = hers.where(or_(ConsentRow.ended_at.is_not(None), ConsentRow.until <= now)).order_by(
            func.coalesce(ConsentRow.ended_at, ConsentRow.until).desc(), ConsentRow.id
        )
        with self._live.database.reading() as session:
            rows = [*session.scalars(open_.limit(MOST)), *session.scalars(closed.limit(HISTORY))]
            every = self._read(session, rows)
        by_client: defaultdict[str, list[Allowed]] = defaultdict(list)
        for one in every:
            if one.ended_at is None:
                by_client[one.client_id].append(one)
        ended = sorted((one for one in every if one.ended_at is not None), key=lambda one: -(one.ended_at or 0))
        return Overview(tuple(Party(tuple(found)) for found in by_client.values()), tuple(ended[:HISTORY]))

    def find(self, human: str, consent_id: str) -> Allowed | None:
        """One consent, if it is that human's."""
        if not ID.fullmatch(consent_id):
            return None
        with self._live.database.reading() as session:
            row = session.get(ConsentRow, consent_id)
            return None if row is None or row.human != human else self._read(session, [row])[0]

    def work(self, human: str, task_id: str) -> tuple[Allowed, Work] | None:
        """A running task and its consent, if they are that human's."""
        if not ID.fullmatch(task_id):
            return None
        with self._live.database.reading() as session:
            row = session.get(TaskRow, task_id)
        allowed = self.find(human, row.consent) if row is not None and row.human == human else None
        work = next((one for one in allowed.work if one.id == task_id), None) if allowed is not None else None
        return (allowed, work) if allowed is not None and work is not None else None

    def clients(self, human: str) -> list[tuple[str, str]]:
        """Every agent and application she ever allowed something: `client_id` and name, by name."""
        hers = select(ConsentRow.client_id).where(ConsentRow.human == human).distinct()
        statement = select(ClientRow.client_id, ClientRow.name).where(ClientRow.client_id.in_(hers)).order_by(ClientRow.name).limit(MOST)
        with self._live.database.reading() as session:
            return [(row.client_id, row.name) for row in session.execute(statement)]

    def _read(self, session: Session, rows: Sequence[ConsentRow]) -> list[Allowed]:
        beside = _Beside(session, rows, self._live.generation().number)
        touched: dict[str, frozenset[str]] = {}
        # The page is worth showing without what the live state adds to it.
        with suppress(TemporarilyUnavailable):
            for task in (task for tasks in beside.tasks.values() for task in tasks):
                touched[task.id] = self._histories.of(task.id, certain=True).labels
        return [
            beside.allowed(row, [beside.work(task, touched.get(task.id, frozenset())) for task in beside.tasks[row.id]]) for row in rows
        ]


class _Beside:
    """Everything that rows of consents speak of, read with one query for each kind of it."""

    def __init__(self, session: Session, rows: Sequence[ConsentRow], generation: int) -> None:
        self._now = clock.timestamp()
        ids = [row.id for row in rows]
        self.agents = _keyed(session, AgentRow.id, {row.agent for row in rows if row.agent})
        self._handed = _keyed(session, AgentRow.id, {one for agent in self.agents.values() for one in agent.hands_to})
        self.clients = _keyed(session, ClientRow.client_id, {one for row in rows for one in (row.client_id, row.app) if one})
        self.owners = _keyed(session, HumanRow.id, {agent.owner for agent in self.agents.values()})
        self.sessions = _keyed(session, SessionRow.id, {row.session for row in rows if row.session})
        self.resources = _keyed(session, ResourceRow.uri, {uri for row in rows for uri, _ in row.pairs})
        self._epochs = _epochs(session, {name for row in rows for name in row.born})
        self.uses = {
            consent: (int(uses), last)
            for consent, uses, last in session.execute(
                select(TaskRow.consent, func.coalesce(func.sum(TaskRow.uses), 0), func.max(TaskRow.last_used_at))
                .where(TaskRow.consent.in_(ids))
                .group_by(TaskRow.consent)
            )
        }
        running = (
            select(TaskRow)
            .where(TaskRow.consent.in_(ids), TaskRow.ended_at.is_(None))
            .where(TaskRow.deadline > self._now, TaskRow.generation == generation)
            .order_by(TaskRow.default, TaskRow.opened_at.desc(), TaskRow.id)
            .limit(MOST)
        )
        self.tasks: defaultdict[str, list[TaskRow]] = defaultdict(list)
        for task in session.scalars(running):
            self.tasks[task.consent].append(task)

    def allowed(self, row: ConsentRow, work: Iterable[Work]) -> Allowed:
        agent, client = self.agents.get(row.agent), self.clients.get(row.client_id)
        ended_at, why = self._ending(row)
        uses, last_used = self.uses.get(row.id, (0, None))
        return Allowed(
            id=row.id,
            client_id=row.client_id,
            name=agent.name if agent else client.name if client else row.client_id,
            is_agent=row.agent is not None,
            owner=self.owners[agent.owner].name if agent and agent.owner in self.owners else "",
            purpose=agent.purpose if agent else "",
            app=self.clients[row.app].name if row.app in self.clients else "",
            resources=self.at(row.pairs),
            hands_to=self._hands_to(agent, row),
            away=row.away,
            halted=(agent is not None and agent.state != AgentState.ACTIVE) or client is None or not client.enabled,
            paused_at=row.paused_at,
            given_at=row.given_at,
            until=row.until,
            ended_at=ended_at,
            why=why,
            uses=uses,
            last_used=last_used,
            bounds=row.limits or {},
            work=tuple(work) if ended_at is None else (),
        )

    def work(self, row: TaskRow, touched: frozenset[str]) -> Work:
        labels = touched.union(row.labels)
        return Work(
            id=row.id,
            consent=row.consent,
            purpose=row.purpose,
            opened_at=row.opened_at,
            deadline=row.deadline,
            uses=row.uses,
            last_used=row.last_used_at,
            limits=in_words(row.limits),
            resources=self.at(row.pairs or []),
            touched=tuple(sorted(self.resource_name(label.removeprefix(AT)) for label in labels if label.startswith(AT))),
            labels=tuple(sorted(label for label in labels if not label.startswith(AT))),
        )

    def at(self, pairs: Sequence[Sequence[str]]) -> tuple[At, ...]:
        found = []
        for uri in sorted({uri for uri, _ in pairs}):
            row = self.resources.get(uri)
            words = row.scopes if row else {}
            actions = tuple(Action(scope, words.get(scope, scope)) for scope in sorted(scope for held, scope in pairs if held == uri))
            found.append(At(uri, self.resource_name(uri), urlsplit(uri).netloc or uri, actions))
        return tuple(found)

    def resource_name(self, uri: str) -> str:
        return self.resources[uri].name if uri in self.resources else urlsplit(uri).netloc or uri

    def _ending(self, row: ConsentRow) -> tuple[int | None, str]:
        """When and why a consent ended; (None, "") while it stands, 0 for a moment only the ledger knows."""
        if row.ended_at is not None:
            return row.ended_at, "Withdrawn"
        held = self.sessions.get(row.session)
        if held is not None and held.ended_at is not None:
            return held.ended_at, "You signed out"
        if held is not None and held.expires_at <= min(self._now, row.until):
            return held.expires_at, "Your sign-in ended"
        if row.until <= self._now:
            return row.until, "Its time was up"
        moved = any(self._epochs.get(name, 0) != epoch for name, epoch in row.born.items())
        return (0, "Stopped by an operator") if moved else (None, "")

    def _hands_to(self, agent: AgentRow | None, consent: ConsentRow) -> tuple[str, ...]:
        if agent is None or consent.depth < 2:
            return ()
        named = self._handed.keys() & set(consent.receivers)
        return tuple(sorted(self._handed[one].name for one in agent.hands_to if one in named))


def _keyed(session: Session, key: InstrumentedAttribute[str], values: set[str]) -> Mapping[str | None, Any]:
    if not values:
        return {}
    return {getattr(row, key.key): row for row in session.scalars(select(key.class_).where(key.in_(sorted(values))))}


def _epochs(session: Session, names: set[str]) -> dict[str, int]:
    """Epochs by the written name of their thing; what never moved is missing."""
    things = [Thing.parse(one) for one in sorted(names)]
    if not things:
        return {}
    pairs = [(thing.kind.value, thing.id) for thing in things]
    statement = select(ThingRow.kind, ThingRow.id, ThingRow.epoch).where(tuple_(ThingRow.kind, ThingRow.id).in_(pairs))
    return {f"{row.kind}:{row.id}": row.epoch for row in session.execute(statement)}
