"""`private_key_jwt` (RFC 7523 §2.2, §3 and its revision: the issuer as the sole audience)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app import clock
from app.clients.authentication.context import Authenticating
from app.clients.authentication.credentials import Credentials
from app.clients.client import Client
from app.errors import InvalidClient
from app.keys.verifier import (
    NO_TYP,
    JWTRefused,
    VerificationKey,
    check_times,
    choose_key,
    nobodys_key,
    require_str,
    require_time,
    sole_audience,
)
from app.keys.verifier import (
    verify as verify_jwt,
)
from app.live.commit import Once
from app.vocabulary import JWTType, SigningAlg

MAX_LIFETIME = 300
"""Seconds between `iat` and `exp`."""

ACCEPTED_TYP = frozenset({JWTType.CLIENT_ASSERTION.value, "JWT", NO_TYP})
ALGORITHMS = frozenset(SigningAlg)
NAMESPACE = "assertion"


def verify(credentials: Credentials, client: Client | None, context: Authenticating) -> tuple[Once, ...]:
    """The assertion is the client's, fresh, for us; its `jti` is a mark to set once at the commit."""
    found: VerificationKey | None = None

    def find_key(header: Mapping[str, Any]) -> VerificationKey:
        # An unknown client and a key that is not the client's cost a verification like any other.
        nonlocal found
        found = choose_key(client.keys, header) if client is not None else None
        return found or nobodys_key(header)

    try:
        claims = verify_jwt(credentials.proof, find_key=find_key, typ=ACCEPTED_TYP, algorithms=ALGORITHMS).claims
    except JWTRefused as refused:
        raise InvalidClient(f"assertion: {refused.reason}" if found is not None else "assertion: no such client or key") from None
    if client is None or found is None:
        raise InvalidClient("assertion: no such client or key")
    try:
        jti = _checked(claims, credentials.unverified_client_id, client, context)
    except JWTRefused as refused:
        raise InvalidClient(f"assertion: {refused.reason}") from None
    if not context.generation.remembers(require_time(claims, "iat"), context.now):
        raise InvalidClient("assertion: made before the live state was rebuilt")
    seconds = require_time(claims, "exp") + clock.SKEW + 1 - context.now
    return (Once(NAMESPACE, f"{client.client_id} {jti}", max(seconds, 1)),)


def _checked(claims: Mapping[str, Any], client_id: str, client: Client, context: Authenticating) -> str:
    if require_str(claims, "iss") != client_id or require_str(claims, "sub") != client_id:
        raise JWTRefused("iss or sub is not the client")
    older = client.assertion_audience == "token-endpoint"
    # The older form is allowed as that one string and never as a list.
    audience, ours = (claims.get("aud"), context.token_endpoint) if older else (sole_audience(claims), context.issuer)
    if audience != ours:
        raise JWTRefused("aud is not ours alone")
    require_time(claims, "iat")
    check_times(claims, context.now, max_lifetime=MAX_LIFETIME)
    return require_str(claims, "jti", max_length=256)
