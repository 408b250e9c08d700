"""What was done in a human's name, newest first, in plain words, a page at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import orjson
from sqlalchemy import func, or_, select

from app.database import Database
from app.delegation.models import ConsentRow, TaskRow
from app.ledger.models import EntryRow
from app.oversight.names import Names
from app.oversight.telling import AGENTS, Told, tell

PAGE = 25
"""Entries read for one page."""


BATCH = 2000
"""Entries looked at for who is in them."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which part of it."""

    human: str
    client_id: str | None = None
    """Of this agent or application: what it did, and what was done under what it was allowed."""
    since: int | None = None
    """Seconds since 1970, and so is `until`, which is not included."""
    until: int | None = None
    before: int | None = None
    """Entries of the ledger numbered below this."""
    events: frozenset[str] = AGENTS
    """Which events."""


@dataclass(frozen=True, slots=True)
class Page:
    """The lines, and the number to go on before; None at the end."""

    lines: tuple[Told, ...]
    older: int | None


class Activity:
    """Reads the ledger for the people it speaks of."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def newest(self, human: str) -> int:
        """The number of the newest entry in her name; 0 when there is none."""
        with self._database.reading() as session:
            return session.scalar(select(func.max(EntryRow.seq)).where(EntryRow.human == human)) or 0

    def moved(self, after: int | None) -> tuple[int, frozenset[str]]:
        """The newest entry looked at, and in whose names there are entries above `after`, a batch of them. None: nobody's yet."""
        with self._database.reading() as session:
            if after is None:
                return session.scalar(select(func.max(EntryRow.seq))) or 0, frozenset()
            above = select(EntryRow.seq, EntryRow.human).where(EntryRow.seq > after).order_by(EntryRow.seq).limit(BATCH)
            rows = session.execute(above).all()
        return (rows[-1].seq if rows else after), frozenset(row.human for row in rows if row.human)

    def page(self, wanted: Wanted, size: int = PAGE) -> Page:
        """What was done, newest first."""
        statement = select(EntryRow.seq, EntryRow.record).where(EntryRow.human == wanted.human, EntryRow.event.in_(sorted(wanted.events)))
        if wanted.before is not None:
            statement = statement.where(EntryRow.seq < wanted.before)
        if wanted.since is not None:
            statement = statement.where(EntryRow.at >= wanted.since * 1000)
        if wanted.until is not None:
            statement = statement.where(EntryRow.at < wanted.until * 1000)
        if wanted.client_id is not None:
            consents = select(ConsentRow.id).where(ConsentRow.human == wanted.human, ConsentRow.client_id == wanted.client_id)
            tasks = select(TaskRow.id).where(TaskRow.consent.in_(consents))
            statement = statement.where(
                or_(EntryRow.client_id == wanted.client_id, EntryRow.consent.in_(consents), EntryRow.task.in_(tasks))
            )
        with self._database.reading() as session:
            rows = session.execute(statement.order_by(EntryRow.seq.desc()).limit(size + 1)).all()
            entries = [(row.seq, orjson.loads(row.record)) for row in rows[:size]]
            names = Names.of(session, (record for _, record in entries))
        lines = _gathered(told for seq, record in entries if (told := tell(seq, record, names)) is not None)
        return Page(tuple(lines), rows[size - 1].seq if len(rows) > size else None)


def _gathered(lines: Iterable[Told]) -> list[Told]:
    """A token's first use goes into the line of the token; the same thing over and over is one line."""
    every = list(lines)
    issued = {line.jti for line in every if line.jti and not line.used}
    used = {line.jti for line in every if line.jti and line.used}
    gathered: list[Told] = []
    for line in every:
        if line.used and line.jti in issued:
            continue
        told = replace(line, used=line.used or line.jti in used)
        if gathered and _same(gathered[-1], told):
            gathered[-1] = replace(gathered[-1], count=gathered[-1].count + 1, used=gathered[-1].used or told.used)
        else:
            gathered.append(told)
    return gathered


def _same(one: Told, other: Told) -> bool:
    return (one.tone, one.parts, one.alone) == (other.tone, other.parts, other.alone)
