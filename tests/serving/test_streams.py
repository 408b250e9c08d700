"""A page is told that something is new: who, by whom, how many at once, for how long (HTML Living Standard §9.2, ADR 19)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from flask import Flask

from app.application import MOVED
from app.errors import TemporarilyUnavailable
from app.rim import streams
from app.rim.streams import EACH, Streams
from app.serving import Door
from tests.world import CONSENT, InProcess, World

HANG = 30
"""Seconds after which something is stuck."""


class Listener:
    """A browser that listens to one stream."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.hung_up = asyncio.Event()
        self.heard = asyncio.Condition()
        self._asked = False

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        async with self.heard:
            self.said.append(dict(message))
            self.heard.notify_all()

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.said).decode()

    async def hears(self, words: str) -> None:
        async with self.heard:
            await asyncio.wait_for(self.heard.wait_for(lambda: words in self.text), HANG)


async def in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.to_thread(call, *arguments)


def asked(cookie: str | None) -> dict[str, Any]:
    return {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": "/my/agents/events",
        "raw_path": b"/my/agents/events", "query_string": b"", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
        "headers": [(b"cookie", f"deputy={cookie}".encode())] if cookie else [],
    }  # fmt: skip


def cookie_of(browser: Any) -> str:
    found = browser.http._client.get_cookie("deputy")
    assert found is not None
    return str(found.value)


class Ledger:
    """Entries as they come, each in somebody's name."""

    def __init__(self) -> None:
        self.humans: list[str] = []
        self.looks = 0
        self.lost = False
        self._looked = threading.Condition()

    def looked(self, more: int) -> bool:
        """Wait until it has been looked at so many times more."""
        wanted = self.looks + more
        with self._looked:
            return self._looked.wait_for(lambda: self.looks >= wanted, HANG)

    def moved(self, after: int | None) -> tuple[int, frozenset[str]]:
        with self._looked:
            self.looks += 1
            self._looked.notify_all()
        if self.lost:
            raise TemporarilyUnavailable("sql")
        return len(self.humans), frozenset(self.humans[after:]) if after is not None else frozenset()


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "PACE", 0.01)


def run(story: Callable[[Ledger, Streams], Awaitable[None]]) -> Ledger:
    ledger = Ledger()
    asyncio.run(asyncio.wait_for(story(ledger, Streams(ledger.moved)), HANG))
    return ledger


def test_it_is_told_of_her_own_and_of_nobody_elses() -> None:
    async def story(ledger: Ledger, made: Streams) -> None:
        alice, bob = Listener(), Listener()
        await asyncio.gather(alice.receive(), bob.receive())
        tasks = [asyncio.create_task(made.serve(name, one.receive, one.send, in_thread)) for name, one in (("alice", alice), ("bob", bob))]
        await asyncio.gather(alice.hears("retry"), bob.hears("retry"))
        ledger.humans.append("alice")
        await alice.hears("data: new")
        assert "data" not in bob.text
        ledger.humans.append("bob")
        await bob.hears("data: new")
        assert alice.text.count("data") == 1
        alice.hung_up.set()
        bob.hung_up.set()
        assert await asyncio.gather(*tasks) == [True, True]

    run(story)


def test_what_came_before_is_not_told() -> None:
    async def story(ledger: Ledger, made: Streams) -> None:
        ledger.humans += ["alice"] * 3
        alice = Listener()
        await alice.receive()
        task = asyncio.create_task(made.serve("alice", alice.receive, alice.send, in_thread))
        await alice.hears("retry")
        assert await asyncio.to_thread(ledger.looked, 3)
        assert "data" not in alice.text
        alice.hung_up.set()
        await task

    run(story)


def test_nobody_waits_and_nobody_looks() -> None:
    async def story(ledger: Ledger, made: Streams) -> None:
        alice = Listener()
        await alice.receive()
        task = asyncio.create_task(made.serve("alice", alice.receive, alice.send, in_thread))
        await alice.hears("retry")
        alice.hung_up.set()
        await task
        assert made._watcher is not None
        await made._watcher

    assert run(story).looks >= 1


