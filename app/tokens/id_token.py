"""The ID token (OIDC Core §2): who signed in, for the application that asked."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

from app.clients.client import Client
from app.keys.signer import SigningKey, sign
from app.policy.access import SignedInAs
from app.vocabulary import JWTType, ScopeSet

LIFETIME = 300
"""Seconds an ID token is good for: it says that somebody signed in, not that she may do something."""


def id_token(
    *, issuer: str, client: Client, human: str, signed_in: SignedInAs, nonce: str | None, access_token: str, profile: dict[str, Any],
    openid: ScopeSet, now: int, key: SigningKey,
) -> str:  # fmt: skip
    """A signed ID token. `profile` holds the claims of the `profile` and `email` scopes that were granted."""
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": human,
        "aud": client.client_id,
        "iat": now,
        "exp": now + LIFETIME,
        "auth_time": signed_in.auth_time,
        "acr": signed_in.acr,
        "amr": list(signed_in.amr),
        "at_hash": _left_half(access_token),
    }
    if nonce is not None:
        claims["nonce"] = nonce
    claims |= {name: value for name, value in profile.items() if _scope_of(name) in openid}
    return sign(claims, JWTType.ID_TOKEN, key)


def _scope_of(claim: str) -> str:
    return "email" if claim.startswith("email") else "profile"


def _left_half(access_token: str) -> str:
    # All algorithms we sign ID tokens with hash with SHA-256; Ed25519's SHA-512 is handled as OIDC Core §3.1.3.6 reads.
    digest = sha256(access_token.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode("ascii")
