"""Sixteen threads issue and introspect while somebody revokes: after the acknowledgement nothing covered is active."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from app.vocabulary import Pair
from tests.faults.load import Issued, introspection
from tests.faults.node import HANG, ROOT, Node, until
from tests.world import BY, CONSENT, Answer, Api, OverHttp, Party, World, claims_of

pytestmark = pytest.mark.served

ISSUING, ASKING = 6, 10
BEFORE, AFTER = 0.6, 0.6
"""Seconds of load on either side of the revocation."""


class Asked(NamedTuple):
    """One introspection, from when until when, and what was said."""

    token: Issued
    began: float
    ended: float
    active: bool


class Race:
    """An agent of Alice's that is revoked in one way or another, and one of Bob's that is not."""

    def __init__(self, node: Node) -> None:
        self.node, self.world = node, node.world()
        world = self.world
        self.api: Api = world.resource("read", "write")
        pairs = [(self.api, "read"), (self.api, "write")]
        self.alice, self.bob = world.human(), world.human()
        self.agent: Party = world.agent(self.alice, ceiling=pairs, auth="client_secret_basic", jwks=None)
        self.other: Party = world.agent(self.bob, ceiling=pairs, auth="client_secret_basic", jwks=None)
        self.browser = world.signed_in(self.alice)
        self.given = world.consented(self.browser, self.agent, self.api, away=True)
        self.others = world.consented(world.signed_in(self.bob), self.other, self.api, away=True)
        self.refresh_token = self.given["refresh_token"]
        self.issued: list[Issued] = []
        self.asked: list[Asked] = []
        self.late: list[str] = []
        """Issued, though asked for after the acknowledgement."""
        self.trouble: list[str] = []
        self.acknowledged: float | None = None
        self._stop = threading.Event()
        self.first = self.note(self.given["access_token"])
        self.control = self.note(self.others["access_token"])

    @property
    def consent(self) -> str:
        return str(self.given["consent_id"])

    def note(self, token: str, parent: Issued | None = None) -> Issued:
        made = Issued(token, claims_of(token), time.monotonic(), parent)
        self.issued.append(made)
        return made

    def run(self, revoke: Callable[[], Any]) -> None:
        works = [self.by_consent, self.by_token, self.by_token, self.by_first, self.by_refresh, self.by_other] + [self.ask] * ASKING
        threads = [threading.Thread(target=self._loop, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        time.sleep(BEFORE)
        revoke()
        self.acknowledged = time.monotonic()
        time.sleep(AFTER)
        self._stop.set()
        for thread in threads:
            thread.join(HANG)
        assert not any(thread.is_alive() for thread in threads), "a request hangs"
        assert not self.trouble, "\n".join(self.trouble[:5])

    def _loop(self, work: Callable[[World], None]) -> None:
        world = World(self.world.server, OverHttp(self.node.url))
        while not self._stop.is_set():
            try:
                work(world)
            except Exception:
                self.trouble.append(traceback.format_exc())
                return
            time.sleep(0.002)

    # Who issues

    def by_consent(self, world: World) -> None:
        self._issue(lambda: world.exchange(self.agent, self.consent, kind=CONSENT, resource=self.api.uri))

    def by_token(self, world: World) -> None:
        parent = random.choice(self.issued)
        if parent is not self.control and len(list(parent.line())) < 6 and parent.claims["client_id"] == self.agent.client_id:
            self._issue(lambda: world.exchange(self.agent, parent.token, resource=self.api.uri), parent)

    def by_first(self, world: World) -> None:
        self._issue(lambda: world.exchange(self.agent, self.first.token, resource=self.api.uri), self.first)

    def by_refresh(self, world: World) -> None:
        def refresh() -> Answer:
            form = {"grant_type": "refresh_token", "refresh_token": self.refresh_token, "resource": self.api.uri}
            answer = world.token(self.agent, form)
            if answer.status == 200:
                self.refresh_token = answer.json["refresh_token"]
            return answer

        self._issue(refresh)
        time.sleep(0.02)

    def by_other(self, world: World) -> None:
        self._issue(lambda: world.exchange(self.other, self.others["consent_id"], kind=CONSENT, resource=self.api.uri))

    def _issue(self, ask: Callable[[], Answer], parent: Issued | None = None) -> None:
        after = self.acknowledged is not None
        answer = ask()
        if answer.status == 200:
            made = self.note(answer.json["access_token"], parent)
            if after:
                self.late.append(made.claims["jti"])
        elif answer.status not in {400, 401, 503}:
            self.trouble.append(f"{answer.status} {answer.body!r}")

    # Who introspects

    def ask(self, world: World) -> None:
        one = random.choice(self.issued[-40:]) if random.random() < 0.7 else random.choice(self.issued[:10])
        self._ask(world, one)

    def _ask(self, world: World, one: Issued) -> bool | None:
        began = time.monotonic()
        answer = introspection(world, self.api, one.token)
        if answer.status == 503:
            assert "Retry-After" in answer.headers
            return None
        active = bool(answer.ok()["active"])
        self.asked.append(Asked(one, began, time.monotonic(), active))
        return active

    # What must be so

    def check(self, covered: Callable[[Issued], bool], *, control: bool = True) -> None:
        """`covered`: what the revocation ends. `control`: whether Bob's things live on."""
        assert self.acknowledged is not None
        for one in list(self.issued):
            until(lambda one=one: self._ask(self.world, one) is not None, "an answer")
        dead_since: dict[int, float] = {}
        for asked in self.asked:
            if not asked.active:
                dead_since[id(asked.token)] = min(asked.ended, dead_since.get(id(asked.token), asked.ended))
        ended = [one for one in self.issued if covered(one)]
        assert ended
        for asked in self.asked:
            if not asked.active:
                assert covered(asked.token), f"{asked.token.claims} is dead and nobody ended it"
                continue
            assert asked.began <= dead_since.get(id(asked.token), asked.began), "alive after it was seen dead"
            assert not (covered(asked.token) and asked.began > self.acknowledged), (
                f"active in an introspection that began {asked.began - self.acknowledged:.4f} s after the acknowledgement"
            )
        assert any(asked.active and asked.ended < self.acknowledged for asked in self.asked), "nothing was alive before"
        assert any(covered(asked.token) and asked.began > self.acknowledged for asked in self.asked)
        if control:
            lived = [asked.active for asked in self.asked if asked.token.claims["client_id"] == self.other.client_id]
            assert lived and all(lived)


