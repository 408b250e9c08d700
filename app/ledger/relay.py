"""The relay: the one writer of the ledger, and the one that rebuilds live state when Redis may have forgotten.

It takes the stream and the outbox in batches, each record once, chains them, signs where the chain then stands, and
only after SQL has committed forgets them in Redis. A relay that lost its lease loses at the compare-and-set.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, TypeGuard
from uuid import UUID

import orjson
import structlog
from sqlalchemy import JSON, String, case, column, delete, func, insert, or_, select, table, text, type_coerce, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.types import NullType

from app import clock
from app.audit import record, serialize
from app.audit.events import NOBODY, CallConsumed, GenerationOpened, RecordUnreadable, TaskReported, TokenIssued
from app.audit.models import OutboxRow
from app.database import Database
from app.errors import ConfigurationError, TemporarilyUnavailable
from app.keys.store import KeyStore
from app.ledger import checkpoints, issued
from app.ledger.chain import GENESIS, Head
from app.ledger.checkpoints import Checkpoint
from app.ledger.firsts import First, Firsts
from app.ledger.models import CheckpointRow, EntryRow, RelayRow
from app.live.commit import Live
from app.live.deeds import catch_up, trim
from app.live.generation import STREAMS, Generation, applied_key, forget_old, is_ready, open_generation
from app.live.models import DeniedTokenRow, DeploymentRow
from app.settings import Settings
from app.vocabulary import is_label

BATCH = 500
"""Records of each source in one transaction."""

BATCH_BYTES = 4_194_304
"""Bytes of the stream after which a batch is full, however few records they are."""

PAGE = 100
"""Records of the stream in one answer of Redis."""

LEASE = 3000
"""Milliseconds a relay holds the lease without renewing it."""

PACE = 0.05
"""Seconds between batches that were not full: under load it makes batches, idle it costs nothing."""

CHORES = 60.0
"""Seconds between tidying."""

KEEP_MOVEMENTS = 10_000
"""Movements behind the newest that are kept for a copy that is being loaded."""

MAX_RECORD = 1_048_576
"""Bytes of a record from the stream. Ours are far below it: a longer one was written by somebody else."""

CATCH_UP = 1000
"""Checkpoints, the newest, that are written again when the file outside lacks more: each covers all before it."""

MEMBERS = frozenset({"v", "id", "at", "event", "outcome", "who"})
WIDTHS = {name: kind.length for name, kind in ((c.name, c.type) for c in EntryRow.__table__.c) if isinstance(kind, String) and kind.length}
RECORD_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
LAST_MOMENT = 253_402_300_799_999
"""Milliseconds: the end of the year 9999, the last that can be shown as a date."""

FIRST_ROW = text("INSERT INTO relay (id, holder, until, seq, hash) VALUES (1, '', 0, 0, :hash) ON CONFLICT (id) DO NOTHING")

TASK = table("task", column("id"), column("uses"), column("last_used_at"), column("labels", JSON))
"""The rows the relay keeps the use of; their register is above it and is not imported."""

TOUCHING = frozenset({TokenIssued.name, TaskReported.name, CallConsumed.name})
"""Events whose record says what the task has touched."""

log = structlog.get_logger("relay")


class LostLease(Exception):
    """Another relay moved the chain: everything of this batch is undone."""


class Taken(NamedTuple):
    """A record on its way, and where it came from: an id of the stream, or of the outbox."""

    body: bytes
    stream_id: bytes | None
    outbox_id: str | None
    stream: str = ""


class Relay:
    """One relay process. `holder` names who holds the lease; the same name takes it over at once after a crash."""

    def __init__(self, database: Database, live: Live, keys: KeyStore, settings: Settings, *, holder: str = "") -> None:
        self._database = database
        self._live = live
        self._keys = keys
        self._settings = settings
        self._holder = holder or secrets.token_hex(8)
        self._renew_at = 0.0
        self._caught_up = False
        self._next_chores = 0.0
        self._tidied: int | None = None
        self._said: str | None = None
        self._firsts = Firsts()

    def run(self, stop: threading.Event) -> None:
        """Work until told to stop, and then until nothing waits any more; whatever is out of reach is tried again."""
        while True:
            # Looked at before the round: what came last, from those who ended before us, is taken too.
            last = stop.is_set()
            try:
                more = self.step()
                self._say("")
            except (TemporarilyUnavailable, ConfigurationError, LostLease) as trouble:
                self._say(str(getattr(trouble, "reason", trouble) or type(trouble).__name__))
                more = False
            if more:
                continue
            if last:
                break
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
        if not self._caught_up:
            self._catch_up_outside()
        taken = self._take()
        if taken:
            self._enter(taken)
        self._do_chores()
        return _is_full(taken)

    def drain(self) -> int:
        """Enter everything that waits. Returns how many records of the stream."""
        count = 0
        while taken := self._take():
            self._enter(taken)
            count += sum(one.stream_id is not None for one in taken)
        return count

    # The lease

    def _lease(self) -> bool:
        if clock.monotonic() < self._renew_at:
            return True
        now = clock.milliseconds()
        if self._is_held_by_another(now):
            self._lost()
            return False
        with self._database.transaction() as session:
            session.execute(FIRST_ROW, {"hash": GENESIS})
            moved = session.execute(
                update(RelayRow)
                .where(RelayRow.id == 1, or_(RelayRow.holder == self._holder, RelayRow.until < now, RelayRow.until > now + 2 * LEASE))
                .values(holder=self._holder, until=now + LEASE)
            )
            held = bool(moved.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it
        if held:
            self._renewed()
        return held

    def _is_held_by_another(self, now: int) -> bool:
        """Look before asking to write: who stands by must not stand in the way."""
        with self._database.reading() as session:
            row = session.execute(select(RelayRow.holder, RelayRow.until).where(RelayRow.id == 1)).one_or_none()
        # An end further off than any lease was set by a clock that was wrong: nobody waits for that.
        return row is not None and row.holder != self._holder and now <= row.until <= now + 2 * LEASE

    def _renewed(self) -> None:
        self._renew_at = clock.monotonic() + LEASE / 2000

    def _lost(self) -> None:
        """Somebody else writes now, and into a file of its own: ours is looked at again when the lease comes back."""
        self._renew_at = 0.0
        self._caught_up = False

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
        self._next_chores = 0.0

    def _cause(self) -> str:
        with self._database.reading() as session:
            row = session.get(DeploymentRow, 1)
        if row is None or row.generation == 0:
            return "first start"
        return "restored backup" if row.restored else "redis restarted, was flushed, or is another"

    # From stream and outbox into the ledger

    def _take(self) -> list[Taken]:
        taken = [one for stream in STREAMS for one in self._streamed(stream)]
        with self._database.reading() as session:
            rows = session.execute(select(OutboxRow.id, OutboxRow.record).order_by(OutboxRow.id).limit(BATCH))
            taken += [Taken(row.record, None, row.id) for row in rows]
        return taken

    def _streamed(self, stream: str) -> Iterator[Taken]:
        """The oldest of a stream, until they are many or long: memory and the transaction stay bounded."""
        count = size = 0
        start = b"-"
        while True:
            found = self._live.redis.call("XRANGE", stream, start, "+", "COUNT", PAGE)
            for stream_id, fields in found:
                body = _body(fields)
                yield Taken(body, stream_id, None, stream)
                count, size = count + 1, size + len(body)
                if count >= BATCH or size >= BATCH_BYTES:
                    return
            if len(found) < PAGE:
                return
            start = b"(" + found[-1][0]

    def _enter(self, taken: Sequence[Taken]) -> None:
        key = self._keys.ledger_key()
        now = clock.timestamp()
        point: Checkpoint | None = None
        firsts: list[First] = []
        try:
            with self._database.transaction() as session:
                # Locked before anything is looked up: of two relays the later sees what the earlier wrote.
                row = session.execute(select(RelayRow.seq, RelayRow.hash, RelayRow.holder).where(RelayRow.id == 1).with_for_update()).one()
                if row.holder != self._holder:
                    raise LostLease
                before = Head(row.seq, row.hash)
                entries, head = _chain(before, _fresh(session, taken))
                if entries:
                    point = checkpoints.sign(head, now, self._settings.issuer, key)
                    session.execute(insert(EntryRow), entries)
                    session.add(CheckpointRow(seq=head.seq, at=now, jws=point.jws))
                    _touch_tasks(session, entries)
                    issued.enter(session, entries)
                    firsts = self._firsts.enter(session, entries)
                session.execute(delete(OutboxRow).where(OutboxRow.id.in_([t.outbox_id for t in taken if t.outbox_id])))
                moved = session.execute(
                    update(RelayRow)
                    .where(RelayRow.id == 1, RelayRow.holder == self._holder, RelayRow.seq == before.seq)
                    .where(RelayRow.hash == before.hash)
                    .values(seq=head.seq, hash=head.hash, until=clock.milliseconds() + LEASE)
                )
                if not moved.rowcount:  # type: ignore[attr-defined]  # an UPDATE's result has it
                    raise LostLease
        except LostLease:
            self._lost()
            raise
        except TemporarilyUnavailable:
            # SQL may have committed before it went away: then the file lacks a checkpoint.
            self._caught_up = False
            raise
        except IntegrityError:
            # Only relays write here, one at a time: what is in the way came past them.
            raise TemporarilyUnavailable("the ledger holds what no relay wrote: `deputy ledger verify` names it") from None
        self._renewed()
        self._firsts.remember(firsts)
        if point is not None:
            self._write_outside([point])
        for stream in STREAMS:
            if ids := [t.stream_id for t in taken if t.stream_id and t.stream == stream]:
                self._live.redis.call("XDEL", stream, *ids)

    # The file outside the database

    def _write_outside(self, points: Iterable[Checkpoint]) -> None:
        try:
            if not self._caught_up:
                points = self._missing_outside()
            checkpoints.append(self._settings.checkpoints_file, points)
        except OSError as error:
            self._caught_up = False
            raise TemporarilyUnavailable(f"checkpoints file: {type(error).__name__}") from None
        self._caught_up = True

    def _catch_up_outside(self) -> None:
        """First what a crash, a full disk or another node's turn kept from the file."""
        self._write_outside(())

    def _missing_outside(self) -> list[Checkpoint]:
        written = checkpoints.last_written(self._settings.checkpoints_file)
        newest_first = select(CheckpointRow.seq, CheckpointRow.jws).order_by(CheckpointRow.seq.desc()).limit(CATCH_UP)
        with self._database.reading() as session:
            rows = session.execute(newest_first).all()
        if rows and rows[0].seq < written:
            # The database was set back. What the file says stays, and it goes on from where the database is.
            written = rows[0].seq - 1
        missing = []
        for row in reversed(rows):
            if row.seq > written:
                try:
                    missing.append(checkpoints.read(row.jws, self._keys.ledger_verification_key))
                except checkpoints.CheckpointRefused as refused:
                    # Somebody edited the row. Verification names it; it is not to stop the server, nor to be spread.
                    log.warning("checkpoint not ours", seq=row.seq, reason=str(refused))
        return missing

    # Tidying

    def _do_chores(self) -> None:
        if clock.monotonic() < self._next_chores:
            return
        self._next_chores = clock.monotonic() + CHORES
        current = self._live.generation().number
        applied = int(self._live.redis.call("GET", applied_key(current)) or 0)
        with self._database.transaction() as session:
            newest = session.scalar(select(DeploymentRow.movement)) or 0
            # Never one that Redis lacks, however far behind it is: a gap would not be noticed again.
            trim(session, min(newest - KEEP_MOVEMENTS, applied))
            session.execute(delete(DeniedTokenRow).where(DeniedTokenRow.expires_at < clock.timestamp() - 60))
            head = session.execute(select(RelayRow.seq, RelayRow.hash).where(RelayRow.id == 1)).one()
        self._forget_run_out()
        log.info("ledger", seq=head.seq, hash=head.hash)
        self._keys.retire_expired()
        if self._tidied != current:
            forget_old(self._live.redis, current)
            self._tidied = current

    def _forget_run_out(self) -> None:
        """A bounded piece at a time, so that nobody who writes waits long."""
        more = True
        while more:
            with self._database.transaction() as session:
                more = issued.trim(session, clock.timestamp())

    def _say(self, trouble: str) -> None:
        """Log a trouble when it begins and when it is over, not twenty times a second."""
        if trouble != (self._said or ""):
            log.warning("waiting", reason=trouble) if trouble else log.info("going on")
            self._said = trouble


