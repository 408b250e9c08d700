"""Whether the node's own web workers answer."""

from __future__ import annotations

import http.client

from app.settings import Settings


def reachable_host(settings: Settings) -> str:
    """Where to ask: a server that listens on every address has none of its own."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.bind_host, settings.bind_host)  # noqa: S104  # not to listen


def readiness(settings: Settings, timeout: float) -> int:
    """The status of `/readyz`, within `timeout` seconds. Raises OSError or HTTPException where nothing answers."""
    connection = http.client.HTTPConnection(reachable_host(settings), settings.port, timeout=timeout)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    finally:
        connection.close()
