"""Depth is capped by refusal, never by cutting (protocol §5.12)."""

from __future__ import annotations

from app.errors import InvalidToken
from app.policy.access import AccessRequest, Denial

MAX_PARENTS = 8
"""A token carries this many ancestors' `jti`s; a longer line is refused."""


def rule(access: AccessRequest) -> AccessRequest | Denial:
    """The `act` objects of the result must fit the depth, and its ancestors the lineage."""
    if access.authority.chain.depth > access.authority.depth and access.authority.chain.depth > 0:
        return Denial(InvalidToken("the chain is too deep", layer="chain"))
    if len(access.lineage.parents) > MAX_PARENTS:
        return Denial(InvalidToken("too many ancestors", layer="chain"))
    return access
