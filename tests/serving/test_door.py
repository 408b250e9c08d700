"""The door between gunicorn's event loop and the application: what is answered where, and what passes through (ADR 17)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from app import clock
from app.application import MAX_BODY
from app.serving import CALM, LONG, Door

Environ = dict[str, Any]
Inner = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Spoken:
    """What one request got, and where it was answered."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])


def spoken(door: Door, path: str = "/oauth/token", *pieces: bytes, gone: bool = False, **scope: Any) -> Spoken:
    """One request through the door, its body in these pieces; `gone`: the caller hangs up before the end."""
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    waiting.append({"type": "http.disconnect"} if gone else {"type": "http.request", "body": b"", "more_body": False})
    said = Spoken()

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        said.messages.append(dict(message))

    asked = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        **scope,
    }
    asyncio.run(door(asked, receive, send))
    return said


def where(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
    """An application that says in which thread it runs and what it read."""
    body = environ["wsgi.input"].read()
    start("200 OK", [("X-Thread", threading.current_thread().name)])
    return [threading.current_thread().name.encode() + b" " + body]


def in_thread(said: Spoken) -> bool:
    return said.body.startswith(b"request")


@pytest.mark.parametrize(
    ("path", "body", "threaded"),
    [
        ("/oauth/token", b"grant_type=client_credentials", False),
        ("/oauth/token", b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange", False),
        ("/oauth/introspect", b"token=x", False),
        ("/healthz", b"", False),
        ("/oauth/token", b"grant_type=authorization_code", True),
        ("/oauth/token", b"grant_type=refresh_token", True),
        ("/oauth/revoke", b"token=x", True),
        ("/login", b"", True),
        ("/oauth/token/", b"", True),
    ],
)
def test_what_is_brief_is_answered_on_the_loop_and_the_rest_in_threads(path: str, body: bytes, threaded: bool) -> None:
    said = spoken(Door(where, threads=1), path, body)
    assert (said.status, in_thread(said), said.body.endswith(b" " + body)) == (200, threaded, True)


def test_after_an_answer_that_was_not_brief_everything_is_threaded_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)

    def slow(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        nonlocal now
        now += 2 * LONG
        return where(environ, start)

    door = Door(slow, threads=1)
    assert not in_thread(spoken(door))
    assert in_thread(spoken(door))
    now += CALM
    assert not in_thread(spoken(door))


def test_a_body_in_pieces_is_one_and_one_that_is_too_large_is_not_read_to_its_end() -> None:
    door = Door(where, threads=1)
    assert spoken(door, "/x", b"a", b"b", b"c").body.endswith(b" abc")
    half = b"x" * (MAX_BODY // 2 + 1)
    assert len(spoken(door, "/x", half, half, half, half).body) < 3 * len(half)


def test_who_hangs_up_before_the_end_of_his_request_gets_nothing_done() -> None:
    called: list[object] = []

    def inner(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        called.append(environ)
        return where(environ, start)

    assert not spoken(Door(inner, threads=1), "/x", b"half", gone=True).messages
    assert not called


def test_headers_paths_and_addresses_arrive_as_wsgi_has_them() -> None:
    seen: Environ = {}

    def inner(environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        seen.update(environ)
        return where(environ, start)

    headers = [(b"content-type", b"a/b"), (b"x-two", b"1"), (b"x-two", b"\xe9"), (b"content-length", b"0"), (b"authorization", b"Basic x")]
    spoken(Door(inner, threads=1), raw_path=b"/%E2%82%AC%2Fx", query_string=b"a=%20", headers=headers)
    assert seen["PATH_INFO"].encode("latin-1") == "/€/x".encode()
    assert (seen["QUERY_STRING"], seen["REMOTE_ADDR"], seen["SERVER_PORT"]) == ("a=%20", "127.0.0.1", "2")
    assert (seen["CONTENT_TYPE"], seen["CONTENT_LENGTH"], seen["HTTP_X_TWO"]) == ("a/b", "0", "1,\xe9")
    assert seen["HTTP_AUTHORIZATION"] == "Basic x"
    assert "HTTP_CONTENT_TYPE" not in seen


def test_a_long_answer_goes_out_piece_by_piece_and_is_closed() -> None:
    closed: list[bool] = []

    class Pieces:
        def __iter__(self) -> Any:
            return iter([b"1", b"2", b"3"])

        def close(self) -> None:
            closed.append(True)

    def inner(_environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        start("200 OK", [])
        return Pieces()

    said = spoken(Door(inner, threads=1), "/x")
    assert [message.get("body") for message in said.messages[1:]] == [b"1", b"2", b"3", b""]
    assert closed == [True]


def test_what_is_no_request_is_refused() -> None:
    def inner(_environ: Environ, _start: Callable[..., Any]) -> Iterable[bytes]:
        raise AssertionError("nobody asked")

    assert spoken(Door(inner, threads=1), type="websocket").messages == [{"type": "websocket.close"}]
