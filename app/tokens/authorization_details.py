"""`authorization_details` of type `resource_access`: authority spelled pair by pair (RFC 9396)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from app.vocabulary import RESOURCE_ACCESS, SCOPE_TOKEN, Pair, Pairs

MEMBERS = frozenset({"type", "locations", "actions"})
MAX_ENTRIES = 32


def resource_access(pairs: Pairs) -> list[dict[str, Any]]:
    """One entry a resource, in an order that does not change."""
    return [
        {
            "type": RESOURCE_ACCESS,
            "locations": [uri],
            "actions": sorted(pair.scope for pair in pairs if pair.resource == uri),
        }
        for uri in sorted({pair.resource for pair in pairs})
    ]


def parse_resource_access(details: object) -> Pairs:
    """The pairs that details name. Raises ValueError for an unknown type or member, or any other shape (RFC 9396 §5)."""
    if not isinstance(details, list) or not 0 < len(details) <= MAX_ENTRIES:
        raise ValueError("authorization_details must be a non-empty array")
    pairs: set[Pair] = set()
    for entry in details:
        if not isinstance(entry, dict) or set(entry) != MEMBERS or entry["type"] != RESOURCE_ACCESS:
            raise ValueError("unknown type or member")
        locations, actions = _strings(entry["locations"]), _strings(entry["actions"])
        if not all(SCOPE_TOKEN.fullmatch(action) for action in actions):
            raise ValueError("malformed action")
        pairs.update(Pair(location, action) for location in locations for action in actions)
    return frozenset(pairs)


def _strings(value: object) -> Iterable[str]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_ENTRIES or not all(isinstance(item, str) for item in value):
        raise ValueError("expected a non-empty array of strings")
    return value
