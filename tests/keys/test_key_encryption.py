"""Encryption at rest, derived secrets, and the key-encryption key that development makes for itself."""

from __future__ import annotations

import base64
import json
import stat
import threading
from pathlib import Path

import pytest

from app.errors import ConfigurationError
from app.keys.encryption import CannotOpen, KeyEncryption, ensure_own_key
from app.settings import Settings, load_settings, read_key_encryption_key

KEK = bytes(range(32))


def test_what_is_sealed_opens_under_the_same_key_only() -> None:
    sealed = KeyEncryption(KEK).seal(b"private")
    assert KeyEncryption(KEK).open(sealed) == b"private"
    with pytest.raises(CannotOpen):
        KeyEncryption(KEK[::-1]).open(sealed)


def test_the_same_thing_sealed_twice_looks_different() -> None:
    encryption = KeyEncryption(KEK)
    assert encryption.seal(b"private") != encryption.seal(b"private")


def test_each_part_of_what_is_sealed_is_authenticated() -> None:
    encryption = KeyEncryption(KEK)
    parts = encryption.seal(b'{"kty":"EC"}').split(".")
    for index, part in enumerate(parts):
        changed = part[:5] + ("A" if part[5] != "A" else "B") + part[6:]
        with pytest.raises(CannotOpen):
            encryption.open(".".join([*parts[:index], changed, *parts[index + 1 :]]))


@pytest.mark.parametrize("sealed", ["", "a.b.c.d.e", "not a jwe", "{}", "....", "\u00e9", "[1]"])
def test_what_was_never_sealed_does_not_open(sealed: str) -> None:
    with pytest.raises(CannotOpen):
        KeyEncryption(KEK).open(sealed)


def test_another_algorithm_or_compression_does_not_open() -> None:
    from jwcrypto.jwe import JWE
    from jwcrypto.jwk import JWK

    key = JWK(kty="oct", k=base64.urlsafe_b64encode(KEK).rstrip(b"=").decode())
    for protected in (
        {"alg": "dir", "enc": "A256GCM"},
        {"alg": "A256KW", "enc": "A256CBC-HS512"},
        {"alg": "A256GCMKW", "enc": "A256GCM"},
    ):
        token = JWE(b"private", json.dumps(protected))
        token.add_recipient(key)
        with pytest.raises(CannotOpen):
            KeyEncryption(KEK).open(token.serialize(compact=True))


def test_derived_secrets_differ_by_purpose_and_key_and_are_stable() -> None:
    encryption = KeyEncryption(KEK)
    secrets = {encryption.derive(purpose) for purpose in ("cookie", "pepper", "")}
    assert len(secrets) == 3
    assert all(len(secret) == 32 for secret in secrets)
    assert encryption.derive("cookie", 64)[:32] == encryption.derive("cookie") == KeyEncryption(KEK).derive("cookie")
    assert KeyEncryption(KEK[::-1]).derive("cookie") not in secrets
    assert KEK not in secrets
    # RFC 5869 with SHA-256, no salt; computed with another implementation of HKDF.
    from cryptography.hazmat.primitives import hashes, hmac

    extract = hmac.HMAC(bytes(32), hashes.SHA256())
    extract.update(KEK)
    expand = hmac.HMAC(extract.finalize(), hashes.SHA256())
    expand.update(b"deputy:cookie\x01")
    assert encryption.derive("cookie") == expand.finalize()


def test_the_key_has_no_repr_and_must_be_32_bytes() -> None:
    assert repr(KeyEncryption(KEK)) == "KeyEncryption(…)"
    for wrong in (b"", KEK[:16], KEK + b"\0"):
        with pytest.raises(ConfigurationError):
            KeyEncryption(wrong)


def development(keys_dir: Path, **more: object) -> Settings:
    return load_settings(environment="development", keys_dir=keys_dir, **more)


def test_development_makes_its_own_key_once_and_for_its_owner_only(tmp_path: Path) -> None:
    settings = development(tmp_path / "new" / "keys")
    ensure_own_key(settings)
    first = read_key_encryption_key(settings)
    ensure_own_key(settings)
    assert read_key_encryption_key(settings) == first
    assert len(first) == 32
    assert stat.S_IMODE(settings.own_key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.keys_dir.stat().st_mode) == 0o700
    assert [path.name for path in settings.keys_dir.iterdir()] == [settings.own_key_file.name]


def test_many_processes_at_once_agree_on_one_key(tmp_path: Path) -> None:
    settings = development(tmp_path)
    barrier = threading.Barrier(8)
    found: list[bytes] = []

    def start() -> None:
        barrier.wait()
        ensure_own_key(settings)
        found.append(read_key_encryption_key(settings))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    settings = development(tmp_path)
    ensure_own_key(settings)
    settings.own_key_file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        ensure_own_key(settings)


def test_no_key_is_made_where_one_is_configured_or_in_production(tmp_path: Path) -> None:
    text = base64.urlsafe_b64encode(KEK).decode()
    ensure_own_key(development(tmp_path, key_encryption_key=text))
    ensure_own_key(development(tmp_path, key_encryption_key_file=tmp_path / "elsewhere"))
    more = {"issuer": "https://as.example", "allow_embedded": True}
    ensure_own_key(load_settings(environment="production", keys_dir=tmp_path, key_encryption_key=text, **more))
    assert list(tmp_path.iterdir()) == []
