"""Where the machine plays: two applications over one state in this process, or a whole node over HTTP."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from flask import Flask
from sqlalchemy import func, select

from app import clock, create_app
from app.audit.models import OutboxRow
from app.database import db
from app.errors import TemporarilyUnavailable
from app.ledger.relay import Relay
from app.ledger.verify import Verifier
from app.live.generation import STREAM
from app.settings import Settings, load_settings
from app.wiring import Server, build, prepare
from tests.dpop import Holder
from tests.faults.node import Node, until
from tests.world import Answer, Http, OverHttp, Party, World

GAP = 12
"""Seconds after a new generation until assertions made before it cannot be on their way any more."""


class Stage:
    """What both have in common."""

    moves_clock = False
    slack = 0
    """Seconds by which the moment of an answer is not known."""

    world: World
    server: Server

    def __init__(self) -> None:
        self.rng = random.Random(0)
        """Drawn anew for each step: which application answers, which tokens are looked at."""
        self.holders = [Holder(), Holder()]

    def now(self) -> int:
        return int(time.time())

    def answered(self, ask: Callable[[], Answer]) -> Answer:
        """An answer that is no 503. Everything sent is made anew for each attempt."""
        for _ in range(60):
            answer = ask()
            assert answer.status < 500 or answer.status == 503, (answer.status, answer.body[:500])
            if answer.status != 503:
                return answer
            assert "Retry-After" in answer.headers
            self.wait()
        raise AssertionError("503 for too long")

    def wait(self) -> None:
        """Somebody was told to come again: his application had not heard of the new generation."""

    def cookie(self, http: Http, name: str) -> str:
        raise NotImplementedError

    def advance(self, seconds: int) -> None:
        raise NotImplementedError

    def may_flush(self) -> bool:
        return True

    def flush(self, *, drained: bool) -> None:
        raise NotImplementedError

    def restart(self, which: int) -> None:
        raise NotImplementedError

    def drain(self) -> None:
        """Everything that happened is in the ledger afterwards."""
        raise NotImplementedError

    def verify(self) -> None:
        """The chain holds from the first entry to the last checkpoint."""
        self.drain()
        server = self.server
        verifier = Verifier(server.database, server.keys.ledger_verification_key, server.settings.issuer)
        verdict = verifier.verify([server.settings.checkpoints_file])
        assert verdict.sound, verdict.findings


class _Cookies:
    """One browser's cookies, whichever application it talks to."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}

    def sent(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {**headers, **({"Cookie": "; ".join(f"{k}={v}" for k, v in self.held.items())} if self.held else {})}

    def keep(self, headers: Any) -> None:
        for line in headers.getlist("Set-Cookie"):
            name, _, rest = line.partition("=")
            value = rest.partition(";")[0]
            if value:
                self.held[name] = value
            else:
                self.held.pop(name, None)


class EitherOne(Http):
    """A caller who reaches one of two applications, who knows which."""

    def __init__(self, stage: InThisProcess) -> None:
        self._stage = stage
        self.cookies = _Cookies()

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        client = self._stage.clients[self._stage.rng.randrange(2)]
        response = client.open(path, method=method, data=body, headers=self.cookies.sent(headers))
        self.cookies.keep(response.headers)
        return Answer(response.status_code, response.headers, response.data)

    def fresh(self) -> Http:
        return EitherOne(self._stage)


class _OnTime(World):
    """A world whose assertions are dated by the server's clock."""

    def assertion(self, client: Party, **claims: Any) -> str:
        now = clock.timestamp()
        return super().assertion(client, **{"iat": now, "exp": now + 60, **claims})


class InThisProcess(Stage):
    """Two applications with caches of their own, the registers of an operator, and a relay that works when it is told to."""

    moves_clock = True

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings
        self._moment = int(time.time())
        prepare(settings)
        self.server = build(settings)
        self._relay = Relay(self.server.database, self.server.live, self.server.keys, settings)
        self._relay.step()
        self._apps: list[Flask] = [create_app(settings), create_app(settings)]
        self.clients = [app.test_client(use_cookies=False) for app in self._apps]
        self.world = _OnTime(self.server, EitherOne(self))

    def now(self) -> int:
        return self._moment

    def advance(self, seconds: int) -> None:
        self._moment += seconds

    def flush(self, *, drained: bool) -> None:
        if drained:
            self.drain()
        self.server.live.redis.call("FLUSHALL")
        self._relay.step()
        self.advance(GAP)

    def restart(self, which: int) -> None:
        self._close(self._apps[which])
        self._apps[which] = create_app(self._settings)
        self.clients[which] = self._apps[which].test_client(use_cookies=False)

    def cookie(self, http: Http, name: str) -> str:
        assert isinstance(http, EitherOne)
        return http.cookies.held[name]

    def drain(self) -> None:
        while self._relay.step() or self.server.live.redis.call("XLEN", STREAM):
            pass

    def close(self) -> None:
        self.server.database.close()
        for app in self._apps:
            self._close(app)

    def _close(self, app: Flask) -> None:
        with app.app_context():
            db.engine.dispose()

    @contextmanager
    def own_clock(self) -> Iterator[None]:
        """In this thread the clock stands still until it is moved; everybody else's goes on."""
        mine, timestamp, milliseconds = threading.get_ident(), clock.timestamp, clock.milliseconds

        def ours() -> bool:
            return threading.get_ident() == mine

        clock.timestamp = lambda: self._moment if ours() else timestamp()
        clock.milliseconds = lambda: self._moment * 1000 if ours() else milliseconds()
        try:
            yield
        finally:
            clock.timestamp, clock.milliseconds = timestamp, milliseconds


class OverTheWire(Stage):
    """A node with several workers. Its clock is everybody's; what takes long there is done a few times."""

    slack = 3

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self.flushes, self.restarts = 1, 2
        """How often at most: each takes seconds."""
        self.server = node.server
        self.world = World(self.server, OverHttp(node.url))

    def wait(self) -> None:
        time.sleep(0.5)

    def may_flush(self) -> bool:
        return self.flushes > 0

    def flush(self, *, drained: bool) -> None:
        self.flushes -= 1
        if drained:
            self.drain()
        self.server.live.redis.call("FLUSHALL")
        until(self._ready, "ready again")
        time.sleep(GAP)

    def restart(self, which: int) -> None:
        if self.restarts <= 0:
            return
        self.restarts -= 1
        workers = self._node.workers()
        old = workers[which % len(workers)]
        self._node.kill(old)
        until(lambda: old not in self._node.workers() and len(self._node.workers()) >= len(workers), "a new worker")
        # Connections to the one that is gone are no use.
        self.world.http = OverHttp(self._node.url)

    def cookie(self, http: Http, name: str) -> str:
        assert isinstance(http, OverHttp)
        return str(http._session.cookies[name])

    def drain(self) -> None:
        def nothing_waits() -> bool:
            with self.server.database.reading() as session:
                waits = session.scalar(select(func.count()).select_from(OutboxRow))
            return not waits and not self.server.live.redis.call("XLEN", STREAM)

        until(nothing_waits, "drained")

    def _ready(self) -> bool:
        try:
            return requests.get(f"{self._node.url}/readyz", timeout=5).status_code == 200 and self.server.live.is_ready()
        except (requests.RequestException, TemporarilyUnavailable):
            return False


def settings_of(directory: Path, redis: str, key: str) -> Settings:
    """Of a deployment in this process: nothing but what the machine does ends anything."""
    return load_settings(
        issuer="http://127.0.0.1:8000",
        var_dir=directory / "var",
        keys_dir=directory / "keys",
        database_url=f"sqlite:///{directory}/deputy.sqlite",
        redis_url=redis,
        redis_timeout=5.0,
        key_encryption_key=key,
        rate_client=0,
        rate_address=0,
        rate_failures=100_000,
        stream_stall=3600.0,
        deadline=60.0,
    )


__all__ = ["InThisProcess", "OverTheWire", "Stage", "settings_of"]
