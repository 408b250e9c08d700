"""The files that the port for client certificates needs (RFC 8705): whether they can be used, and until when."""

from __future__ import annotations

import ssl

from cryptography.x509 import load_pem_x509_certificates

from app.errors import ConfigurationError
from app.settings import Settings


def last_day(settings: Settings) -> int:
    """Seconds since 1970 until which all of them are good, loaded as gunicorn loads them. Raises `ConfigurationError`."""
    files = (settings.mtls_certificate, settings.mtls_client_ca)
    if files[0] is None or files[1] is None:
        raise ConfigurationError("DEPUTY_MTLS_CERTIFICATE or DEPUTY_MTLS_CLIENT_CA is not set")
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files[1])
        # A key with a password would stop and ask for it.
        context.load_cert_chain(files[0], settings.mtls_key, password=lambda: b"")
        certificates = [one for path in files if path is not None for one in load_pem_x509_certificates(path.read_bytes())]
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"DEPUTY_MTLS_CERTIFICATE, DEPUTY_MTLS_KEY or DEPUTY_MTLS_CLIENT_CA cannot be used: {error}") from None
    if not context.get_ca_certs():
        raise ConfigurationError("DEPUTY_MTLS_CLIENT_CA holds no certificate of an authority")
    return min(int(one.not_valid_after_utc.timestamp()) for one in certificates)
