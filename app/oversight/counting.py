"""How much hangs on a thing: live tokens, consents, tasks, agents, people, counted at an entry of the ledger.

A token is on its way to the ledger for a moment, and a count must not miss it: first the relay takes what the stream held
when the question was asked, then SQL answers it, in one snapshot, and names the last entry it knows (docs/adr/0014).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, SelectBase, and_, exists, false, func, or_, select, true
from sqlalchemy.orm import InstrumentedAttribute, Session

from app import clock
from app.agents.models import AgentRow
from app.audit.models import OutboxRow
from app.delegation.models import ConsentRow, TaskRow
from app.errors import TemporarilyUnavailable
from app.humans.models import HumanRow
from app.ledger.issued import AncestorRow, LiveTokenRow
from app.ledger.models import RelayRow
from app.ledger.queries import pin
from app.live import footing, stream
from app.live.commit import Live
from app.live.deeds import TOKEN, Deed
from app.live.footing import FootingRow, FootingThingRow
from app.live.models import DeniedTokenRow, DeploymentRow, MovementRow
from app.live.things import Kind
from app.oversight.target import Target, What

PATIENCE = 3.0
"""Seconds to wait for the ledger to have what was issued before the question."""

PACE = 0.02
NAMED = 12
"""People and agents told by name."""


@dataclass(frozen=True, slots=True)
class Count:
    """What hangs on a target, or hung on it before it was ended."""

    tokens: int
    """Neither run out nor ended."""
    consents: int
    """Still standing; people will be asked again."""
    tasks: int
    """Those with live tokens, and the target itself if it is a task that runs."""
    agents: int
    humans: int
    entry: int
    """Number of the last entry of the ledger this is counted up to."""
    complete: bool
    """False: the ledger lagged, and something issued before may be missing."""
    agent_names: tuple[str, ...] = field(default=(), compare=False)
    human_names: tuple[str, ...] = field(default=(), compare=False)

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """The numbers alone: what a preview and the deed after it have in common when nothing happened between."""
        return self.tokens, self.consents, self.tasks, self.agents, self.humans


@dataclass(frozen=True, slots=True)
class At:
    """The moment whose world is counted."""

    moment: int
    """Seconds since 1970: what ran out before is not counted."""
    generation: int
    since: int | None = None
    """What fell by the movement of this number, or by a later one, is counted as standing."""


class Counting:
    """Counts."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def now(self, target: Target) -> Count:
        """What hangs on it now. Raises `TemporarilyUnavailable`."""
        complete = self._settle()
        with self._live.database.reading() as session:
            pin(session)
            generation = session.scalar(select(DeploymentRow.generation)) or 0
            return _count(session, target, At(clock.timestamp(), generation), complete=complete)

    def before(self, deed: Deed, target: Target, *, spared: bool = False) -> Count:
        """What hung on it until the deed, which holds by now. `spared`: the deed found it ended already.

        Whatever was born under the old epochs reached the stream before the deed was acknowledged, so nothing is missed.
        """
        try:
            complete = self._settle()
        except TemporarilyUnavailable:
            # What is done is done; only the number is unsure.
            complete = False
        with self._live.database.reading() as session:
            pin(session)
            at = At(deed.moment, deed.generation, deed.first)
            return _count(session, target, at, complete=complete, nothing=spared or deed.first is None)

    def _settle(self) -> bool:
        """Wait until the ledger has what was on its way. Returns whether it has."""
        mark, outbox = stream.newest(self._live), self._outbox()
        end = clock.monotonic() + PATIENCE
        while not (taken := stream.is_taken(self._live, mark)) or not self._is_empty_up_to(outbox):
            if clock.monotonic() > end or not self._is_relayed():
                return taken
            time.sleep(PACE)
        return True

    def _outbox(self) -> str:
        with self._live.database.reading() as session:
            return session.scalar(select(func.max(OutboxRow.id))) or ""

    def _is_empty_up_to(self, newest: str) -> bool:
        if not newest:
            return True
        with self._live.database.reading() as session:
            return session.scalar(select(OutboxRow.id).where(OutboxRow.id <= newest).limit(1)) is None

    def _is_relayed(self) -> bool:
        """Whether a relay works at all: from a shell beside a stopped server nobody waits for it."""
        with self._live.database.reading() as session:
            return (session.scalar(select(RelayRow.until).where(RelayRow.id == 1)) or 0) > clock.milliseconds() - 1000


