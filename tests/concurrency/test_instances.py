"""Instances and keys, over HTTP, on several workers: one code is one instance, and keys change without an outage."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from joserfc.jwk import ECKey

from tests.concurrency.test_at_once import MANY, Scene, scene, the_one
from tests.copies import Copy, code_for, enrolled
from tests.faults.node import HANG, until
from tests.issuers import Issuer, attest
from tests.world import BY, CONSENT, Answer, OverHttp, Party, World

__all__ = ["scene"]

pytestmark = pytest.mark.served


def test_fifty_uses_of_one_code_are_one_instance(scene: Scene) -> None:
    code = code_for(scene.world, scene.agent)
    answers = scene.at_once(lambda world: Copy().register(world, code))
    told = Counter((answer.status, answer.error if answer.status != 201 else None) for answer in answers)
    assert told[201, None] == 1, told
    assert set(told) <= {(201, None), (401, "invalid_client"), (503, "temporarily_unavailable")}, told
    assert len(scene.world.server.instances.of_client(scene.agent.client_id)) == 1


def test_fifty_registrations_of_one_key_are_one_instance(scene: Scene) -> None:
    copy, codes = Copy(), [code_for(scene.world, scene.agent) for _ in range(MANY)]
    answers = scene.at_once(lambda world: copy.register(world, codes.pop()))
    told = Counter((answer.status, answer.error if answer.status != 201 else None) for answer in answers)
    assert told[201, None] == 1, told
    assert set(told) <= {(201, None), (400, "invalid_dpop_proof"), (503, "temporarily_unavailable")}, told
    assert len(scene.world.server.instances.of_client(scene.agent.client_id)) == 1


def test_once_an_instance_is_revoked_no_worker_takes_it_or_calls_what_it_got_active(scene: Scene) -> None:
    world, consent = scene.world, scene.given()["consent_id"]
    one, two = enrolled(world, scene.agent), enrolled(world, scene.agent)

    def ask(copy: Copy) -> Answer:
        return copy.exchange(world, consent, CONSENT, bound=False, resource=scene.api.uri)

    tokens = [ask(one).ok()["access_token"] for _ in range(8)]
    siblings = [ask(two).ok()["access_token"] for _ in range(8)]
    with asking(scene, lambda mine: one.exchange(mine, consent, CONSENT, bound=False, resource=scene.api.uri)) as seen:
        until(lambda: len(seen) > 10, "the instance is at work")
        world.server.instances.end(one.told["instance_id"], by=BY)
        ended = time.monotonic()
        until(lambda: len(since(seen, ended)) > 10, "asked again after its end")
    assert {(a.status, a.error) for a in since(seen, ended)} == {(401, "invalid_client")}
    tokens += [heard.answer.json["access_token"] for heard in seen if heard.answer.status == 200]
    assert not any(world.active(scene.api, token) for token in tokens)
    assert all(world.active(scene.api, token) for token in siblings)
    assert ask(two).status == 200


def test_keys_change_without_one_refused_request_of_a_key_that_is_registered(scene: Scene) -> None:
    """Add the new one, use both, remove the old one, over and over, while the agent works."""
    registry, world = scene.world.server.agent_registry, scene.world
    agent, form = scene.agent, {"grant_type": "client_credentials", "resource": scene.api.uri}
    held = agent
    for _ in range(3):
        fresh = Party(agent.client_id, key=ECKey.generate_key("P-256"), id=agent.id, uri=agent.uri)
        assert fresh.key is not None
        assert held.key is not None
        with asking(scene, speaking(held, form)) as of_old:
            until(lambda seen=of_old: len(seen) > 5, "the old key is in use")
            registry.add_key(agent.id, fresh.key.as_dict(private=False) | {"kid": fresh.key.thumbprint()}, by=BY)
            with asking(scene, speaking(fresh, form)) as of_new:
                until(lambda seen=of_new: len(seen) > 10, "both are in use")
                removing = time.monotonic()
                registry.remove_key(agent.id, held.key.thumbprint(), by=BY)
                removed = time.monotonic()
                until(lambda new=of_new, old=of_old, at=removed: len(since(new, at)) > 10 < 2 * len(since(old, at)), "one is")
        assert {heard.answer.status for heard in of_new} == {200}
        assert {heard.answer.status for heard in of_old if heard.ended < removing} == {200}
        assert {(a.status, a.error) for a in since(of_old, removed)} == {(401, "invalid_client")}
        held = fresh
    assert world.token(held, form).status == 200


class Heard(NamedTuple):
    """When a request began and ended, and what it was answered."""

    began: float
    ended: float
    answer: Answer


def since(seen: list[Heard], moment: float) -> list[Answer]:
    return [heard.answer for heard in seen if heard.began > moment]


def speaking(party: Party, form: dict[str, str]) -> Callable[[World], Answer]:
    return lambda world: world.token(party, form)


@contextmanager
def asking(scene: Scene, ask: Callable[[World], Answer], callers: int = 4) -> Iterator[list[Heard]]:
    """Callers that ask one after another until the block ends. Gives what they heard."""
    seen: list[Heard] = []
    trouble: list[Exception] = []
    stop = threading.Event()

    def call() -> None:
        world = World(scene.world.server, OverHttp(scene.node.url))
        while not stop.is_set():
            began = time.monotonic()
            try:
                answer = ask(world)
            except Exception as error:
                trouble.append(error)
                return
            seen.append(Heard(began, time.monotonic(), answer))

    threads = [threading.Thread(target=call, daemon=True) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        stop.set()
        for thread in threads:
            thread.join(HANG)
    assert not trouble, trouble[0]


def test_fifty_uses_of_one_assertion_are_one_instance(scene: Scene) -> None:
    issuer = Issuer()
    issuer.trusted(scene.world, scene.agent)
    assertion = issuer.says(scene.world)
    answers = scene.at_once(lambda world: attest(world, assertion))
    given = the_one(answers, (401, "invalid_client"))
    (row,) = scene.world.server.instances.of_client(scene.agent.client_id)
    assert row.id == given["instance_id"]


def test_fifty_words_about_one_key_are_one_instance(scene: Scene) -> None:
    """The same copy asked in parallel, each time with a fresh word: it is one, and every answer says so."""
    issuer, copy = Issuer(), Copy()
    issuer.trusted(scene.world, scene.agent)
    answers = scene.at_once(lambda world: attest(world, issuer.says(world), copy))
    told = Counter((answer.status, answer.error) for answer in answers)
    assert set(told) <= {(200, None), (503, "temporarily_unavailable")}, told
    (row,) = scene.world.server.instances.of_client(scene.agent.client_id)
    assert {answer.json["instance_id"] for answer in answers if answer.status == 200} == {row.id}


def test_once_a_trust_is_taken_back_nobody_is_born_of_it(scene: Scene) -> None:
    issuer = Issuer()
    trust = issuer.trusted(scene.world, scene.agent)
    with asking(scene, lambda mine: attest(mine, issuer.says(mine), resource=scene.api.uri)) as seen:
        until(lambda: len(seen) > 5, "copies are being born")
        scene.world.server.trusts.disable(trust, by=BY)
        ended = time.monotonic()
        until(lambda: len(since(seen, ended)) > 10, "asked again")
    assert {(answer.status, answer.error) for answer in since(seen, ended)} == {(401, "invalid_client")}
    tokens = [heard.answer.json["access_token"] for heard in seen if heard.answer.status == 200]
    assert tokens
    assert not any(scene.world.active(scene.api, token) for token in tokens)
    assert all(row.ended_at is not None for row in scene.world.server.instances.of_client(scene.agent.client_id))
