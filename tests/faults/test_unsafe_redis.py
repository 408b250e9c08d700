"""A Redis that may forget or answer from a copy is refused when live state is built; nothing is issued on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import ConfigurationError, TemporarilyUnavailable
from app.ledger.relay import Relay
from app.live.connection import Connections
from app.settings import load_settings
from app.wiring import build, prepare
from tests.conftest import KEY
from tests.valkey import NEVER_EVICTS, valkey


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
def test_one_that_evicts(policy: str) -> None:
    with valkey(maxmemory="100mb", **{"maxmemory-policy": policy}) as url:
        with pytest.raises(ConfigurationError, match="must not evict"):
            Connections(url, timeout=2).check()


def test_one_with_a_limit_that_refuses_writes_is_taken() -> None:
    with valkey(maxmemory="100mb", **NEVER_EVICTS) as url:
        Connections(url, timeout=2).check()


def test_a_replica_on_which_nothing_is_issued(short_dir: Path) -> None:
    directory = short_dir / "replica"
    directory.mkdir()
    with valkey() as url:
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
