"""A node as a whole: killed and started again, started twice, asked to stop."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.afterwards import all_dead, check_ledger, recorded, verdict
from tests.faults.load import Cast, Load, cast
from tests.faults.node import HANG, Node, node, until
from tests.world import CONSENT, OverHttp, World, claims_of, encoded

pytestmark = pytest.mark.served


@pytest.fixture(scope="module")
def whole() -> Iterator[Node]:
    with node() as made:
        yield made


@pytest.fixture
def running(whole: Node) -> Node:
    """The same node and its folder for all tests here: each starts where the last left it."""
    if whole._process is None or whole.process.poll() is not None:
        whole.start()
    return whole


@pytest.fixture
def everybody(running: Node) -> Cast:
    """Whoever they are, they are registered once."""
    if not hasattr(running, "everybody"):
        running.everybody = cast(running)  # type: ignore[attr-defined]
    found: Cast = running.everybody  # type: ignore[attr-defined]
    return found


def killed_and_started_again(node: Node, everybody: Cast, kill: Callable[[], None]) -> None:
    load = Load(everybody)
    with load.running():
        load.lossy = load.unreachable_allowed = True
        before = list(load.issued)
        kill()
        node.process.wait(HANG)
        node.start()
        load.settle()
    all_dead(node, everybody.api, before[-40:])
    assert check_ledger(node, everybody.api, load.issued, every=False)
    if not load.refresh_known:
        everybody.renew()


def test_serve_is_killed_and_started_again(running: Node, everybody: Cast) -> None:
    killed_and_started_again(running, everybody, lambda: os.killpg(running.process.pid, signal.SIGKILL))


def test_all_but_the_workers_are_killed_and_it_is_started_again_at_once(running: Node, everybody: Cast) -> None:
    def kill() -> None:
        orphans = running.workers()
        for pid in (running.process.pid, *(running.pid(name) for name in ("web", "relay", "valkey"))):
            running.kill(pid)
        assert orphans

    killed_and_started_again(running, everybody, kill)


@pytest.mark.soak
def test_what_is_left_behind_and_does_not_listen_is_ended(running: Node, everybody: Cast) -> None:
    left = [running.pid(name) for name in ("web", "relay", "valkey")]

    def kill() -> None:
        for pid in left:
            running.kill(pid, signal.SIGSTOP)
        os.killpg(running.process.pid, signal.SIGKILL)

    killed_and_started_again(running, everybody, kill)
    assert not set(left) & {running.pid(name) for name in ("web", "relay", "valkey")}


def test_started_twice_it_says_so_and_exits(running: Node) -> None:
    said = len(running.said())
    second = running.spawn()
    assert second.wait(HANG) == 1
    assert f"Deputy is running already (process {running.process.pid})" in running.said()[said:]
    running.until_ready()


def test_a_port_that_is_taken_is_named(whole: Node) -> None:
    with node() as other, socket.socket() as taken:
        taken.bind(("127.0.0.1", other.settings.port))
        taken.listen()
        assert other.spawn().wait(HANG) == 1
        assert f"cannot listen on 127.0.0.1:{other.settings.port}" in other.said()


def test_asked_to_stop_it_answers_who_is_waiting_and_the_ledger_has_everything(running: Node, everybody: Cast) -> None:
    world = everybody.world
    given: list[str] = []
    trouble: list[str] = []
    stopping = threading.Event()
    lock = threading.Lock()

    def issue() -> None:
        # A connection for each request: one that is kept may be closed as the next request is on its way.
        while not stopping.is_set():
            mine = World(world.server, OverHttp(running.url))
            sent_before = not stopping.is_set()
            try:
                answer = mine.exchange(everybody.runner, everybody.consent, kind=CONSENT, resource=everybody.api.uri)
            except OSError as error:
                if sent_before and not stopping.is_set():
                    trouble.append(repr(error))
                return
            with lock:
                if answer.status == 200:
                    given.append(claims_of(answer.json["access_token"])["jti"])
                elif answer.status != 503 or "Retry-After" not in answer.headers:
                    trouble.append(f"{answer.status} {answer.body!r}")

    threads = [threading.Thread(target=issue, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    until(lambda: len(given) > 50, "tokens")
    # These are half sent when the signal comes, and must be answered. The relay sees their records only at the very end.
    half = [Half(everybody, running) for _ in range(4)]
    for one in half:
        one.begin()
    time.sleep(0.3)
    stopping.set()
    relay = running.pid("relay")
    running.kill(relay, signal.SIGSTOP)
    running.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    for one in half:
        given.append(claims_of(one.end()["access_token"])["jti"])
    until(lambda: not running.group("web"), "the web process ends")
    time.sleep(0.5)
    running.kill(relay, signal.SIGCONT)
    assert running.process.wait(HANG) == 0
    for thread in threads:
        thread.join(HANG)
    assert not trouble, trouble[:5]
    # Nobody is left who could still be writing.
    assert not [pid for name in ("web", "relay", "valkey") for pid in running.group(name)]
    records = recorded(running)
    assert not [jti for jti in given if records[jti] != 1]
    with running.server.database.reading() as session:
        from sqlalchemy import func, select

        from app.audit.models import OutboxRow

        assert session.scalar(select(func.count()).select_from(OutboxRow)) == 0
    assert verdict(running).bad is None
    assert "Deputy has stopped." in running.said()


class Half:
    """A request that is sent in two halves."""

    def __init__(self, everybody: Cast, node: Node) -> None:
        world = everybody.world
        form, headers = world.credentials(everybody.runner)
        form |= {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": everybody.consent,
            "subject_token_type": CONSENT,
            "resource": everybody.api.uri,
        }
        body = encoded(form)
        lines = ["POST /oauth/token HTTP/1.1", f"Host: 127.0.0.1:{node.settings.port}", f"Content-Length: {len(body)}"]
        lines += ["Content-Type: application/x-www-form-urlencoded", *(f"{name}: {value}" for name, value in headers.items())]
        message = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
        self._first, self._second = message[: -len(body) // 2], message[-len(body) // 2 :]
        self._socket = socket.create_connection(("127.0.0.1", node.settings.port), timeout=HANG)

    def begin(self) -> None:
        self._socket.sendall(self._first)

    def end(self) -> dict[str, str]:
        import http.client
        import json

        with self._socket:
            self._socket.sendall(self._second)
            response = http.client.HTTPResponse(self._socket)
            response.begin()
            body = response.read()
            assert response.status == 200, (response.status, body)
            found: dict[str, str] = json.loads(body)
            return found
