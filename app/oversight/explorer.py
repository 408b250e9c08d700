"""The ledger for those who oversee: searched, told in sentences, verified as far as it is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, func, select, union_all
from sqlalchemy.orm import Session

from app.agents.models import AgentRow
from app.audit import events
from app.clients.models import ClientRow
from app.database import Database
from app.humans.models import HumanRow
from app.keys.jwk import VerificationKey
from app.ledger import checkpoints
from app.ledger.chain import GENESIS, Head, chained
from app.ledger.checkpoints import CheckpointRefused
from app.ledger.models import CheckpointRow, EntryRow
from app.ledger.queries import Entry, Queries, pin, read_entry
from app.oversight.explain import identifiers
from app.oversight.words import brief
from app.resources.models import ResourceRow

PAGE = 50
"""Entries on a page."""

LOOKED_AT = 1000
"""Newest entries that a look at the verification state recomputes; `deputy ledger verify` walks them all."""

MANY = 10_000
"""Entries that are counted; more are "more than"."""

DEEDS = (
    events.Revoked, events.RevocationCounted, events.ConsentGiven, events.ConsentNarrowed, events.ConsentWithdrawn, events.Registered,
    events.Changed, events.PolicyMoved, events.KeyMoved, events.GenerationOpened, events.ReplayDetected, events.TokenForbidden,
)  # fmt: skip
"""What is rare and worth a look."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries: those where every part that is not None agrees."""

    event: str | None = None
    outcome: str | None = None
    human: str | None = None
    agent: str | None = None
    """URI of the current actor."""
    client_id: str | None = None
    consent: str | None = None
    task: str | None = None
    jti: str | None = None
    before: int | None = None
    """Numbered below this."""
    since: int | None = None
    """Seconds since 1970, and so is `until`, which is not included."""
    until: int | None = None
    agents_of: str | None = None
    """Only of agents of this owner: what an owner may read."""


