"""`authorization_details` of type `resource_access`: authority spelled pair by pair, with what it is limited to (RFC 9396)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from app.delegation.limits import Amount, parse_amount
from app.vocabulary import RESOURCE_ACCESS, SCOPE_TOKEN, Pair, Pairs

MEMBERS = frozenset({"type", "locations", "actions"})
LIMITS = "limits"
MAX_ENTRIES = 32


class Access(NamedTuple):
    """What details say: which pairs, and what all amounts may add up to."""

    pairs: Pairs
    amount: Amount | None = None


def resource_access(pairs: Pairs, amount: Amount | None = None) -> list[dict[str, Any]]:
    """One entry a resource, in an order that does not change. The limit is one for all of them and stands in each."""
    limits = {} if amount is None else {LIMITS: {"amount": amount.stored("max")}}
    return [
        {
            "type": RESOURCE_ACCESS,
            "locations": [uri],
            "actions": sorted(pair.scope for pair in pairs if pair.resource == uri),
            **limits,
        }
        for uri in sorted({pair.resource for pair in pairs})
    ]


def parse_resource_access(details: object) -> Access:
    """What details name. Raises ValueError for an unknown type or member, or any other shape (RFC 9396 §5)."""
    if not isinstance(details, list) or not 0 < len(details) <= MAX_ENTRIES:
        raise ValueError("authorization_details must be a non-empty array")
    pairs: set[Pair] = set()
    amounts: set[Amount | None] = set()
    for entry in details:
        if not isinstance(entry, dict) or set(entry) - {LIMITS} != MEMBERS or entry["type"] != RESOURCE_ACCESS:
            raise ValueError("unknown type or member")
        amounts.add(_amount(entry[LIMITS]) if LIMITS in entry else None)
        locations, actions = _strings(entry["locations"]), _strings(entry["actions"])
        if not all(SCOPE_TOKEN.fullmatch(action) for action in actions):
            raise ValueError("malformed action")
        pairs.update(Pair(location, action) for location in locations for action in actions)
    if len(amounts) > 1:
        raise ValueError("one limit for all entries: it is counted for the whole task")
    return Access(frozenset(pairs), amounts.pop())


def _amount(limits: object) -> Amount:
    if not isinstance(limits, dict) or set(limits) != {"amount"}:
        raise ValueError("limits has amount, and nothing else: the rest is kept by tasks and consents")
    return parse_amount(limits["amount"], "max")


def _strings(value: object) -> Iterable[str]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ENTRIES or not all(isinstance(item, str) for item in value):
        raise ValueError("expected a non-empty array of strings")
    return value
