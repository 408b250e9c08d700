"""Reading the ledger: the newest entries, one token's chain of custody, an export."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import select

from app.audit.events import TokenIssued
from app.database import Database
from app.ledger.models import CheckpointRow, EntryRow

BATCH = 1000


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

    def newest(self, count: int, which: Filter, *, after: int = 0) -> list[Entry]:
        """The last `count` entries that fit, oldest first; only those numbered above `after`."""
        statement = select(EntryRow).where(EntryRow.seq > after).order_by(EntryRow.seq.desc()).limit(count)
        for name in Filter.__dataclass_fields__:
            if (value := getattr(which, name)) is not None:
                statement = statement.where(getattr(EntryRow, name) == value)
        with self._database.reading() as session:
            rows = session.scalars(statement).all()
        return [_entry(row) for row in reversed(rows)]

    def custody(self, jti: str) -> list[Entry]:
        """How a token came to be: its own permit, its parent's, and so on to the first."""
        chain: list[Entry] = []
        wanted: str | None = jti
        with self._database.reading() as session:
            while wanted is not None:
                which = (EntryRow.jti == wanted, EntryRow.event == TokenIssued.name)
                row = session.scalar(select(EntryRow).where(*which))
                if row is None:
                    break
                chain.append(_entry(row))
                wanted = chain[-1].record.get("parent")
        return chain

    def export(self, first: int = 1) -> Iterator[bytes]:
        """JSON lines: every entry from number `first` on with its hash, then the checkpoints from there on."""
        last = first - 1
        with self._database.reading() as session:
            page = select(EntryRow.seq, EntryRow.hash, EntryRow.record).order_by(EntryRow.seq).limit(BATCH)
            while rows := session.execute(page.where(EntryRow.seq > last)).all():
                for row in rows:
                    # The record goes out as the text it was hashed as: parsed and written again it might differ.
                    yield orjson.dumps({"seq": row.seq, "hash": row.hash, "record": row.record.decode()}) + b"\n"
                last = rows[-1].seq
            for point in session.scalars(select(CheckpointRow).where(CheckpointRow.seq >= first).order_by(CheckpointRow.seq)):
                yield orjson.dumps({"checkpoint": point.jws}) + b"\n"


def _entry(row: EntryRow) -> Entry:
    return Entry(row.seq, row.hash, orjson.loads(row.record))
