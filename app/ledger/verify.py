"""Whether the ledger is what was written: walk it from the first entry, and name the first that is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Row, Select, select, type_coerce
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import InstrumentedAttribute, Session
from sqlalchemy.types import NullType

from app.database import Database
from app.keys.jwk import VerificationKey
from app.ledger import checkpoints
from app.ledger.chain import GENESIS, Head, chained
from app.ledger.checkpoints import Checkpoint, CheckpointRefused
from app.ledger.models import CheckpointRow, EntryRow, RelayRow
from app.ledger.queries import pin
from app.ledger.relay import columns_of

BATCH = 1000

ENTRIES = select(*(type_coerce(getattr(EntryRow, column.key), NullType()).label(column.key) for column in EntryRow.__table__.c))
"""Every column as the driver has it: a record that somebody turned into text is not read as if it were one."""

STATED = select(CheckpointRow.seq, CheckpointRow.at, CheckpointRow.jws)

ONE, MANY = 1, BATCH


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and from which entry on nothing can be trusted; 0 for what says nothing of any entry."""

    seq: int
    what: str


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many checkpoints of one place agree with the chain, and up to which entry they vouch for it."""

    where: str
    checkpoints: int
    until: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """How far the ledger holds."""

    entries: int
    """Entries that follow from one another, counted from the first."""
    head: Head
    covered: Coverage
    """By the checkpoints in the database."""
    covered_outside: tuple[Coverage, ...]
    """By those of each file outside it."""
    findings: tuple[Finding, ...]
    """Everything found, the first bad entry first."""

    @property
    def bad(self) -> Finding | None:
        """What is wrong first."""
        return self.findings[0] if self.findings else None

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def checkpoints(self) -> int:
        """Checkpoints in the database that agree."""
        return self.covered.checkpoints

    @property
    def outside(self) -> int:
        """Checkpoints outside it that agree."""
        return sum(one.checkpoints for one in self.covered_outside)


class Verifier:
    """Verifies with public keys only; it changes nothing, and keeps no more than a batch in memory."""

    def __init__(self, database: Database, find_key: Callable[[str], VerificationKey | None], issuer: str) -> None:
        self._database = database
        self._find_key = find_key
        self._issuer = issuer

    def verify(self, files: Iterable[Path] = ()) -> Verdict:
        """The verdict. With checkpoint files, a cut tail or a chain computed anew is found whoever signed the database's.

        Without them only what the database itself contradicts. Raises OSError for a file that cannot be read.
        """
        # How long each file is, first: the relay goes on, and what it adds speaks of entries not seen here.
        sizes = [(path, path.stat().st_size) for path in files]
        findings: list[Finding] = []
        with self._database.reading() as session:
            pin(session)
            relay = session.get(RelayRow, 1)
            head, inside, whole = self._walk(session, findings)
            if whole and not findings:
                findings += _end(head, relay, inside)
            outside = [self._compare(session, path, size, head, whole, findings) for path, size in sizes]
        findings.sort(key=lambda finding: (finding.seq == 0, finding.seq))
        return Verdict(head.seq, head, inside.coverage, tuple(one.coverage for one in outside), tuple(findings))

    def _walk(self, session: Session, findings: list[Finding]) -> tuple[Head, _Witness, bool]:
        """The end of the chain as it computes, compared with the database's checkpoints on the way; and whether that is all.

        It stops at the first bad entry.
        """
        head, witness = Head(0, GENESIS), _Witness("the database", self._issuer)
        stated = self._stated(session, witness)
        point = next(stated, None)
        whole = False
        for row in _rows(session, ENTRIES, EntryRow.seq):
            if (what := _wrong(row, head)) is not None:
                findings.append(Finding(head.seq + 1, what))
                break
            head = Head(row.seq, row.hash)
            while point is not None and point.head.seq <= head.seq:
                witness.compare(point, head.hash if point.head.seq == head.seq else None, f"checkpoint {point.head.seq}")
                point = next(stated, None)
        else:
            whole = point is None
            if point is not None:
                findings.append(Finding(head.seq + 1, f"the tail is cut: checkpoint {point.head.seq} was signed there"))
        findings += witness.findings
        return head, witness, whole

    def _stated(self, session: Session, witness: _Witness) -> Iterator[Checkpoint]:
        """The database's checkpoints that are of ours, by number."""
        for row in _rows(session, STATED, CheckpointRow.seq):
            try:
                if isinstance(row, int) or not isinstance(row.jws, str):
                    raise CheckpointRefused("cannot be read")
                point = checkpoints.read(row.jws, self._find_key)
                if (point.head.seq, point.at) != (row.seq, row.at):
                    raise CheckpointRefused("kept under another number or time than it was signed for")
            except CheckpointRefused as refused:
                number = row if isinstance(row, int) else row.seq
                witness.refuse(number, f"checkpoint {number}: {refused}")
                continue
            yield point

    def _compare(self, session: Session, path: Path, size: int, head: Head, whole: bool, findings: list[Finding]) -> _Witness:  # noqa: FBT001
        """Hold the checkpoints of a file against the chain. Those beyond a bad entry say nothing new."""
        witness = _Witness(str(path), self._issuer)
        page: list[tuple[int, Checkpoint]] = []
        furthest: tuple[int, int] | None = None
        for number, line in checkpoints.lines(path, size):
            try:
                point = checkpoints.read_line(line, self._find_key)
            except CheckpointRefused as refused:
                witness.refuse(0, f"line {number} of {path}: {refused}")
                continue
            if point.head.seq > head.seq:
                furthest = max(furthest or (0, 0), (point.head.seq, number))
                continue
            page.append((number, point))
            if len(page) == BATCH:
                _hold_against(session, page, witness)
                page.clear()
        _hold_against(session, page, witness)
        if furthest is not None and whole:
            findings.append(Finding(head.seq + 1, f"the tail is cut: line {furthest[1]} of {path} was signed at entry {furthest[0]}"))
        findings += witness.findings
        return witness


