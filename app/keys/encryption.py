"""Encryption at rest under the key-encryption key, and the secrets derived from it."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jwcrypto.common import JWException, base64url_encode
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from app.errors import ConfigurationError
from app.settings import Settings

ALGORITHMS = ("A256KW", "A256GCM")
PROTECTED = '{"alg":"A256KW","enc":"A256GCM","cty":"jwk+json"}'
KEY_BYTES = 32


class CannotOpen(Exception):
    """What was sealed is damaged, or was sealed under another key-encryption key."""


class KeyEncryption:
    """Seals and opens private keys with the key-encryption key, and derives secrets from it."""

    def __init__(self, kek: bytes) -> None:
        if len(kek) != KEY_BYTES:
            raise ConfigurationError("the key-encryption key must be 32 bytes in base64url")
        self._kek = kek
        self._jwk = JWK(kty="oct", k=base64url_encode(kek))

    def __repr__(self) -> str:
        return "KeyEncryption(…)"

    def seal(self, plaintext: bytes) -> str:
        """A compact JWE of a private JWK: A256KW, A256GCM, `cty` jwk+json (RFC 7516, RFC 7517 §7)."""
        sealed = JWE(plaintext, PROTECTED, algs=list(ALGORITHMS))
        sealed.add_recipient(self._jwk)
        return str(sealed.serialize(compact=True))

    def open(self, sealed: str) -> bytes:
        """The inverse of `seal`. Raises `CannotOpen`."""
        token = JWE(algs=list(ALGORITHMS))
        try:
            token.deserialize(sealed, self._jwk)
        except (JWException, ValueError, TypeError):
            raise CannotOpen("a private key cannot be opened with this key-encryption key") from None
        return bytes(token.payload)

    def derive(self, purpose: str, length: int = KEY_BYTES) -> bytes:
        """A secret of `length` bytes for one purpose, always the same: HKDF with SHA-256 (RFC 5869)."""
        info = b"deputy:" + purpose.encode()
        return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info).derive(self._kek)


def ensure_own_key(settings: Settings) -> None:
    """Development only: make a key-encryption key in `settings.own_key_file` when there is none at all.

    Raises `ConfigurationError` when the file can be read by others.
    """
    configured = settings.key_encryption_key.get_secret_value() or settings.key_encryption_key_file is not None
    if configured or settings.environment != "development":
        return
    path = settings.own_key_file
    if not path.exists():
        _write_new(path, base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).rstrip(b"=") + b"\n")
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(f"others can read {path}: chmod 600 it")


def _write_new(path: Path, content: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # Linking is the exclusive step: two processes agree on one key, and nobody reads half of it.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