def _body(fields: list[bytes]) -> bytes:
    found = dict(zip(fields[::2], fields[1::2], strict=True))
    return found[b"r"] if found.keys() == {b"r"} else b"\n".join(fields)


def _is_full(taken: Sequence[Taken]) -> bool:
    """Whether one of the sources had more than was taken of it."""
    counts, sizes = Counter(one.stream for one in taken), Counter[str]()
    for one in taken:
        sizes[one.stream] += len(one.body) if one.stream else 0
    return any(count >= BATCH for count in counts.values()) or any(size >= BATCH_BYTES for size in sizes.values())


def _fresh(session: Session, taken: Iterable[Taken]) -> list[tuple[dict[str, Any], bytes]]:
    """Each record once, in the order of their moments: left out is what the ledger has already, word for word."""
    parsed = [(one, *_parsed(one)) for one in taken]
    known = _entered(session, {facts["id"] for _, facts, _ in parsed})
    fresh = []
    for one, facts, body in parsed:
        if known.get(facts["id"], body) != body:
            # An id that is taken, and other words under it: nothing is overwritten and nothing is swallowed.
            facts, body = _unreadable(one)  # noqa: PLW2901
            known |= _entered(session, {facts["id"]})
        if facts["id"] not in known:
            known[facts["id"]] = body
            fresh.append((facts, body))
    return sorted(fresh, key=lambda record: int(record[0]["at"]))


