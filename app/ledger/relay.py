"""The relay: the one writer of the ledger, and the one that rebuilds live state when Redis may have forgotten.

It takes the stream and the outbox in batches, each record once, chains them, signs where the chain then stands, and
only after SQL has committed forgets them in Redis. A relay that lost its lease loses at the compare-and-set.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import orjson
import structlog
from sqlalchemy import case, column, delete, func, insert, or_, select, table, update
from sqlalchemy.orm import Session

from app import clock
from app.audit import record, serialize
from app.audit.events import NOBODY, GenerationOpened, RecordUnreadable, TokenIssued
from app.audit.models import OutboxRow
from app.database import Database
from app.errors import ConfigurationError, TemporarilyUnavailable
from app.keys.store import KeyStore
from app.ledger import checkpoints
from app.ledger.chain import Head
from app.ledger.checkpoints import Checkpoint
from app.ledger.models import CheckpointRow, EntryRow, RelayRow
from app.live.commit import Live
from app.live.deeds import catch_up, trim
from app.live.generation import STREAM, Generation, forget_old, is_ready, open_generation
from app.live.models import DeniedTokenRow, DeploymentRow
from app.settings import Settings

BATCH = 500
"""Records of each source in one transaction."""

LEASE = 3000
"""Milliseconds a relay holds the lease without renewing it."""

PACE = 0.05
"""Seconds between batches that were not full: under load it makes batches, idle it costs nothing."""

CHORES = 60.0
"""Seconds between tidying."""

KEEP_MOVEMENTS = 10_000
"""Movements behind the newest that are kept for a copy that is being loaded."""

MAX_RECORD = 65_536

TASK = table("task", column("id"), column("uses"), column("last_used_at"))
"""The rows the relay keeps the use of; their register is above it and is not imported."""

log = structlog.get_logger("relay")


class LostLease(Exception):
    """Another relay moved the chain: everything of this batch is undone."""


class Taken(NamedTuple):
    """A record on its way, and where it came from: an id of the stream, or of the outbox."""

    body: bytes
    stream_id: bytes | None
    outbox_id: str | None


class Relay:
    """One relay process. `holder` names who holds the lease; the same name takes it over at once after a crash."""

    def __init__(self, database: Database, live: Live, keys: KeyStore, settings: Settings, *, holder: str = "") -> None:
        self._database = database
        self._live = live
        self._keys = keys
        self._settings = settings
        self._holder = holder or secrets.token_hex(8)
        self._until = 0
        self._caught_up = False
        self._next_chores = 0.0
        self._logged = 0
        self._said: str | None = None

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop; whatever is out of reach is tried again."""
        while not stop.is_set():
            try:
                more = self.step()
                self._say("")
            except (TemporarilyUnavailable, ConfigurationError, LostLease) as trouble:
                self._say(str(getattr(trouble, "reason", trouble) or type(trouble).__name__))
                more = False
            if not more:
                stop.wait(PACE)
        self._release()

    def step(self) -> bool:
        """One round. Returns whether there is more to take at once. Raises what `run` waits out."""
        if not self._lease():
            return False
        if not is_ready(self._database, self._live.redis):
            self._live.redis.check()
            self._open()
        catch_up(self._live)
        taken = self._take()
        if taken:
            self._enter(taken)
        self._do_chores()
        return len(taken) >= BATCH

    def drain(self) -> int:
        """Enter everything that waits. Returns how many records."""
        count = 0
        while taken := self._take():
            self._enter(taken)
            count += len(taken)
        return count

    # The lease

    def _lease(self) -> bool:
        now = clock.milliseconds()
        if now < self._until - LEASE // 2:
            return True
        with self._database.transaction() as session:
            if session.get(RelayRow, 1) is None:
                session.add(RelayRow(id=1))
                session.flush()
            moved = session.execute(
                update(RelayRow)
                .where(RelayRow.id == 1, or_(RelayRow.holder == self._holder, RelayRow.until < now))
                .values(holder=self._holder, until=now + LEASE)
            )
            held = bool(moved.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it
        self._until = now + LEASE if held else 0
        return held

    def _release(self) -> None:
        try:
            with self._database.transaction() as session:
                session.execute(update(RelayRow).where(RelayRow.id == 1, RelayRow.holder == self._holder).values(until=0))
        except TemporarilyUnavailable:
            log.info("lease not given back; it ends by itself")

    # A new generation

    def _open(self) -> None:
        drained = self.drain()
        cause = self._cause()

        def on_open(session: Session, generation: Generation) -> None:
            record(session, GenerationOpened(who=NOBODY, generation=generation.number, cause=cause, drained=drained))

        opened = open_generation(self._database, self._live.redis, on_open)
        generation = self._live.reload_generation()
        log.info("generation opened", number=generation.number, cause=cause, drained=drained, ready=opened)
        forget_old(self._live.redis, generation.number)

    def _cause(self) -> str:
        with self._database.reading() as session:
            row = session.get(DeploymentRow, 1)
        if row is None or row.generation == 0:
            return "first start"
        return "restored backup" if row.restored else "redis restarted, was flushed, or is another"

    # From stream and outbox into the ledger

    def _take(self) -> list[Taken]:
        found = self._live.redis.call("XRANGE", STREAM, "-", "+", "COUNT", BATCH)
        taken = [Taken(_body(fields), stream_id, None) for stream_id, fields in found]
        with self._database.reading() as session:
            rows = session.execute(select(OutboxRow.id, OutboxRow.record).order_by(OutboxRow.id).limit(BATCH))
            taken += [Taken(row.record, None, row.id) for row in rows]
        return taken

    def _enter(self, taken: list[Taken]) -> None:
        key = self._keys.ledger_key()
        now = clock.timestamp()
        with self._database.transaction() as session:
            row = session.execute(select(RelayRow.seq, RelayRow.hash, RelayRow.holder).where(RelayRow.id == 1)).one()
            before = Head(row.seq, row.hash)
            entries, head = _chain(before, _fresh(session, taken))
            point = checkpoints.sign(head, now, self._settings.issuer, key)
            if entries:
                session.execute(insert(EntryRow), entries)
                session.add(CheckpointRow(seq=head.seq, at=now, jws=point.jws))
                _touch_tasks(session, entries)
            session.execute(delete(OutboxRow).where(OutboxRow.id.in_([t.outbox_id for t in taken if t.outbox_id])))
            moved = session.execute(
                update(RelayRow)
                .where(RelayRow.id == 1, RelayRow.holder == self._holder, RelayRow.seq == before.seq)
                .where(RelayRow.hash == before.hash)
                .values(seq=head.seq, hash=head.hash, until=clock.milliseconds() + LEASE)
            )
            if not moved.rowcount:  # type: ignore[attr-defined]  # an UPDATE's result has it
                self._until = 0
                raise LostLease
        self._write_outside(point if entries else None)
        if ids := [t.stream_id for t in taken if t.stream_id]:
            self._live.redis.call("XDEL", STREAM, *ids)

    def _write_outside(self, point: Checkpoint | None) -> None:
        """Append to the file outside the database: first what a crash kept from it."""
        path = self._settings.checkpoints_file
        try:
            if not self._caught_up:
                written = checkpoints.last_written(path)
                with self._database.reading() as session:
                    rows = session.scalars(select(CheckpointRow).where(CheckpointRow.seq > written).order_by(CheckpointRow.seq)).all()
                missing = [checkpoints.read(row.jws, self._settings.issuer, self._keys.ledger_verification_key) for row in rows]
                checkpoints.append(path, missing)
                self._caught_up = True
            elif point is not None:
                checkpoints.append(path, [point])
        except (OSError, checkpoints.CheckpointRefused) as error:
            self._caught_up = False
            raise TemporarilyUnavailable(f"checkpoints file: {type(error).__name__}") from None

    # Tidying

    def _do_chores(self) -> None:
        if clock.monotonic() < self._next_chores:
            return
        self._next_chores = clock.monotonic() + CHORES
        with self._database.transaction() as session:
            newest = session.scalar(select(DeploymentRow.movement)) or 0
            trim(session, newest - KEEP_MOVEMENTS)
            session.execute(delete(DeniedTokenRow).where(DeniedTokenRow.expires_at < clock.timestamp() - 60))
            head = session.execute(select(RelayRow.seq, RelayRow.hash).where(RelayRow.id == 1)).one()
        if head.seq != self._logged:
            # The checkpoint of those who keep logs elsewhere.
            log.info("ledger", seq=head.seq, hash=head.hash)
            self._logged = head.seq

    def _say(self, trouble: str) -> None:
        """Log a trouble when it begins and when it is over, not twenty times a second."""
        if trouble != (self._said or ""):
            log.warning("waiting", reason=trouble) if trouble else log.info("going on")
            self._said = trouble


def _body(fields: list[bytes]) -> bytes:
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    return found.get(b"r", b"")


def _fresh(session: Session, taken: Iterable[Taken]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each record once: parsed, unless the ledger has its id already."""
    parsed = [_parsed(one.body) for one in taken]
    ids = {str(facts["id"]) for facts, _ in parsed}
    known = set(session.scalars(select(EntryRow.id).where(EntryRow.id.in_(ids))))
    for facts, body in parsed:
        if facts["id"] not in known:
            known.add(facts["id"])
            yield facts, body


def _parsed(body: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        facts = orjson.loads(body) if len(body) <= MAX_RECORD else None
        if isinstance(facts, dict) and {"v", "id", "at", "event", "outcome", "who"} <= facts.keys():
            return facts, body
    except orjson.JSONDecodeError:
        pass
    # Somebody else wrote into Redis. What it was is kept as a hash: the ledger neither stops nor swallows it.
    _, replacement = serialize(RecordUnreadable(who=NOBODY, sha256=sha256(body).hexdigest(), length=len(body)))
    return orjson.loads(replacement), replacement


def _chain(head: Head, records: Iterable[tuple[dict[str, Any], bytes]]) -> tuple[list[dict[str, Any]], Head]:
    entries = []
    for facts, body in records:
        head = head.extended(body)
        entries.append({"seq": head.seq, **columns_of(facts), "record": body, "hash": head.hash})
    return entries, head


def columns_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept beside a record for searching: copies of what is in it."""
    who: Mapping[str, Any] = facts["who"]
    actors = who.get("actors") or (None,)
    return {
        "id": facts["id"],
        "at": facts["at"],
        "event": facts["event"],
        "outcome": facts["outcome"],
        "human": who.get("human"),
        "agent": actors[0],
        "client_id": who.get("client"),
        "consent": facts.get("consent"),
        "task": facts.get("task"),
        "jti": facts.get("jti"),
    }


def _touch_tasks(session: Session, entries: Iterable[Mapping[str, Any]]) -> None:
    """Count uses and remember the last: one use is one token permitted in the task."""
    uses: Counter[str] = Counter()
    last: dict[str, int] = {}
    for entry in entries:
        if entry["event"] == TokenIssued.name and entry["task"]:
            uses[entry["task"]] += 1
            last[entry["task"]] = entry["at"] // 1000
    for task in sorted(uses):
        later = case((func.coalesce(TASK.c.last_used_at, 0) < last[task], last[task]), else_=TASK.c.last_used_at)
        session.execute(update(TASK).where(TASK.c.id == task).values(uses=TASK.c.uses + uses[task], last_used_at=later))
