"""A lost Redis gives nothing of a consent's limit twice: after a flush, in the middle of one, at a worker that has not heard of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from app.delegation.models import AllowanceRow
from app.delegation.reserves import exhaust
from tests.faults.alone import Alone
from tests.world import CONSENT, Answer, Api, InProcess, World, again, basic, worker

USES = 10
EUROS = {"currency": "EUR", "max": "100.00"}


class Scene:
    """A shop and an agent whose consent is limited, seen through one worker or another."""

    def __init__(self, made: Alone, limits: dict[str, Any]) -> None:
        world = made.world
        alice = world.human()
        self.made, self.world = made, world
        self.shop: Api = world.resource("buy")
        self.other: Api = world.resource("read")
        ceiling = [(self.shop, "buy"), (self.other, "read")]
        self.agent = world.agent(alice, ceiling=ceiling, auth="client_secret_basic", jwks=None)
        asked = {"limits": json.dumps(limits)}
        # For two APIs a code gives no API token, so nothing is used yet.
        given = world.consented(world.signed_in(alice), self.agent, self.shop, self.other, scope="buy read", away=True, asked=asked)
        self.consent = str(given["consent_id"])

    def exchange(self, world: World | None = None) -> Answer:
        """As an agent asks: again, when it is told to come again."""
        return again(lambda: (world or self.world).exchange(self.agent, self.consent, CONSENT, resource=self.shop.uri))

    def took(self, times: int, world: World | None = None) -> int:
        """How many of so many tokens there were."""
        return sum(self.exchange(world).status == 200 for _ in range(times))

    def buy(self, value: str, world: World | None = None) -> bool:
        """Whether so much may be spent and counts as spent."""
        token = self.exchange(world).ok()["access_token"]
        body = {
            "subject": {"type": "access_token", "id": token},
            "action": {"name": "buy", "properties": {"amount": {"currency": "EUR", "value": value}}},
            "resource": {"type": "thing", "id": "t-1"},
            "context": {"consume": True},
        }
        headers = {**basic(self.shop.client_id, self.shop.client_secret), "Content-Type": "application/json"}
        answer = (world or self.world).http.send("POST", "/access/v1/evaluation", json.dumps(body).encode(), headers)
        return answer.status == 200 and answer.json["decision"] is True

    def reserved(self) -> tuple[int, int]:
        """How much was set aside, and how much there is in all."""
        with self.made.server.database.reading() as session:
            row = session.execute(select(AllowanceRow.reserved, AllowanceRow.most).where(AllowanceRow.consent == self.consent)).one()
        return row.reserved, row.most


@pytest.fixture
def second(by_itself: Alone) -> Iterator[World]:
    """Another worker of the same deployment, with a memory of its own."""
    with worker(by_itself.settings) as app:
        yield World(by_itself.server, InProcess(app))


@pytest.mark.parametrize("recorded", [True, False], ids=["after the relay took them", "before the relay took them"])
def test_uses_are_not_given_twice(by_itself: Alone, *, recorded: bool) -> None:
    scene = Scene(by_itself, {"uses": USES})
    assert scene.took(4) == 4
    if recorded:
        by_itself.relay.step()
    by_itself.forget()
    assert scene.took(USES) == USES - 4
    by_itself.forget()
    assert scene.took(3) == 0


def test_flush_after_flush_gives_no_more_than_the_limit(by_itself: Alone) -> None:
    scene = Scene(by_itself, {"uses": USES})
    taken = 0
    for _ in range(6):
        taken += scene.took(3)
        by_itself.forget()
    assert taken == USES


def test_an_amount_is_never_exceeded_and_little_of_it_is_lost(by_itself: Alone) -> None:
    scene = Scene(by_itself, {"amount": EUROS})
    spent = 0
    for _ in range(4):
        spent += sum(scene.buy("7.00") for _ in range(3))
        by_itself.forget()
    spent += sum(scene.buy("7.00") for _ in range(15))
    # Of a hundred, fourteen times seven go; whatever was set aside at a flush and not spent is lost.
    assert 12 <= spent <= 14
    reserved, most = scene.reserved()
    assert reserved <= most


def test_a_refused_amount_sets_nothing_aside(by_itself: Alone) -> None:
    scene = Scene(by_itself, {"amount": EUROS})
    assert scene.buy("60.00")
    before, _ = scene.reserved()
    assert not scene.buy("40.01")
    assert not scene.buy("99999999")
    assert scene.reserved()[0] == before
    by_itself.forget()
    assert scene.buy("40.00")
    assert not scene.buy("0.01")


def test_a_worker_that_has_not_heard_of_the_flush_takes_nothing_from_the_time_before(by_itself: Alone, second: World) -> None:
    scene = Scene(by_itself, {"uses": USES})
    taken = scene.took(2) + scene.took(2, second)
    by_itself.forget()
    taken += scene.took(3, second)
    by_itself.forget()
    taken += scene.took(5) + scene.took(5, second)
    assert taken == USES


def test_in_the_middle_of_flushes_many_at_once_never_take_more(by_itself: Alone, second: World) -> None:
    scene = Scene(by_itself, {"uses": 60})
    taken: list[int] = []
    done = threading.Event()

    def ask(world: World) -> None:
        own = World(world.server, world.http.fresh())
        while not done.is_set():
            answer = own.exchange(scene.agent, scene.consent, CONSENT, resource=scene.shop.uri)
            assert answer.status in {200, 400, 503}, answer.text
            if answer.status == 200:
                taken.append(1)
            elif answer.error == "access_denied":
                return

    threads = [threading.Thread(target=ask, args=(world,)) for world in (by_itself.world, second) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(4):
        seen = len(taken)
        while any(thread.is_alive() for thread in threads) and len(taken) < seen + 5:
            by_itself.relay.step()
        by_itself.forget()
    while any(thread.is_alive() for thread in threads):
        by_itself.relay.step()
    done.set()
    for thread in threads:
        thread.join(60)
    # What was answered was taken. A token that was permitted as Redis went is lost, and never given again.
    assert 0 < len(taken) <= 60


def test_after_a_restored_backup_everything_counts_as_used(by_itself: Alone) -> None:
    scene = Scene(by_itself, {"uses": USES})
    assert scene.took(2) == 2
    with by_itself.server.database.transaction() as session:
        exhaust(session)
    by_itself.forget()
    answer = scene.exchange()
    assert (answer.error, answer.json["layer"]) == ("access_denied", "limit")


def test_a_limit_without_its_row_gives_nothing(by_itself: Alone) -> None:
    """Whoever set the database back by hand gets a refusal, not a fresh limit."""
    scene = Scene(by_itself, {"uses": USES})
    with by_itself.server.database.transaction() as session:
        session.delete(session.get(AllowanceRow, (scene.consent, "uses")))
    assert scene.exchange().error == "access_denied"
