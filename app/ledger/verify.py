"""Whether the ledger is what was written: walk it from the first entry, and name the first that is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.database import Database
from app.keys.jwk import VerificationKey
from app.ledger import checkpoints
from app.ledger.chain import GENESIS, Head, chained
from app.ledger.checkpoints import Checkpoint, CheckpointRefused
from app.ledger.models import CheckpointRow, EntryRow, RelayRow
from app.ledger.relay import columns_of

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and from which entry on nothing can be trusted; 0 for what concerns the whole."""

    seq: int
    what: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far the ledger holds."""

    entries: int
    head: Head
    checkpoints: int
    """Checkpoints in the database that agree with the chain."""
    outside: int
    """Checkpoints from files outside it that agree."""
    bad: Finding | None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.bad is None


class Verifier:
    """Verifies with public keys only; it changes nothing."""

    def __init__(self, database: Database, find_key: Callable[[str], VerificationKey | None], issuer: str) -> None:
        self._database = database
        self._find_key = find_key
        self._issuer = issuer

    def verify(self, files: Iterable[Path] = ()) -> Verdict:
        """The verdict. With checkpoint files, a cut tail or a chain computed anew is found too.

        Without them only what the database itself contradicts. Raises OSError for a file that cannot be read.
        """
        bad: list[Finding] = []
        outside: list[tuple[str, Checkpoint]] = []
        for path in files:
            try:
                for number, jws in checkpoints.lines(path):
                    outside.append((f"line {number} of {path}", self._read(jws)))
            except CheckpointRefused as refused:
                bad.append(Finding(0, f"{path}: {refused}"))
        with self._database.reading() as session:
            stated = self._stated(session, bad)
            wanted = {seq for seq, _ in stated} | {point.head.seq for _, point in outside}
            head, hashes = _walk(session, wanted, bad)
            relay = session.get(RelayRow, 1)
        agree = _compare(head, hashes, ((f"checkpoint {seq}", point) for seq, point in stated), bad)
        agree_outside = _compare(head, hashes, outside, bad)
        if not bad and relay is not None and (relay.seq, relay.hash) != head:
            bad.append(Finding(min(relay.seq, head.seq) + 1, f"the relay stood at entry {relay.seq}, the last entry is {head.seq}"))
        return Verdict(head.seq, head, agree, agree_outside, min(bad, key=lambda one: one.seq) if bad else None)

    def _stated(self, session: Session, bad: list[Finding]) -> list[tuple[int, Checkpoint]]:
        found = []
        for row in session.scalars(select(CheckpointRow).order_by(CheckpointRow.seq)):
            try:
                point = self._read(row.jws)
            except CheckpointRefused as refused:
                bad.append(Finding(row.seq, f"checkpoint {row.seq}: {refused}"))
                continue
            if (point.head.seq, point.at) != (row.seq, row.at):
                bad.append(Finding(row.seq, f"checkpoint {row.seq} is kept under another number or time than it was signed for"))
            found.append((row.seq, point))
        return found

    def _read(self, jws: str) -> Checkpoint:
        return checkpoints.read(jws, self._issuer, self._find_key)


def _walk(session: Session, wanted: set[int], bad: list[Finding]) -> tuple[Head, dict[int, str]]:
    """The end of the chain as it computes, and the hash at each wanted number; stops at the first bad entry."""
    head, hashes = Head(0, GENESIS), {0: GENESIS}
    for row in _entries(session):
        if row.seq != head.seq + 1:
            bad.append(Finding(head.seq + 1, f"entry {head.seq + 1} is missing"))
            break
        if (what := _wrong(row, head)) is not None:
            bad.append(Finding(row.seq, what))
            break
        head = Head(row.seq, row.hash)
        if row.seq in wanted:
            hashes[row.seq] = row.hash
    return head, hashes


def _entries(session: Session) -> Iterator[EntryRow]:
    last = 0
    while rows := session.scalars(select(EntryRow).where(EntryRow.seq > last).order_by(EntryRow.seq).limit(BATCH)).all():
        yield from rows
        last = rows[-1].seq
        session.expunge_all()


def _wrong(row: EntryRow, before: Head) -> str | None:
    if chained(before.hash, row.seq, row.record) != row.hash:
        return f"entry {row.seq} does not follow from the one before it"
    try:
        facts = orjson.loads(row.record)
        columns: Mapping[str, Any] = columns_of(facts)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return f"entry {row.seq} holds no record"
    for name, value in columns.items():
        if getattr(row, name) != value:
            return f"entry {row.seq} says another {name} beside its record than in it"
    return None


def _compare(head: Head, hashes: Mapping[int, str], points: Iterable[tuple[str, Checkpoint]], bad: list[Finding]) -> int:
    """How many checkpoints agree. Those beyond the first bad entry say nothing new."""
    agree = 0
    for where, point in points:
        if point.head.seq > head.seq:
            if not bad:
                bad.append(Finding(head.seq + 1, f"the tail is cut: {where} was signed at entry {point.head.seq}"))
        elif hashes.get(point.head.seq) != point.head.hash:
            bad.append(Finding(point.head.seq, f"computed anew at or before entry {point.head.seq}: {where} says another hash"))
        else:
            agree += 1
    return agree