def living_tokens(target: Target, at: At) -> Select[str, str]:
    """(jti, footing) of the target's tokens that have neither run out nor been ended."""
    standing = select(FootingRow.id).where(FootingRow.generation == at.generation, ~footing.fallen(FootingRow.id, at.since))
    if (hung := _hung(target)) is not None:
        standing = standing.where(FootingRow.id.in_(hung))
    denied = select(DeniedTokenRow.jti).where(_denied(at.since))
    under = select(AncestorRow.jti).where(AncestorRow.ancestor.in_(denied))
    living = select(LiveTokenRow.jti, LiveTokenRow.footing).where(
        LiveTokenRow.expires_at > at.moment,
        LiveTokenRow.footing.in_(standing),
        LiveTokenRow.jti.not_in(denied),
        LiveTokenRow.jti.not_in(under),
    )
    if target.what is What.TOKEN:
        children = select(AncestorRow.jti).where(AncestorRow.ancestor == target.id)
        living = living.where(or_(LiveTokenRow.jti == target.id, LiveTokenRow.jti.in_(children)))
    return living


def standing_consents(target: Target, at: At) -> Select[str]:
    """Ids of the consents that end with the target."""
    ended: ColumnElement[bool] = ConsentRow.ended_at.is_(None)
    if at.since is not None:
        ended = or_(ended, _moved_since(Kind.CONSENT.value, ConsentRow.id, at.since))
    fallen = footing.among_the_fallen if target.what is What.EVERYTHING else footing.fallen
    return select(ConsentRow.id).where(ended, ConsentRow.until > at.moment, ~fallen(ConsentRow.footing, at.since), _falls_with(target))


def _count(session: Session, target: Target, at: At, *, complete: bool, nothing: bool = False) -> Count:
    entry = session.scalar(select(RelayRow.seq).where(RelayRow.id == 1)) or 0
    if nothing:
        return Count(0, 0, 0, 0, 0, entry, complete)
    living, consents = living_tokens(target, at), standing_consents(target, at)
    on_tokens = living.with_only_columns(LiveTokenRow.footing).distinct()
    tasks = _things(Kind.TASK, on_tokens)

    def size(of: SelectBase) -> int:
        return session.scalar(select(func.count()).select_from(of.subquery())) or 0

    def concerned(row: type[AgentRow | HumanRow], kind: Kind, column: InstrumentedAttribute[Any]) -> tuple[int, tuple[str, ...]]:
        """How many have tokens or consents among them, and the names of a few."""
        if target.what is What.EVERYTHING:
            # There are fewer of them than consents, and each needs but one.
            consenting: ColumnElement[bool] = consents.where(column == row.id).exists()
        else:
            consenting = row.id.in_(consents.with_only_columns(column))
        which = or_(row.id.in_(_things(kind, on_tokens)), consenting)
        found = session.execute(select(row.name, func.count().over()).where(which).order_by(row.name).limit(NAMED)).all()
        return found[0][1] if found else 0, tuple(name for name, _ in found)

    agents, agent_names = concerned(AgentRow, Kind.AGENT, ConsentRow.agent)
    humans, human_names = concerned(HumanRow, Kind.HUMAN, ConsentRow.human)
    return Count(
        tokens=size(living),
        consents=size(consents),
        tasks=size(tasks) or int(target.what is What.TASK and _runs(session, target.id, at)),
        agents=agents,
        humans=humans,
        entry=entry,
        complete=complete,
        agent_names=agent_names,
        human_names=human_names,
    )


def _things(kind: Kind, footings: Select[str]) -> Select[str]:
    return select(FootingThingRow.id).where(FootingThingRow.footing.in_(footings), FootingThingRow.kind == kind.value).distinct()


def _hung(target: Target) -> Select[str] | None:
    """Footings that fall with the target; None for all of them."""
    match target.what:
        case What.EVERYTHING | What.TOKEN:
            return None
        case What.OWNER:
            return footing.on(Kind.AGENT.value, select(AgentRow.id).where(AgentRow.owner == target.id))
        case what:
            return footing.on(Kind(what.value).value, [target.id])


def _falls_with(target: Target) -> ColumnElement[bool]:
    if target.what is What.CONSENT:
        return ConsentRow.id == target.id
    if target.what is What.TOKEN:
        return false()
    hung = _hung(target)
    return true() if hung is None else ConsentRow.footing.in_(hung)


def _denied(since: int | None) -> ColumnElement[bool]:
    return true() if since is None else ~_moved_since(TOKEN, DeniedTokenRow.jti, since)


def _moved_since(kind: str, identifier: ColumnElement[str] | InstrumentedAttribute[str], since: int) -> ColumnElement[bool]:
    return exists().where(MovementRow.seq >= since, MovementRow.kind == kind, MovementRow.id == identifier)


def _runs(session: Session, task: str, at: At) -> bool:
    """Whether a task without a live token runs; asked only of one that the deed has not found ended."""
    row = session.get(TaskRow, task)
    if row is None or row.deadline <= at.moment or row.generation != at.generation:
        return False
    if at.since is None and row.ended_at is not None:
        return False
    stands = and_(ConsentRow.id == row.consent, ConsentRow.ended_at.is_(None), ~footing.fallen(ConsentRow.footing, at.since))
    return session.scalar(select(ConsentRow.id).where(stands)) is not None
