"""Decisions about calls when something is wrong: a ledger that is behind stops them alone, and what was lost permits nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from app.live.generation import CALLS, STREAM
from tests.faults.alone import Alone
from tests.world import CONSENT, Answer, Api, Party, again, basic

ACTION = {"action": {"name": "read"}, "resource": {"type": "file", "id": "f-1"}}


class Scene:
    """An API, an agent, a token for it."""

    def __init__(self, made: Alone) -> None:
        world = made.world
        alice = world.human()
        self.made, self.world = made, world
        self.api: Api = world.resource("read")
        self.agent: Party = world.agent(alice, ceiling=[(self.api, "read")], auth="client_secret_basic", jwks=None)
        self.consent = world.consented(world.signed_in(alice), self.agent, self.api, away=True)["consent_id"]

    def token(self) -> str:
        return str(self.exchange().ok()["access_token"])

    def exchange(self) -> Answer:
        return again(lambda: self.world.exchange(self.agent, self.consent, CONSENT, resource=self.api.uri), 3)

    def ask(self, token: str, **context: Any) -> Answer:
        body = {"subject": {"type": "access_token", "id": token}, **ACTION, "context": context}
        headers = {**basic(self.api.client_id, self.api.client_secret), "Content-Type": "application/json"}
        return self.world.http.send("POST", "/access/v1/evaluation", json.dumps(body).encode(), headers)

    def length(self, stream: str) -> int:
        return int(self.world.server.live.redis.call("XLEN", stream))


@pytest.fixture
def scene(by_itself: Alone) -> Scene:
    return Scene(by_itself)


def test_where_looks_wait_too_long_looking_stops_and_nothing_else_does(scene: Scene) -> None:
    token = scene.token()
    # A record that has waited since 1970.
    scene.world.server.live.redis.call("XADD", CALLS, "1-1", "r", b"{}")
    answer = scene.ask(token)
    assert (answer.status, answer.error) == (503, "temporarily_unavailable")
    assert "Retry-After" in answer.headers
    assert scene.ask(token, consume=True).ok()["decision"] is True
    assert scene.world.active(scene.api, scene.token())
    scene.made.relay.step()
    assert scene.ask(token).ok()["decision"] is True


def test_the_relay_takes_both_lines_and_forgets_what_it_has_entered(scene: Scene) -> None:
    token = scene.token()
    ids = [scene.ask(token, consume=at % 2 == 0).ok()["context"]["id"] for at in range(6)]
    assert scene.length(CALLS) == 3
    scene.made.relay.step()
    assert (scene.length(CALLS), scene.length(STREAM)) == (0, 0)
    found = {record["id"]: record["event"] for record in scene.world.ledger()}
    assert [found[one] for one in ids] == ["call.consumed", "call.permitted"] * 3


def test_what_a_lost_redis_took_with_it_permits_nothing(scene: Scene) -> None:
    token = scene.token()
    assert scene.ask(token).ok()["decision"] is True
    scene.world.server.live.redis.call("FLUSHALL")
    answer = scene.ask(token)
    assert (answer.status, answer.error) == (503, "temporarily_unavailable")
    scene.made.relay.step()
    assert again(lambda: scene.ask(token), 2).ok() == {"decision": False}
    assert scene.ask(scene.token()).ok()["decision"] is True
