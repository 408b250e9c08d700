"""The application as gunicorn's event-loop worker calls it: brief answers on the loop, everything else in threads.

A thread costs a hand-over for each request, and an idle connection costs a thread; token requests and introspection are
so brief that handing them over takes longer than they do. What may wait for a disk, a password hash or a person stays
in threads, and so does everything for a second once something brief was not.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes

from app import clock
from app.application import MAX_BODY, MOVED, application
from app.rim.logs import BEGAN
from app.rim.streams import STREAM, Streams
from app.settings import load_settings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BRIEF = frozenset({"/oauth/token", "/oauth/introspect", "/oauth/jwks", "/healthz"})
"""Paths whose answers need no more than memory, one round trip to Redis and a signature."""

AUTHORIZED = (b"authorization_code", b"refresh_token", b"ciba", b"grant-type%3Ajwt-bearer", b"grant-type:jwt-bearer")
"""In a form that has one of these, a row of SQL is moved: not brief. A hint, never a decision.

`jwt-bearer` alone would be every client assertion's type, too.
"""

LONG = 0.02
"""Seconds on the loop after which an answer was not brief."""

CALM = 1.0
"""Seconds for which everything goes to threads after that."""


class Answer(NamedTuple):
    """What the application answered: its first piece, and the pieces that follow."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    rest: Iterator[bytes] | None
    close: Callable[[], None] | None


class Door:
    """An ASGI application around the WSGI one."""

    def __init__(self, inner: WSGIApplication, *, threads: int, streams: Streams | None = None) -> None:
        self._inner = inner
        self._streams = streams
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="request")
        self._not_before = 0.0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request. What is no HTTP request is refused."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close"})
            return
        began = clock.monotonic()
        body = await _body(receive)
        if body is None:
            return
        environ = _environ(scope, body)
        environ[BEGAN] = began
        brief = self._is_brief(scope["path"], body)
        if brief:
            answer = self._answer(environ)
            if clock.monotonic() - began > LONG:
                self._not_before = clock.monotonic() + CALM
        else:
            answer = await self._in_thread(self._answer, environ)
        try:
            human = environ.get(STREAM)
            if self._streams is not None and human is not None and await self._streams.serve(human, receive, send, self._in_thread):
                return
            await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
            await send({"type": "http.response.body", "body": answer.body, "more_body": answer.rest is not None})
            if answer.rest is not None:
                while (piece := await self._in_thread(next, answer.rest, None)) is not None:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await self._close(answer, brief=brief)

    async def _close(self, answer: Answer, *, brief: bool) -> None:
        if answer.close is None:
            return
        if brief:
            answer.close()
        else:
            await self._in_thread(answer.close)

    def _is_brief(self, path: str, body: bytes) -> bool:
        return path in BRIEF and clock.monotonic() >= self._not_before and not any(word in body for word in AUTHORIZED)

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        status, headers = 0, list[tuple[bytes, bytes]]()

        def start(line: str, said: list[tuple[str, str]], _exc_info: object = None) -> Callable[[bytes], object]:
            nonlocal status, headers
            status, headers = int(line[:3]), [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in said]
            return _no_write

        found = self._inner(environ, start)
        close = getattr(found, "close", None)
        pieces = iter(found)
        first = next(pieces, b"")
        second = next(pieces, None) if first else None
        if second is None:
            return Answer(status, headers, first, None, close)
        return Answer(status, headers, first, _from(second, pieces), close)


def _from(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _no_write(_octets: bytes) -> object:
    raise NotImplementedError("write() of PEP 3333 is for old applications")


async def _body(receive: Receive) -> bytes | None:
    """The body, or as much of it as says that it is too large; None when the caller has gone."""
    message = await receive()
    if message["type"] != "http.request":
        return None
    body: bytes = message.get("body", b"")
    while message.get("more_body") and len(body) <= MAX_BODY:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
    return body


def _environ(scope: Message, body: bytes) -> WSGIEnvironment:
    """The WSGI environment of PEP 3333. A header sent twice is joined by a comma (RFC 9110 §5.3)."""
    client, server = scope.get("client"), scope.get("server")
    path: bytes = scope["raw_path"].partition(b"?")[0]
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": (unquote_to_bytes(path) if b"%" in path else path).decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0] if server else "",
        "SERVER_PORT": str(server[1]) if server else "",
        "SERVER_PROTOCOL": "HTTP/" + scope["http_version"],
        "REMOTE_ADDR": client[0] if client else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for raw, value in scope["headers"]:
        name, text = _variable(raw), value.decode("latin-1")
        environ[name] = f"{environ[name]},{text}" if name in environ else text
    return environ


@lru_cache(maxsize=1024)
def _variable(header: bytes) -> str:
    """The WSGI name of a header (RFC 3875 §4.1.18)."""
    name = header.decode("latin-1").upper().replace("-", "_")
    return name if name in {"CONTENT_TYPE", "CONTENT_LENGTH"} else "HTTP_" + name


def door() -> Door:
    """What gunicorn calls in each worker: `app.serving:door()`."""
    settings = load_settings()
    app = application(settings)
    return Door(app.wsgi_app, threads=settings.threads, streams=Streams(app.extensions[MOVED]))
