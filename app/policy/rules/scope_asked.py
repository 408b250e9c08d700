"""Asking for more is an error, and so is nothing left; leaving it out means what is left, never all (protocol §5.8)."""

from __future__ import annotations

from app.delegation.limits import exceeds
from app.errors import InvalidAuthorizationDetails, InvalidScope
from app.policy.access import AccessRequest, Denial, TokenKind


def rule(access: AccessRequest) -> AccessRequest | Denial:
    """Narrow to `scope` at every location and to `authorization_details` pair by pair; both apply."""
    authority, asked = access.authority, access.asked
    if access.target.kind is TokenKind.ACCESS_TOKEN:
        authority = authority.at(access.target.audience)
    if asked.scope is not None and not asked.scope <= authority.scope:
        return Denial(InvalidScope("asked for more than there is"))
    if asked.pairs is not None and not asked.pairs <= authority.pairs:
        return Denial(InvalidAuthorizationDetails("authorization_details is not narrower"))
    if asked.pairs is not None and exceeds(asked.amount, authority.amount):
        # Left out, or of another currency: what cannot be compared cannot be delegated, and a limit is never dropped.
        return Denial(InvalidAuthorizationDetails("its limit is missing, greater, or cannot be compared", layer="limit"))
    if asked.scope is not None:
        authority = authority.for_scope(asked.scope)
    if asked.pairs is not None:
        authority = authority.narrow(pairs=asked.pairs, amount=asked.amount)
    if not authority.pairs and access.target.kind in {TokenKind.ACCESS_TOKEN, TokenKind.HANDOVER}:
        return Denial(InvalidScope("nothing is left"))
    return access.narrowed(authority)
