"""`--resource` and `--scope` together: which scopes at which of the named APIs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.errors import Refused
from app.vocabulary import Pair, Pairs

if TYPE_CHECKING:
    from app.wiring import Server


def pairs_of(server: Server, resources: Sequence[str], scopes: Sequence[str]) -> Pairs:
    """Each scope at every named resource that has it. Raises `Refused` for one that none has, `NotFound`."""
    rows = [server.resource_registry.get(uri) for uri in dict.fromkeys(resources)]
    if scopes and not rows:
        raise Refused("name the resource whose scope it is, with --resource")
    pairs = set()
    for scope in (word for text in scopes for word in text.split()):
        having = {Pair(row.uri, scope) for row in rows if scope in row.scopes}
        if not having:
            raise Refused(f"none of the named resources has a scope {scope}")
        pairs |= having
    return frozenset(pairs)
