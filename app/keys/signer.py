"""The one way to sign a JWT."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson
from joserfc.jwk import RSAKey

from app.keys.algorithms import CLASSES, IMPLEMENTATIONS, PrivateOrPublicKey
from app.keys.jwk import thumbprint
from app.live.things import Kind, Thing
from app.vocabulary import SigningAlg

MAX_TOKEN = 8192
"""Bytes of a JWT, at most: what the verifier takes, so nothing longer is signed."""


class TokenTooLarge(ValueError):
    """The claims do not fit into a token that our own verifier would take."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, imported, and the one algorithm it signs with."""

    kid: str
    alg: SigningAlg
    key: PrivateOrPublicKey = field(repr=False)

    @property
    def thing(self) -> Thing:
        """What a token signed by this key hangs on. Its epoch is 0 until the key is revoked, for ever."""
        return Thing(Kind.KEY, self.kid)


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A JWT that lacks only its signature: whatever can fail has been done."""

    signing_input: bytes = field(repr=False)
    key: SigningKey

    def sign(self) -> str:
        """The JWT in compact form (RFC 7515 §3.1)."""
        signature = IMPLEMENTATIONS[self.key.alg].sign(self.signing_input, self.key.key)
        return (self.signing_input + b"." + _encode(signature)).decode("ascii")


def prepare(claims: Mapping[str, Any], typ: str, key: SigningKey) -> Unsigned:
    """Serialise the claims under the header {typ, alg, kid}, ready to sign after the commit.

    Raises `TokenTooLarge` past 8192 bytes, TypeError for claims that are not JSON.
    """
    payload = orjson.dumps(dict(claims), default=_plain)
    signing_input = _header(typ, key.alg, key.kid) + b"." + _encode(payload)
    if len(signing_input) + 1 + _signature_length(key) > MAX_TOKEN:
        raise TokenTooLarge(f"the token would exceed {MAX_TOKEN} bytes")
    return Unsigned(signing_input, key)


def sign(claims: Mapping[str, Any], typ: str, key: SigningKey) -> str:
    """Sign claims as a JWT with the header {typ, alg, kid}. Raises as `prepare`."""
    return prepare(claims, typ, key).sign()


def import_signing_key(jwk: Mapping[str, Any], alg: SigningAlg | None = None) -> SigningKey:
    """A private JWK, ready to sign. An RSA key costs 30 to 45 ms: once. Raises ValueError for any other.

    `alg` is the JWK's own where left out; `kid` is the JWK's or its thumbprint.
    """
    kty = str(jwk.get("kty"))
    if kty not in CLASSES or "d" not in jwk:
        raise ValueError("not a private signing key")
    members = {name: value for name, value in jwk.items() if name not in {"alg", "use", "key_ops", "kid"}}
    key = CLASSES[kty].import_key(members)
    chosen = alg or SigningAlg(jwk["alg"])
    IMPLEMENTATIONS[chosen].check_key(key)
    return SigningKey(str(jwk.get("kid") or thumbprint(jwk)), chosen, key)


@lru_cache(maxsize=256)
def _header(typ: str, alg: SigningAlg, kid: str) -> bytes:
    return _encode(orjson.dumps({"typ": str(typ), "alg": alg.value, "kid": kid}))


def _signature_length(key: SigningKey) -> int:
    octets = (key.key.raw_value.key_size + 7) // 8 if isinstance(key.key, RSAKey) else 64
    return (octets * 4 + 2) // 3


def _encode(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | set | frozenset):
        return sorted(value) if not isinstance(value, tuple) else list(value)
    raise TypeError("not JSON")
