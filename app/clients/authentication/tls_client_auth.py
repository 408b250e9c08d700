"""`tls_client_auth`: the certificate of the connection has the one name that is registered (RFC 8705 §2.1)."""

from __future__ import annotations

from app.clients.authentication.context import Authenticating
from app.clients.authentication.credentials import Credentials
from app.clients.client import Client
from app.errors import InvalidClient
from app.live.commit import Once


def verify(credentials: Credentials, client: Client | None, _context: Authenticating) -> tuple[Once, ...]:
    """The name is compared in its letters; the handshake has verified the rest. The same work when there is no such client."""
    names = credentials.certificate.names if credentials.certificate is not None else frozenset()
    if client is None or not client.certificate_name or client.certificate_name not in names:
        raise InvalidClient("unknown client, or not a certificate of its name")
    return ()
