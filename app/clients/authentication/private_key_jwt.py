"""`private_key_jwt` (RFC 7523 §2.2, §3 and its revision: the issuer as the sole audience)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app import clock
from app.clients.authentication.context import Authenticating
from app.clients.authentication.credentials import Credentials
from app.clients.client import Client
from app.errors import InvalidClient, TemporarilyUnavailable
from app.keys.verifier import (
    NO_TYP,
    JWTRefused,
    VerificationKey,
    check_times,
    choose_key,
    generate_client_key,
    import_client_keys,
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

_public = {k: v for k, v in generate_client_key(SigningAlg.ES256).items() if k != "d"}
DECOY: tuple[VerificationKey, ...] = import_client_keys({"keys": [_public]})
"""Nobody's key: an unknown client costs one verification too."""


def verify(credentials: Credentials, client: Client | None, context: Authenticating) -> tuple[Once, ...]:
    """The assertion is the client's, fresh, for us; its `jti` is a mark to set once at the commit."""
    keys = client.keys if client is not None and client.keys else DECOY

    def find_key(header: Mapping[str, Any]) -> VerificationKey | None:
        # The decoy answers any kid, so that an unknown client costs a verification like any other.
        return DECOY[0] if keys is DECOY else choose_key(keys, header)

    try:
        claims = verify_jwt(credentials.proof, find_key=find_key, typ=ACCEPTED_TYP, algorithms=ALGORITHMS).claims
        jti = _checked(claims, credentials.unverified_client_id, client, context)
    except JWTRefused as refused:
        raise InvalidClient(f"assertion: {refused.reason}") from None
    if client is None:
        raise InvalidClient("unknown client")
    _remembered(claims, context)
    seconds = require_time(claims, "exp") + clock.SKEW + 1 - context.now
    return (Once(NAMESPACE, f"{client.client_id} {jti}", max(seconds, 1)),)


def _checked(claims: Mapping[str, Any], client_id: str, client: Client | None, context: Authenticating) -> str:
    if require_str(claims, "iss") != client_id or require_str(claims, "sub") != client_id:
        raise JWTRefused("iss or sub is not the client")
    older = client is not None and client.assertion_audience == "token-endpoint"
    if sole_audience(claims) != (context.token_endpoint if older else context.issuer):
        raise JWTRefused("aud is not ours alone")
    require_time(claims, "iat")
    check_times(claims, context.now, max_lifetime=MAX_LIFETIME)
    return require_str(claims, "jti", max_length=256)


def _remembered(claims: Mapping[str, Any], context: Authenticating) -> None:
    """Refuse what an earlier generation may have seen: its once-marks are gone."""
    if context.since == 0 or require_time(claims, "iat") > context.since + clock.SKEW:
        return
    if context.now <= context.since + clock.SKEW:
        raise TemporarilyUnavailable("assertions of before the rebuild", retry_after=context.since + clock.SKEW + 1 - context.now)
    raise InvalidClient("assertion: made before the live state was rebuilt")
