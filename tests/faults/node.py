"""A whole `deputy serve`, watched from outside, and the registers of the same deployment built in this process."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests

from app.errors import TemporarilyUnavailable
from app.settings import Settings, load_settings
from app.wiring import Server, build
from tests.conftest import KEY
from tests.world import OverHttp, World

ROOT = Path(__file__).resolve().parents[2]

HANG = 120.0
"""Seconds after which something is stuck. Nothing here is measured against it."""


def until(good: Callable[[], Any], what: str, *, within: float = HANG) -> Any:
    """Poll until something is so. Trouble on the way is "not yet"."""
    end = time.monotonic() + within
    trouble: object = None
    while time.monotonic() < end:
        try:
            if found := good():
                return found
        except (TemporarilyUnavailable, OSError, requests.RequestException) as error:
            trouble = error
        time.sleep(0.05)
    raise AssertionError(f"not within {within} s: {what} ({trouble!r})")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Node:
    """One `deputy serve` in its own folder and on its own port; it can be started, hurt and stopped."""

    __test__ = False

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.directory = directory
        self.log = directory / "serve.log"
        self._given: dict[str, Any] = {
            "var_dir": directory / "var",
            "keys_dir": directory / "keys",
            "port": free_port(),
            "workers": 2,
            "key_encryption_key": KEY,
            "allow_agent_secrets": True,
            "rate_client": 0,
            "rate_address": 0,
            "rate_failures": 100_000,
            **settings,
        }
        self.settings: Settings = load_settings(**self._given)
        self.url = f"http://127.0.0.1:{self.settings.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._server: Server | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The same settings for another process."""
        return _environment(self._given)

    # Start and stop

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def spawn(self, **more: Any) -> subprocess.Popen[bytes]:
        """Start `deputy serve` and do not wait."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("DEPUTY_", "PROMETHEUS_"))}
        environment |= self.environment | _environment(more)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "app", "serve"],
                cwd=ROOT,
                env=environment | {"PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self, **more: Any) -> None:
        """Start it and wait until it is ready."""
        self._process = self.spawn(**more)
        self.until_ready()

    def until_ready(self) -> None:
        def ready() -> bool:
            assert self.process.poll() is None, f"serve ended with {self.process.returncode}:\n{self.said()}"
            return requests.get(f"{self.url}/readyz", timeout=10).status_code == 200

        until(ready, "ready")

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(HANG)

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self._server is not None:
            self._server.database.close()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
        left = [pid for name in ("mtls", "web", "relay", "valkey") for pid in self.group(name)]
        for pid in [*([self._process.pid] if self._process is not None and self._process.poll() is None else []), *left]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.wait(HANG)

    def said(self) -> str:
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    # From inside

    @property
    def server(self) -> Server:
        """The registers, built here with the same settings: what an operator's command line has."""
        if self._server is None:
            self._server = build(self.settings)
        return self._server

    def world(self) -> World:
        return World(self.server, OverHttp(self.url))

    # Its processes

    def pid(self, name: str) -> int:
        """The process that holds the lock of `valkey`, `relay` or `web`; 0 when nothing is written there."""
        text = (self.settings.var_dir / f"{name}.lock").read_text().strip() if (self.settings.var_dir / f"{name}.lock").exists() else ""
        return int(text) if text.isdigit() else 0

    def group(self, name: str) -> list[int]:
        """Every living process of a child's group."""
        leader = self.pid(name)
        return [pid for pid, stat in _processes() if leader and stat.group == leader]

    def workers(self) -> list[int]:
        """gunicorn's workers."""
        master = self.pid("web")
        return [pid for pid, stat in _processes() if stat.parent == master]

    def kill(self, pid: int, with_signal: int = signal.SIGKILL) -> None:
        assert pid > 1
        os.kill(pid, with_signal)

    def kill_child(self, name: str) -> int:
        """kill -9 of a child, and wait until there is another in its place. Returns the new process."""
        old = self.pid(name)
        self.kill(old)
        return int(until(lambda: (pid := self.pid(name)) not in {0, old} and pid, f"a new {name}"))


class _Stat:
    def __init__(self, text: str) -> None:
        state, parent, group = text.rpartition(")")[2].split()[:3]
        self.alive = state not in "ZX"
        self.parent, self.group = int(parent), int(group)


def _processes() -> Iterator[tuple[int, _Stat]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                stat = _Stat((entry / "stat").read_text())
                if stat.alive:
                    yield int(entry.name), stat


def _environment(settings: dict[str, Any]) -> dict[str, str]:
    return {f"DEPUTY_{name.upper()}": str(int(value)) if isinstance(value, bool) else str(value) for name, value in settings.items()}


@contextmanager
def node(**settings: Any) -> Iterator[Node]:
    """A node that was not started yet, in a folder whose path is short enough for a Unix socket."""
    directory = Path(tempfile.mkdtemp(prefix="dpn"))
    made = Node(directory, **settings)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(directory, ignore_errors=True)
