"""One Redis connection per thread, which knows which Redis process it talks to.

redis-py's pool reconnects silently; a command built for one process must never be answered by another, so
a lost connection is an error here and the next call opens a new one, which asks for `run_id` again.
"""

from __future__ import annotations

import threading
from typing import Any

from hiredis import pack_command
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, Connection, parse_url
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from app.errors import ConfigurationError, TemporarilyUnavailable

Reply = Any
"""bytes, int, None, or a list of these."""


class Connections:
    """Calls Redis on this thread's connection. Every trouble is `TemporarilyUnavailable`, never an answer."""

    def __init__(self, url: str, *, timeout: float, scripts: tuple[str, ...] = ()) -> None:
        options = dict(parse_url(url))
        self._class: type[AbstractConnection] = options.pop("connection_class", Connection)
        self._options = options | {
            "socket_timeout": timeout,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
            "decode_responses": False,
            "health_check_interval": 0,
        }
        if self._class is Connection or issubclass(self._class, Connection):
            self._options["socket_connect_timeout"] = timeout
        self._scripts = scripts
        self._local = threading.local()

    @property
    def run_id(self) -> str:
        """The `run_id` of the Redis process this thread is connected to; connects when it is not."""
        self._connected()
        return str(self._local.run_id)

    def call(self, *command: str | bytes | float) -> Reply:
        """One command, one reply. Raises `TemporarilyUnavailable`; the connection is dropped on any doubt."""
        connection = self._connected()
        try:
            # Packed here: redis-py's own packing looks at every argument once more, and ours are of these types only.
            connection.send_packed_command((pack_command(command),), check_health=False)  # type: ignore[arg-type]  # its stub knows one argument only
            return connection.read_response()
        except ResponseError as error:
            # It may have lost our scripts, or have become a replica: whoever connects anew finds out.
            self._drop()
            raise TemporarilyUnavailable(f"redis: {type(error).__name__}") from None
        except (RedisError, OSError) as error:
            self._drop()
            raise TemporarilyUnavailable(f"redis: {type(error).__name__}") from None

    def pipeline(self, commands: list[tuple[str | bytes | int | float, ...]]) -> list[Reply]:
        """Many commands in one write, each reply in order. Raises `TemporarilyUnavailable` on the first failure."""
        connection = self._connected()
        try:
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            return [connection.read_response() for _ in commands]
        except (RedisError, OSError) as error:
            self._drop()
            raise TemporarilyUnavailable(f"redis: {type(error).__name__}") from None

    def check(self) -> None:
        """Refuse a Redis that may forget or answer from a copy. Raises `ConfigurationError` with what to change."""
        found = self._facts("memory") | self._facts("replication") | self._facts("cluster")
        if found.get("maxmemory_policy", "noeviction") != "noeviction" and found.get("maxmemory", "0") != "0":
            raise ConfigurationError("Redis must not evict: set maxmemory-policy noeviction")
        if found.get("role", "master") != "master":
            raise ConfigurationError("DEPUTY_REDIS_URL names a replica; it must be the primary")
        if found.get("cluster_enabled", "0") != "0":
            raise ConfigurationError("Redis cluster mode is not supported; use a single primary")

    def _facts(self, section: str) -> dict[str, str]:
        return _facts(self.call("INFO", section))

    def _connected(self) -> AbstractConnection:
        connection: AbstractConnection | None = getattr(self._local, "connection", None)
        if connection is not None and connection.is_connected:
            return connection
        connection = self._class(**self._options)
        try:
            connection.connect()
            connection.send_command("INFO", "server", check_health=False)
            run_id = _facts(connection.read_response())["run_id"]
            for script in self._scripts:
                connection.send_command("SCRIPT", "LOAD", script, check_health=False)
                connection.read_response()
        except (RedisError, OSError, KeyError) as error:
            connection.disconnect()
            raise TemporarilyUnavailable(f"redis: {type(error).__name__}") from None
        self._local.connection, self._local.run_id = connection, run_id
        return connection

    def _drop(self) -> None:
        connection: AbstractConnection | None = getattr(self._local, "connection", None)
        if connection is not None:
            connection.disconnect()
            self._local.connection = None


def _facts(text: bytes) -> dict[str, str]:
    lines = text.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
