"""The one verifier of every JWT: access and hand-over tokens, client assertions, ID token hints, checkpoints.

It proves who signed which claims. Whether the claims are for us and still good is the caller's to say, with
the small checks at the end; whether the token is alive is Redis'.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import orjson

from app import clock
from app.keys.algorithms import IMPLEMENTATIONS, WIRE
from app.keys.jwk import (
    MAX_KID,
    VerificationKey,
    bare,
    choose_key,
    foreign_jwks,
    generate_client_key,
    import_client_keys,
    import_foreign_keys,
    import_public_key,
    nobodys_key,
    thumbprint,
)
from app.keys.signer import MAX_TOKEN
from app.keys.strict import Malformed, base64url, json_object
from app.vocabulary import SigningAlg

__all__ = [
    "MAX_KID",
    "NO_TYP",
    "JWTRefused",
    "TokenVerifier",
    "VerificationKey",
    "VerifiedJWT",
    "bare",
    "check_times",
    "choose_key",
    "foreign_jwks",
    "generate_client_key",
    "import_client_keys",
    "import_foreign_keys",
    "import_public_key",
    "nobodys_key",
    "read_unverified",
    "read_unverified_claims",
    "read_unverified_header",
    "require_str",
    "require_time",
    "sole_audience",
    "thumbprint",
    "verify",
]

NO_TYP = ""
"""In a set of acceptable types: the header may be missing. Client assertions of older libraries have none."""

Header = Mapping[str, Any]
FindKey = Callable[[Header], VerificationKey | None]


class JWTRefused(Exception):
    """The JWT is not what it must be. `reason` is for the record and contains nothing of the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, repr=False)
class VerifiedJWT:
    """A header and claims whose signature was verified. Each caller gets claims of its own to keep."""

    header: Header
    claims: Mapping[str, Any]

    def __repr__(self) -> str:
        return "VerifiedJWT(…)"


class _Parts(NamedTuple):
    """A compact JWS, taken apart; nothing in it is verified."""

    header: dict[str, Any]
    signing_input: bytes
    payload: bytes
    signature: bytes


def read_unverified_header(unverified_jwt: str, *, max_bytes: int = MAX_TOKEN) -> Header:
    """The header of a JWT, strictly parsed and verified by nobody. Raises `JWTRefused`."""
    return _take_apart(unverified_jwt, max_bytes).header


def read_unverified_claims(unverified_jwt: str, *, max_bytes: int = MAX_TOKEN) -> Mapping[str, Any]:
    """The claims of a JWT, strictly parsed, verified by nobody: to find whose key could. Raises as above."""
    return _object(_take_apart(unverified_jwt, max_bytes).payload, "payload")


def read_unverified(unverified_jwt: str, *, max_bytes: int = MAX_TOKEN) -> tuple[Header, Mapping[str, Any]]:
    """Header and claims together, as the two above read them."""
    parts = _take_apart(unverified_jwt, max_bytes)
    return parts.header, _object(parts.payload, "payload")


def verify(
    unverified_jwt: str,
    *,
    find_key: FindKey,
    typ: frozenset[str],
    algorithms: frozenset[SigningAlg],
    max_bytes: int = MAX_TOKEN,
) -> VerifiedJWT:
    """The claims of a JWT signed by the key that `find_key` gives for its header. Raises `JWTRefused`.

    `typ` holds the acceptable types, compared as media types (RFC 8725 §3.11, RFC 7515 §4.1.9). `find_key`
    sees a header whose `alg` and `kid` are strings and may look up `kid` only in what it already trusts;
    `jku`, `x5u` and `x5c` are never followed, and `jwk` is used by a DPoP proof alone, which proves that very key
    and nothing else. Not checked here: `iss`, `aud`, times, liveness.
    """
    return _verified(unverified_jwt, find_key, typ, algorithms, max_bytes)[0]