def _entered(session: Session, ids: Iterable[str]) -> dict[str, bytes]:
    # As the driver has it: what somebody made of a record is compared here, not believed.
    held = type_coerce(EntryRow.record, NullType())
    return {row.id: row.record for row in session.execute(select(EntryRow.id, held.label("record")).where(EntryRow.id.in_(set(ids))))}


def _parsed(one: Taken) -> tuple[dict[str, Any], bytes]:
    try:
        # What is in the outbox came with a deed of ours, whatever its length.
        facts = orjson.loads(one.body) if one.outbox_id is not None or len(one.body) <= MAX_RECORD else None
    except orjson.JSONDecodeError:
        facts = None
    return (facts, one.body) if _is_record(facts) else _unreadable(one)


def _is_record(facts: object) -> TypeGuard[dict[str, Any]]:
    """Whether it has the form of a record, so that every column takes it and every reader can show it."""
    if not isinstance(facts, dict) or not facts.keys() >= MEMBERS or not isinstance(facts["who"], dict):
        return False
    if not isinstance(facts["who"].get("actors", []), list):
        return False
    columns = columns_of(facts)
    at = columns.pop("at")
    return (
        type(at) is int
        and 0 <= at <= LAST_MOMENT
        and all(_fits(value, WIDTHS[name]) for name, value in columns.items() if value is not None)
        and all(columns[name] for name in ("event", "outcome"))
        and RECORD_ID.fullmatch(columns["id"] or "") is not None
    )


