"""The token endpoint's answer (RFC 6749 §5.1, RFC 8693 §2.2.1)."""

from __future__ import annotations

from typing import Any

from app.policy.access import TokenKind
from app.tokens.authorization_details import resource_access
from app.tokens.mint import Prepared
from app.vocabulary import GrantType, TokenTypeURI, format_scope, token_type

NOT_APPLICABLE = "N_A"
"""`token_type` of what is no access token (RFC 8693 §2.2.1)."""


def token_response(prepared: Prepared, token: str) -> dict[str, Any]:
    """The members that every grant's answer has, and those of the delegated ones."""
    access = prepared.permit.access
    authority = access.authority
    body: dict[str, Any] = {
        "access_token": token,
        "token_type": token_type(authority.confirmation),
        "expires_in": authority.end - access.now,
    }
    scope = authority.scope | access.openid
    if scope:
        body["scope"] = format_scope(scope)
    if access.target.kind is TokenKind.HANDOVER or (authority.amount is not None and authority.pairs):
        body["authorization_details"] = resource_access(authority.pairs, authority.amount)
    if access.grant_type in {GrantType.TOKEN_EXCHANGE, GrantType.CIBA}:
        body["issued_token_type"] = TokenTypeURI.ACCESS_TOKEN.value
        if access.target.kind is TokenKind.HANDOVER:
            # A JWT that no resource takes, so there is no way of using it there (RFC 8693 §2.2.1, §3).
            body |= {"issued_token_type": TokenTypeURI.JWT.value, "token_type": NOT_APPLICABLE}
    if access.consent is not None and access.authority.chain.depth:
        body["consent_id"] = access.consent.value.id
        body["authorization_expires_in"] = max(0, access.consent.value.until - access.now)
    if access.task is not None:
        body["task_id"] = access.task.value.id
    return body
