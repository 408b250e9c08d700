"""A pair that must not meet in one task, asked for at the same instant of several workers: never both."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.faults.node import HANG, Node
from tests.policies import in_force, text_of
from tests.world import CONSENT, Api, OverHttp, Party, World, again

pytestmark = pytest.mark.served

TWINS = 10
"""Pairs of callers; each asks for so many pairs one after the other."""


@dataclass
class Twins:
    """Two callers with connections of their own, who ask for the two halves of a pair together."""

    world: World
    node: Node
    agent: Party
    consent: str
    halves: tuple[tuple[Api, str], tuple[Api, str]]

    def ask(self, pairs: int, told: list[tuple[int, int]]) -> None:
        # A busy machine may answer 503; whoever is told to come again does.
        own = again(lambda: self.world.own_token(self.agent), pause=1).ok()["access_token"]
        second = World(self.world.server, OverHttp(self.node.url))
        for _ in range(pairs):
            task = self.world.opened(own, self.consent)
            gate, statuses = threading.Barrier(2), [0, 0]

            def half(at: int, world: World, task: str = task, gate: threading.Barrier = gate, statuses: list[int] = statuses) -> None:
                api, scope = self.halves[at]
                gate.wait(HANG)
                statuses[at] = again(
                    lambda: world.exchange(self.agent, self.consent, CONSENT, resource=api.uri, scope=scope, task_id=task), pause=1
                ).status

            other = threading.Thread(target=half, args=(1, second))
            other.start()
            half(0, self.world)
            other.join(HANG)
            told.append((statuses[0], statuses[1]))
            self.world.ended(own, task)


@pytest.mark.parametrize("pairs", [200, pytest.param(1000, marks=pytest.mark.soak)])
def test_pairs_asked_for_at_the_same_instant_are_never_both(node_of_two_workers: Node, pairs: int) -> None:
    node = node_of_two_workers
    world = node.world()
    alice = world.human()
    files = world.resource("files:read", labels=["confidential"])
    mail = world.resource("mail:send", scope_labels={"mail:send": ["external-send"]})
    agent = world.agent(alice, ceiling=[(files, "files:read"), (mail, "mail:send")])
    told: list[tuple[int, int]] = []
    twins = []
    for _ in range(TWINS):
        # A consent of its own each: one consent has at most a hundred tasks at a time.
        given = world.consented(world.signed_in(alice), agent, files, mail, away=True)
        halves = ((files, "files:read"), (mail, "mail:send"))
        twins.append(Twins(World(world.server, OverHttp(node.url)), node, agent, given["consent_id"], halves))
    with in_force(world.server, text_of("confidential-then-external"), "confidential-then-external"):
        with ThreadPoolExecutor(TWINS) as callers:
            for asked in [callers.submit(one.ask, pairs // TWINS, told) for one in twins]:
                asked.result(20 * HANG)
    assert len(told) == pairs
    outcomes = Counter(told)
    assert outcomes[200, 200] == 0
    assert set(outcomes) == {(200, 400), (400, 200)}, outcomes
