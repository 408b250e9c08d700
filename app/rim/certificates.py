"""Where a request's client certificate comes from (RFC 8705): the TLS connection, or a proxy that is trusted to say so."""

from __future__ import annotations

import base64
import binascii
import ssl
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from cryptography.x509 import load_der_x509_certificate
from flask import Request

from app.clients.certificate import ClientCertificate
from app.errors import InvalidRequest

CERTIFICATE = "deputy.client_certificate"
"""In the WSGI environment. What a client sends becomes `HTTP_…` there, so no header is ever taken for it."""

MAX_HEADER = 16_384
"""Characters of a certificate in a header."""


class OfTheConnection:
    """The certificate of the TLS connection that gunicorn itself terminates. OpenSSL has verified its chain, its time and its key."""

    def __init__(self, application: WSGIApplication) -> None:
        self._application = application

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass the request on."""
        connection = environ.get("gunicorn.socket")
        if isinstance(connection, ssl.SSLSocket) and (der := connection.getpeercert(binary_form=True)):
            environ[CERTIFICATE] = ClientCertificate(der)
        return self._application(environ, start_response)


class OfTheProxy:
    """The certificate that a proxy in front has verified and passes on in a header (RFC 9440, or escaped PEM as nginx does)."""

    def __init__(self, application: WSGIApplication, header: str) -> None:
        self._application = application
        self._name = "HTTP_" + header.upper().replace("-", "_")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass the request on, without the header."""
        if value := environ.pop(self._name, ""):
            environ[CERTIFICATE] = value
        return self._application(environ, start_response)


def client_certificate(request: Request) -> ClientCertificate | None:
    """The client certificate behind a request. Raises InvalidRequest for a header that holds none."""
    found = request.environ.get(CERTIFICATE)
    return _read(found) if isinstance(found, str) else found


def _read(header: str) -> ClientCertificate:
    try:
        if len(header) > MAX_HEADER:
            raise ValueError("too long")
        if header[0] == header[-1] == ":":
            der = base64.b64decode(header[1:-1], validate=True)
        else:
            der = ssl.PEM_cert_to_DER_cert(unquote_to_bytes(header).decode("ascii"))
        load_der_x509_certificate(der)
    except (ValueError, binascii.Error):
        raise InvalidRequest("the proxy's header holds no certificate", layer="client") from None
    return ClientCertificate(der)
