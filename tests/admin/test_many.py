"""However many agents, consents and entries there are: a page asks the database so many questions and no more, and is soon there."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event

from app.wiring import build, prepare
from tests.admin.crowd import TARGET, fill, stand_tokens
from tests.cli.conftest import Deployment, deployment, empty, folder  # noqa: F401
from tests.world import Browser

MOST = 52
"""Statements of one page, with what every page asks: who is signed in, what waits for her. Explaining a token looks up name by name."""

MEDIAN = 0.3
"""Seconds."""


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements of this thread."""
    said: list[str] = []
    here = threading.get_ident()

    def see(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if threading.get_ident() == here:
            said.append(statement)

    event.listen(Engine, "before_cursor_execute", see)
    try:
        yield said
    finally:
        event.remove(Engine, "before_cursor_execute", see)


def pages(agent: str) -> dict[str, str]:
    person = "hum_0000000000000000000003"
    return {
        "inventory": "/admin",
        "found": "/admin?q=Agent+000&state=active",
        "next": "/admin?after=Agent+00100&then=agt_0000000000000000000000",
        "of an owner": f"/admin?owner={person}",
        "graph": "/admin/graph",
        "around a person": f"/admin/graph?human={person}",
        "agent": f"/admin/agents/{agent}",
        "api": "/admin/resources/res_0000000000000000000007",
        "apis": "/admin/resources",
        "ledger": "/admin/ledger",
        "refusals of an agent": f"/admin/ledger?agent={agent}&outcome=deny",
        "a person's": "/admin/ledger?human=person-5",
        "a day's deeds": "/admin/ledger?event=consent.withdrawn&since=2020-01-01",
        "a consent's": "/admin/ledger?consent=con_0000000000000000000011",
        "older": "/admin/ledger?before=2000",
        "entry": "/admin/ledger/1234",
        "explain": f"/admin/explain?ref=tok_{'0' * 18}1234",
        "people": "/admin/people",
        "stop an agent": f"/admin/stop?what=agent&ref={agent}",
        "stop a person": f"/admin/stop?what=human&ref={person}",
        "stop an API": f"/admin/stop?what=resource&ref={TARGET}",
        "stop everything": "/admin/stop?what=everything",
    }


@contextmanager
def crowded(own: Deployment, *, agents: int, consents: int, entries: int) -> Iterator[tuple[Browser, dict[str, str]]]:
    settings = own.settings
    prepare(settings)
    server = build(settings)
    agent = fill(server, agents=agents, consents=consents, entries=entries)
    server.database.close()
    with own.running() as world:
        stand_tokens(world.server, min(2000, entries // 10))
        yield world.signed_in(world.human(operator=True)), pages(agent)


def statements(browser: Browser, places: dict[str, str]) -> dict[str, int]:
    found = {}
    for name, path in places.items():
        with counted() as said:
            answer = browser.get(path)
        assert answer.status == 200, (name, answer.status, answer.text[-500:])
        found[name] = len(said)
    return found


def test_no_page_asks_more_of_the_database_where_there_are_more_agents(deployment: Deployment) -> None:  # noqa: F811
    with crowded(deployment, agents=1500, consents=5000, entries=50_000) as (browser, places):
        many = statements(browser, places)
    assert max(many.values()) <= MOST, many


@pytest.mark.soak
def test_every_page_is_soon_there(deployment: Deployment) -> None:  # noqa: F811
    with crowded(deployment, agents=10_000, consents=100_000, entries=5_000_000) as (browser, places):
        took: dict[str, float] = {}
        for name, path in places.items():
            times = []
            for _ in range(7):
                begun = time.monotonic()
                assert browser.get(path).status == 200, name
                times.append(time.monotonic() - begun)
            took[name] = statistics.median(times)
        print({name: f"{seconds * 1000:.0f} ms" for name, seconds in took.items()})
        assert [name for name, seconds in took.items() if seconds > MEDIAN] == [], took
