"""Ending a task, asked of one worker while others use it: when it is acknowledged, it holds at all of them (protocol §7)."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

import pytest

from tests.faults.node import HANG, Node
from tests.world import CONSENT, Answer, OverHttp, World

pytestmark = pytest.mark.served

LOOKERS = 6
AFTER = 20
"""Looks and exchanges of each caller that begin after the end was acknowledged."""


@dataclass
class Seen:
    """What callers saw, with the moment at which they had asked."""

    active: list[tuple[float, bool]] = field(default_factory=list)
    exchanged: list[tuple[float, Answer]] = field(default_factory=list)


def test_when_the_end_is_acknowledged_nothing_of_the_task_is_alive_at_any_worker(node_of_two_workers: Node) -> None:
    node = node_of_two_workers
    world = node.world()
    alice = world.human()
    api, other = world.resource("read"), world.resource("look")
    agent = world.agent(alice, ceiling=[(api, "read"), (other, "look")])
    consent = world.consented(world.signed_in(alice), agent, api, other, scope="read look", away=True)["consent_id"]
    own = world.own_token(agent).ok()["access_token"]
    task, kept = world.opened(own, consent), world.opened(own, consent)

    def given(of: str) -> str:
        return str(world.exchange(agent, consent, CONSENT, resource=api.uri, task_id=of).ok()["access_token"])

    line = [given(task)]
    while len(line) < 4:
        line.append(str(world.exchange(agent, line[-1], resource=api.uri).ok()["access_token"]))
    alive, seen, stop = given(kept), Seen(), threading.Event()
    acknowledged: list[float] = []

    def use(at: int) -> None:
        caller, token = World(world.server, OverHttp(node.url)), line[at % len(line)]
        left = AFTER
        while left:
            begun = time.monotonic()
            seen.active.append((begun, caller.active(api, token)))
            begun = time.monotonic()
            seen.exchanged.append((begun, caller.exchange(agent, token, resource=api.uri)))
            left -= stop.is_set()

    threads = [threading.Thread(target=use, args=(at,)) for at in range(LOOKERS)]
    for thread in threads:
        thread.start()
    while len(seen.active) < 2 * LOOKERS and any(thread.is_alive() for thread in threads):
        stop.wait(0.01)
    world.ended(own, task)
    acknowledged.append(time.monotonic())
    stop.set()
    for thread in threads:
        thread.join(HANG)
    (moment,) = acknowledged
    assert any(active for _, active in seen.active)
    late = [active for begun, active in seen.active if begun > moment]
    assert len(late) >= LOOKERS * (AFTER - 1)
    assert not any(late)
    answers = [answer for begun, answer in seen.exchanged if begun > moment]
    assert {answer.error for answer in answers} == {"invalid_request"}
    # A child that was given at the last moment is dead all the same.
    children = [answer.json["access_token"] for _, answer in seen.exchanged if answer.status == 200]
    assert not any(world.active(api, child) for child in children[-10:])
    assert world.active(api, alive)
    assert world.exchange(agent, alive, resource=api.uri).status == 200
