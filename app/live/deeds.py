"""A deed: one SQL transaction, then Redis, then the answer. Nothing is acknowledged before it holds everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.errors import TemporarilyUnavailable
from app.live import scripts
from app.live.commit import Live
from app.live.generation import READY, Generation, applied_key, denied_key, epoch_key, version_key
from app.live.models import DeniedTokenRow, DeploymentRow, MovementRow, ThingRow
from app.live.things import Kind, Thing

TOKEN = "token"
"""`MovementRow.kind` of a denied token."""

REMEMBER = 3600
"""Seconds past its expiry that a denied token is remembered: more than any lifetime plus skew."""


class NotYetInForce(TemporarilyUnavailable):
    """SQL has the deed, Redis did not confirm it. Repeating it is harmless; the relay applies it too."""


@dataclass
class Deed:
    """The open transaction of a deed, and what it moves."""

    session: Session
    movements: list[MovementRow] = field(default_factory=list)

    def change(self, thing: Thing) -> None:
        """Something about the thing is different: its version moves, caches and commits notice."""
        self._move(thing, epoch=0)

    def end(self, thing: Thing) -> None:
        """Authority ends or shrinks: the epoch moves and everything that hangs on the thing is dead, born or not."""
        self._move(thing, epoch=1)

    def deny(self, jti: str, expires_at: int) -> None:
        """One token, and what was derived from it, is dead. `expires_at` in seconds since 1970."""
        until = expires_at + REMEMBER
        self.session.merge(DeniedTokenRow(jti=jti, expires_at=until))
        self.movements.append(MovementRow(seq=0, kind=TOKEN, id=jti, epoch=1, version=0, expires_at=until))

    def _move(self, thing: Thing, *, epoch: int) -> None:
        row = self.session.get(ThingRow, (thing.kind.value, thing.id))
        if row is None:
            row = ThingRow(kind=thing.kind.value, id=thing.id, epoch=0, version=0)
            self.session.add(row)
        row.epoch += epoch
        row.version += 1
        self.movements.append(MovementRow(seq=0, kind=row.kind, id=row.id, epoch=row.epoch, version=row.version, expires_at=0))


def lock_deployment(session: Session) -> None:
    """Take the row lock that orders deeds and generations."""
    session.execute(select(DeploymentRow.id).where(DeploymentRow.id == 1).with_for_update())


class Deeds:
    """Opens deeds and brings what they moved into force."""

    def __init__(self, live: Live) -> None:
        self._live = live

    @contextmanager
    def deed(self) -> Iterator[Deed]:
        """One deed. Leaves SQL committed and Redis raised, or raises: `NotYetInForce` when only SQL has it."""
        numbered: Generation | None = None
        with self._live.database.transaction() as session:
            # Locked first, always: movements are numbered in commit order and no two deeds deadlock.
            lock_deployment(session)
            deed = Deed(session)
            yield deed
            if deed.movements:
                numbered = _number(session, deed.movements)
        if numbered is not None:
            try:
                in_force = apply(self._live, numbered, deed.movements)
            except TemporarilyUnavailable as trouble:
                raise NotYetInForce(trouble.reason) from None
            if not in_force:
                raise NotYetInForce("live state is being rebuilt")


def _number(session: Session, movements: list[MovementRow]) -> Generation | None:
    count = len(movements)
    row = session.execute(
        update(DeploymentRow)
        .where(DeploymentRow.id == 1)
        .values(movement=DeploymentRow.movement + count)
        .returning(DeploymentRow.movement, DeploymentRow.generation, DeploymentRow.since)
    ).one_or_none()
    if row is None:
        # Before the first generation there is no live copy that could be behind.
        return None
    for offset, movement in enumerate(movements):
        movement.seq = row.movement - count + 1 + offset
        session.add(movement)
    return Generation(row.generation, row.since) if row.generation else None


def apply(live: Live, generation: Generation, movements: list[MovementRow]) -> bool:
    """Raise Redis to what the movements say. Returns whether the copy is ready, so that they are now in force."""
    triples: list[str | int] = []
    for movement in movements:
        if movement.kind == TOKEN:
            triples += (denied_key(generation.number, movement.id), 1, movement.expires_at)
            continue
        thing = Thing(Kind(movement.kind), movement.id)
        if movement.epoch:
            triples += (epoch_key(generation.number, thing), movement.epoch, 0)
        triples += (version_key(generation.number, thing), movement.version, 0)
    held: int = live.redis.call(
        "EVALSHA", scripts.RAISE_SHA, 2, READY, applied_key(generation.number),
        generation.identity(live.redis.run_id), movements[0].seq, movements[-1].seq, *triples,
    )  # fmt: skip
    return held == 1


def catch_up(live: Live) -> int:
    """Apply the movements that SQL has and Redis has not; the relay does this. Returns how many."""
    generation = live.reload_generation()
    applied = int(live.redis.call("GET", applied_key(generation.number)) or 0)
    with live.database.reading() as session:
        missing = list(session.scalars(select(MovementRow).where(MovementRow.seq > applied).order_by(MovementRow.seq).limit(1000)))
    if missing:
        apply(live, generation, missing)
    return len(missing)


def trim(session: Session, below: int) -> None:
    """Forget movements that every copy has: thousands behind the newest."""
    session.query(MovementRow).where(MovementRow.seq < below).delete()
