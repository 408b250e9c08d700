"""One server for the whole run: a real Redis-protocol server, a real database, a relay; each test brings its own people."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import NullPool, create_engine, make_url

from app.database import Base, Database
from app.humans import passwords
from app.keys import watch
from app.ledger.relay import Relay
from app.settings import Settings, load_settings
from app.wiring import Server, build, prepare
from tests.valkey import valkey
from tests.world import InProcess, World, worker

PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "")
"""Which of the run's processes this is; empty where there is one only."""

GIVEN_DATABASE = os.environ.get("DEPUTY_TEST_DATABASE_URL", "")
"""Where the half on PostgreSQL runs; empty in the half on SQLite."""

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
"""A key-encryption key for tests only."""


passwords.MEMORY, passwords.PASSES = 64, 1
"""Thousands of people are made here. A served Deputy, in a process of its own, hashes as it always does."""

watch.PATIENCE = 10.0
"""A machine that is busy with tests is not a database that is away. A served Deputy is as patient as it always is."""


FIRST = ("minutes", "served", "browser")
"""Marks whose files come first, in this order."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that take minutes come first, then those that wait for servers and browsers: what only computes fills the gaps, and
    nobody waits alone at the end.

    Where a database is given, what would not use it is left out: it runs in the other half, on SQLite.
    """
    if GIVEN_DATABASE:
        other, same = [], []
        for item in items:
            (other if "given_database" in getattr(item, "fixturenames", ()) else same).append(item)
        items[:] = other
        config.hook.pytest_deselected(items=same)
    places: dict[Path, int] = {}
    for item in items:
        mine = next((at for at, mark in enumerate(FIRST) if item.get_closest_marker(mark)), len(FIRST))
        places[item.path] = min(mine, places.get(item.path, mine))
    items.sort(key=lambda item: places[item.path])


@pytest.fixture(scope="session")
def short_dir() -> Iterator[Path]:
    """A folder whose path is short enough for a Unix socket."""
    path = Path(tempfile.mkdtemp(prefix="dpt"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """DEPUTY_TEST_REDIS_URL, with a database for each process of the run, or a Valkey of our own."""
    if url := os.environ.get("DEPUTY_TEST_REDIS_URL"):
        yield f"{url}?db={int(PROCESS[2:]) + 1}" if PROCESS else url
        return
    with valkey() as own:
        yield own


@pytest.fixture(scope="session")
def given_database() -> str:
    """DEPUTY_TEST_DATABASE_URL, whoever makes a database of his own there; empty where none is given."""
    return GIVEN_DATABASE


def _own_database(given: str) -> str:
    """The given database, and beside it one for each further process of the run."""
    if not given or not PROCESS:
        return given
    url = make_url(given)
    own = url.set(database=f"{url.database}_{PROCESS}")
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {own.database}")
        connection.exec_driver_sql(f"CREATE DATABASE {own.database}")
    return own.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def settings(short_dir: Path, redis_url: str, given_database: str) -> Settings:
    """Settings of the run."""
    return load_settings(
        issuer="http://127.0.0.1:8000",
        var_dir=short_dir / "var",
        keys_dir=short_dir / "keys",
        database_url=_own_database(given_database) or f"sqlite:///{short_dir}/deputy.sqlite",
        redis_url=redis_url,
        redis_timeout=2.0,
        deadline=30.0,
        key_encryption_key=KEY,
        allow_agent_secrets=True,
        fetch_loopback=True,
        rate_client=0,
        rate_address=0,
        rate_failures=100_000,
    )


@pytest.fixture(scope="session")
def server(settings: Settings) -> Iterator[Server]:
    """The built server, with its relay running."""
    if not settings.database_url.startswith("sqlite"):
        database = Database.open(settings)
        Base.metadata.drop_all(database.engine)
        with database.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
        database.close()
    prepare(settings)
    built = build(settings)
    built.live.redis.call("FLUSHDB")
    stop = threading.Event()
    relay = Relay(built.database, built.live, built.keys, settings)
    thread = threading.Thread(target=relay.run, args=(stop,), daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not _ready(built):
        assert time.monotonic() < deadline, "the server did not become ready"
        time.sleep(0.05)
    yield built
    stop.set()
    thread.join(10)
    built.database.close()


def _ready(server: Server) -> bool:
    from app.errors import TemporarilyUnavailable

    try:
        return server.live.is_ready()
    except TemporarilyUnavailable:
        return False


@pytest.fixture(scope="session")
def app(settings: Settings, server: Server) -> Iterator[Flask]:
    """The WSGI application."""
    with worker(settings) as made:
        yield made


@pytest.fixture
def world(server: Server, app: Flask) -> World:
    """People and things of one test, and the wire in this process."""
    return World(server, InProcess(app))
