"""A policy tried before it is in force: on one decision of the past, or on the newest of them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from app.audit.events import TokenIssued, TokenRefused
from app.database import Database
from app.errors import NotFound, Refused
from app.ledger.models import EntryRow
from app.ledger.queries import Entry, Queries, read_entry
from app.oversight.explorer import names_of, position
from app.policy.cedar import Question, Verdict
from app.policy.policies import Policies
from app.policy.replay import Difference, Replay

MOST = 2000
"""Decisions that are tried while somebody waits; `deputy policy replay` tries them all."""

TOLD = 100
"""Differences told."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a policy set would have decided otherwise, the newest first."""

    differences: tuple[Difference, ...]
    decided: int
    more: int
    """Differences that are not told."""
    all_looked_at: bool
    """Whether these were all decisions of that time."""
    names: dict[str, str]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a policy set says about one decision of the past."""

    entry: Entry
    permitted: bool
    """What was decided then."""
    said: Verdict


class Rehearsal:
    """Tries versions of policies, in place of the active ones of their name; changes nothing."""

    def __init__(self, database: Database, policies: Policies) -> None:
        self._database = database
        self._policies = policies

    def replay(self, name: str, version: int, since: int) -> Tried:
        """The newest decisions since a second since 1970, asked again. Raises `NotFound`, `Refused`."""
        replay = Replay(self._database, self._policies.trial(name, version))
        with self._database.reading() as session:
            first = position(session, since)
            found: list[EntryRow] = []
            for event in (TokenIssued.name, TokenRefused.name):
                newest = select(EntryRow).where(EntryRow.event == event, EntryRow.seq >= first).order_by(EntryRow.seq.desc()).limit(MOST)
                found += session.scalars(newest)
            newest_first = sorted(found, key=lambda row: -row.seq)
            entries = [read_entry(row) for row in newest_first[:MOST]]
            different = [one for entry in entries if (one := replay.difference(entry)) is not None]
            names = names_of(session, [one.entry for one in different[:TOLD]])
        told = tuple(different[:TOLD])
        return Tried(told, replay.decided, len(different) - len(told), len(newest_first) <= MOST, names)

    def ask(self, name: str, version: int, reference: str) -> Asked:
        """One decision, by its audit id or its token's jti. Raises `NotFound`, `Refused` where no policy was asked."""
        queries = Queries(self._database)
        custody = queries.custody(reference)
        entry = custody[0] if custody else queries.named(reference)
        if entry is None:
            raise NotFound(f"the ledger has no decision {reference}")
        question = entry.record.get("question")
        if question is None:
            raise Refused("no policy was asked about that one")
        return Asked(entry, entry.record["event"] == TokenIssued.name, self._policies.trial(name, version).ask(Question.parse(question)))
