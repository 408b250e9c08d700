"""`client_secret_basic` and `client_secret_post` (RFC 6749 §2.3.1)."""

from __future__ import annotations

from app.clients.authentication.context import Authenticating
from app.clients.authentication.credentials import Credentials
from app.clients.client import Client
from app.clients.secrets import verify_secret
from app.errors import InvalidClient
from app.live.commit import Once


def verify(credentials: Credentials, client: Client | None, context: Authenticating) -> tuple[Once, ...]:
    """The secret is the client's and has not expired. The same work when there is no such client."""
    held = client.secret_hash if client is not None else ""
    good = verify_secret(credentials.proof, held, context.pepper)
    if client is None or not good:
        raise InvalidClient("unknown client or wrong secret")
    if client.secret_expires_at and client.secret_expires_at <= context.now:
        raise InvalidClient("the secret has expired")
    return ()
