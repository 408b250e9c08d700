"""How an API checks a token: it asks the authorization server about each one (RFC 7662) and answers as RFC 6750 says.

Nothing here knows Deputy; any server with an introspection endpoint will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from flask import Flask, Response, jsonify
from werkzeug.serving import WSGIRequestHandler, make_server

TIMEOUT = 5


class Refused(Exception):
    """The call is not admitted: the status and the challenge say why (RFC 6750 §3)."""

    def __init__(self, status: int, error: str = "", description: str = "", scope: str = "", scheme: str = "Bearer") -> None:
        super().__init__(f"{status} {error}".strip())
        self.status = status
        self.error = error
        self.description = description
        self.scope = scope
        self.scheme = scheme

    @property
    def headers(self) -> dict[str, str]:
        """`WWW-Authenticate`, or when to come back."""
        if self.status == 503:
            return {"Retry-After": "1"}
        said = {"error": self.error, "error_description": self.description, "scope": self.scope}
        parameters = ", ".join(f'{name}="{value}"' for name, value in said.items() if value)
        return {"WWW-Authenticate": f"{self.scheme} {parameters}".strip()}


class Introspection:
    """One API's view of the authorization server. Who cannot be asked about a token has not vouched for it: 503."""

    def __init__(self, server: str, *, resource: str, client_id: str, client_secret: str) -> None:
        self.resource = resource
        self._server = server
        self._credential = (client_id, client_secret)
        self._endpoint = ""

    def admit(self, authorization: str | None, scope: str) -> Mapping[str, Any]:
        """What the server says about the token of an `Authorization` header, if it allows `scope`. Raises `Refused`."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Refused(401)
        found = self.find(token.strip())
        if found is None:
            raise Refused(401, "invalid_token", "The token is not valid here, has expired or was revoked.")
        if scope not in found.get("scope", "").split():
            raise Refused(403, "insufficient_scope", f"This needs {scope}.", scope)
        return found

    def find(self, token: str) -> Mapping[str, Any] | None:
        """What the server says about a live token for this API; None for any other. Raises `Refused` if it cannot be asked."""
        try:
            answer = requests.post(self._discovered(), data={"token": token}, auth=self._credential, timeout=TIMEOUT)
            answer.raise_for_status()
            found = answer.json()
        except (requests.RequestException, ValueError):
            raise Refused(503, "temporarily_unavailable", "The token cannot be checked just now.") from None
        if found.get("active") is not True or found.get("aud") != self.resource:
            return None
        return dict(found)

    def _discovered(self) -> str:
        if not self._endpoint:
            answer = requests.get(self._server + "/.well-known/oauth-authorization-server", timeout=TIMEOUT)
            answer.raise_for_status()
            self._endpoint = str(answer.json()["introspection_endpoint"])
        return self._endpoint


def actors(claims: Mapping[str, Any]) -> list[str]:
    """Who acts, the one at the door first and the one who was asked by the human last (RFC 8693 §4.1)."""
    found, actor = [], claims.get("act")
    while actor:
        found.append(str(actor["sub"]))
        actor = actor.get("act")
    return found


def serve(app: Flask, introspection: Introspection) -> None:
    """Answer at the API's own URI until stopped."""
    app.register_error_handler(Refused, _answer)
    where = urlsplit(introspection.resource)
    make_server(where.hostname or "127.0.0.1", where.port or 80, app, threaded=True, request_handler=_Quiet).serve_forever()


def _answer(refused: Refused) -> tuple[Response, int, dict[str, str]]:
    said = {"error": refused.error, "error_description": refused.description} if refused.error else {}
    return jsonify(said), refused.status, refused.headers


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002  # Werkzeug's name
        """Nothing: a token must not end up in a log by accident."""
