"""gunicorn's configuration for the port with client certificates (`--config python:app.rim.tls`): nobody holds a thread by saying nothing.

A thread waits for a handshake or the rest of a request with no limit of its own, and behind this port no proxy waits for it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

PATIENCE = 5.0
"""Seconds that a caller may be silent in the middle of a handshake, a request or an answer."""


class _Impatient(ssl.SSLSocket):
    def setblocking(self, flag: bool) -> None:  # noqa: FBT001  # the socket module's signature
        self.settimeout(PATIENCE if flag else 0.0)

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  # the ssl module's signature
        self.settimeout(PATIENCE)
        try:
            super().do_handshake(block)
        except TimeoutError:
            raise _gone() from None

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except TimeoutError:
            raise _gone() from None


def ssl_context(_config: Any, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Gunicorn's own context, made for each connection, with patience at an end. There is nothing to resume, so nothing is offered."""
    context = default()
    context.sslsocket_class = _Impatient
    context.num_tickets = 0
    return context


def _gone() -> ssl.SSLError:
    """As if the caller had hung up: gunicorn closes the connection and takes the next."""
    return ssl.SSLError(ssl.SSL_ERROR_EOF, "silent for too long")
