"""A server of its own in this process, whose relay moves only when a test says so, and whose Redis may be lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.ledger.relay import Relay
from app.settings import Settings, load_settings
from app.wiring import Server, build, prepare
from tests.conftest import KEY
from tests.world import InProcess, World, worker


@dataclass
class Alone:
    """The application, the registers an operator has, and the one relay."""

    server: Server
    relay: Relay
    world: World

    @property
    def settings(self) -> Settings:
        return self.server.settings

    def forget(self) -> None:
        """Lose everything Redis holds, and open the next generation."""
        self.server.live.redis.call("FLUSHALL")
        self.relay.step()

    def relay_of(self, holder: str) -> Relay:
        server = self.server
        return Relay(server.database, server.live, server.keys, server.settings, holder=holder)


@contextmanager
def alone(redis_url: str, directory: Path, **more: Any) -> Iterator[Alone]:
    settings = load_settings(
        **{
            "issuer": "http://127.0.0.1:8000",
            "var_dir": directory / "var",
            "keys_dir": directory / "keys",
            "database_url": f"sqlite:///{directory}/deputy.sqlite",
            "redis_url": redis_url,
            "redis_timeout": 2.0,
            "key_encryption_key": KEY,
            "allow_agent_secrets": True,
            "rate_client": 0,
            "rate_address": 0,
            "rate_failures": 100_000,
            **more,
        }
    )
    prepare(settings)
    server = build(settings)
    server.live.redis.call("FLUSHALL")
    relay = Relay(server.database, server.live, server.keys, settings, holder="one")
    relay.step()
    with worker(settings) as app:
        yield Alone(server, relay, World(server, InProcess(app)))
        server.database.close()
