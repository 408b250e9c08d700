"""ID tokens that come back as hints (OIDC Core §3.1.2.1, RP-Initiated Logout §2): ours by signature, expired or not."""

from __future__ import annotations

from dataclasses import dataclass

from app.keys.verifier import JWTRefused, TokenVerifier, require_str, sole_audience
from app.vocabulary import JWTType


@dataclass(frozen=True, slots=True)
class Hint:
    """Whom an ID token of ours was about, and for which client."""

    subject: str
    client_id: str


class Hints:
    """Reads hints. They say who is meant and prove nothing else."""

    def __init__(self, issuer: str, verifier: TokenVerifier) -> None:
        self._issuer = issuer
        self._verifier = verifier

    def read(self, unverified_jwt: str) -> Hint:
        """The hint. Raises `JWTRefused` for anything but an ID token of ours."""
        claims = self._verifier.verify_own(unverified_jwt, frozenset({JWTType.ID_TOKEN.value})).claims
        if claims.get("iss") != self._issuer:
            raise JWTRefused("another issuer")
        return Hint(require_str(claims, "sub"), sole_audience(claims))
