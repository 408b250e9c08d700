"""The token endpoint's answer (RFC 6749 §5.1, RFC 8693 §2.2.1)."""

from __future__ import annotations

from typing import Any

from app.policy.access import TokenKind
from app.tokens.authorization_details import resource_access
from app.tokens.mint import Prepared
from app.vocabulary import GrantType, TokenTypeURI, format_scope


def token_response(prepared: Prepared, token: str) -> dict[str, Any]:
    """The members that every grant's answer has, and those of the delegated ones."""
    access = prepared.permit.access
    authority = access.authority
    body: dict[str, Any] = {
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": authority.end - access.now,
    }
    scope = authority.scope | access.openid
    if scope:
        body["scope"] = format_scope(scope)
    if access.target.kind is TokenKind.HANDOVER:
        body["authorization_details"] = resource_access(authority.pairs)
    if access.grant_type is GrantType.TOKEN_EXCHANGE:
        # A hand-over is a JWT that no resource takes; what resources take is an access token (RFC 8693 §3).
        handover = access.target.kind is TokenKind.HANDOVER
        body["issued_token_type"] = (TokenTypeURI.JWT if handover else TokenTypeURI.ACCESS_TOKEN).value
    if access.consent is not None and access.authority.chain.depth:
        body["consent_id"] = access.consent.value.id
        body["authorization_expires_in"] = max(0, access.consent.value.until - access.now)
    if access.task is not None:
        body["task_id"] = access.task.value.id
    return body