@dataclass(frozen=True, slots=True)
class Told:
    """One entry and its sentence."""

    entry: Entry
    sentence: str


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, the newest first, and the number to go on before; None at the end."""

    lines: tuple[Told, ...]
    older: int | None
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Soundness:
    """How the newest part of the chain stands."""

    last: int
    """Number of the last entry."""
    looked_at: int
    bad: int | None
    """The first of these that does not follow from the one before it."""
    signed_until: int
    """Entry up to which the newest checkpoint vouches; 0 without a sound one."""
    signed_at: int
    """Seconds since 1970."""
    trouble: str

    @property
    def sound(self) -> bool:
        """Whether nothing was found wrong."""
        return self.bad is None and not self.trouble


class Explorer:
    """Reads the ledger."""

    def __init__(self, database: Database, find_key: Callable[[str], VerificationKey | None]) -> None:
        self._database = database
        self._find_key = find_key

    def page(self, wanted: Wanted, size: int = PAGE) -> Page:
        """A page of entries, told."""
        with self._database.reading() as session:
            pin(session)
            statement = select(EntryRow).where(*_which(session, wanted)).order_by(EntryRow.seq.desc()).limit(size + 1)
            entries = [read_entry(row) for row in session.scalars(statement)]
            names = names_of(session, entries[:size])
        lines = tuple(Told(entry, brief(entry.record, names)) for entry in entries[:size])
        return Page(lines, entries[size - 1].seq if len(entries) > size else None, names)

    def entry(self, seq: int, agents_of: str | None = None) -> Told | None:
        """One entry by its number."""
        page = self.page(Wanted(before=seq + 1, agents_of=agents_of), 1)
        return page.lines[0] if page.lines and page.lines[0].entry.seq == seq else None

    def named(self, identifier: str) -> int | None:
        """The number of the entry whose record has that id."""
        found = Queries(self._database).named(identifier)
        return found.seq if found is not None else None

    def deeds(self, size: int = 8) -> Page:
        """The newest of what is rare and worth a look."""
        parts = [
            select(select(EntryRow.seq).where(EntryRow.event == event.name).order_by(EntryRow.seq.desc()).limit(size).subquery().c.seq)
            for event in DEEDS
        ]
        with self._database.reading() as session:
            newest = union_all(*parts).subquery()
            seqs = session.scalars(select(newest.c.seq).order_by(newest.c.seq.desc()).limit(size)).all()
            rows = session.scalars(select(EntryRow).where(EntryRow.seq.in_(seqs)).order_by(EntryRow.seq.desc()))
            entries = [read_entry(row) for row in rows]
            names = names_of(session, entries)
        return Page(tuple(Told(entry, brief(entry.record, names)) for entry in entries), None, names)

    def counts(self, since: int, agents_of: str | None = None) -> dict[str, int]:
        """How many decisions since a second since 1970, by outcome; at most `MANY` of each."""
        wanted = Wanted(since=since, agents_of=agents_of)
        found = {}
        with self._database.reading() as session:
            which = list(_which(session, wanted))
            for outcome in ("permit", "deny"):
                some = select(EntryRow.seq).where(*which, EntryRow.outcome == outcome).limit(MANY).subquery()
                found[outcome] = session.scalar(select(func.count()).select_from(some)) or 0
        return found

    def soundness(self) -> Soundness:
        """Recompute the newest part of the chain, and check the signature of the newest checkpoint."""
        with self._database.reading() as session:
            pin(session)
            newest = select(EntryRow.seq, EntryRow.hash, EntryRow.record).order_by(EntryRow.seq.desc()).limit(LOOKED_AT + 1)
            rows: list[Any] = list(reversed(session.execute(newest).all()))
            point = session.execute(select(CheckpointRow.seq, CheckpointRow.jws).order_by(CheckpointRow.seq.desc()).limit(1)).one_or_none()
        if rows and rows[0].seq == 1:
            rows.insert(0, Head(0, GENESIS))
        bad = next((row.seq for row, before in zip(rows[1:], rows, strict=False) if not _follows(row, before)), None)
        last = rows[-1].seq if rows else 0
        signed, moment, trouble = 0, 0, ""
        if point is not None:
            try:
                stated = checkpoints.read(point.jws, self._find_key)
                signed, moment = stated.head.seq, stated.at
                held = {row.seq: row.hash for row in rows}
                if signed in held and held[signed] != stated.head.hash:
                    trouble = f"the checkpoint at entry {signed} says another hash"
            except CheckpointRefused as refused:
                trouble = f"the newest checkpoint is not ours: {refused}"
        if last and not trouble and signed < last:
            trouble = f"no checkpoint covers what follows entry {signed}"
        return Soundness(last, max(0, len(rows) - 1), bad, signed, moment, trouble)


def names_of(session: Session, entries: Iterable[Entry]) -> dict[str, str]:
    """Names of everything these records name, in four queries however many they are."""
    wanted = {found for entry in entries for found in identifiers(entry.record)}
    if not wanted:
        return {}
    names: dict[str, str] = {}
    for key, name in (
        (ClientRow.client_id, ClientRow.name),
        (HumanRow.id, HumanRow.name),
        (AgentRow.uri, AgentRow.name),
        (ResourceRow.uri, ResourceRow.name),
    ):
        names |= dict(session.execute(select(key, name).where(key.in_(wanted))).all())
    by_id = (AgentRow.id, AgentRow.name), (ResourceRow.id, ResourceRow.name)
    for key, name in by_id:
        names |= dict(session.execute(select(key, name).where(key.in_(wanted - names.keys()))).all())
    return names


def position(session: Session, moment: int) -> int:
    """The number of the first entry that was entered at a second since 1970 or later: each batch ends with a dated checkpoint."""
    before = select(CheckpointRow.seq).where(CheckpointRow.at < moment).order_by(CheckpointRow.at.desc(), CheckpointRow.seq.desc()).limit(1)
    return (session.scalar(before) or 0) + 1


def _which(session: Session, wanted: Wanted) -> Sequence[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    ranges = {"before", "since", "until", "agents_of"}
    for field in fields(Wanted):
        value = getattr(wanted, field.name)
        if field.name not in ranges and value is not None:
            found.append(getattr(EntryRow, field.name) == value)
    before = wanted.before
    if wanted.until is not None:
        end = position(session, wanted.until)
        before = end if before is None else min(before, end)
    if before is not None:
        found.append(EntryRow.seq < before)
    if wanted.since is not None:
        found.append(EntryRow.seq >= position(session, wanted.since))
    if wanted.agents_of is not None:
        found.append(EntryRow.agent.in_(select(AgentRow.uri).where(AgentRow.owner == wanted.agents_of)))
    return found


def _follows(row: Any, before: Any) -> bool:
    sound = row.seq == before.seq + 1 and isinstance(row.record, bytes)
    return sound and chained(before.hash, row.seq, row.record) == row.hash
