"""Limits with everybody asking at once, at several workers: exactly as much as there is."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.faults.node import HANG, Node
from tests.world import CONSENT, Answer, Api, OverHttp, World, again, basic, bearer

pytestmark = pytest.mark.served

USES = 10
CONSUMES = 200
CALLERS = 20


class Crowd:
    """One agent with three child tokens of one task, and many who use them together."""

    def __init__(self, node: Node, *, task: dict[str, Any] | None = None, consent: dict[str, Any] | None = None) -> None:
        world = self.world = node.world()
        self.node = node
        alice = world.human()
        self.api: Api = world.resource("buy")
        other = world.resource("read")
        self.agent = world.agent(alice, ceiling=[(self.api, "buy"), (other, "read")])
        asked = {"limits": json.dumps(consent)} if consent is not None else None
        given = world.consented(world.signed_in(alice), self.agent, self.api, other, scope="buy read", away=True, asked=asked)
        own = world.own_token(self.agent).ok()["access_token"]
        body = {"consent_id": given["consent_id"], "purpose": "Shopping", "limits": task or {}}
        opened = world.http.send("POST", "/tasks", json.dumps(body).encode(), {**bearer(own), "Content-Type": "application/json"})
        self.task = str(opened.json["task_id"])
        parent = world.exchange(self.agent, given["consent_id"], CONSENT, resource=self.api.uri, task_id=self.task).ok()["access_token"]
        self.children = [str(world.exchange(self.agent, parent).ok()["access_token"]) for _ in range(3)]

    def send(self, world: World, path: str, body: dict[str, Any]) -> Answer:
        """As an API does: again, when it is told to come again."""
        headers = {**basic(self.api.client_id, self.api.client_secret), "Content-Type": "application/json"}
        return again(lambda: world.http.send("POST", path, json.dumps(body).encode(), headers), 50)

    def report(self, world: World, at: int, **more: Any) -> bool:
        body = {"token": self.children[at % 3], "action": "buy", **more}
        answer = self.send(world, f"/tasks/{self.task}/events", body)
        assert answer.status == 200 or (answer.error, answer.json["layer"]) == ("access_denied", "limit"), answer.text
        return answer.status == 200

    def call(self, world: World, at: int, **more: Any) -> bool:
        body = {
            "subject": {"type": "access_token", "id": self.children[at % 3]},
            "action": {"name": "buy", "properties": more},
            "resource": {"type": "thing", "id": f"t-{at}"},
            "context": {"consume": True},
        }
        answer = self.send(world, "/access/v1/evaluation", body).ok()
        assert answer["decision"] or answer["context"]["layer"] == "limit", answer
        return bool(answer["decision"])

    def at_once(self, what: Callable[[World, int], bool]) -> Counter[bool]:
        """So many consumes, by callers with connections of their own."""
        told: list[bool] = []
        gate = threading.Barrier(CALLERS)

        def run(first: int) -> None:
            world = World(self.world.server, OverHttp(self.node.url))
            gate.wait(HANG)
            told.extend(what(world, at) for at in range(first, CONSUMES, CALLERS))

        threads = [threading.Thread(target=run, args=(first,)) for first in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * HANG)
        assert len(told) == CONSUMES
        return Counter(told)


EVENTS = {"uses": USES, "counts": "events"}
EUROS = {"amount": {"currency": "EUR", "max": "100.00"}}
SPENT = {"amount": {"currency": "EUR", "value": "7.77"}}


@pytest.mark.parametrize("where", ["task", "consent"])
@pytest.mark.parametrize("how", ["reports", "calls"])
def test_two_hundred_consumes_over_three_children_with_ten_uses_are_ten(node_of_two_workers: Node, where: str, how: str) -> None:
    crowd = Crowd(node_of_two_workers, **{where: EVENTS})
    assert crowd.at_once(crowd.report if how == "reports" else crowd.call)[True] == USES


@pytest.mark.parametrize("where", ["task", "consent"])
def test_an_amount_split_over_children_never_exceeds_the_limit(node_of_two_workers: Node, where: str) -> None:
    crowd = Crowd(node_of_two_workers, **{where: EUROS})

    def spend(world: World, at: int) -> bool:
        return (crowd.report if at % 2 else crowd.call)(world, at, **SPENT)

    # Twelve times 7.77 are 93.24; a thirteenth would be more than a hundred.
    assert crowd.at_once(spend)[True] == 12
