"""Where a browser may go after signing out (OIDC RP-Initiated Logout 1.0 §2, §3)."""

from __future__ import annotations

from app.clients.client import Clients
from app.keys.verifier import JWTRefused
from app.tokens.hints import Hints


class SignOutTargets:
    """Finds the client by its ID token or id, and says yes to a URI registered for it, byte for byte."""

    def __init__(self, clients: Clients, hints: Hints) -> None:
        self._clients = clients
        self._hints = hints

    def find(self, id_token_hint: str, client_id: str, uri: str) -> str | None:
        """That URI if the client registered it, else None. A hint and a `client_id` that disagree name nobody."""
        named = client_id
        if id_token_hint:
            try:
                named = self._hints.read(id_token_hint).client_id
            except JWTRefused:
                return None
            if client_id and client_id != named:
                return None
        # From SQL: no commit would notice that a registration is out of date.
        held = self._clients.reread(named) if named else None
        if held is None or not held.value.enabled or uri not in held.value.post_logout_redirect_uris:
            return None
        return uri
