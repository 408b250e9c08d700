"""What of an agent's registration can be changed later, and whether that leaves it less than before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from app.agents.models import AgentRow
from app.clients.models import ClientRow
from app.clients.registration import check_name, check_redirect_uris
from app.errors import Refused
from app.vocabulary import Pair, Pairs

MAX_PURPOSE = 500


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be another. None stays as it is."""

    name: str | None = None
    purpose: str | None = None
    owner: str | None = None
    """A human's id."""
    ceiling: Pairs | None = None
    own: Pairs | None = None
    hands_to: frozenset[str] | None = None
    """Ids of agents."""
    max_depth: int | None = None
    redirect_uris: tuple[str, ...] | None = None


def apply(row: AgentRow, client: ClientRow, change: Change, deepest: int) -> tuple[dict[str, Any], Pairs, bool]:
    """Make the change to the rows. Raises `Refused`; whoever calls checks what is named against the registers.

    Returns what is another now as the ledger says it, the pairs that are new, and whether the agent may do less than before.
    """
    before = _reach(row)
    what = _words(row, client, change)
    if change.owner is not None and change.owner != row.owner:
        row.owner = what["owner"] = change.owner
    for name, pairs in (("ceiling", change.ceiling), ("own", change.own)):
        if pairs is not None and stored(pairs) != getattr(row, name):
            what[name] = stored(pairs)
            setattr(row, name, what[name])
    if change.hands_to is not None and change.hands_to != frozenset(row.hands_to):
        row.hands_to = what["hands_to"] = sorted(change.hands_to)
    if change.max_depth is not None and change.max_depth != row.max_depth:
        if not 1 <= change.max_depth <= deepest:
            raise Refused(f"the depth is 1 to {deepest}")
        row.max_depth = what["depth"] = change.max_depth
    after = _reach(row)
    kept = before[0] <= after[0] and before[1] <= after[1] and before[2] <= after[2] and before[3] <= after[3]
    return what, (after[0] | after[1]) - (before[0] | before[1]), not kept


def stored(pairs: Iterable[Pair]) -> list[list[str]]:
    """Pairs as a JSON column holds them."""
    return [list(pair) for pair in sorted(pairs)]


def _words(row: AgentRow, client: ClientRow, change: Change) -> dict[str, Any]:
    """What people read, and where browsers go: none of it makes anything smaller."""
    what: dict[str, Any] = {}
    if change.name is not None and change.name != row.name:
        check_name(change.name)
        row.name = client.name = change.name
        what["changed"] = ["name"]
    if change.purpose is not None and change.purpose != row.purpose:
        check_name(change.purpose, "a purpose", MAX_PURPOSE)
        row.purpose = change.purpose
        what["changed"] = [*what.get("changed", ()), "purpose"]
    if change.redirect_uris is not None and (uris := check_redirect_uris(change.redirect_uris, native=True)) != client.redirect_uris:
        client.redirect_uris = what["redirect_uris"] = uris
    return what


def _reach(row: AgentRow) -> tuple[Pairs, Pairs, frozenset[str], int]:
    pairs = [frozenset(Pair(*pair) for pair in held) for held in (row.ceiling, row.own)]
    return pairs[0], pairs[1], frozenset(row.hands_to), row.max_depth
