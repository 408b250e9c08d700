"""Server-sent events: a page is told that something is new, and asks what (HTML Living Standard §9.2).

A stream says nothing but that: what is new is asked for by the page, as whoever is signed in then. One watcher in each worker
reads the ledger for everybody who waits, and none does while nobody waits. A stream lives a minute, and is asked for anew.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from app import clock
from app.errors import TemporarilyUnavailable

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
InThread = Callable[..., Awaitable[Any]]

Moved = Callable[[int | None], tuple[int, frozenset[str]]]
"""From a number of the ledger to the newest looked at, and the humans in whose names there is something above it. None: only the newest."""

STREAM = "deputy.stream"
"""In the environment of a request whose answer is a stream for this human. Where nobody makes it one, the answer is 204."""

PACE = 0.5
"""Seconds between two looks at the ledger."""

BEAT = 15.0
"""Seconds after which a silent stream says that it lives."""

LIFE = 60.0
"""Seconds after which a stream ends and is asked for anew, by whoever is signed in then."""

EACH, MOST = 6, 1000
"""Streams of one human, and of one worker."""

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


class Streams:
    """The streams of one worker, on its loop."""

    def __init__(self, moved: Moved) -> None:
        self._moved = moved
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._watcher: asyncio.Task[None] | None = None
        self._after = 0
        """Entries of the ledger up to this one have been told of."""

    async def serve(self, human: str, receive: Receive, send: Send, in_thread: InThread) -> bool:
        """Be one stream until its time is up or nobody listens any more. False, and nothing sent, where there is no room for it."""
        if len(self._waiting.get(human, ())) >= EACH or sum(map(len, self._waiting.values())) >= MOST:
            return False
        new, end = asyncio.Event(), clock.monotonic() + LIFE
        self._waiting[human].add(new)
        try:
            if self._watcher is None or self._watcher.done():
                # First where it begins, then the answer: what comes after the page's first question is told.
                self._after, _ = await in_thread(self._moved, None)
                self._watcher = asyncio.create_task(self._watch(in_thread))
            await self._tell(new, end, receive, send)
        except TemporarilyUnavailable:
            return False
        finally:
            self._waiting[human].discard(new)
            if not self._waiting[human]:
                del self._waiting[human]
        return True

    async def _tell(self, new: asyncio.Event, end: float, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_gone(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send(_said("retry: 1000\n\n"))
            while not gone.done() and (left := end - clock.monotonic()) > 0:
                waits = asyncio.create_task(new.wait())
                await asyncio.wait({waits, gone}, timeout=min(BEAT, left), return_when=asyncio.FIRST_COMPLETED)
                waits.cancel()
                if not gone.done():
                    await send(_said("data: new\n\n" if new.is_set() else ": here\n\n"))
                new.clear()
            if not gone.done():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()

    async def _watch(self, in_thread: InThread) -> None:
        while self._waiting:
            try:
                self._after, humans = await in_thread(self._moved, self._after)
            except TemporarilyUnavailable:
                humans = frozenset()
            for human in humans & self._waiting.keys():
                for new in self._waiting[human]:
                    new.set()
            await asyncio.sleep(PACE)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        """What else comes says nothing."""


def _said(text: str) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}
