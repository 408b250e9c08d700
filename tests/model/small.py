"""Small things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from app.vocabulary import Pair
from app.vocabulary import Pairs as Named
from tests.model.model import Pairs

T = TypeVar("T")


def at(things: Sequence[T], which: int) -> T:
    """One of them, whatever the number."""
    return things[which % len(things)]


def some(pairs: Pairs, which: int) -> Pairs:
    """The pairs whose bit is set."""
    return frozenset(pair for number, pair in enumerate(sorted(pairs)) if which >> (number % 8) & 1)


def scope_of(scope: str | None) -> frozenset[str] | None:
    return frozenset(scope.split()) if scope is not None else None


def given(**members: str | None) -> dict[str, str]:
    """Those that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def named(pairs: Pairs) -> Named:
    return frozenset(Pair(uri, scope) for uri, scope in pairs)
