"""A stock MCP client. The SDK finds the authorization server, sends the browser there and signs in; nothing is added to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from anyio.to_thread import run_sync
from configuration import registered
from loopback import Loopback
from mcp import Client
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken


class Memory(TokenStorage):
    """What the SDK keeps: the client's registration, made beforehand by an operator, and the tokens."""

    def __init__(self, client: OAuthClientInformationFull) -> None:
        self.client = client
        self.tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        """The tokens, once there are some."""
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Keep them."""
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull:
        """The registration."""
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Keep another; the SDK does after registering by itself."""
        self.client = client_info


async def use_mail(browse: Callable[[str], None], seen: Callable[[httpx2.Response], None], seconds: float) -> dict[str, Any]:
    """Sign in, read the mail, try to send some. `seen` hears of every answer; returns what came of it."""
    me = registered("mcp-client")
    loopback = Loopback()
    about = {"redirect_uris": [loopback.uri], "token_endpoint_auth_method": "none"}
    storage = Memory(OAuthClientInformationFull.model_validate({"client_id": me["client_id"], **about}))

    async def answered() -> AuthorizationCodeResult:
        callback = await run_sync(loopback.wait, seconds)
        said = {name: values[0] for name, values in parse_qs(urlsplit(callback).query).items()}
        return AuthorizationCodeResult(code=said.get("code", ""), state=said.get("state"), iss=said.get("iss"))

    async def hear(answer: httpx2.Response) -> None:
        seen(answer)

    async def go(url: str) -> None:
        await run_sync(browse, url)

    provider = OAuthClientProvider(
        me["mail"],
        OAuthClientMetadata.model_validate(about),
        storage,
        redirect_handler=go,
        callback_handler=answered,
    )
    async with (
        httpx2.AsyncClient(auth=provider, event_hooks={"response": [hear]}, timeout=seconds) as http,
        Client(streamable_http_client(me["mail"], http_client=http)) as client,
    ):
        tools = await client.list_tools()
        inbox = await client.call_tool("inbox", {})
        sent = await client.call_tool("send", {"to": "Carol Chen", "subject": "Lisbon", "text": "Yes."})
    return {
        "token": storage.tokens.access_token if storage.tokens else "",
        "tools": [tool.name for tool in tools.tools],
        "inbox": inbox.structured_content,
        "sent": not sent.is_error,
        "said": getattr(sent.content[0], "text", ""),
    }
