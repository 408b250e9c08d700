"""Limits of a task or consent: how often, how many at once, how much. Kept there and never with a token (protocol §7)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

MOST = 1_000_000
"""Uses or live tokens a limit can name."""

UNITS = 10_000
"""An amount is counted in ten-thousandths: enough for every currency, and exact."""

CURRENCY = re.compile(r"[A-Z]{3}")
DECIMAL = re.compile(r"(0|[1-9][0-9]{0,10})(\.[0-9]{1,4})?")
MEMBERS = frozenset({"uses", "counts", "live_tokens", "amount"})
USES, AMOUNT, LIVE_TOKENS = "uses", "amount", "live_tokens"
"""Kinds of limits."""

COUNTS = frozenset({"tokens", "events"})


class Amount(NamedTuple):
    """So much of a currency, in ten-thousandths of its unit."""

    currency: str
    units: int

    def stored(self, member: str = "value") -> dict[str, str]:
        """The inverse of `parse_amount`."""
        return {"currency": self.currency, member: format_amount(self.units)}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a task or consent may use up. None is no limit of that kind."""

    uses: int | None = None
    counts_events: bool = False
    """What one use is: one API token issued, or one event that a resource reports."""
    live_tokens: int | None = None
    """API tokens alive at once."""
    amount: Amount | None = None
    """Sum of all reported amounts."""

    @classmethod
    def parse(cls, given: object) -> Limits:
        """From JSON. Raises ValueError for anything that is not understood: a limit is never dropped.

        `{"uses": 10, "counts": "tokens" | "events", "live_tokens": 3, "amount": {"currency": "EUR", "max": "500.00"}}`
        """
        if not isinstance(given, Mapping) or not given.keys() <= MEMBERS:
            raise ValueError("limits has uses, counts, live_tokens and amount, and nothing else")
        counts = given.get("counts", "tokens")
        if counts not in COUNTS or ("counts" in given and "uses" not in given):
            raise ValueError("counts is tokens or events, and goes with uses")
        amount = parse_amount(given["amount"], "max") if "amount" in given else None
        return cls(_count(given, "uses"), counts == "events", _count(given, "live_tokens"), amount)

    def within(self, other: Limits) -> bool:
        """Whether nothing of it is more than the other's, or left out there. What cannot be compared is not within."""
        return (
            _at_most(self.uses, other.uses)
            and (other.uses is None or self.counts_events == other.counts_events)
            and _at_most(self.live_tokens, other.live_tokens)
            and not exceeds(self.amount, other.amount)
        )

    def stored(self) -> dict[str, Any]:
        """The inverse of `parse`."""
        found: dict[str, Any] = {}
        if self.uses is not None:
            found |= {"uses": self.uses, "counts": "events" if self.counts_events else "tokens"}
        if self.live_tokens is not None:
            found["live_tokens"] = self.live_tokens
        if self.amount is not None:
            found["amount"] = self.amount.stored("max")
        return found


NO_LIMITS = Limits()


def exceeds(amount: Amount | None, bound: Amount | None) -> bool:
    """Whether an amount is more than a bound, or cannot be compared with it: none at all, or of another currency."""
    return bound is not None and (amount is None or amount.currency != bound.currency or amount.units > bound.units)


def parse_amount(given: object, member: str) -> Amount:
    """Currency and units of `{"currency": "EUR", member: "12.50"}`. Raises ValueError.

    A decimal string: a JSON number may have lost digits on its way.
    """
    if not isinstance(given, Mapping) or given.keys() != {"currency", member}:
        raise ValueError(f"an amount has currency and {member}")
    currency, text = given["currency"], given[member]
    if not isinstance(currency, str) or not CURRENCY.fullmatch(currency) or not isinstance(text, str) or not DECIMAL.fullmatch(text):
        raise ValueError("an amount is three capital letters and a decimal string with at most four places")
    whole, _, places = text.partition(".")
    return Amount(currency, int(whole) * UNITS + int(places.ljust(4, "0")))


def format_amount(units: int) -> str:
    """An amount in decimal, with as many places as it has and at least two."""
    whole, rest = divmod(units, UNITS)
    places = f"{rest:04}".rstrip("0")
    return f"{whole}.{places.ljust(2, '0')}"


def _count(given: Mapping[str, Any], name: str) -> int | None:
    if name not in given:
        return None
    count = given[name]
    if type(count) is not int or not 1 <= count <= MOST:
        raise ValueError(f"{name} is a whole number from 1 to {MOST}")
    return count


def in_words(stored: Mapping[str, Any]) -> tuple[str, ...]:
    """Limits as people read them, from what `stored` gives: `at most 10 times`, `at most 500.00 EUR in all`."""
    words = []
    if (uses := stored.get("uses")) is not None:
        each = ("action", "actions") if stored.get("counts") == "events" else ("time", "times")
        words.append(f"at most {uses} {each[uses != 1]}")
    if (live := stored.get("live_tokens")) is not None:
        words.append(f"at most {live} at the same time")
    if (amount := stored.get("amount")) is not None:
        words.append(f"at most {amount['max']} {amount['currency']} in all")
    return tuple(words)


def _at_most(count: int | None, other: int | None) -> bool:
    return other is None or (count is not None and count <= other)
