"""Authorities, and certificates of theirs, made for a test (RFC 5280)."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True)
class Held:
    """A certificate with its key, both in one PEM file."""

    path: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def x5t(self) -> str:
        """RFC 8705 §3.1."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.der).digest()).rstrip(b"=").decode()


class Authority:
    """Signs certificates. `path` is its own, for whoever is to trust it."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._own = self._make(name, None, days=(-1, 30), names=(), use=None)
        self.path = directory / f"{name}.crt"
        self.path.write_text(self._own.pem)

    def server(self, name: str = "server") -> Held:
        return self._make(name, self._own, days=(-1, 30), names=(x509.IPAddress(ipaddress.ip_address("127.0.0.1")),), use=SERVER)

    def client(
        self,
        name: str,
        *names: x509.GeneralName,
        days: tuple[int, int] = (-1, 30),
        use: x509.ObjectIdentifier = CLIENT,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> Held:
        return self._make(name, self._own, days=days, names=names, use=use, key=key)

    def _make(
        self,
        name: str,
        issuer: Held | None,
        *,
        days: tuple[int, int],
        names: Sequence[x509.GeneralName],
        use: x509.ObjectIdentifier | None,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> Held:
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Tests"), x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer is not None else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        signer = issuer.key if issuer is not None else key
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if use is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        made = builder.sign(signer, hashes.SHA256())
        path = self._directory / f"{name.replace('/', '_')}.pem"
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(secret + made.public_bytes(Encoding.PEM))
        return Held(path, made, key)
