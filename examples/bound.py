"""How an API checks that whoever sends a bound token holds what it is bound to: a key (RFC 9449 §7) or a certificate (RFC 8705 §3).

After introspection has said that the token is alive, and for this API. Nothing here knows Deputy.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import import_key

from examples.introspecting import Refused

ALGORITHMS = ["ES256", "EdDSA", "RS256", "PS256"]
MAX_AGE = 60
"""Seconds a proof is good for."""
AHEAD = 5
"""Seconds a caller's clock may be ahead."""


@dataclass(frozen=True)
class Call:
    """A call as it came in: how the token was sent, with which proofs, over a connection with which certificate (DER)."""

    method: str
    url: str
    """Without query and fragment, as callers know it."""
    scheme: str
    token: str
    proofs: Sequence[str] = ()
    """Every `DPoP` header."""
    certificate: bytes | None = None


class Holders:
    """Checks bindings, and remembers the proofs it has seen: with several processes, in a store that all of them share."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}

    def check(self, claims: Mapping[str, Any], call: Call) -> None:
        """Whether the caller holds what the token is bound to. `claims`: the introspection answer. Raises `Refused`."""
        cnf = claims.get("cnf") or {}
        if "jkt" in cnf:
            self._check_key(cnf["jkt"], call)
        elif "x5t#S256" in cnf:
            _check_certificate(cnf["x5t#S256"], call)
        elif cnf or call.scheme.lower() != "bearer":
            # Bound in a way that nobody here can check, or sent as if it were bound.
            raise _refused("invalid_token", call)

    def _check_key(self, jkt: str, call: Call) -> None:
        if call.scheme.lower() != "dpop":
            raise _refused("invalid_token", call)
        if len(call.proofs) != 1:
            raise _refused("invalid_dpop_proof", call)
        try:
            identifier, made = _verified(call.proofs[0], jkt, call)
        except (JoseError, ValueError, TypeError, KeyError):
            raise _refused("invalid_dpop_proof", call) from None
        now = time.time()
        self._seen = {one: until for one, until in self._seen.items() if until > now}
        if identifier in self._seen:
            raise _refused("invalid_dpop_proof", call)
        self._seen[identifier] = made + MAX_AGE + AHEAD


def _verified(proof: str, jkt: str, call: Call) -> tuple[str, int]:
    """RFC 9449 §4.3: a name for the proof and when it was made. Raises ValueError and the like for one that is not good."""
    header = jws.extract_compact(proof.encode()).headers()
    key = import_key(header["jwk"])
    if header.get("typ") != "dpop+jwt" or key.is_private or key.thumbprint() != jkt:
        raise ValueError("not a proof of this key")
    claims = jwt.decode(proof, key, algorithms=ALGORITHMS).claims
    if (claims["htm"], claims["htu"], claims["ath"]) != (call.method, call.url, _digest(call.token.encode())):
        raise ValueError("a proof for something else")
    made, identifier = claims["iat"], claims["jti"]
    if not isinstance(made, int) or not isinstance(identifier, str) or not -MAX_AGE <= made - time.time() <= AHEAD:
        raise ValueError("not of now")
    return f"{jkt} {identifier}", made


def _check_certificate(x5t: str, call: Call) -> None:
    if call.scheme.lower() != "bearer" or call.certificate is None or _digest(call.certificate) != x5t:
        raise _refused("invalid_token", call)


def _digest(octets: bytes) -> str:
    """SHA-256 in base64url: `ath` of a token (RFC 9449 §4.2), `x5t#S256` of a certificate (RFC 8705 §3.1)."""
    return base64.urlsafe_b64encode(hashlib.sha256(octets).digest()).rstrip(b"=").decode()


def _refused(error: str, call: Call) -> Refused:
    return Refused(401, error, "The token is bound to something that this call does not prove.", scheme=_challenge(call))


def _challenge(call: Call) -> str:
    return f'DPoP algs="{" ".join(ALGORITHMS)}",' if call.scheme.lower() == "dpop" else "Bearer"
