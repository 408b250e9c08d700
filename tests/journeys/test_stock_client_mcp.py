"""The MCP SDK's client, unmodified, at an MCP server that asks Deputy about every token (RFC 9728, RFC 8707, RFC 9207)."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx2
import pytest
import requests
import uvicorn
from anyio.to_thread import run_sync
from mcp import Client
from mcp.client.auth import OAuthClientProvider, TokenStorage
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.provider import AccessToken, TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from tests.world import BY, Api, Browser, Party, Person, World, claims_of

TIMEOUT = 30


class Asking(TokenVerifier):
    """The SDK's way to check a token: by introspection, with the credential of the resource."""

    def __init__(self, endpoint: str, api: Api) -> None:
        self._endpoint = endpoint
        self._api = api
        self.asked = 0

    async def verify_token(self, token: str) -> AccessToken | None:
        self.asked += 1
        found = await run_sync(self._introspect, token)
        if not found["active"]:
            return None
        return AccessToken(
            token=token, client_id=found["client_id"], scopes=found["scope"].split(), expires_at=found["exp"], resource=found["aud"], subject=found["sub"]
        )  # fmt: skip

    def _introspect(self, token: str) -> dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False
            credential = (self._api.client_id, self._api.client_secret)
            answer = session.post(self._endpoint, data={"token": token}, auth=credential, timeout=TIMEOUT)
            found: dict[str, Any] = answer.json()
            return found


@dataclass
class Memory(TokenStorage):
    """What the SDK keeps: the registration an operator made beforehand, and the tokens."""

    client: OAuthClientInformationFull
    tokens: OAuthToken | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


@dataclass
class Story:
    world: World
    alice: Person
    api: Api
    app: Party
    browser: Browser
    verifier: Asking
    storage: Memory
    pages: int = 0

    def provider(self) -> OAuthClientProvider:
        """The SDK's own flow; the human is played where it opens a browser."""
        came: dict[str, str] = {}

        async def go(url: str) -> None:
            came.update(await run_sync(self.browse, url))

        async def back() -> AuthorizationCodeResult:
            return AuthorizationCodeResult(code=came["code"], state=came["state"], iss=came["iss"])

        about = {"redirect_uris": [self.app.redirect_uri], "token_endpoint_auth_method": "none"}
        return OAuthClientProvider(
            self.api.uri, OAuthClientMetadata.model_validate(about), self.storage, redirect_handler=go, callback_handler=back
        )

    def browse(self, url: str) -> dict[str, str]:
        self.pages += 1
        page = self.browser.authorize(parse_qsl(urlsplit(url).query))
        answer = self.browser.decide(page, away=True)
        assert answer.status == 303, answer.text
        found = parse_qs(urlsplit(answer.headers["Location"]).query)
        return {name: values[0] for name, values in found.items()}

    async def read(self, provider: OAuthClientProvider) -> Any:
        """Call the tool."""
        async with (
            httpx2.AsyncClient(auth=provider, timeout=TIMEOUT, trust_env=False) as http,
            Client(streamable_http_client(self.api.uri, http_client=http)) as client,
        ):
            assert [tool.name for tool in (await client.list_tools()).tools] == ["inbox"]
            return (await client.call_tool("inbox", {})).structured_content


