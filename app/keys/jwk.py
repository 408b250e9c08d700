"""Public keys of others, and thumbprints: what a JWK must be before it may verify anything."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from joserfc import jwk as joserfc_jwk
from joserfc.errors import JoseError
from jwcrypto.jwk import JWK

from app.keys.algorithms import CLASSES, OF_KEY_TYPE, WIRE, PrivateOrPublicKey
from app.keys.strict import Malformed, base64url
from app.vocabulary import SigningAlg

MAX_KEYS = 20
"""Keys a client may register."""

MAX_FOREIGN = 100
"""Keys in the set of another issuer."""

FOREIGN_MEMBERS = ("kty", "crv", "x", "y", "n", "e", "kid", "alg", "key_ops")
"""Members of another issuer's key that are kept; certificates beside it vouch for nothing here."""

MAX_KID = 128
"""Characters of a `kid`."""

RSA_BITS = range(2048, 8193)
"""RSA modulus sizes accepted (RFC 7518 §3.3 asks for 2048; beyond 8192 verifying is a denial of service)."""

PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""Members only a private or symmetric JWK has (RFC 7518 §6)."""

_PUBLIC_MEMBERS = {"EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "RSA": ("n", "e")}
_GENERATED: dict[SigningAlg, dict[str, Any]] = {
    SigningAlg.ES256: {"kty": "EC", "crv": "P-256"},
    SigningAlg.EDDSA: {"kty": "OKP", "crv": "Ed25519"},
    SigningAlg.RS256: {"kty": "RSA", "size": 2048},
    SigningAlg.PS256: {"kty": "RSA", "size": 2048},
}
_CURVE25519_P = 2**255 - 19
_EDWARDS_D = -121665 * pow(121666, -1, _CURVE25519_P) % _CURVE25519_P


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key, imported, with the only algorithms it may verify and its RFC 7638 thumbprint."""

    kid: str | None
    algorithms: frozenset[SigningAlg]
    thumbprint: str
    key: PrivateOrPublicKey = field(repr=False)


def import_client_keys(jwks: Mapping[str, Any]) -> tuple[VerificationKey, ...]:
    """The public keys of a client's JWK Set (RFC 7517 §5). An empty set means none.

    Raises ValueError with a sentence for the person who registers the client; it never quotes key material.
    """
    keys = jwks.get("keys")
    if not isinstance(keys, list):
        raise ValueError('A JWK Set is an object with an array "keys".')
    if len(keys) > MAX_KEYS:
        raise ValueError(f"A client may register at most {MAX_KEYS} keys.")
    imported = tuple(import_public_key(key) for key in keys)
    kids = [key.kid for key in imported if key.kid is not None]
    if len(set(kids)) != len(kids) or len({key.thumbprint for key in imported}) != len(imported):
        raise ValueError("The JWK Set has the same key or the same kid twice.")
    return imported


def foreign_jwks(jwks: Mapping[str, Any]) -> dict[str, Any]:
    """Of another issuer's JWK Set what can verify a JWT here; the rest is passed over, it may be for others (RFC 7517 §5).

    Raises ValueError with a sentence for the person who registers it.
    """
    keys = jwks.get("keys")
    if not isinstance(keys, list) or len(keys) > MAX_FOREIGN:
        raise ValueError(f'A JWK Set is an object with an array "keys", of at most {MAX_FOREIGN}.')
    if any(isinstance(jwk, Mapping) and PRIVATE_MEMBERS & jwk.keys() for jwk in keys):
        raise ValueError("A key has private members; register only the public parts.")
    usable = [_usable(jwk) for jwk in keys]
    found = [jwk for jwk in usable if jwk is not None]
    if not found:
        raise ValueError("No key of the set can verify a signature here: EC P-256, OKP Ed25519 or RSA.")
    return {"keys": found}


def import_foreign_keys(jwks: Mapping[str, Any]) -> tuple[VerificationKey, ...]:
    """Those keys, imported. Raises ValueError."""
    return tuple(import_public_key(jwk) for jwk in foreign_jwks(jwks)["keys"])