def _fits(value: Any, width: int) -> bool:
    return isinstance(value, str) and len(value) <= width and value.isprintable()


def _unreadable(one: Taken) -> tuple[dict[str, Any], bytes]:
    """Somebody else wrote into Redis. What it was is kept as a hash: the ledger neither stops nor swallows it.

    Its id and moment follow from what was found and where, so that it is entered once, also after a crash.
    """
    _, made = serialize(RecordUnreadable(who=NOBODY, sha256=sha256(one.body).hexdigest(), length=len(one.body)))
    facts = orjson.loads(made)
    if one.stream_id is not None:
        moment = min(int(one.stream_id.split(b"-")[0]), LAST_MOMENT)
        digest = int.from_bytes(sha256(one.stream_id + b" " + one.body).digest()[:10], "big")
        facts |= {
            "at": moment,
            "id": str(UUID(int=moment << 80 | 7 << 76 | (digest >> 66 & 0xFFF) << 64 | 2 << 62 | digest & (1 << 62) - 1)),
        }
    return facts, orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)


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
    """Count uses and remember the last: one use is one token permitted in the task. Remember what it has touched."""
    uses: Counter[str] = Counter()
    last: dict[str, int] = {}
    touched: defaultdict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry["task"] and entry["event"] in TOUCHING:
            touched[entry["task"]].update(labels_of(orjson.loads(entry["record"])))
        if entry["event"] == TokenIssued.name and entry["task"]:
            uses[entry["task"]] += 1
            last[entry["task"]] = max(last.get(entry["task"], 0), entry["at"] // 1000)
    for task in sorted(uses):
        later = case((func.coalesce(TASK.c.last_used_at, 0) < last[task], last[task]), else_=TASK.c.last_used_at)
        session.execute(update(TASK).where(TASK.c.id == task).values(uses=TASK.c.uses + uses[task], last_used_at=later))
    for task in sorted(task for task, labels in touched.items() if labels):
        held = session.scalar(select(TASK.c.labels).where(TASK.c.id == task))
        if held is not None and not touched[task] <= set(held):
            session.execute(update(TASK).where(TASK.c.id == task).values(labels=sorted(touched[task].union(held))))


def labels_of(facts: Mapping[str, Any]) -> list[str]:
    """The labels a record says its task has touched; whatever is no label is left out."""
    labels = facts.get("labels")
    return [label for label in labels if isinstance(label, str) and is_label(label)] if isinstance(labels, list) else []
