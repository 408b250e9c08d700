"""The executive assistant: asks its human once, then takes for each piece of work a token that is good for just that."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from agent import ACCESS_TOKEN, CIBA, CONSENT, Agent
from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuthError
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

SCOPE = "calendar:read travel:search travel:book mail:read mail:send offline_access"


class Assistant(Agent):
    """The assistant."""

    def __init__(self) -> None:
        super().__init__("assistant")
        self.calendar: str = self.registered["calendar"]
        self.travel: str = self.registered["travel"]
        self.mail: str = self.registered["mail"]
        self.booking_agent: str = self.registered["booking_agent"]
        self.hand_over_token = ""
        self.refresh_token = ""
        self.consent = ""

    # Asking

    def ask(self, redirect_uri: str) -> str:
        """Where to send the human's browser: code with PKCE, for three APIs at once (RFC 8707)."""
        self.session.redirect_uri = redirect_uri
        self._verifier = generate_token(64)
        url, self._state = self.session.create_authorization_url(
            self.server["authorization_endpoint"],
            code_verifier=self._verifier,
            scope=SCOPE,
            resource=[self.calendar, self.travel, self.mail],
        )
        return str(url)

    def welcome(self, callback: str) -> dict[str, Any]:
        """The browser came back: redeem the code. Raises `OAuthError`, also when the human said no."""
        said = {name: values[0] for name, values in parse_qs(urlsplit(callback).query).items()}
        if said.get("iss") != self.server["issuer"] or said.get("state") != self._state:
            raise OAuthError("mix_up", "The answer is not from the server that was asked (RFC 9207).")
        if "error" in said:
            raise OAuthError(said["error"], said.get("error_description"))
        answer = self.session.fetch_token(code=said["code"], code_verifier=self._verifier, grant_type="authorization_code")
        self.hand_over_token, self.consent = answer["access_token"], answer["consent_id"]
        self.refresh_token = answer.get("refresh_token", "")
        return dict(answer)

    # Tokens of minutes

    def token(self, api: str, scope: str, *, alone: bool = False) -> str:
        """For one API."""
        return str(self.exchange(*self._held(alone), resource=api, scope=scope)["access_token"])

    def approved(self, asked: dict[str, Any], patience: float) -> str:
        """The token for which it had to ask, once its human has said yes (OIDC CIBA, polled). Raises `OAuthError` when she says no."""
        interval, end = asked["interval"], time.monotonic() + patience
        while True:
            try:
                return str(self.session.fetch_token(grant_type=CIBA, auth_req_id=asked["auth_req_id"])["access_token"])
            except OAuthError as refusal:
                if refusal.error not in {"authorization_pending", "slow_down"} or time.monotonic() > end:
                    raise
                interval += 5 * (refusal.error == "slow_down")
            time.sleep(interval)

    def hand_over(self, scope: str, *, alone: bool = False) -> str:
        """A piece of the work for the booking agent: a token that only it can go on with."""
        return str(self.exchange(*self._held(alone), audience=self.booking_agent, scope=scope)["access_token"])

    def _held(self, alone: bool) -> tuple[str, str]:
        """What the sign-in gave, good for minutes; or the consent, which is good while the human is away. The key is the proof."""
        return (self.consent, CONSENT) if alone else (self.hand_over_token, ACCESS_TOKEN)

    def refresh(self) -> None:
        """The other way to come back alone. Raises `OAuthError`."""
        self.session.refresh_token(refresh_token=self.refresh_token)

    # Work

    def agenda(self, token: str) -> list[dict[str, str]]:
        """The appointments."""
        return list(self.call(token, "GET", f"{self.calendar}/events")["events"])

    def offers(self, token: str, to: str, kind: str) -> list[dict[str, str]]:
        """What the travel agency has."""
        return list(self.call(token, "GET", f"{self.travel}/offers", params={"to": to, "kind": kind})["offers"])

    def book(self, token: str, offer: str) -> dict[str, Any]:
        """Book it."""
        return self.call(token, "POST", f"{self.travel}/bookings", data={"offer": offer})

    def use_mail(self, token: str, tool: str, **arguments: str) -> tuple[bool, Any]:
        """Call a tool of the mail service over MCP: whether it did it, and what it said."""

        async def call() -> tuple[bool, Any]:
            async with (
                httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http,
                Client(streamable_http_client(self.mail, http_client=http)) as client,
            ):
                result = await client.call_tool(tool, arguments)
                return not result.is_error, result.structured_content or getattr(result.content[0], "text", "")

        return asyncio.run(call())
