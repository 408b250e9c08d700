"""The client certificate of the TLS connection that a request came over (RFC 8705)."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from hashlib import sha256

from cryptography import x509

from app.vocabulary import Confirmation, ConfirmationMethod

SAN_URI, SAN_DNS = "san_uri", "san_dns"
"""Which name of a certificate is meant (RFC 8705 §2.1.2, `tls_client_auth_san_uri` and `tls_client_auth_san_dns`)."""


@dataclass(frozen=True, slots=True, repr=False)
class ClientCertificate:
    """A certificate whose key was proven in the handshake and whose chain was verified there."""

    der: bytes

    @property
    def confirmation(self) -> Confirmation:
        """What a token is bound to that is bound to it (RFC 8705 §3.1)."""
        thumbprint = base64.urlsafe_b64encode(sha256(self.der).digest()).rstrip(b"=").decode("ascii")
        return Confirmation(ConfirmationMethod.X5T_S256, thumbprint)

    @property
    def names(self) -> frozenset[str]:
        """`san_uri:…` and `san_dns:…` for each subject alternative name of these kinds; the subject itself is not asked."""
        try:
            extensions = x509.load_der_x509_certificate(self.der).extensions
            found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
            return frozenset()
        uris = (f"{SAN_URI}:{name}" for name in found.get_values_for_type(x509.UniformResourceIdentifier))
        return frozenset((*uris, *(f"{SAN_DNS}:{name}" for name in found.get_values_for_type(x509.DNSName))))
