"""A small server of its own, whose relay moves only when a test says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.engine import make_url

from app.audit import record, serialize
from app.audit.events import Changed, Event, Who
from app.database import Base, Database
from app.ledger.models import EntryRow
from app.ledger.relay import Relay
from app.ledger.verify import Verdict, Verifier
from app.live.commit import Commit
from app.live.generation import STREAM
from app.settings import Settings, load_settings
from app.wiring import Server, build, prepare
from tests.conftest import KEY
from tests.valkey import valkey


@dataclass
class Small:
    """The server, and its one relay."""

    server: Server
    relay: Relay

    @property
    def checkpoints(self) -> Path:
        return self.server.settings.checkpoints_file

    def another_relay(self, holder: str = "") -> Relay:
        server = self.server
        return Relay(server.database, server.live, server.keys, server.settings, holder=holder)

    def deed(self, number: int = 0) -> str:
        """A record in the outbox."""
        with self.server.database.transaction() as session:
            return record(session, self.event(number))

    def streamed(self, number: int = 0) -> str:
        """A record in the stream."""
        return self.said(self.event(number))

    def said(self, event: Event) -> str:
        """The event's record in the stream."""
        identifier, body = serialize(event)
        self.server.live.commit(Commit(record=body))
        return identifier

    def slipped_in(self, body: bytes) -> None:
        """Something in the stream that came past the server."""
        self.server.live.redis.call("XADD", STREAM, "*", "r", body)

    def ids(self) -> list[str]:
        """The ids of what is entered, in its order."""
        with self.server.database.reading() as session:
            return list(session.scalars(select(EntryRow.id).order_by(EntryRow.seq)))

    def records(self, event: str) -> list[dict[str, Any]]:
        """What is entered under an event's name."""
        with self.server.database.reading() as session:
            rows = session.scalars(select(EntryRow.record).where(EntryRow.event == event).order_by(EntryRow.seq))
            return [orjson.loads(row) for row in rows]

    def waiting(self) -> int:
        """How many records are in the stream."""
        return int(self.server.live.redis.call("XLEN", STREAM))

    @property
    def on_sqlite(self) -> bool:
        return self.server.settings.database_url.startswith("sqlite")

    def event(self, number: int) -> Event:
        return Changed(who=Who(operator="test", human=f"hum_{number}"), kind="test", target=f"t{number}", what={"n": number})

    def verify(self, *files: Path) -> Verdict:
        server = self.server
        return Verifier(server.database, server.keys.ledger_verification_key, server.settings.issuer).verify(files)


@pytest.fixture(scope="session")
def own_redis() -> Iterator[str]:
    with valkey() as url:
        yield url


@pytest.fixture(scope="session")
def own_postgresql(given_database: str) -> Iterator[str | None]:
    """A database beside the run's own where that is PostgreSQL; None where it is SQLite."""
    if not given_database:
        yield None
        return
    name = f"ledger_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
    outside = create_engine(given_database, isolation_level="AUTOCOMMIT")
    with outside.connect() as connection:
        connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
    yield make_url(given_database).set(database=name).render_as_string(hide_password=False)
    with outside.connect() as connection:
        connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    outside.dispose()


def emptied(settings: Settings) -> None:
    """Nothing of the test before."""
    database = Database.open(settings)
    Base.metadata.drop_all(database.engine)
    with database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
    database.close()


@pytest.fixture
def small(own_redis: str, own_postgresql: str | None, tmp_path: Path) -> Iterator[Small]:
    settings = load_settings(
        issuer="http://127.0.0.1:8000",
        var_dir=tmp_path / "var",
        keys_dir=tmp_path / "keys",
        database_url=own_postgresql or f"sqlite:///{tmp_path}/deputy.sqlite",
        redis_url=own_redis,
        redis_timeout=2.0,
        stream_stall=1.0,
        key_encryption_key=KEY,
    )
    if own_postgresql:
        emptied(settings)
    prepare(settings)
    server = build(settings)
    server.live.redis.call("FLUSHALL")
    made = Small(server, Relay(server.database, server.live, server.keys, settings, holder="one"))
    try:
        made.relay.step()
        made.relay.drain()
        yield made
    finally:
        server.database.close()