def test_one_person_has_so_many_and_no_more() -> None:
    async def story(_ledger: Ledger, made: Streams) -> None:
        tabs = [Listener() for _ in range(EACH + 1)]
        for tab in tabs:
            await tab.receive()
        tasks = [asyncio.create_task(made.serve("alice", tab.receive, tab.send, in_thread)) for tab in tabs[:-1]]
        await asyncio.gather(*(tab.hears("retry") for tab in tabs[:-1]))
        last = tabs[-1]
        assert await made.serve("alice", last.receive, last.send, in_thread) is False
        assert last.said == []
        bob = Listener()
        await bob.receive()
        other = asyncio.create_task(made.serve("bob", bob.receive, bob.send, in_thread))
        await bob.hears("retry")
        for tab in (*tabs, bob):
            tab.hung_up.set()
        await asyncio.gather(*tasks, other)

    run(story)


def test_it_ends_when_its_time_is_up_and_says_in_between_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BEAT", 0.02)
    monkeypatch.setattr(streams, "LIFE", 0.3)

    async def story(_ledger: Ledger, made: Streams) -> None:
        alice = Listener()
        await alice.receive()
        assert await made.serve("alice", alice.receive, alice.send, in_thread) is True
        assert ": here" in alice.text
        assert alice.said[-1] == {"type": "http.response.body", "body": b"", "more_body": False}

    run(story)


def test_without_sql_there_is_no_stream_and_one_that_runs_goes_on_when_it_is_back() -> None:
    async def story(ledger: Ledger, made: Streams) -> None:
        ledger.lost = True
        alice = Listener()
        await alice.receive()
        assert await made.serve("alice", alice.receive, alice.send, in_thread) is False
        ledger.lost = False
        task = asyncio.create_task(made.serve("alice", alice.receive, alice.send, in_thread))
        await alice.hears("retry")
        ledger.lost = True
        assert await asyncio.to_thread(ledger.looked, 3)
        ledger.lost = False
        ledger.humans.append("alice")
        await alice.hears("data: new")
        alice.hung_up.set()
        await task

    run(story)


# Through the door, with the application behind it


def test_a_signed_in_browser_is_told_of_what_its_human_s_agent_does(world: World, app: Flask) -> None:
    alice = world.human()
    browser = world.signed_in(alice)
    api = world.resource("read")
    agent = world.agent(world.human(), ceiling=[(api, "read")])
    given = world.consented(browser, agent, api, away=True)
    cookie = cookie_of(browser)
    world.ledger(event="none")

    async def story() -> str:
        door, listener = Door(app.wsgi_app, threads=2, streams=Streams(app.extensions[MOVED])), Listener()
        task = asyncio.create_task(door(asked(cookie), listener.receive, listener.send))
        await listener.hears("retry: 1000")
        headers = dict(listener.said[0]["headers"])
        assert listener.said[0]["status"] == 200
        assert headers[b"content-type"].startswith(b"text/event-stream")
        assert headers[b"cache-control"] == b"no-store"
        threading.Thread(target=lambda: world.exchange(agent, given["consent_id"], CONSENT, resource=api.uri).ok()).start()
        await listener.hears("data: new")
        listener.hung_up.set()
        await task
        return listener.text

    said = asyncio.run(asyncio.wait_for(story(), HANG))
    assert alice.id not in said
    assert set(said.split("\n")) <= {"retry: 1000", "data: new", ": here", ""}


def test_nobody_signed_in_gets_none(app: Flask) -> None:
    async def story(cookie: str | None) -> int:
        door, listener = Door(app.wsgi_app, threads=2, streams=Streams(app.extensions[MOVED])), Listener()
        await asyncio.wait_for(door(asked(cookie), listener.receive, listener.send), HANG)
        return int(listener.said[0]["status"])

    assert asyncio.run(story(None)) == 401
    assert asyncio.run(story("A" * 43)) == 401


def test_another_server_answers_that_there_is_no_stream(world: World, app: Flask) -> None:
    browser = world.signed_in(world.human())
    assert isinstance(browser.http, InProcess)
    answer = browser.get("/my/agents/events")
    assert (answer.status, answer.body) == (204, b"")
