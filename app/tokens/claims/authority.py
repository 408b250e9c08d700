"""`scope` (RFC 8693 §4.2), `authorization_details` (RFC 9396 §9), `cnf` (RFC 7800)."""

from __future__ import annotations

from typing import Any

from app.policy.access import AccessRequest, TokenKind
from app.tokens.authorization_details import resource_access
from app.vocabulary import format_scope


def claims(access: AccessRequest, _issuer: str, _jti: str) -> dict[str, Any]:
    """What it may do. A hand-over token, and one with a limit, spells it pair by pair; elsewhere the audience is the one resource."""
    authority = access.authority
    found: dict[str, Any] = {}
    if access.target.kind is TokenKind.USERINFO:
        found["scope"] = format_scope(access.openid)
    elif authority.scope:
        found["scope"] = format_scope(authority.scope)
    if access.target.kind is TokenKind.HANDOVER or (authority.amount is not None and authority.pairs):
        found["authorization_details"] = resource_access(authority.pairs, authority.amount)
    if authority.confirmation is not None:
        found["cnf"] = authority.confirmation.claim()
    return found
