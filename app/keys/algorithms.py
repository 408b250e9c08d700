"""The JWS algorithms: how each is written in a header, and joserfc's implementation of it.

joserfc's own entry points warn about the name "EdDSA" (RFC 9864 prefers "Ed25519"), cap the header at 512
bytes and parse what we have parsed already; so its algorithms are used directly, over exactly the bytes that
our parser saw.
"""

from __future__ import annotations

from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from app.vocabulary import SigningAlg

PrivateOrPublicKey = ECKey | OKPKey | RSAKey
"""An imported key. Importing is what costs; the object is kept."""

IMPLEMENTATIONS = {alg: JWSRegistry.algorithms[alg.value] for alg in SigningAlg}
"""joserfc's implementation of each algorithm."""

WIRE = {alg.value: alg for alg in SigningAlg} | {"Ed25519": SigningAlg.EDDSA}
"""`alg` header values we understand; "Ed25519" is RFC 9864's name for what RFC 8037 called "EdDSA"."""

OF_KEY_TYPE = {
    "EC": frozenset({SigningAlg.ES256}),
    "OKP": frozenset({SigningAlg.EDDSA}),
    "RSA": frozenset({SigningAlg.RS256, SigningAlg.PS256}),
}
"""Algorithms a key of each `kty` may be used with (RFC 7518 §3.1, RFC 8037 §3.1)."""

CLASSES: dict[str, type[ECKey | OKPKey | RSAKey]] = {"EC": ECKey, "OKP": OKPKey, "RSA": RSAKey}
"""joserfc's class for each `kty`."""
