"""The target must be there, switched on, and know the scopes (RFC 8707 §2, protocol §5.7)."""

from __future__ import annotations

from app.errors import InvalidTarget
from app.policy.access import AccessRequest, Denial, TokenKind


def rule(access: AccessRequest) -> AccessRequest | Denial:
    """For a token to a resource: only that resource's pairs, only scopes it has."""
    if access.target.kind is not TokenKind.ACCESS_TOKEN:
        return access
    resource = access.target.resource
    if resource is None or not resource.value.enabled:
        return Denial(InvalidTarget("the resource is unknown or disabled"))
    if resource.value.uri not in access.authority.resources:
        return Denial(InvalidTarget("the resource is not within reach"))
    return access.narrowed(access.authority.narrow(pairs=resource.value.pairs))
