"""Shared secrets of clients: 256 random bits, given out once, kept as a keyed hash (RFC 6749 §2.3.1, RFC 6819 §5.1.4.1)."""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256


def new_secret() -> str:
    """A fresh secret, URL-safe. With this much chance in it a slow hash would protect nothing more."""
    return secrets.token_urlsafe(32)


def hash_secret(secret: str, pepper: bytes) -> str:
    """What is kept: hex HMAC-SHA256 under a key that is not in the database."""
    return hmac.new(pepper, secret.encode("utf-8", "surrogatepass"), sha256).hexdigest()


def verify_secret(secret: str, held: str, pepper: bytes) -> bool:
    """Whether the secret is the one behind the hash, in constant time. An empty hash matches nothing, at the same cost."""
    return hmac.compare_digest(hash_secret(secret, pepper), held or "-" * 64)