class _Witness:
    """The checkpoints of one place, one after the other, and what is wrong with them."""

    def __init__(self, where: str, issuer: str) -> None:
        self._where = where
        self._issuer = issuer
        self._agree = 0
        self._until = 0
        self._contradiction: Finding | None = None
        self._refused: Finding | None = None
        self._more = 0

    @property
    def coverage(self) -> Coverage:
        return Coverage(self._where, self._agree, self._until)

    @property
    def findings(self) -> list[Finding]:
        refused = self._refused
        if refused is not None and self._more:
            refused = Finding(refused.seq, f"{refused.what} (and {self._more} more)")
        return [finding for finding in (self._contradiction, refused) if finding is not None]

    def compare(self, point: Checkpoint, hash_: object, what: str) -> None:
        """Hold a checkpoint against the hash that the chain has at its number."""
        if self._contradiction is not None:
            return
        if point.head.hash == hash_:
            self._agree += 1
            self._until = max(self._until, point.head.seq)
            return
        first, last = min(self._until + 1, point.head.seq), point.head.seq
        signed = f"{what}, signed for {point.issuer}," if point.issuer != self._issuer else what
        between = f"at entry {last}" if first == last else f"somewhere from entry {first} to {last}"
        self._contradiction = Finding(first, f"the chain was computed anew {between}: {signed} says another hash")

    def refuse(self, seq: int, what: str) -> None:
        """Something that is no checkpoint of ours. The first is named, the others are counted."""
        if self._refused is None:
            self._refused = Finding(seq, what)
        else:
            self._more += 1


def _rows(session: Session, statement: Select[*tuple[Any, ...]], number: InstrumentedAttribute[int]) -> Iterator[Any]:
    """Rows by number, in batches. Where the driver cannot even read one, its number instead."""
    last: Any = None
    size = MANY
    while True:
        after = statement if last is None else statement.where(number > last)
        try:
            rows: Sequence[Row[Any]] = session.execute(after.order_by(number).limit(size)).all()
        except DBAPIError:
            # Text that is none, say. One by one, until it is the one; if SQL itself is away this raises again.
            if size == MANY:
                size = ONE
                continue
            only = select(number).order_by(number).limit(1)
            last = session.execute(only if last is None else only.where(number > last)).scalar_one()
            size = MANY
            yield last
            continue
        if not rows:
            return
        yield from rows
        last = rows[-1].seq


def _wrong(row: Any, before: Head) -> str | None:
    """What is wrong with the entry after `before`: the next row, or its number alone."""
    due = before.seq + 1
    seq = row if isinstance(row, int) else row.seq
    if seq != due or type(seq) is not int:
        return f"entry {due} is missing" if type(seq) is int and seq > due else f"something was inserted as entry {seq}"
    if isinstance(row, int):
        return f"entry {seq} cannot be read"
    if not isinstance(row.record, bytes) or chained(before.hash, seq, row.record) != row.hash:
        return f"entry {seq} does not follow from the one before it"
    try:
        columns = columns_of(orjson.loads(row.record))
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return f"entry {seq} holds no record"
    for name, value in columns.items():
        held = getattr(row, name)
        if type(held) is not type(value) or held != value:
            return f"entry {seq} says another {name} beside its record than in it"
    return None


def _end(head: Head, relay: RelayRow | None, inside: _Witness) -> list[Finding]:
    """The chain ends where the relay stood, and at a checkpoint: every batch ends with one."""
    if relay is None:
        return [Finding(0, "the relay's row is gone, which says where the chain ends")] if head.seq else []
    if (relay.seq, relay.hash) != head:
        stood = relay.seq if type(relay.seq) is int and 0 <= relay.seq <= head.seq else head.seq
        return [Finding(stood + 1, f"the relay stood at entry {relay.seq}, the last entry is {head.seq}")]
    covered = inside.coverage.until
    return [Finding(covered + 1, f"no checkpoint covers entry {covered + 1} and what follows")] if covered < head.seq else []


def _hold_against(session: Session, page: Sequence[tuple[int, Checkpoint]], witness: _Witness) -> None:
    numbers = {point.head.seq for _, point in page}
    hashes = {row.seq: row.hash for row in session.execute(select(EntryRow.seq, EntryRow.hash).where(EntryRow.seq.in_(numbers)))}
    for number, point in page:
        witness.compare(point, hashes.get(point.head.seq), f"line {number} of {witness.coverage.where}")
