"""One piece of work: every delegated token belongs to one, and `txn` names it (RFC 8417)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import bindparam, exists, select
from sqlalchemy.orm import Session, aliased

from app import clock
from app.audit import record
from app.audit.events import Revoked, TaskOpened, Who
from app.delegation.limits import NO_LIMITS, Limits
from app.delegation.models import TaskRow
from app.errors import NotFound
from app.live.cache import Cache, Held, beside
from app.live.commit import Live
from app.live.deeds import Deed, Deeds
from app.live.history import Histories
from app.live.models import ThingRow, reading_of
from app.live.things import Kind, Thing
from app.vocabulary import UNKNOWN_LABEL, Pair, Pairs, by_resource, new_id


@dataclass(frozen=True, slots=True)
class Task:
    """A task as the token path sees it."""

    id: str
    consent: str
    human: str
    agent: str
    default: bool
    generation: int
    deadline: int
    ended: bool
    pairs: Pairs | None = None
    """What it narrows its consent to; None: nothing."""
    limits: Limits = NO_LIMITS
    labels: frozenset[str] = frozenset()
    """What it had touched when it was read from SQL; the live history has the rest."""
    purpose: str = ""
    opened_at: int = 0

    def live(self, now: int, generation: int) -> bool:
        """Whether it runs: not ended, not past its deadline, not of an earlier generation of the live state."""
        return not self.ended and now < self.deadline and self.generation == generation


class Consented(Protocol):
    """What a task needs to know of the consent it runs under."""

    @property
    def id(self) -> str:
        """The consent."""

    @property
    def human(self) -> str:
        """Whose."""

    @property
    def agent(self) -> str | None:
        """For which agent; None for an application."""

    @property
    def until(self) -> int:
        """Seconds since 1970 until when."""

    @property
    def pairs(self) -> Pairs:
        """What it covers."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What an agent asks of a task of its own (protocol §7)."""

    purpose: str
    pairs: Pairs
    deadline: int
    limits: Limits


LATER = aliased(TaskRow)
TAKEN_UP = exists().where(LATER.consent == TaskRow.consent, LATER.default.is_(True), LATER.generation > TaskRow.generation)
"""Whether a default task was opened anew since, with what this one had touched."""

BESIDE = (
    select(TaskRow.id, TaskRow.labels, TaskRow.generation)
    .where(TaskRow.human == bindparam("human"), TaskRow.agent == bindparam("agent"), TaskRow.id != bindparam("task"))
    .where(TaskRow.ended_at.is_(None), TaskRow.deadline > bindparam("now"))
    .where(
        (TaskRow.generation == bindparam("generation"))
        # After Redis was lost a default task is opened anew when it is next used; what it had touched counts before.
        | (TaskRow.default.is_(True) & (TaskRow.consent != bindparam("own")) & ~TAKEN_UP)
    )
)
"""Made once: where a policy looks at them it is asked with each exchange."""