def _usable(jwk: Any) -> dict[str, Any] | None:
    """A key as it may be imported. SPIFFE calls the use of such a key "jwt-svid" and not "sig" (JWT-SVID §4)."""
    if not isinstance(jwk, Mapping) or jwk.get("use", "sig") not in {"sig", "jwt-svid"}:
        return None
    kept = {name: jwk[name] for name in FOREIGN_MEMBERS if name in jwk}
    try:
        import_public_key(kept)
    except ValueError:
        return None
    return kept


def import_public_key(jwk: Any) -> VerificationKey:
    """One public JWK for signatures: EC P-256, OKP Ed25519 or RSA of 2048 bits and more.

    Raises ValueError with a sentence for a private or symmetric key, a weak or unknown one, one not on its
    curve, and one meant for anything but signatures.
    """
    if not isinstance(jwk, Mapping):
        raise ValueError("A key is a JSON object (RFC 7517).")
    if PRIVATE_MEMBERS & jwk.keys():
        raise ValueError("The key has private members; register only the public part.")
    kty = jwk.get("kty")
    if not isinstance(kty, str) or kty not in _PUBLIC_MEMBERS:
        raise ValueError("The key type must be EC, OKP or RSA.")
    _check_purpose(jwk)
    kid = _kid(jwk)
    algorithms = _algorithms(jwk, kty)
    _CHECKS[kty](jwk)
    # Only the members of the key itself go on: nothing a client writes beside them reaches the library.
    itself = bare(jwk)
    try:
        key = CLASSES[kty].import_key(itself)
    except (ValueError, JoseError):
        raise ValueError("The key is not a point on its curve or not a valid modulus.") from None
    return VerificationKey(kid, algorithms, joserfc_jwk.thumbprint(itself), key)


def bare(jwk: Mapping[str, Any]) -> dict[str, Any]:
    """The members that make the public key, and no others: what is kept of a key that `import_public_key` took."""
    return {name: jwk[name] for name in ("kty", *_PUBLIC_MEMBERS[jwk["kty"]])}


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """The SHA-256 thumbprint of a JWK, private or public (RFC 7638). Raises ValueError for another type."""
    kty = jwk.get("kty")
    if not isinstance(kty, str) or kty not in _PUBLIC_MEMBERS:
        raise ValueError("The key type must be EC, OKP or RSA.")
    if not all(isinstance(jwk.get(name), str) for name in _PUBLIC_MEMBERS[kty]):
        raise ValueError("The key lacks a required member.")
    return joserfc_jwk.thumbprint({"kty": kty} | {name: jwk[name] for name in _PUBLIC_MEMBERS[kty]})


def generate_client_key(alg: SigningAlg) -> dict[str, Any]:
    """A new private JWK for a client, with `kid` (its thumbprint), `use` and `alg`."""
    while True:
        private: dict[str, Any] = JWK.generate(**_GENERATED[alg]).export_private(as_dict=True)
        kid = thumbprint(private)
        # A kid is typed at the command line, where a leading "-" would be an option.
        if not kid.startswith("-"):
            return private | {"kid": kid, "use": "sig", "alg": alg.value}


def public_part(jwk: Mapping[str, Any]) -> dict[str, Any]:
    """A JWK without its private members."""
    return {name: value for name, value in jwk.items() if name not in PRIVATE_MEMBERS}


def choose_key(keys: Iterable[VerificationKey], header: Mapping[str, Any]) -> VerificationKey | None:
    """The one key of a set that a header can mean: by `kid`, or without one the only key that fits `alg`.

    A `kid` that names no key, and a missing one where two keys would do, mean none: nothing is tried in turn.
    """
    alg = WIRE.get(header["alg"])
    kid = header.get("kid")
    found = [key for key in keys if alg in key.algorithms and (kid is None or key.kid == kid)]
    return found[0] if len(found) == 1 else None


def nobodys_key(header: Mapping[str, Any]) -> VerificationKey:
    """A key that fits `alg` and whose private part nobody has: to refuse at the price of a verification."""
    return _nobodys_key(WIRE[header["alg"]])


