"""A deed: one SQL transaction, then Redis, then the answer. Nothing is acknowledged before it holds everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app import clock
from app.errors import TemporarilyUnavailable
from app.live import scripts
from app.live.commit import Live
from app.live.generation import READY, Generation, applied_key, denied_key, epoch_key, version_key
from app.live.models import DeploymentRow, MovementRow
from app.live.things import Kind, Thing

TOKEN = "token"
"""`MovementRow.kind` of a denied token."""

REMEMBER = 3600
"""Seconds past its expiry that a denied token is remembered: more than any lifetime plus skew."""


class NotYetInForce(TemporarilyUnavailable):
    """SQL has the deed, Redis did not confirm it. Repeating it is harmless; the relay applies it too."""


class Movement(NamedTuple):
    """One change: of a thing's epoch and version, or the denial of a token until a second since 1970."""

    kind: str
    id: str
    epoch: int
    version: int
    expires_at: int


MOVE = text(
    "INSERT INTO thing (kind, id, epoch, version) VALUES (:kind, :id, :by, 1) ON CONFLICT (kind, id) "
    "DO UPDATE SET epoch = thing.epoch + :by, version = thing.version + 1 RETURNING epoch, version"
)
NUMBER = text("UPDATE deployment SET movement = movement + :count WHERE id = 1 RETURNING movement, generation, since")
RECORD = text("INSERT INTO movement (seq, kind, id, epoch, version, expires_at) VALUES (:seq, :kind, :id, :epoch, :version, :expires_at)")
DENY = text("INSERT INTO denied_token (jti, expires_at) VALUES (:jti, :until) ON CONFLICT (jti) DO NOTHING")


@dataclass
class Deed:
    """The open transaction of a deed, and what it moves."""

    session: Session
    movements: list[Movement] = field(default_factory=list)
    moment: int = field(default_factory=clock.timestamp)
    """Seconds since 1970 when it began."""
    first: int | None = None
    """The number of its first movement, once it is committed. What it ended stood until then."""
    generation: int = 0
    """The generation of the live state in which that was."""

    def change(self, thing: Thing) -> int:
        """Something about the thing is different: its version moves, caches and commits notice. Returns the new version."""
        return self._move(thing, epoch=0)

    def end(self, thing: Thing) -> None:
        """Authority ends or shrinks: the epoch moves and everything that hangs on the thing is dead, born or not."""
        self._move(thing, epoch=1)

    def deny(self, jti: str, expires_at: int) -> None:
        """One token, and what was derived from it, is dead. `expires_at` in seconds since 1970."""
        until = expires_at + REMEMBER
        self.session.connection().execute(DENY, {"jti": jti, "until": until})
        self.movements.append(Movement(TOKEN, jti, 1, 0, until))

    def _move(self, thing: Thing, *, epoch: int) -> int:
        moved = self.session.connection().execute(MOVE, {"kind": thing.kind.value, "id": thing.id, "by": epoch}).one()
        self.movements.append(Movement(thing.kind.value, thing.id, moved.epoch, moved.version, 0))
        return int(moved.version)


def lock_deployment(session: Session) -> None:
    """Take the row lock that orders deeds and generations. SQLite has one writer at a time and needs none."""
    if session.get_bind().dialect.name == "sqlite":
        return
    session.execute(select(DeploymentRow.id).where(DeploymentRow.id == 1).with_for_update())


class Deeds:
    """Opens deeds and brings what they moved into force."""

    def __init__(self, live: Live) -> None:
        self._live = live

    @contextmanager
    def deed(self) -> Iterator[Deed]:
        """One deed. Leaves SQL committed and Redis raised, or raises: `NotYetInForce` when only SQL has it."""
        numbered: tuple[Generation, int] | None = None
        with self._live.database.transaction() as session:
            # Locked first, always: movements are numbered in commit order and no two deeds deadlock.
            lock_deployment(session)
            deed = Deed(session)
            yield deed
            if deed.movements:
                numbered = _number(session, deed)
        if numbered is not None:
            try:
                in_force = apply(self._live, *numbered, deed.movements)
            except TemporarilyUnavailable as trouble:
                raise NotYetInForce(trouble.reason) from None
            if not in_force:
                raise NotYetInForce("live state is being rebuilt")


def _number(session: Session, deed: Deed) -> tuple[Generation, int] | None:
    movements = deed.movements
    count = len(movements)
    row = session.connection().execute(NUMBER, {"count": count}).one_or_none()
    if row is None:
        # Before the first generation there is no live copy that could be behind.
        return None
    first: int = row.movement - count + 1
    deed.first, deed.generation = first, row.generation
    session.connection().execute(RECORD, [{"seq": first + at, **movement._asdict()} for at, movement in enumerate(movements)])
    return (Generation(row.generation, row.since), first) if row.generation else None


def apply(live: Live, generation: Generation, first: int, movements: Sequence[Movement]) -> bool:
    """Raise Redis to what the movements say, the first of which has that number. Returns whether they are now in force."""
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
        generation.identity(live.redis.run_id), first, first + len(movements) - 1, *triples,
    )  # fmt: skip
    return held == 1


def catch_up(live: Live) -> int:
    """Apply the movements that SQL has and Redis has not; the relay does this. Returns how many."""
    generation = live.reload_generation()
    applied = int(live.redis.call("GET", applied_key(generation.number)) or 0)
    with live.database.reading() as session:
        columns = [getattr(MovementRow, name) for name in ("seq", *Movement._fields)]
        rows = session.execute(select(*columns).where(MovementRow.seq > applied).order_by(MovementRow.seq).limit(1000)).all()
    if rows:
        apply(live, generation, rows[0].seq, [Movement(*row[1:]) for row in rows])
    return len(rows)


def trim(session: Session, below: int) -> None:
    """Forget movements that every copy has: thousands behind the newest."""
    session.query(MovementRow).where(MovementRow.seq < below).delete()
