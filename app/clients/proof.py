"""The DPoP proof: which key the caller holds, said once (RFC 9449 §4)."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from app import clock
from app.errors import InvalidDPoPProof, UseDPoPNonce
from app.keys.verifier import JWTRefused, VerificationKey, bare, import_public_key, require_str, require_time, verify
from app.live.commit import Once
from app.live.generation import Generation
from app.vocabulary import JWTType, SigningAlg

ALGORITHMS = tuple(SigningAlg)
"""`alg` of a proof; metadata follows from it."""

MAX_PROOF = 4096
"""Bytes of a proof."""

MAX_AGE = 60
"""Seconds a proof is good for after its `iat`."""

NONCE_SECONDS = 60
"""A nonce is good in the slot of so many seconds in which it was made, and in the next."""

NAMESPACE = "dpop"
ACCEPTED_ALG = frozenset(ALGORITHMS)
ACCEPTED_TYP = frozenset({JWTType.DPOP_PROOF.value})
PORTS = {"https": 443, "http": 80}
ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
URI = re.compile(r"[\x21-\x7E]{1,2048}")


@dataclass(frozen=True, slots=True, repr=False)
class PresentedProof:
    """A `DPoP` header as it came, and the method and path of the request it came with."""

    unverified_jwt: str
    method: str
    path: str


@dataclass(frozen=True, slots=True)
class ProvenKey:
    """The RFC 7638 thumbprint of a key that the caller holds, the mark that makes its proof good once, and the key itself."""

    jkt: str
    once: Once
    jwk: Mapping[str, Any] = field(default_factory=dict)
    """Its public members and no others."""


class Proofs:
    """Verifies proofs, and gives the nonces that they may have to contain."""

    def __init__(self, origins: tuple[str, ...], secret: bytes, *, nonce_required: bool) -> None:
        """`origins`: the addresses at which clients find this server, without a path."""
        self._origins = origins
        self._secret = secret
        self.nonce_required = nonce_required

    def __repr__(self) -> str:
        return "Proofs(…)"

    def verify(self, presented: PresentedProof, generation: Generation, *, access_token: str | None = None) -> ProvenKey:
        """The key it proves, if it was made for this request, lately, and for this access token where there is one (RFC 9449 §4.3).

        Whether it was used before is for the commit to say. Raises InvalidDPoPProof, UseDPoPNonce, and
        TemporarilyUnavailable for one of just before the live state was rebuilt.
        """
        if "," in presented.unverified_jwt:
            # Repeated headers arrive joined by a comma; a compact JWS has none.
            raise InvalidDPoPProof("more than one DPoP header")
        key: VerificationKey | None = None

        def find_key(header: Mapping[str, Any]) -> VerificationKey:
            nonlocal key
            try:
                key = import_public_key(header.get("jwk"))
            except ValueError as error:
                raise JWTRefused(f"jwk: {error}") from None
            return key

        try:
            jwt = verify(presented.unverified_jwt, find_key=find_key, typ=ACCEPTED_TYP, algorithms=ACCEPTED_ALG, max_bytes=MAX_PROOF)
            jti, made = self._checked(jwt.claims, presented, access_token)
        except JWTRefused as refused:
            raise InvalidDPoPProof(refused.reason) from None
        if key is None:
            raise InvalidDPoPProof("no key")
        now = clock.timestamp()
        if not generation.remembers(made, now):
            raise InvalidDPoPProof("made before the live state was rebuilt")
        self._check_nonce(jwt.claims, now)
        seconds = made + MAX_AGE + clock.SKEW + 1 - now
        return ProvenKey(key.thumbprint, Once(NAMESPACE, f"{key.thumbprint} {jti}", seconds), bare(jwt.header["jwk"]))

    def nonce(self) -> str:
        """A nonce for the next proof (RFC 9449 §8). It names a slot of time, so nobody has to remember it."""
        return self._nonce(clock.timestamp() // NONCE_SECONDS)

    def _checked(self, claims: Mapping[str, Any], presented: PresentedProof, access_token: str | None) -> tuple[str, int]:
        """`jti` and `iat` of claims that speak of this request."""
        if claims.get("htm") != presented.method:
            raise JWTRefused("htm is not this method")
        if _normalized(require_str(claims, "htu")) not in {_normalized(origin + presented.path) for origin in self._origins}:
            raise JWTRefused("htu is not this endpoint")
        made, now = require_time(claims, "iat"), clock.timestamp()
        if not now - MAX_AGE <= made <= now + clock.SKEW:
            raise JWTRefused("iat is not of now")
        if access_token is not None and not hmac.compare_digest(require_str(claims, "ath").encode(), _hash(access_token)):
            raise JWTRefused("ath is not of this access token")
        return require_str(claims, "jti", max_length=256), made

    def _check_nonce(self, claims: Mapping[str, Any], now: int) -> None:
        if "nonce" not in claims and not self.nonce_required:
            return
        sent, slot = claims.get("nonce"), now // NONCE_SECONDS
        # The clock of the node that made it may be a little ahead of ours.
        good = {self._nonce(slot - 1), self._nonce(slot), self._nonce((now + clock.SKEW) // NONCE_SECONDS)}
        if not isinstance(sent, str) or sent not in good:
            raise UseDPoPNonce("no nonce" if sent is None else "not a nonce of now", nonce=self.nonce())

    def _nonce(self, slot: int) -> str:
        return _encoded(hmac.digest(self._secret, slot.to_bytes(8, "big"), "sha256")).decode("ascii")


def _normalized(uri: str) -> tuple[str, str | None, int | None, str]:
    """A URI without query and fragment, as it is compared (RFC 9449 §4.3, RFC 3986 §6.2.2, §6.2.3).

    Scheme and host in lower case, the default port filled in, no escaped unreserved characters. Dot segments stay: no
    client sends them, so a URI that has some is none of ours. Raises JWTRefused.
    """
    if not URI.fullmatch(uri):
        raise JWTRefused("htu is not a URI")
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise JWTRefused("htu is not a URI") from None
    if "@" in parts.netloc:
        raise JWTRefused("htu has user information")
    port = PORTS.get(parts.scheme) if port is None else port
    return parts.scheme, parts.hostname, port, ESCAPE.sub(_unescaped, parts.path) or "/"


def _unescaped(escape: re.Match[str]) -> str:
    character = chr(int(escape[0][1:], 16))
    return character if UNRESERVED.fullmatch(character) else escape[0].upper()


def _hash(access_token: str) -> bytes:
    return _encoded(sha256(access_token.encode("utf-8", "surrogatepass")).digest())


def _encoded(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")
