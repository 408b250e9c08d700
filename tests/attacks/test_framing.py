"""Bytes on the wire: where one request ends and the next begins, to gunicorn itself (RFC 9112 §6, §11.2)."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.attacks.scene import FORM
from tests.faults.node import Node, node
from tests.world import BY, Api, World, basic, encoded

pytestmark = pytest.mark.served
SECOND = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
"""What an attacker would slip in behind his own request, to be taken for the next caller's."""


@pytest.fixture(scope="module")
def served() -> Iterator[Node]:
    with node(workers=1, threads=4) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def client(served: Node) -> tuple[str, str]:
    """A client that authenticates by secret."""
    made = served.server.resource_registry.add("https://api.example", name="An API", scopes={"read": "Read"}, by=BY)
    return made.client_id, str(made.client_secret)


def sent(served: Node, octets: bytes, *, wait: float = 20.0, half: bool = False, whole: bool = False) -> bytes:
    """What comes back for these bytes, until the server has answered or, where it was asked to, closes (`whole`)."""
    with socket.create_connection(("127.0.0.1", served.settings.port), timeout=wait) as connection:
        found = b""
        with suppress(OSError):  # it may have hung up already
            connection.sendall(octets)
            if half:
                connection.shutdown(socket.SHUT_WR)
        try:
            while piece := connection.recv(65536):
                found += piece
                if not (half or whole) and _complete(found):
                    break
        except (TimeoutError, ConnectionResetError):
            pass
        return found


def _complete(octets: bytes) -> bool:
    head, separator, body = octets.partition(b"\r\n\r\n")
    length = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return bool(separator and length and len(body) >= int(length[0]))


def statuses(octets: bytes) -> list[int]:
    # A body has no line end of its own: the next answer begins right behind it.
    return [int(status) for status in re.findall(rb"HTTP/1\.\d (\d{3}) ", octets)]


def post(*headers: bytes, body: bytes = b"", path: bytes = b"/oauth/token") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: x", b"Content-Type: " + FORM.encode(), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


FORM_BODY = b"grant_type=client_credentials"
CHUNKED = b"1d\r\n" + FORM_BODY + b"\r\n0\r\n\r\n"
LENGTH = b"Content-Length: %d" % len(FORM_BODY)

