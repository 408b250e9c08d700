"""Reading the ledger: the newest entries, one token's chain of custody, what came after it, an export."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Select, func, select, type_coerce
from sqlalchemy.orm import Session
from sqlalchemy.types import NullType

from app.audit.events import TokenIssued
from app.database import Database
from app.ledger.models import CheckpointRow, EntryRow

BATCH = 1000

COMMON = frozenset({"event", "outcome"})
"""Columns of few values."""

PAGE = 10_000
"""Numbers looked through at a time for a few kinds of events."""

UNORDERED = 1000
"""Entries by which one may stand before another that happened earlier: they came in two batches."""

LATE = 60_000
"""Milliseconds by which a record may have come late."""

LINES = select(EntryRow.seq, EntryRow.hash, type_coerce(EntryRow.record, NullType()).label("record")).order_by(EntryRow.seq).limit(BATCH)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries: those where every part that is not None agrees."""

    human: str | None = None
    agent: str | None = None
    """The current actor's URI."""
    client_id: str | None = None
    consent: str | None = None
    task: str | None = None
    jti: str | None = None
    event: str | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its number, its hash, its record."""

    seq: int
    hash: str
    record: dict[str, Any]


class Queries:
    """Reads; it never writes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, count: int, which: Filter, *, until: int | None = None) -> list[Entry]:
        """The last `count` entries that fit, oldest first; `until`: of what happened up to then, in milliseconds since 1970."""
        statement = _filtered(which) if until is None else _filtered(which).where(EntryRow.at <= until)
        with self._database.reading() as session:
            rows = session.scalars(statement.order_by(EntryRow.seq.desc()).limit(count)).all()
        return [read_entry(row) for row in reversed(rows)]

    def following(self, after: int, which: Filter) -> list[Entry]:
        """The next entries that fit, a batch of those numbered above `after`, oldest first: who follows misses none."""
        with self._database.reading() as session:
            return [read_entry(row) for row in session.scalars(_filtered(which, after).order_by(EntryRow.seq).limit(BATCH))]

    def named(self, identifier: str) -> Entry | None:
        """The entry whose record has that id."""
        with self._database.reading() as session:
            row = session.scalar(select(EntryRow).where(EntryRow.id == identifier))
        return None if row is None else read_entry(row)

    def around(self, events: Collection[str], since: int, until: int, after: int) -> Iterator[Entry]:
        """What happened of these kinds from `since` to `until` (milliseconds since 1970), in the order of the entries.

        `after`: an entry of that time; the search begins near it.
        """
        first = max(0, after - UNORDERED)
        while True:
            page = (EntryRow.seq > first, EntryRow.seq <= first + PAGE)
            wanted = select(EntryRow).where(*page, EntryRow.event.in_(events), EntryRow.at >= since, EntryRow.at <= until)
            with self._database.reading() as session:
                rows = session.scalars(wanted.order_by(EntryRow.seq)).all()
                last = session.scalar(
                    select(func.max(EntryRow.at)).where(EntryRow.seq == select(func.max(EntryRow.seq)).where(*page).scalar_subquery())
                )
            yield from map(read_entry, rows)
            if last is None or last > until + LATE:
                return
            first += PAGE

    def custody(self, jti: str) -> list[Entry]:
        """How a token came to be: its own permit, its parent's, and so on to the first."""
        chain: dict[str, Entry] = {}
        wanted: object = jti
        with self._database.reading() as session:
            # A parent is named by a record; one that names its own descendant must not keep us here.
            while isinstance(wanted, str) and wanted not in chain:
                which = (EntryRow.jti == wanted, EntryRow.event == TokenIssued.name)
                row = session.scalar(select(EntryRow).where(*which).order_by(EntryRow.seq).limit(1))
                if row is None:
                    break
                chain[wanted] = read_entry(row)
                wanted = chain[wanted].record.get("parent")
        return list(chain.values())

    def export(self, first: int = 1) -> Iterator[bytes]:
        """JSON lines: where it begins if not at the start; each entry from number `first` on; the checkpoints from there on.

        A record goes out as the text it was hashed as: parsed and written again it might differ.
        """
        last = first - 1
        with self._database.reading() as session:
            pin(session)
            before = session.scalar(select(EntryRow.hash).where(EntryRow.seq == last))
            if before is not None:
                yield _line({"after": {"seq": last, "hash": before}})
            while rows := session.execute(LINES.where(EntryRow.seq > last)).all():
                for row in rows:
                    yield _line({"seq": row.seq, "hash": row.hash, "record": _text(row.record)})
                last = rows[-1].seq
            points = select(CheckpointRow.seq, CheckpointRow.jws).order_by(CheckpointRow.seq).limit(BATCH)
            last = first - 1
            while pages := session.execute(points.where(CheckpointRow.seq > last)).all():
                for point in pages:
                    yield _line({"checkpoint": point.jws})
                last = pages[-1].seq


def pin(session: Session) -> None:
    """See one moment of the ledger until the session ends, whatever the relay writes meanwhile."""
    if session.get_bind().dialect.name != "sqlite":  # where every reading transaction does
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def _filtered(which: Filter, after: int = 0) -> Select[EntryRow]:
    statement = select(EntryRow).where(EntryRow.seq > after)
    given = {name: value for name in Filter.__dataclass_fields__ if (value := getattr(which, name)) is not None}
    for name, value in given.items():
        column = getattr(EntryRow, name)
        if name in COMMON and given.keys() - COMMON:
            # A great part of all entries is alike in this. As an expression it has no index, and the other column's is used.
            column = column.concat("")
        statement = statement.where(column == value)
    return statement


def _line(facts: dict[str, Any]) -> bytes:
    return orjson.dumps(facts) + b"\n"


def _text(record: object) -> str:
    """What is not UTF-8 was not written by us; it goes out so that its hash does not fit."""
    return record.decode(errors="replace") if isinstance(record, bytes) else str(record)


def read_entry(row: EntryRow) -> Entry:
    """The entry of a row."""
    return Entry(row.seq, row.hash, orjson.loads(row.record))
