"""Makes JWTs that no honest library would: any header and payload bytes, truly signed or not at all."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from app.keys.jwk import VerificationKey, generate_client_key, import_public_key, public_part
from app.keys.signer import SigningKey, Unsigned, import_signing_key
from app.vocabulary import SigningAlg


def encode(octets: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def serialise(value: Any) -> bytes:
    """Bytes as they are, anything else as JSON."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def forge(header: Any, payload: Any, key: SigningKey | None = None, *, signature: str = "c2ln") -> str:
    """A compact JWS of these bytes, truly signed where a key is given."""
    signing_input = encode(serialise(header)) + "." + encode(serialise(payload))
    return f"{signing_input}.{signature}" if key is None else Unsigned(signing_input.encode(), key).sign()


def pair(alg: SigningAlg, **members: Any) -> tuple[SigningKey, VerificationKey, Mapping[str, Any]]:
    """A fresh key to sign with, its public part to verify with, and that as a JWK."""
    private = generate_client_key(alg) | members
    public = public_part(private)
    return import_signing_key(private, alg), import_public_key(public), public