SMUGGLED = {
    "a length and chunks": post(LENGTH, b"Transfer-Encoding: chunked", body=CHUNKED + SECOND),
    "chunks and a length": post(b"Transfer-Encoding: chunked", LENGTH, body=CHUNKED + SECOND),
    "an unknown coding": post(b"Transfer-Encoding: xchunked", body=CHUNKED + SECOND),
    "a coding before chunked": post(b"Transfer-Encoding: x, chunked", body=CHUNKED + SECOND),
    "chunked before a coding": post(b"Transfer-Encoding: chunked, x", body=CHUNKED + SECOND),
    "chunked twice": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=CHUNKED + SECOND),
    "chunked, then identity": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=CHUNKED + SECOND),
    "a vertical tab before chunked": post(b"Transfer-Encoding: \x0bchunked", body=CHUNKED + SECOND),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"', body=CHUNKED + SECOND),
    "a space before the colon": post(b"Transfer-Encoding : chunked", body=CHUNKED + SECOND),
    "a space before the length's colon": post(b"Content-Length : 29", body=FORM_BODY + SECOND),
    "two lengths": post(LENGTH, b"Content-Length: 5", body=FORM_BODY + SECOND),
    "two equal lengths": post(LENGTH, LENGTH, body=FORM_BODY + SECOND),
    "a list of lengths": post(b"Content-Length: 29, 29", body=FORM_BODY + SECOND),
    "a length with a sign": post(b"Content-Length: +29", body=FORM_BODY + SECOND),
    "a negative length": post(b"Content-Length: -1", body=FORM_BODY + SECOND),
    "a length with an underscore": post(b"Content-Length: 2_9", body=FORM_BODY + SECOND),
    "a hexadecimal length": post(b"Content-Length: 0x1d", body=FORM_BODY + SECOND),
    "a length of Arabic digits": post("Content-Length: ٢٩".encode(), body=FORM_BODY + SECOND),
    "a folded header": post(b"X: y\r\n Transfer-Encoding: chunked", LENGTH, body=FORM_BODY + SECOND),
    "a bare line feed": b"POST /oauth/token HTTP/1.1\nHost: x\nContent-Length: 0\n\n" + SECOND,
    "a bare carriage return": post(b"X: y\rTransfer-Encoding: chunked", LENGTH, body=FORM_BODY + SECOND),
    "NUL in a header": post(b"X: \x00y", LENGTH, body=FORM_BODY + SECOND),
    "NUL in a name": post(b"X\x00: y", LENGTH, body=FORM_BODY + SECOND),
    "an empty name": post(b": y", LENGTH, body=FORM_BODY + SECOND),
    "a name with a space": post(b"X y: z", LENGTH, body=FORM_BODY + SECOND),
    "a name with an underscore": post(b"Transfer_Encoding: chunked", b"Content_Length: 0", LENGTH, body=FORM_BODY),
    "a header without a colon": post(b"X", LENGTH, body=FORM_BODY + SECOND),
    "a bad chunk size": post(b"Transfer-Encoding: chunked", body=b"0x1d\r\n" + FORM_BODY + b"\r\n0\r\n\r\n" + SECOND),
    "a signed chunk size": post(b"Transfer-Encoding: chunked", body=b"+1d\r\n" + FORM_BODY + b"\r\n0\r\n\r\n" + SECOND),
    "a negative chunk size": post(b"Transfer-Encoding: chunked", body=b"-1d\r\n" + FORM_BODY + b"\r\n0\r\n\r\n" + SECOND),
    "a chunk size with an underscore": post(b"Transfer-Encoding: chunked", body=b"1_d\r\n" + FORM_BODY + b"\r\n0\r\n\r\n" + SECOND),
    "a chunk longer than its size": post(b"Transfer-Encoding: chunked", body=b"5\r\n" + FORM_BODY + b"\r\n0\r\n\r\n" + SECOND),
    "a chunk ended by a line feed": post(b"Transfer-Encoding: chunked", body=b"1d\n" + FORM_BODY + b"\n0\n\n" + SECOND),
    "a huge chunk size": post(b"Transfer-Encoding: chunked", body=b"f" * 40 + b"\r\n" + FORM_BODY),
    "no chunk size": post(b"Transfer-Encoding: chunked", body=b"\r\n" + FORM_BODY + b"\r\n0\r\n\r\n"),
    "an endless chunk line": post(b"Transfer-Encoding: chunked", body=b"1d;" + b"x" * 100_000),
    "no version": b"POST /oauth/token\r\n\r\n" + SECOND,
    "another version": b"POST /oauth/token HTTP/9.9\r\nHost: x\r\n\r\n" + SECOND,
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
    "a method in small letters": b"post /oauth/token HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the path": b"POST /oauth/token x HTTP/1.1\r\nHost: x\r\n\r\n",
    "control characters in the path": b"GET /\x01\x7f HTTP/1.1\r\nHost: x\r\n\r\n",
    "a very long line": b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a very long header": post(b"X: " + b"y" * 100_000),
    "a thousand headers": post(*(b"X-%d: y" % n for n in range(1000))),
    "a proxy's line": b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\nGET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", SMUGGLED)
def test_a_request_with_two_ends_is_refused_and_nothing_behind_it_is_read(served: Node, name: str) -> None:
    """2.12.154, CVE-2024-1135, CVE-2024-6827: one refusal, the connection closed, and no answer to what stood behind."""
    answer = sent(served, SMUGGLED[name], half=True)
    found = statuses(answer)
    assert len(found) <= 1, answer[:300]
    assert all(400 <= status < 500 or status in {501, 505} for status in found), answer[:300]
    assert b"deputy_http" not in answer
    assert b"Traceback" not in answer


