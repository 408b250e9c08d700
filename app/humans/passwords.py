"""Argon2id for the passwords of people (RFC 9106), with OWASP's parameters: 19 MiB, two passes, one lane."""

from __future__ import annotations

import secrets
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from app.errors import Refused

MEMORY, PASSES = 19 * 1024, 2
"""KiB, and how often they are gone through."""

SHORTEST = 8
LONGEST = 1024
"""Characters. Beyond it a password would only be a way to keep the server busy."""


class Passwords:
    """Makes and verifies password hashes; verifying against nobody's costs the same."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY, parallelism=1)
        self._nobody = self._hasher.hash(secrets.token_urlsafe(16))

    def hash(self, password: str) -> str:
        """The encoded hash. Raises `Refused` with a sentence when the password is too short, too long or malformed."""
        if not SHORTEST <= len(password) <= LONGEST:
            raise Refused(f"a password has {SHORTEST} to {LONGEST} characters")
        if any(unicodedata.category(char) in {"Cc", "Cs"} for char in password):
            raise Refused("a password holds no control characters")
        return self._hasher.hash(_bytes(password))

    def verify(self, encoded: str | None, password: str) -> bool:
        """Whether the password is the one behind `encoded`. None, for nobody, is False after the same work."""
        presented = _bytes(password) if len(password) <= LONGEST else b""
        try:
            good = self._hasher.verify(encoded or self._nobody, presented)
        except (VerificationError, InvalidHashError):
            return False
        return good and encoded is not None and len(password) <= LONGEST

    def outdated(self, encoded: str) -> bool:
        """Whether the hash was made with other parameters and should be made anew at the next sign-in."""
        return self._hasher.check_needs_rehash(encoded)


def _bytes(password: str) -> bytes:
    """NFC (RFC 8265 §4.2.2): the same keys on two keyboards are the same password."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")
