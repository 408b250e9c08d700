"""Server-side request forgery: the one function that fetches goes to public addresses over TLS, and nowhere else."""

from __future__ import annotations

import datetime as dt
import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests.adapters
import urllib3.util.connection
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.fetch import MAX_BYTES, Fetch, FetchFailed

PUBLIC = "93.184.216.34"
BODY = b'{"keys": []}'


def resolving(*answers: str) -> tuple[Callable[..., Any], list[str]]:
    """A resolver that gives all of these at once, and the names it was asked."""
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in answers]

    return resolve, asked


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Where somebody tried to connect to; nobody gets through."""
    found: list[tuple[str, int]] = []

    def refuse(address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        found.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(urllib3.util.connection, "create_connection", refuse)
    return found


LOOPBACK = ("127.0.0.1", "127.8.8.8", "::1")
INSIDE = (
    "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1",
    "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00::1", "ff02::1", "2001:db8::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
)  # fmt: skip


@pytest.mark.parametrize(("address", "loopback"), [*((one, False) for one in (*LOOPBACK, *INSIDE)), *((one, True) for one in INSIDE)])
def test_a_name_that_leads_inside_is_not_followed(address: str, loopback: bool, connected: list[Any]) -> None:
    """`loopback`: what development may is this machine, and no other that is not public."""
    with pytest.raises(FetchFailed, match="public"):
        Fetch(allow_loopback=loopback, resolve=resolving(address)[0]).json("https://issuer.example/keys")
    assert connected == []


def test_a_public_address_beside_an_inner_one_makes_it_no_better(connected: list[Any]) -> None:
    for answers in ((PUBLIC, "127.0.0.1"), ("127.0.0.1", PUBLIC), (PUBLIC, "::1"), ()):
        with pytest.raises(FetchFailed):
            Fetch(allow_loopback=True, resolve=resolving(*answers)[0]).json("https://issuer.example/keys")
    assert connected == []


def test_the_address_that_was_checked_is_the_one_connected_to(connected: list[Any]) -> None:
    """DNS rebinding: the second answer would be another, and is never asked for."""
    resolve, asked = resolving(PUBLIC)
    with pytest.raises(FetchFailed):
        Fetch(resolve=resolve).json("https://issuer.example:8443/keys")
    assert asked == ["issuer.example"]
    assert connected == [(PUBLIC, 8443)]


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/keys", "ftp://issuer.example/keys", "file:///etc/passwd", "gopher://issuer.example", "//issuer.example/keys", "issuer.example",
        "https://", "https:///keys", "https://user@issuer.example", "https://user:password@issuer.example", "https://issuer.example#fragment",
        "https://issuer.example:0", "https://issuer.example:99999", "https://issuer.example:x", "https://issuer.example/\r\nHost: x", "https://issuer.example/ x",
        "https://issuer.example\\@inside.example", "https://\u00efssuer.example", "https://[::1", "javascript:alert(1)", "", "https://issuer.example/" + "x" * 2000,
    ],
)  # fmt: skip
def test_only_an_https_url_is_fetched(url: str, connected: list[Any]) -> None:
    with pytest.raises(FetchFailed):
        Fetch(resolve=resolving(PUBLIC)[0]).json(url)
    assert connected == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_no_spelling_of_this_machine_is_public(host: str, connected: list[Any]) -> None:
    with pytest.raises(FetchFailed):
        Fetch().json(f"https://{host}/keys")
    assert connected == []


# What answers


Respond = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def answering(respond: Respond, certificate: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[BaseHTTPRequestHandler]]]:
    seen: list[BaseHTTPRequestHandler] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self)
            respond(self)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    with Quiet(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            server.socket = certificate.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1], seen
        finally:
            server.shutdown()
            thread.join()


def saying(body: bytes = BODY, status: int = 200, **headers: str) -> Respond:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Type": "application/json", "Content_Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return respond


def fetched(respond: Respond) -> bytes:
    with answering(respond) as (port, _):
        return Fetch(allow_loopback=True).json(f"http://127.0.0.1:{port}/keys?x=y")


def test_a_small_json_answer_is_taken() -> None:
    assert fetched(saying()) == BODY
    assert fetched(saying(Content_Type="application/jwk-set+json; charset=utf-8")) == BODY
    assert fetched(saying(b" " * MAX_BYTES)) == b" " * MAX_BYTES


def test_a_redirect_is_not_followed() -> None:
    with answering(saying()) as (inside, asked):
        for status in (301, 302, 303, 307, 308):
            with pytest.raises(FetchFailed, match=str(status)):
                fetched(saying(status=status, Location=f"http://127.0.0.1:{inside}/"))
        assert asked == []


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" " * 4096)
    except OSError:
        pass


def test_what_is_large_encoded_or_no_json_is_not_taken() -> None:
    for respond in (
        saying(b" " * (MAX_BYTES + 1)), endless, saying(gzip.compress(BODY), Content_Encoding="gzip"), saying(Content_Type="text/html"),
        saying(Content_Type=""), saying(status=404), saying(status=500), saying(status=204), saying(BODY, Content_Length="100"),
    ):  # fmt: skip
        with pytest.raises(FetchFailed):
            fetched(respond)


def test_nobodys_proxy_or_cookie_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with answering(saying()) as (port, seen):
        Fetch(allow_loopback=True).json(f"http://127.0.0.1:{port}/keys")
    (asked,) = seen
    assert not {"Cookie", "Authorization", "Proxy-Authorization"} & set(asked.headers)
    assert asked.headers["Host"] == f"127.0.0.1:{port}"


# TLS


def certified(name: str, folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's certificate for that name, and the file that makes it trusted."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, private)
    return context, chain


@pytest.fixture
def from_outside(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Whoever connects to the public address comes to this port of ours."""
    real = urllib3.util.connection.create_connection

    def lead(port: int) -> None:
        def connect(address: tuple[str, int], *args: Any, **options: Any) -> socket.socket:
            assert address == (PUBLIC, 443)
            return real(("127.0.0.1", port), *args, **options)

        monkeypatch.setattr(urllib3.util.connection, "create_connection", connect)

    return lead


def test_the_certificate_is_held_against_the_name_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_outside: Callable[[int], None]
) -> None:
    context, trusted = certified("issuer.example", tmp_path)
    named: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: named.append(name)
    with answering(saying(), context) as (port, seen):
        from_outside(port)
        fetch = Fetch(resolve=resolving(PUBLIC)[0])
        with pytest.raises(FetchFailed, match="SSL"):
            fetch.json("https://issuer.example/keys")
        monkeypatch.setattr(requests.adapters, "DEFAULT_CA_BUNDLE_PATH", str(trusted))
        assert fetch.json("https://issuer.example/keys") == BODY
        assert (named[-1], seen[-1].headers["Host"], seen[-1].path) == ("issuer.example", "issuer.example", "/keys")
        with pytest.raises(FetchFailed, match="SSL"):
            fetch.json("https://other.example/keys")
        assert len(seen) == 1
