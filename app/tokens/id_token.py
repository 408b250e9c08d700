"""The ID token (OIDC Core §2): who signed in, for the application that asked."""

from __future__ import annotations

import base64
from hashlib import sha256, sha512
from typing import Any

from app.clients.client import Client
from app.keys.signer import SigningKey, sign
from app.policy.access import SignedInAs
from app.vocabulary import JWTType, ScopeSet, SigningAlg

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
        "at_hash": _left_half(access_token, client.id_token_alg),
    }
    if nonce is not None:
        claims["nonce"] = nonce
    claims |= {name: value for name, value in profile.items() if _scope_of(name) in openid}
    return sign(claims, JWTType.ID_TOKEN, key)


def _scope_of(claim: str) -> str:
    return "email" if claim.startswith("email") else "profile"


def _left_half(access_token: str, alg: SigningAlg) -> str:
    # The hash function of the algorithm: Ed25519 has SHA-512 inside, the others SHA-256 in their name (OIDC Core §3.1.3.6).
    digest = (sha512 if alg is SigningAlg.EDDSA else sha256)(access_token.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode("ascii")