class Tasks:
    """Tasks by id, the default task of a consent, and the deeds on them."""

    def __init__(self, live: Live, deeds: Deeds) -> None:
        self._live = live
        self._deeds = deeds
        self._cache = Cache(live, _load)
        self._default = Cache(live, _load_default)

    def find(self, task_id: str) -> Held[Task] | None:
        """The task, or None."""
        return self._cache.find(task_id)

    def default(self, consent: Consented) -> Held[Task] | None:
        """The default task of a consent, opened anew when only the clock or a new generation ended the last.

        None when a person ended it: the agent cannot bring it back.
        """
        held = self._default.find(consent.id)
        generation = self._live.generation().number
        if held is not None and (held.value.ended or held.value.live(clock.timestamp(), generation)):
            return None if held.value.ended else held
        with self._deeds.deed() as deed:
            # Another worker may have opened it since: the deed's lock makes this look the last word.
            latest = _load_default(deed.session, consent.id)
            if latest is None or (not latest.value.ended and not latest.value.live(clock.timestamp(), generation)):
                cause = "new generation" if latest else "first use"
                touched = latest.value.labels | {UNKNOWN_LABEL} if latest is not None else frozenset()
                open_default_task(deed.session, consent, generation, cause, touched)
        if held is not None:
            self._default.forget(held.thing)
        return self._default.find(consent.id)

    def open(self, consent: Consented, opening: Opening, *, by: Who) -> str:
        """Open a named task within a consent. Returns its id. The caller has looked at the consent and narrowed to it."""
        task_id = new_id("tsk")
        with self._deeds.deed() as deed:
            deed.session.add(
                TaskRow(
                    id=task_id,
                    consent=consent.id,
                    human=consent.human,
                    agent=consent.agent or "",
                    purpose=opening.purpose,
                    default=False,
                    generation=self._live.generation().number,
                    opened_at=clock.timestamp(),
                    deadline=opening.deadline,
                    pairs=[list(pair) for pair in sorted(opening.pairs)],
                    limits=opening.limits.stored(),
                )
            )
            event = TaskOpened(
                who=by,
                task=task_id,
                consent=consent.id,
                cause="asked",
                purpose=opening.purpose,
                scope=by_resource(opening.pairs),
                until=opening.deadline,
                limits=opening.limits.stored(),
            )
            record(deed.session, event)
        return task_id

    def running(self, consent_id: str) -> list[TaskRow]:
        """The named tasks of a consent that run, the newest first; for pages."""
        now, generation = clock.timestamp(), self._live.generation().number
        statement = (
            select(TaskRow)
            .where(TaskRow.consent == consent_id, TaskRow.default.is_(False), TaskRow.ended_at.is_(None))
            .where(TaskRow.deadline > now, TaskRow.generation == generation)
            .order_by(TaskRow.opened_at.desc(), TaskRow.id)
            .limit(100)
        )
        with self._live.database.reading() as session:
            return list(session.scalars(statement))

    def touched_beside(self, task: Task, histories: Histories) -> frozenset[str]:
        """What the other running tasks of the same agent for the same human have touched."""
        generation = self._live.generation().number
        which = {
            "human": task.human, "agent": task.agent, "task": task.id, "own": task.consent if task.default else "",
            "now": clock.timestamp(), "generation": generation,
        }  # fmt: skip
        with self._live.database.reading() as session:
            found = session.connection().execute(BESIDE, which).all()
        lost = {UNKNOWN_LABEL} if any(row.generation != generation for row in found) else set()
        return histories.touched([row.id for row in found]).union(lost, *(row.labels for row in found))

    def row(self, task_id: str) -> TaskRow | None:
        """The task as SQL has it now."""
        with self._live.database.reading() as session:
            return session.get(TaskRow, task_id)

    def end(self, task_id: str, *, by: Who) -> None:
        """End a task for good; its tokens are dead. Raises NotFound; again is no harm."""
        with self._deeds.deed() as deed:
            end_task(deed, task_id, by)


def end_task(deed: Deed, task_id: str, by: Who) -> None:
    """End a task for good, inside a deed. Raises NotFound; again is no harm."""
    row = deed.session.get(TaskRow, task_id)
    if row is None:
        raise NotFound(f"no task {task_id}")
    if row.ended_at is None:
        row.ended_at, row.ended_by = clock.timestamp(), by.operator or by.human or "agent"
    deed.end(Thing(Kind.TASK, task_id))
    record(deed.session, Revoked(who=by.over(row.human), kind=Kind.TASK.value, target=task_id))


def open_default_task(session: Session, consent: Consented, generation: int, cause: str, touched: frozenset[str] = frozenset()) -> str:
    """Open the default task of a consent, inside a deed. Returns its id."""
    task_id = new_id("tsk")
    agent = consent.agent or ""
    session.add(
        TaskRow(
            id=task_id,
            consent=consent.id,
            human=consent.human,
            agent=agent,
            generation=generation,
            opened_at=clock.timestamp(),
            deadline=consent.until,
            labels=sorted(touched),
        )
    )
    event = TaskOpened(who=Who(human=consent.human), task=task_id, consent=consent.id, cause=cause, labels=sorted(touched) or None)
    record(session, event)
    return task_id


def _load(session: Session, task_id: str) -> Held[Task] | None:
    statement = (
        select(TaskRow, ThingRow.epoch, ThingRow.version).outerjoin(ThingRow, beside(Kind.TASK, TaskRow.id)).where(TaskRow.id == task_id)
    )
    found = session.execute(statement).one_or_none()
    if found is None:
        return None
    row: TaskRow = found[0]
    task = Task(
        id=row.id,
        consent=row.consent,
        human=row.human,
        agent=row.agent,
        default=row.default,
        generation=row.generation,
        deadline=row.deadline,
        ended=row.ended_at is not None,
        pairs=frozenset(Pair(*pair) for pair in row.pairs) if row.pairs is not None else None,
        limits=Limits.parse(row.limits),
        labels=frozenset(row.labels),
        purpose=row.purpose,
        opened_at=row.opened_at,
    )
    return Held(task, Thing(Kind.TASK, row.id), reading_of(found[1], found[2]))


def _load_default(session: Session, consent_id: str) -> Held[Task] | None:
    newest = session.scalar(
        select(TaskRow.id)
        .where(TaskRow.consent == consent_id, TaskRow.default.is_(True))
        .order_by(TaskRow.generation.desc(), TaskRow.opened_at.desc())
        .limit(1)
    )
    return None if newest is None else _load(session, newest)