def test_the_server_goes_on_answering(served: Node, client: tuple[str, str]) -> None:
    answer = sent(served, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert statuses(answer) == [200]


def authorization(client: tuple[str, str]) -> bytes:
    return b"Authorization: " + basic(*client)["Authorization"].encode()


def test_a_chunked_body_is_read_as_what_it_is(served: Node, client: tuple[str, str]) -> None:
    for chunks in (
        b"7\r\ntoken=x\r\n0\r\n\r\n",
        b"5\r\ntoken\r\n2\r\n=x\r\n0\r\n\r\n",
        b"7;a=b\r\ntoken=x\r\n0\r\nX: y\r\n\r\n",
        b"007\r\ntoken=x\r\n0\r\n\r\n",
    ):
        answer = sent(served, post(b"Transfer-Encoding: chunked", authorization(client), body=chunks, path=b"/oauth/introspect"))
        assert statuses(answer) == [200], answer
        assert answer.endswith(b'{"active":false}')


def test_a_chunked_body_has_a_largest_size_too(served: Node) -> None:
    chunks = b"".join(b"8000\r\n" + b"x" * 0x8000 + b"\r\n" for _ in range(40)) + b"0\r\n\r\n"
    answer = sent(served, post(b"Transfer-Encoding: chunked", body=chunks))
    assert statuses(answer) in ([400], [413], [])


@pytest.mark.parametrize("order", [0, 1])
def test_two_authorization_headers_are_refused_though_gunicorn_joins_them(served: Node, client: tuple[str, str], order: int) -> None:
    """2.2.25."""
    headers = [authorization(client), b"Authorization: Bearer x"]
    answer = sent(served, post(*(headers if order else headers[::-1]), b"Content-Length: 7", body=b"token=x", path=b"/oauth/introspect"))
    assert statuses(answer) == [400]
    assert b'"invalid_request"' in answer


def test_the_same_authorization_header_twice_is_refused_too(served: Node, client: tuple[str, str]) -> None:
    answer = sent(
        served, post(authorization(client), authorization(client), b"Content-Length: 7", body=b"token=x", path=b"/oauth/introspect")
    )
    assert statuses(answer) == [400]


@pytest.mark.parametrize(
    "value",
    [b"\xff\xfe", b"Basic \xff\xfe", b"Basic " + base64.b64encode(b"\xff\xfe"), "Basic é".encode(), b"Basic \t", b"Basic YzE6$$czM="],
)
def test_a_header_that_is_no_text_is_401_and_never_500(served: Node, value: bytes) -> None:
    answer = sent(served, post(b"Authorization: " + value, b"Content-Length: 7", body=b"token=x", path=b"/oauth/introspect"))
    assert statuses(answer) in ([401], [400])


def test_senders_who_never_finish_and_idle_connections_hold_no_thread(served: Node) -> None:
    """A request reaches the application when all of it is there. How many may wait is for the proxy in front (docs/operations.md)."""
    with ExitStack() as open_connections:
        for n in range(16 * served.settings.threads):
            connection = open_connections.enter_context(socket.create_connection(("127.0.0.1", served.settings.port), timeout=20))
            if n % 2:
                connection.sendall(post(b"Content-Length: 500", body=b"grant"))
        for path in (b"/healthz", b"/login"):
            assert statuses(sent(served, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")) == [200]


def test_pipelined_requests_are_answered_each_for_itself(served: Node, client: tuple[str, str]) -> None:
    """Nothing of the first (its client, its cookie, its form) is seen by the second."""
    first = post(authorization(client), b"Content-Length: 7", body=b"token=x", path=b"/oauth/introspect")
    second = post(b"Content-Length: 7", b"Connection: close", body=b"token=x", path=b"/oauth/introspect")
    answer = sent(served, first + second, whole=True)
    assert statuses(answer) == [200, 401]


def test_the_log_of_all_this_is_lines_of_printable_text(served: Node, client: tuple[str, str]) -> None:
    for line in served.said().splitlines():
        assert len(line) < 2000
        assert all(" " <= char <= "~" for char in line), line
        assert client[1] not in line


def test_the_world_outside_still_works(served: Node) -> None:
    world: World = served.world()
    api: Api = world.resource("read")
    assert world.post("/oauth/introspect", {"token": "x"}, basic(api.client_id, api.client_secret)).ok() == {"active": False}
    assert encoded({"a": "b"}) == b"a=b"
