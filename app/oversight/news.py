"""What agents did for a human that they never did before, until she says that she knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, update

from app import clock
from app.agents.models import AgentRow
from app.database import Database
from app.ledger.firsts import FirstKind, FirstRow
from app.oversight.names import Names
from app.oversight.telling import Part, name

MOST = 6
"""News shown at once. What is not shown is not seen either, and comes next."""


@dataclass(frozen=True, slots=True)
class New:
    """One thing that happened for the first time."""

    seq: int
    at: int
    """Seconds since 1970."""
    client_id: str
    """Of the agent; empty where it is gone."""
    parts: tuple[Part, ...]


class News:
    """First times by human."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def count(self, human: str) -> int:
        """How much there is that she has not seen."""
        with self._database.reading() as session:
            return session.scalar(select(func.count()).where(FirstRow.human == human, FirstRow.seen_at.is_(None))) or 0

    def unseen(self, human: str) -> tuple[New, ...]:
        """What she has not seen, the oldest first."""
        statement = select(FirstRow).where(FirstRow.human == human, FirstRow.seen_at.is_(None)).order_by(FirstRow.seq, FirstRow.kind)
        with self._database.reading() as session:
            rows = session.scalars(statement.limit(MOST + 1)).all()
            if len(rows) > MOST:
                # What one entry says is seen together.
                rows = [row for row in rows if row.seq != rows[MOST].seq]
            names = Names.of(session, [{"who": {"actors": [row.agent]}, "audience": row.what} for row in rows])
        return tuple(_new(row, names, names.agents.get(row.agent)) for row in rows)

    def see(self, human: str, upto: int) -> None:
        """She knows of everything up to that entry of the ledger; again is no harm."""
        unseen = update(FirstRow).where(FirstRow.human == human, FirstRow.seen_at.is_(None), FirstRow.seq <= upto)
        with self._database.transaction() as session:
            session.execute(unseen.values(seen_at=clock.timestamp()))


def _new(row: FirstRow, names: Names, agent: AgentRow | None) -> New:
    return New(row.seq, row.at, agent.client_id if agent is not None else "", (name(names.agent(row.agent)), *_did(row, names)))


def _did(row: FirstRow, names: Names) -> Sequence[Part]:
    if row.kind == FirstKind.HAND_OVER:
        return (Part(" handed work to "), name(names.target(row.what)))
    if row.kind == FirstKind.ALONE:
        return (Part(" worked without you, as you had allowed"),)
    return (Part(" got access to "), name(names.target(row.what)))