def _verified(
    unverified_jwt: str,
    find_key: FindKey,
    typ: frozenset[str],
    algorithms: frozenset[SigningAlg],
    max_bytes: int,
) -> tuple[VerifiedJWT, bytes]:
    parts = _take_apart(unverified_jwt, max_bytes)
    alg = _algorithm(parts.header, algorithms)
    _check_header(parts.header, typ)
    key = find_key(parts.header)
    if key is None:
        raise JWTRefused("no key for this header")
    if alg not in key.algorithms:
        raise JWTRefused("alg is not this key's")
    if not IMPLEMENTATIONS[alg].verify(parts.signing_input, parts.signature, key.key):
        raise JWTRefused("bad signature")
    return VerifiedJWT(MappingProxyType(parts.header), _object(parts.payload, "payload")), parts.payload


def _take_apart(unverified_jwt: str, max_bytes: int) -> _Parts:
    if len(unverified_jwt) > max_bytes:
        raise JWTRefused("too long")
    segments = unverified_jwt.split(".")
    if len(segments) != 3:
        raise JWTRefused("not a compact JWS")
    header, payload, signature = map(_octets, segments)
    signing_input = unverified_jwt[: len(segments[0]) + 1 + len(segments[1])].encode("ascii")
    return _Parts(_object(header, "header"), signing_input, payload, signature)


def _octets(segment: str) -> bytes:
    try:
        return base64url(segment)
    except Malformed as error:
        raise JWTRefused(str(error)) from None


def _object(data: bytes, where: str) -> dict[str, Any]:
    try:
        return json_object(data)
    except Malformed as error:
        raise JWTRefused(f"{where}: {error}") from None


def _algorithm(header: Header, algorithms: frozenset[SigningAlg]) -> SigningAlg:
    name = header.get("alg")
    alg = WIRE.get(name) if isinstance(name, str) else None
    if alg is None or alg not in algorithms:
        raise JWTRefused("alg is not acceptable")
    return alg


def _check_header(header: Header, typ: frozenset[str]) -> None:
    # crit and b64 change what was signed or ask for what we do not do (RFC 7515 §4.1.11, RFC 7797).
    for name in ("crit", "b64", "zip"):
        if name in header:
            raise JWTRefused(f"{name} is not supported")
    if media_type(header.get("typ", NO_TYP)) not in map(media_type, typ):
        raise JWTRefused("wrong typ")
    if "kid" in header and not (isinstance(header["kid"], str) and len(header["kid"]) <= MAX_KID):
        raise JWTRefused("kid is not acceptable")


def media_type(typ: object) -> str | None:
    """A `typ` as it is compared: in lower case, "application/" implied where there is no other "/"."""
    if not isinstance(typ, str):
        return None
    name = typ.lower()
    short = name.removeprefix("application/")
    return name if "/" in short else short


T = TypeVar("T")


class OwnKeys(Protocol):
    """Where our own public token keys come from: `KeyStore`."""

    def verification_key(self, kid: str) -> VerificationKey | None:
        """The key, unless it is revoked or gone."""


@dataclass(slots=True)
class _Remembered:
    """A signature verified once. The claims stay bytes, so that every caller gets its own copy of them."""

    header: Header
    typ: str | None
    kid: str
    payload: bytes
    read: object = None
    """What `read_own` made of them, once."""

    def verified(self) -> VerifiedJWT:
        # Strictly parsed once, the same bytes mean the same to any parser, so the fastest will do.
        return VerifiedJWT(self.header, orjson.loads(self.payload))


