"""`none`: a public client only names itself (RFC 6749 §2.1)."""

from __future__ import annotations

from app.clients.authentication.context import Authenticating
from app.clients.authentication.credentials import Credentials
from app.clients.client import Client
from app.errors import InvalidClient
from app.live.commit import Once


def verify(_credentials: Credentials, client: Client | None, _context: Authenticating) -> tuple[Once, ...]:
    """There is nothing to prove; PKCE and the code say the rest."""
    if client is None:
        raise InvalidClient("unknown client")
    return ()
