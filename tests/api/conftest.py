"""Callers of the API: agents as themselves, and people through an application."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.world import Answer, Api, Party, Person, World, bearer

ALL = ("own:read", "own:write", "admin:read", "admin:write", "kill")


@dataclass
class Callers:
    """Speaks to the API of a world."""

    world: World

    @property
    def api(self) -> Api:
        """The API as agents and applications are given scopes at."""
        row = self.world.server.resource_registry.get(self.world.issuer + "/api/v1")
        return Api(row.uri, row.id, row.client_id, "")

    def machine(self, *scopes: str, owner: Person | None = None) -> tuple[Party, str]:
        """An agent with these scopes of its own, and its token."""
        agent = self.world.agent(owner or self.world.human(), own=[(self.api, scope) for scope in scopes])
        return agent, self.own(agent)

    def own(self, agent: Party) -> str:
        return str(self.world.own_token(agent, resource=self.api.uri).ok()["access_token"])

    def person(self, human: Person, *scopes: str) -> str:
        """The token of a human who signed in at an application."""
        app = self.world.app(pairs=[(self.api, scope) for scope in scopes])
        browser = self.world.signed_in(human)
        return str(self.world.consented(browser, app, self.api, scope=" ".join(scopes))["access_token"])

    def get(self, path: str, token: str | None = None, **query: str | int) -> Answer:
        asked = "?" + urlencode(query) if query else ""
        return self.world.get(f"/api/v1{path}{asked}", bearer(token) if token else {})

    def post(self, path: str, token: str | None = None, body: Mapping[str, Any] | bytes | None = None, **headers: str) -> Answer:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json"} if data is not None else {}
        return self.world.http.send("POST", f"/api/v1{path}", data, {**sent, **(bearer(token) if token else {}), **headers})


@pytest.fixture
def callers(world: World) -> Callers:
    return Callers(world)
