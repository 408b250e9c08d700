"""However many agents, consents and entries there are: a page asks the database so many questions and no more, and is soon there."""

from __future__ import annotations

import os
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
from tests.world import BY, PASSWORD, Browser, Person

MOST = 52
"""Statements of one page, with what every page asks: who is signed in, what waits for her. Explaining a token looks up name by name."""

MEDIAN = 0.3
"""Seconds."""

ENTRIES = int(os.environ.get("MANY_ENTRIES", "5000000"))
"""Of the ledger in the long test; ten minutes to write."""


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


HER = Person("hum_0000000000000000000003", "person-3")
"""One of the crowd: a hundred consents and thousands of entries are hers where there are 100,000 and millions."""

Places = dict[str, tuple[Browser, str]]
"""Who looks at what, by a name."""


def hers() -> dict[str, str]:
    mine = "con_0000000000000000000003"
    return {
        "home": "/",
        "my agents": "/my/agents",
        "my agents, once more": "/my/agents/live",
        "my activity": "/my/activity",
        "my approvals": "/my/approvals",
        "my security": "/my/security",
        "withdraw": f"/my/agents/{mine}/withdraw",
        "narrow": f"/my/agents/{mine}/narrow",
        "stop a task": "/my/agents/tasks/tsk_0000000000000000000003/stop",
    }


def operators(agent: str) -> dict[str, str]:
    person = HER.id
    return {
        "inventory": "/admin",
        "found": "/admin?q=Agent+000&state=active",
        "next": "/admin?after=Agent+00100&then=agt_0000000000000000000000",
        "of an owner": f"/admin?owner={person}",
        "graph": "/admin/graph",
        "around a person": f"/admin/graph?human={person}",
        "agent": f"/admin/agents/{agent}",
        "change an agent": f"/admin/agents/{agent}/change",
        "retire an agent": f"/admin/agents/{agent}/retire",
        "new agent": "/admin/agents/new",
        "api": "/admin/resources/res_0000000000000000000007",
        "change an API": "/admin/resources/res_0000000000000000000007/change",
        "policies": "/admin/policies",
        "new policy": "/admin/policies/new",
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
def crowded(own: Deployment, *, agents: int, consents: int, entries: int) -> Iterator[Places]:
    settings = own.settings
    prepare(settings)
    server = build(settings)
    agent = fill(server, agents=agents, consents=consents, entries=entries)
    server.database.close()
    with own.running() as world:
        stand_tokens(world.server, min(2000, entries // 10))
        world.server.accounts.set_password(HER.id, PASSWORD, by=BY)
        she, operator = world.signed_in(HER), world.signed_in(world.human(operator=True))
        yield {
            **{name: (she, path) for name, path in hers().items()},
            **{name: (operator, path) for name, path in operators(agent).items()},
        }


def statements(places: Places) -> dict[str, int]:
    found = {}
    for name, (browser, path) in places.items():
        with counted() as said:
            answer = browser.get(path)
        assert answer.status == 200, (name, answer.status, answer.text[-500:])
        found[name] = len(said)
    return found


def test_no_page_asks_more_of_the_database_where_there_are_more_agents(deployment: Deployment) -> None:  # noqa: F811
    with crowded(deployment, agents=1500, consents=5000, entries=50_000) as places:
        many = statements(places)
    assert max(many.values()) <= MOST, many


@pytest.mark.soak
def test_every_page_is_soon_there(deployment: Deployment) -> None:  # noqa: F811
    with crowded(deployment, agents=10_000, consents=100_000, entries=ENTRIES) as places:
        took: dict[str, float] = {}
        for name, (browser, path) in places.items():
            times = []
            for _ in range(7):
                begun = time.monotonic()
                assert browser.get(path).status == 200, name
                times.append(time.monotonic() - begun)
            took[name] = statistics.median(times)
        print({name: f"{seconds * 1000:.0f} ms" for name, seconds in took.items()})
        assert [name for name, seconds in took.items() if seconds > MEDIAN] == [], took
