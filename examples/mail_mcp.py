"""A mail service that is an MCP server. It tells clients where to sign in (RFC 9728) and asks there about each token."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import uvicorn
from anyio.to_thread import run_sync
from configuration import SERVER, registered
from introspecting import Introspection, Refused
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

INBOX = (
    {"from": "Carol Chen", "subject": "Board meeting", "text": "We meet in Lisbon on Thursday. See you there?"},
    {"from": "Hotel Alfama", "subject": "Your stay", "text": "Check-in is from 15:00."},
)


class Asking(TokenVerifier):
    """The SDK's way to check a token, by introspection."""

    def __init__(self, introspection: Introspection) -> None:
        self._introspection = introspection

    async def verify_token(self, token: str) -> AccessToken | None:
        """What the server says about it; None is answered by 401 and the challenge."""
        found = await run_sync(self._introspection.find, token)
        if found is None:
            return None
        return AccessToken(
            token=token,
            client_id=found["client_id"],
            scopes=found.get("scope", "").split(),
            expires_at=found["exp"],
            resource=found["aud"],
            subject=found["sub"],
            claims=dict(found),
        )


class FailsClosed:
    """503 while the server cannot be asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        try:
            await self._app(scope, receive, send)
        except Refused as refused:
            body = {"error": refused.error, "error_description": refused.description}
            await JSONResponse(body, refused.status, refused.headers)(scope, receive, send)


def create_app(introspection: Introspection, server: str) -> Starlette:
    """The MCP server at its path, and its metadata under `/.well-known/oauth-protected-resource`."""
    mail = MCPServer(
        "mail",
        log_level="WARNING",
        token_verifier=Asking(introspection),
        auth=AuthSettings(
            issuer_url=server,  # type: ignore[arg-type]  # pydantic makes a URL of it
            resource_server_url=introspection.resource,  # type: ignore[arg-type]
            required_scopes=["mail:read"],
            validate_token_resource=True,
        ),
    )

    @mail.tool()
    def inbox() -> dict[str, Any]:
        """What came in."""
        return {"messages": list(INBOX)}

    @mail.tool()
    def send(to: str, subject: str, text: str) -> dict[str, Any]:
        """Send a message in the name of the person who signed in."""
        caller = get_access_token()
        if caller is None or "mail:send" not in caller.scopes:
            raise ToolError("insufficient_scope: this needs mail:send")
        return {"sent": subject, "to": to}

    app = mail.streamable_http_app(stateless_http=True, json_response=True)
    app.add_middleware(FailsClosed)
    return app


if __name__ == "__main__":
    gate = Introspection(SERVER, **registered("mail"))
    where = urlsplit(gate.resource)
    uvicorn.run(create_app(gate, SERVER), host=where.hostname or "127.0.0.1", port=where.port or 80, log_level="warning")