@pytest.fixture
def story(world: World) -> Iterator[Story]:
    listening = socket.create_server(("127.0.0.1", 0))
    uri = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
    alice, api = world.human(), world.resource("mail:read", "mail:send", uri=uri, name="The mail")
    verifier = Asking(world.issuer + "/oauth/introspect", api)
    mail = MCPServer(
        "mail",
        log_level="ERROR",
        token_verifier=verifier,
        auth=AuthSettings(
            issuer_url=world.issuer,  # type: ignore[arg-type]
            resource_server_url=uri,  # type: ignore[arg-type]
            required_scopes=["mail:read"],
            validate_token_resource=True,
        ),
    )

    @mail.tool()
    def inbox() -> dict[str, Any]:
        """What came in."""
        return {"messages": ["See you on Thursday"]}

    serving = uvicorn.Server(uvicorn.Config(mail.streamable_http_app(stateless_http=True, json_response=True), log_level="error"))
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not serving.started:
        time.sleep(0.02)
    redirect = "http://127.0.0.1:49152/callback"
    app = world.app(pairs=[(api, "mail:read")], auth="none", native=True, redirect_uris=("http://127.0.0.1/callback",))
    about = {"client_id": app.client_id, "redirect_uris": [redirect], "token_endpoint_auth_method": "none"}
    storage = Memory(OAuthClientInformationFull.model_validate(about))
    yield Story(world, alice, api, replace(app, redirect_uri=redirect), world.signed_in(alice), verifier, storage)
    serving.should_exit = True
    thread.join(10)
    listening.close()


def test_the_sdk_finds_its_way_from_the_challenge_to_the_tool(story: Story) -> None:
    provider = story.provider()
    assert asyncio.run(story.read(provider)) == {"messages": ["See you on Thursday"]}
    assert story.pages == 1
    assert story.verifier.asked
    tokens = story.storage.tokens
    assert tokens is not None
    claims = claims_of(tokens.access_token)
    assert claims["aud"] == story.api.uri
    assert claims["sub"] == story.alice.id
    assert claims["client_id"] == story.app.client_id
    assert claims["scope"] == "mail:read"
    assert story.world.introspect(story.api, tokens.access_token)["active"] is True
    # What it found on the way.
    found = provider.context.oauth_metadata
    assert found is not None
    assert str(found.issuer).rstrip("/") == story.world.issuer
    assert found.code_challenge_methods_supported == ["S256"]


def test_the_sdk_refreshes_and_goes_on(story: Story) -> None:
    provider = story.provider()
    asyncio.run(story.read(provider))
    first = story.storage.tokens
    assert first is not None
    assert first.refresh_token
    provider.context.token_expiry_time = time.time() - 1
    assert asyncio.run(story.read(provider)) == {"messages": ["See you on Thursday"]}
    second = story.storage.tokens
    assert second is not None
    assert second.access_token != first.access_token
    assert second.refresh_token != first.refresh_token
    assert story.pages == 1
    assert claims_of(second.access_token)["aud"] == story.api.uri
    assert story.world.active(story.api, second.access_token)


def test_after_revocation_the_sdk_asks_the_human_again(story: Story) -> None:
    provider = story.provider()
    asyncio.run(story.read(provider))
    tokens = story.storage.tokens
    assert tokens is not None
    assert tokens.refresh_token is not None
    assert story.world.revoke(story.app, tokens.refresh_token).status == 200
    assert not story.world.active(story.api, tokens.access_token)
    assert asyncio.run(story.read(provider)) == {"messages": ["See you on Thursday"]}
    assert story.pages == 2
    again = story.storage.tokens
    assert again is not None
    assert story.world.active(story.api, again.access_token)


def test_a_withdrawn_consent_ends_it_in_the_middle(story: Story) -> None:
    provider = story.provider()
    asyncio.run(story.read(provider))
    (consent,) = story.world.server.consents.standing(story.alice.id, story.app.client_id)
    story.world.server.consents.withdraw(consent.value.id, by=BY)
    tokens = story.storage.tokens
    assert tokens is not None
    headers = {"Authorization": f"Bearer {tokens.access_token}", "Accept": "application/json, text/event-stream"}
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(story.api.uri, json={}, headers=headers, timeout=TIMEOUT)
    assert answer.status_code == 401
    assert "resource_metadata=" in answer.headers["WWW-Authenticate"]


def test_a_token_for_another_resource_is_not_taken(story: Story) -> None:
    world = story.world
    other = world.resource("mail:read")
    app = world.app(pairs=[(other, "mail:read")])
    token = world.consented(story.browser, app, other, scope="mail:read")["access_token"]
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(story.api.uri, json={}, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT)
    assert answer.status_code == 401
