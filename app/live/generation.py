"""Generations: a Redis that may have forgotten is replaced by a fresh copy, and what hung on the old one is dead."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app import clock
from app.database import Database
from app.errors import TemporarilyUnavailable
from app.live import scripts
from app.live.connection import Connections
from app.live.models import DeniedTokenRow, DeploymentRow, ThingRow
from app.live.things import Kind, Thing

BATCH = 1000

CALENDAR = 1_735_689_600
"""The first second of 2025. Counted from there, seconds stay a four-byte integer until 2093."""


class Generation(NamedTuple):
    """One life of the live state: its number, and the second it began (0 for the very first)."""

    number: int
    since: int

    def remembers(self, made: int, now: int) -> bool:
        """Whether the once-mark of what was made at `made` would be here, had it been used (both in seconds since 1970).

        Raises `TemporarilyUnavailable` for as long as something made just before the rebuild, by a clock that is
        right enough, may still be on its way.
        """
        first = self.since + clock.SKEW + 1
        if self.since == 0 or made >= first:
            return True
        if now < first + clock.SKEW:
            raise TemporarilyUnavailable("assertions of before the rebuild", retry_after=min(first - made, clock.SKEW + 1))
        return False

    def identity(self, run_id: str) -> str:
        """What `ready` holds when the copy in that Redis process is ours and complete."""
        return f"{self.number}:{self.since}:{run_id}"


READY = "deputy:ready"
BUILDING = "deputy:building"
STREAM = "deputy:stream"
CALLS = "deputy:calls"
"""Records of calls that were only looked at: a stream of their own, so that a busy API holds up nobody's tokens."""

STREAMS = (STREAM, CALLS)
"""In the order in which the relay takes them."""


def prefix(number: int) -> str:
    """All keys of a generation begin with this; a new one starts from nothing and cannot meet an old key."""
    return f"deputy:{number}:"


def applied_key(number: int) -> str:
    """Holds the highest movement applied without a gap."""
    return prefix(number) + "applied"


def epoch_key(number: int, thing: Thing) -> str:
    """Key of a thing's epoch."""
    return f"deputy:{number}:e:{thing.kind}:{thing.id}"


def version_key(number: int, thing: Thing) -> str:
    """Key of a thing's version."""
    return f"deputy:{number}:v:{thing.kind}:{thing.id}"


def denied_key(number: int, jti: str) -> str:
    """Key of a denied token."""
    return f"deputy:{number}:x:{jti}"


def read_generation(session: Session) -> Generation:
    """The generation as SQL has it. Raises `TemporarilyUnavailable` before the first one was opened."""
    row = session.execute(select(DeploymentRow.generation, DeploymentRow.since)).one_or_none()
    if row is None or row.generation == 0:
        raise TemporarilyUnavailable("no generation was opened yet")
    return Generation(row.generation, row.since)


def is_ready(database: Database, redis: Connections) -> bool:
    """Whether this Redis process holds our complete copy."""
    with database.reading() as session:
        row = session.execute(select(DeploymentRow.generation, DeploymentRow.since, DeploymentRow.restored)).one_or_none()
    if row is None or row.generation == 0 or row.restored:
        return False
    ready: bytes | None = redis.call("GET", READY)
    return ready == Generation(row.generation, row.since).identity(redis.run_id).encode()


def open_generation(database: Database, redis: Connections, on_open: Callable[[Session, Generation], None]) -> bool:
    """Open a new generation: close the copy, number the next, load it from SQL, declare it ready.

    The SQL row lock lets one process do this at a time and orders it with every deed: a movement commits before
    the load and is in it, or after and then speaks of the new generation. `on_open` writes the record.
    Returns False when something touched the copy meanwhile; the caller tries again.
    """
    nonce = secrets.token_hex(16)
    redis.call("DEL", READY)
    redis.call("SET", BUILDING, nonce, "EX", 120)
    run_id = redis.run_id
    with database.transaction() as session:
        row = session.execute(select(DeploymentRow).where(DeploymentRow.id == 1).with_for_update()).scalar_one_or_none()
        if row is None:
            row = DeploymentRow(id=1, generation=0, since=0, movement=0, restored=0)
            session.add(row)
        first = row.generation == 0
        row.generation += 1
        row.since = 0 if first else clock.timestamp()
        row.restored = 0
        generation, movement = Generation(row.generation, row.since), row.movement
        # Nobody writes under the new number before this commits. A Redis that served another database may have keys there.
        _clear(redis, generation.number)
        session.execute(delete(DeniedTokenRow).where(DeniedTokenRow.expires_at < clock.timestamp() - 60))
        keys = list(_held(session, generation.number))
        on_open(session, generation)
    identity = generation.identity(run_id)
    for start in range(0, len(keys), BATCH):
        triples = [value for key in keys[start : start + BATCH] for value in key]
        redis.call("EVALSHA", scripts.RAISE_SHA, 2, READY, prefix(generation.number) + "loading", identity, 0, -1, *triples)
    opened: int = redis.call("EVALSHA", scripts.OPEN_SHA, 3, BUILDING, READY, applied_key(generation.number), nonce, identity, movement)
    return opened == 1 and redis.run_id == run_id


def _clear(redis: Connections, number: int) -> None:
    cursor: bytes | int = 0
    while True:
        cursor, found = redis.call("SCAN", cursor, "MATCH", prefix(number) + "*", "COUNT", BATCH)
        if found:
            redis.call("UNLINK", *found)
        if int(cursor) == 0:
            return


def forget_old(redis: Connections, current: int) -> None:
    """Remove the keys of earlier generations, a bounded batch at a time. Nothing reads them any more."""
    cursor: bytes | int = 0
    while True:
        cursor, found = redis.call("SCAN", cursor, "MATCH", "deputy:*", "COUNT", BATCH)
        keep = prefix(current).encode()
        old = [key for key in found if key.split(b":")[1].isdigit() and not key.startswith(keep)]
        if old:
            redis.call("UNLINK", *old)
        if int(cursor) == 0:
            return


def _held(session: Session, number: int) -> Iterator[tuple[str, int, int]]:
    for kind, identifier, epoch, version in session.execute(select(ThingRow.kind, ThingRow.id, ThingRow.epoch, ThingRow.version)):
        thing = Thing(Kind(kind), identifier)
        if epoch:
            yield epoch_key(number, thing), epoch, 0
        if version:
            yield version_key(number, thing), version, 0
    for jti, expires_at in session.execute(select(DeniedTokenRow.jti, DeniedTokenRow.expires_at)):
        yield denied_key(number, jti), 1, expires_at


def mark_restored(session: Session, beyond: int = 0) -> None:
    """A restored backup remembers less than was given out: its next start opens a new generation.

    Its number must never have been used, or tokens of the lost time would live again under it. The backup does not know how
    far that time got; `beyond`, the last number known from elsewhere, may be missing. But generations open far less often
    than once a second, so the clock is ahead of them all.
    """
    row = session.get(DeploymentRow, 1)
    if row is None:
        row = DeploymentRow(id=1, generation=0, since=0, movement=0)
        session.add(row)
    row.generation = max(row.generation + 1, beyond, clock.timestamp() - CALENDAR)
    row.restored = 1
