"""The one function that fetches URLs: https, from public addresses alone, one small answer, soon, to the address that was checked."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import requests
from requests.adapters import HTTPAdapter

from app import clock

MAX_BYTES = 65_536
"""Bytes of an answer."""

TIMEOUT = (1.0, 1.0)
"""Seconds to connect, and between two pieces of the answer."""

DEADLINE = 1.5
"""Seconds for the whole body."""

TYPES = frozenset({"application/json", "application/jwk-set+json"})
MAX_URL = 2000
PORTS = {"https": 443, "http": 80}
TRANSLATED = tuple(ipaddress.ip_network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48"))
"""IPv6 that a translator turns into any IPv4 address, a private one too (RFC 6052, RFC 8215)."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[..., list[tuple[Any, ...]]]


class FetchFailed(Exception):
    """Nothing was fetched. `reason` is for the log and holds nothing of the answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Fetch:
    """Fetches. `allow_loopback`: for development, also from this machine, and from it without TLS."""

    allow_loopback: bool = False
    resolve: Resolve = socket.getaddrinfo

    def json(self, url: str) -> bytes:
        """The body of a JSON answer. Raises `FetchFailed`.

        The name is resolved once, every address it has is checked, and one of those is connected to: a name that says
        something else a moment later (DNS rebinding) gets nowhere. No redirect is followed, no proxy asked, no cookie kept.
        """
        parts = check_url(url)
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        address = self._address(parts, host, port)
        literal = f"[{address}]" if address.version == 6 else str(address)
        target = parts._replace(netloc=f"{literal}:{port}").geturl()
        headers = {"Host": parts.netloc, "Accept": ", ".join(sorted(TYPES)), "Accept-Encoding": "identity", "User-Agent": "Deputy"}
        with requests.Session() as session:
            session.trust_env = False
            session.mount("https://", _Named(host))
            try:
                with session.get(target, headers=headers, timeout=TIMEOUT, allow_redirects=False, stream=True) as response:
                    return _body(response)
            except requests.RequestException as error:
                raise FetchFailed(type(error).__name__) from None

    def _address(self, parts: SplitResult, host: str, port: int) -> Address:
        try:
            found = self.resolve(host, port, type=socket.SOCK_STREAM)
            addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        except (OSError, ValueError, UnicodeError):
            raise FetchFailed("the name does not resolve") from None
        here = self.allow_loopback and bool(addresses) and all(address.is_loopback for address in addresses)
        if not addresses or not (here or all(is_public(address) for address in addresses)):
            raise FetchFailed("not a public address")
        if parts.scheme != "https" and not here:
            raise FetchFailed("not https")
        return addresses[0]


class _Named(HTTPAdapter):
    """Speaks TLS to an address under the name that was asked for, and holds its certificate against that name."""

    def __init__(self, host: str) -> None:
        self._host = host
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, server_hostname=self._host, assert_hostname=self._host, **options)


def check_url(url: str) -> SplitResult:
    """The parts of a URL that may be fetched, as far as it can be told without asking anybody. Raises `FetchFailed`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise FetchFailed("not a URL") from None
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise FetchFailed("not a URL")
    if parts.scheme not in PORTS or not parts.hostname or "@" in parts.netloc or parts.fragment or port == 0:
        raise FetchFailed("not an address over https")
    return parts


def is_public(address: Address) -> bool:
    """Whether an address is on the public Internet, whatever it is wrapped in."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address.sixtofour is not None or address.teredo is not None or any(address in net for net in TRANSLATED):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _body(response: requests.Response) -> bytes:
    if response.status_code != 200:
        raise FetchFailed(f"status {response.status_code}")
    if response.headers.get("Content-Type", "").partition(";")[0].strip().lower() not in TYPES:
        raise FetchFailed("not JSON")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise FetchFailed("an encoded answer")
    end, body = clock.monotonic() + DEADLINE, bytearray()
    for piece in response.iter_content(4096):
        body += piece
        if len(body) > MAX_BYTES or clock.monotonic() > end:
            raise FetchFailed("too large or too slow")
    return bytes(body)