class TokenVerifier:
    """Verifies our own tokens and remembers which signatures it has seen good, by SHA-256 of the token."""

    def __init__(self, keys: OwnKeys, *, size: int = 10_000) -> None:
        self._keys = keys
        self._size = size
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._lock = threading.Lock()

    def verify_own(self, token: str, typ: frozenset[str]) -> VerifiedJWT:
        """The claims of a token that one of our keys signed and that is not revoked. Raises `JWTRefused`.

        Raises `TemporarilyUnavailable` when the `kid` is unknown and SQL cannot be asked about it. Times,
        audience and liveness are the caller's, every time: only the signature is remembered.
        """
        return self._good(token, typ).verified()

    def read_own(self, token: str, typ: frozenset[str], read: Callable[[VerifiedJWT], T]) -> T:
        """What `read` makes of such a token. It is asked once and its answer shared: always the same `read`, nothing that changes.

        Raises as `verify_own` does, and what `read` raises, which is not remembered.
        """
        known = self._good(token, typ)
        if known.read is None:
            known.read = read(known.verified())
        return cast("T", known.read)

    def _good(self, token: str, typ: frozenset[str]) -> _Remembered:
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._recall(digest)
        if known is None:
            return self._verify_and_remember(token, digest, typ)
        if self._keys.verification_key(known.kid) is None:
            self._forget(digest)
            raise JWTRefused("no key for this header")
        if known.typ not in map(media_type, typ):
            raise JWTRefused("wrong typ")
        return known

    def _verify_and_remember(self, token: str, digest: bytes, typ: frozenset[str]) -> _Remembered:
        verified, payload = _verified(token, self._find_key, typ, frozenset(SigningAlg), MAX_TOKEN)
        header = verified.header
        entry = _Remembered(header, media_type(header.get("typ", NO_TYP)), header["kid"], payload)
        with self._lock:
            self._remembered[digest] = entry
            while len(self._remembered) > self._size:
                self._remembered.popitem(last=False)
        return entry

    def _find_key(self, header: Header) -> VerificationKey | None:
        kid = header.get("kid")
        return self._keys.verification_key(kid) if kid else None

    def _recall(self, digest: bytes) -> _Remembered | None:
        with self._lock:
            known = self._remembered.get(digest)
            if known is not None:
                self._remembered.move_to_end(digest)
            return known

    def _forget(self, digest: bytes) -> None:
        with self._lock:
            self._remembered.pop(digest, None)


def require_str(claims: Mapping[str, Any], name: str, *, max_length: int = 2048) -> str:
    """A claim that must be a string, not empty. Raises `JWTRefused`."""
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= max_length:
        raise JWTRefused(f"{name} must be a string")
    return value


def require_time(claims: Mapping[str, Any], name: str) -> int:
    """A claim that must be a NumericDate (RFC 7519 §2), in whole seconds. Raises `JWTRefused`."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise JWTRefused(f"{name} must be a time")
    return int(value)


def check_times(claims: Mapping[str, Any], now: int, leeway: int = clock.SKEW, *, max_lifetime: int | None = None) -> None:
    """`exp` is there and ahead; `nbf` and `iat`, where there, are not (RFC 7519 §4.1.4 to 4.1.6).

    All in seconds; `leeway` widens both ends, 0 for our own tokens. With `max_lifetime`, `exp` may be at most
    that far ahead, counted from `iat` (now where there is none) and from now. Raises `JWTRefused`.
    """
    exp = require_time(claims, "exp")
    if exp + leeway <= now:
        raise JWTRefused("expired")
    iat = require_time(claims, "iat") if "iat" in claims else now
    if iat > now + leeway:
        raise JWTRefused("issued in the future")
    if "nbf" in claims and require_time(claims, "nbf") > now + leeway:
        raise JWTRefused("not valid yet")
    if max_lifetime is not None and (exp - iat > max_lifetime or exp - now > max_lifetime + leeway):
        raise JWTRefused("lives too long")


def sole_audience(claims: Mapping[str, Any]) -> str:
    """The one audience: a string, or an array of exactly one (RFC 7519 §4.1.3). Raises `JWTRefused`."""
    audience = claims.get("aud")
    if isinstance(audience, list) and len(audience) == 1:
        audience = audience[0]
    if not isinstance(audience, str) or not audience:
        raise JWTRefused("aud must be one string")
    return audience
