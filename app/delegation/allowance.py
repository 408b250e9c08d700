"""Counters of consents: taken in the commit, and set aside in SQL before, so that a lost Redis never gives anything twice.

Redis may only take from what SQL has set aside. Where it has forgotten, all that was set aside counts as taken.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import select

from app.delegation.models import AllowanceRow
from app.delegation.spending import Spend, as_many_alive
from app.errors import AccessDenied
from app.live.commit import Commit, Exhausted, Live, Moved, Take
from app.live.generation import Generation

PART = 100
"""One hundredth of a limit is set aside at a time: what a lost Redis can make unusable."""

KEPT = 10_000

Around = Callable[[], AbstractContextManager[None]]
"""What a commit happens within: a transaction of SQL that ends well if and only if it passes."""


class Mark(NamedTuple):
    """How far a counter may go now, and where it begins in this generation: at all that was set aside before."""

    base: int
    reserved: int


class Allowances:
    """What consents have left."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._marks: OrderedDict[tuple[int, str, str], Mark] = OrderedDict()
        self._lock = threading.Lock()

    def commit(self, commit: Commit, spends: Sequence[Spend], together: Around = nullcontext) -> None:
        """Commit, and take these with it; each try happens within `together`, setting more aside never does.

        Raises AccessDenied when one has not enough left, else as `Live.commit`.
        """
        generation = commit.generation or self._live.generation()
        while True:
            takes = tuple(self._take(spend, generation) for spend in spends)
            try:
                with together():
                    self._live.commit(replace(commit, generation=generation, take=takes) if takes else commit)
            except Exhausted as spent:
                spend = next((one for one in spends if one.name == spent.name), None)
                if spend is None:
                    raise as_many_alive(spent.name) from None
                left = self._left(spend, generation)
                if spend.units > left or not spend.lasting:
                    raise spend.refusal(left) from None
                # It ends: each turn finds more set aside, until the limit is.
                if not self._reserve(spend, generation):
                    raise spend.refusal(left) from None
            else:
                return

    def lacking(self, spends: Sequence[Spend], generation: Generation) -> AccessDenied | None:
        """The refusal when one of them has not enough left just now; it says how much is. Nothing is taken."""
        for spend in spends:
            left = self._left(spend, generation)
            if spend.units > left:
                return spend.refusal(left)
        return None

    def left(self, spends: Sequence[Spend], generation: Generation) -> dict[str, int | dict[str, str]]:
        """How much may still be taken of each kind, just now: where several counters bound it, of the one with the least."""
        least: dict[str, tuple[int, Spend]] = {}
        for spend in spends:
            left = self._left(spend, generation)
            if spend.kind not in least or left < least[spend.kind][0]:
                least[spend.kind] = (left, spend)
        return {kind: spend.said(left) for kind, (left, spend) in least.items()}

    def _left(self, spend: Spend, generation: Generation) -> int:
        (value,) = self._live.read([spend.name])
        begins = self._mark(spend, generation).base if spend.lasting else 0
        return spend.limit - (int(value) if value is not None else begins)

    def _take(self, spend: Spend, generation: Generation) -> Take:
        if not spend.lasting:
            return Take(spend.name, spend.units, spend.limit, spend.until)
        mark = self._mark(spend, generation)
        return Take(spend.name, spend.units, min(spend.limit, mark.reserved), spend.until, mark.base)

    def _mark(self, spend: Spend, generation: Generation) -> Mark:
        key = (generation.number, spend.owner, spend.kind)
        held = self._marks.get(key)
        if held is None:
            with self._live.database.reading() as session:
                row = session.get(AllowanceRow, (spend.owner, spend.kind))
                # No row: nobody ever gave this consent such a limit, so nothing may be taken from it.
                held = Mark(0, 0) if row is None else _mark_of(row, generation.number)
            self._keep(key, held)
        return held

    def _reserve(self, spend: Spend, generation: Generation) -> bool:
        """Set more aside. Returns whether there is more now than this worker knew of."""
        key = (generation.number, spend.owner, spend.kind)
        known = self._mark(spend, generation)
        with self._live.database.transaction() as session:
            statement = select(AllowanceRow).where(AllowanceRow.consent == spend.owner, AllowanceRow.kind == spend.kind).with_for_update()
            row = session.scalars(statement).one_or_none()
            if row is None:
                return False
            if row.generation > generation.number:
                raise Moved("generation")
            mark = _mark_of(row, generation.number)
            if mark.reserved <= known.reserved and mark.reserved < row.most:
                mark = mark._replace(reserved=min(row.most, mark.reserved + max(spend.units, row.most // PART, 1)))
            row.generation, row.base, row.reserved = generation.number, mark.base, mark.reserved
        self._keep(key, mark)
        return mark.reserved > known.reserved

    def _keep(self, key: tuple[int, str, str], mark: Mark) -> None:
        with self._lock:
            self._marks[key] = mark
            self._marks.move_to_end(key)
            while len(self._marks) > KEPT:
                self._marks.popitem(last=False)


def _mark_of(row: AllowanceRow, generation: int) -> Mark:
    """What a row says in a generation. Of an earlier one all that was set aside counts as taken."""
    return Mark(row.base if row.generation == generation else row.reserved, row.reserved)