@pytest.fixture
def race(node_of_two_workers: Node) -> Race:
    return Race(node_of_two_workers)


def alices(race: Race) -> Callable[[Issued], bool]:
    return lambda one: one.claims["client_id"] == race.agent.client_id


def born(one: Issued, thing: str) -> int:
    return int(one.claims["deputy"]["e"][thing])


def test_a_token_is_revoked(race: Race) -> None:
    race.run(lambda: race.world.revoke(race.agent, race.first.token).ok())
    race.check(lambda one: race.first in one.line())
    below = {one.claims["jti"] for one in race.issued if race.first in one.line()}
    assert not below & set(race.late)


def test_a_family_is_revoked(race: Race) -> None:
    family = race.first.claims["deputy"]["f"]
    race.run(lambda: race.world.revoke(race.agent, race.refresh_token).ok())
    race.check(lambda one: one.claims["deputy"].get("f") == family)
    of_it = {one.claims["jti"] for one in race.issued if one.claims["deputy"].get("f") == family}
    assert len(of_it) > 1
    assert not of_it & set(race.late)
    # The consent stands.
    assert race.world.exchange(race.agent, race.consent, kind=CONSENT, resource=race.api.uri).status == 200


def test_a_consent_is_withdrawn_on_its_page(race: Race) -> None:
    from tests.world import hidden

    where = f"/my/agents/{race.consent}/withdraw"
    form = hidden(race.browser.get(where))

    def withdraw() -> None:
        assert race.browser.post(where, form).status == 303

    race.run(withdraw)
    race.check(alices(race))
    assert not {one.claims["jti"] for one in race.issued if alices(race)(one)} & set(race.late)


def test_a_consent_is_narrowed(race: Race) -> None:
    consent = f"consent:{race.consent}"
    before = born(race.first, consent)
    pairs, until_then = frozenset({Pair(race.api.uri, "read")}), int(time.time()) + 3600
    race.run(lambda: race.world.server.consents.narrow(race.consent, pairs=pairs, until=until_then, by=BY))
    race.check(lambda one: alices(race)(one) and born(one, consent) == before)
    later = [one for one in race.issued if alices(race)(one) and born(one, consent) > before]
    assert later, "nothing was issued within what is left"
    assert {one.claims["scope"] for one in later} == {"read"}
    # The refresh token goes on within what is left.
    form = {"grant_type": "refresh_token", "refresh_token": race.refresh_token, "resource": race.api.uri}
    assert race.world.token(race.agent, form).ok()["scope"] == "read"


def test_an_agent_is_suspended(race: Race) -> None:
    race.run(lambda: race.world.server.agent_registry.suspend(race.agent.id, by=BY))
    race.check(alices(race))
    assert not {one.claims["jti"] for one in race.issued if alices(race)(one)} & set(race.late)


def test_a_human_is_disabled(race: Race) -> None:
    race.run(lambda: race.world.server.accounts.disable(race.alice.id, by=BY))
    race.check(alices(race))
    assert not {one.claims["jti"] for one in race.issued if alices(race)(one)} & set(race.late)


def test_everything_is_revoked_from_the_command_line(race: Race) -> None:
    own = race.world.agent(race.bob, own=[(race.api, "read")])

    def revoke() -> None:
        command = [sys.executable, "-m", "app", "revoke", "everything", "--yes"]
        ended = subprocess.run(command, cwd=ROOT, env=os.environ | race.node.environment, capture_output=True, timeout=HANG, check=False)
        assert ended.returncode == 0, ended.stderr

    race.run(revoke)
    race.check(lambda one: True, control=False)
    assert not race.late
    # Registrations stay: who acts as itself may go on.
    assert race.world.active(race.api, race.world.own_token(own, resource=race.api.uri).ok()["access_token"])