@cache
def _nobodys_key(alg: SigningAlg) -> VerificationKey:
    if _GENERATED[alg]["kty"] != "RSA":
        return import_public_key(public_part(generate_client_key(alg)))
    # Verifying takes any odd modulus, and this one is made in no time.
    modulus = secrets.randbits(2048) | 1 << 2047 | 1
    encoded = base64.urlsafe_b64encode(modulus.to_bytes(256, "big")).rstrip(b"=").decode("ascii")
    return import_public_key({"kty": "RSA", "n": encoded, "e": "AQAB", "alg": alg.value})


def _check_purpose(jwk: Mapping[str, Any]) -> None:
    if jwk.get("use", "sig") != "sig":
        raise ValueError('The key\'s "use" must be "sig".')
    operations = jwk.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError('The key\'s "key_ops" must contain "verify".')


def _kid(jwk: Mapping[str, Any]) -> str | None:
    kid = jwk.get("kid")
    if kid is None and "kid" not in jwk:
        return None
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID or not kid.isprintable():
        raise ValueError(f'The key\'s "kid" must be a printable string of at most {MAX_KID} characters.')
    return kid


def _algorithms(jwk: Mapping[str, Any], kty: str) -> frozenset[SigningAlg]:
    if "alg" not in jwk:
        return OF_KEY_TYPE[kty]
    name = jwk["alg"]
    alg = WIRE.get(name) if isinstance(name, str) else None
    if alg not in OF_KEY_TYPE[kty]:
        raise ValueError('The key\'s "alg" must be ES256, EdDSA, RS256 or PS256, and fit its type.')
    return frozenset({alg})


def _octets(jwk: Mapping[str, Any], name: str, length: int | None = None) -> bytes:
    text = jwk.get(name)
    try:
        octets = base64url(text) if isinstance(text, str) and len(text) <= 2048 else b""
    except Malformed:
        octets = b""
    if not octets or (length is not None and len(octets) != length):
        raise ValueError(f'The key\'s "{name}" is missing or malformed.')
    return octets


def _check_ec(jwk: Mapping[str, Any]) -> None:
    if jwk.get("crv") != "P-256":
        raise ValueError("An EC key must be on the curve P-256.")
    # Whether the point is on the curve is checked when it is imported; the group has no points of low order.
    _octets(jwk, "x", 32)
    _octets(jwk, "y", 32)


def _check_okp(jwk: Mapping[str, Any]) -> None:
    if jwk.get("crv") != "Ed25519":
        raise ValueError("An OKP key must be on the curve Ed25519.")
    # The library takes any 32 bytes; a point of low order verifies signatures nobody made (RFC 8725 §3.4).
    if not _is_sound_ed25519(_octets(jwk, "x", 32)):
        raise ValueError("The Ed25519 key is not a point of the curve's large group.")


def _check_rsa(jwk: Mapping[str, Any]) -> None:
    modulus = int.from_bytes(_octets(jwk, "n"), "big")
    exponent = int.from_bytes(_octets(jwk, "e"), "big")
    if modulus.bit_length() not in RSA_BITS:
        raise ValueError("An RSA key must have 2048 to 8192 bits.")
    if modulus % 2 == 0 or exponent % 2 == 0 or not 65537 <= exponent < 2**32:
        raise ValueError("The RSA modulus and exponent must be odd, the exponent at least 65537.")


def _is_sound_ed25519(encoded: bytes) -> bool:
    """Whether 32 octets are canonical for a curve point whose order is not 1, 2, 4 or 8 (RFC 8032 §5.1.3)."""
    p = _CURVE25519_P
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= p:
        return False
    u, v = (y * y - 1) % p, (_EDWARDS_D * y * y + 1) % p
    square = u * pow(v, -1, p) % p
    if square == 0 and sign:
        return False
    if square and pow(square, (p - 1) // 2, p) != 1:
        return False
    # x = 0: order 1 and 2; y = 0: order 4; x² + y² = 0 doubles to y = 0: order 8.
    return square != 0 and y != 0 and (square + y * y) % p != 0


_CHECKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "EC": _check_ec,
    "OKP": _check_okp,
    "RSA": _check_rsa,
}
