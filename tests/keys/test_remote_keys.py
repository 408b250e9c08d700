"""JWK Sets of others: fetched once for all, again when a kid is new, not without end, and not for ever."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from app import clock
from app.errors import TemporarilyUnavailable
from app.fetch import FetchFailed
from app.keys.jwk import foreign_jwks, generate_client_key, import_foreign_keys, public_part
from app.keys.remote import FRESH, PAUSE, STALE, RemoteKeys
from app.vocabulary import SigningAlg

URI = "https://issuer.example/keys"


class Source:
    """What is behind the URI; None: nothing answers."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.keys: list[dict[str, Any]] | None = list(keys)
        self.asked = 0

    def fetch(self, uri: str) -> bytes:
        assert uri == URI
        self.asked += 1
        if self.keys is None:
            raise FetchFailed("nobody there")
        return json.dumps({"keys": self.keys}).encode()


def key(**members: Any) -> dict[str, Any]:
    return public_part(generate_client_key(SigningAlg.ES256)) | members


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets time pass."""
    start, gone = clock.monotonic(), 0.0

    def go(seconds: float) -> None:
        nonlocal gone
        gone += seconds
        monkeypatch.setattr(clock, "monotonic", lambda: start + gone)

    go(0)
    return go


def kids(remote: RemoteKeys, kid: str | None = None) -> list[str | None]:
    return [one.kid for one in remote.of(URI, kid)]


def test_a_set_is_fetched_once_for_minutes(passing: Callable[[float], None]) -> None:
    source = Source(key(kid="a"))
    remote = RemoteKeys(source.fetch)
    for _ in range(5):
        assert kids(remote, "a") == kids(remote) == ["a"]
        passing(FRESH / 6)
    assert source.asked == 1
    passing(FRESH)
    source.keys = [key(kid="b")]
    assert kids(remote, "b") == ["b"]
    assert source.asked == 2


def test_a_new_kid_is_asked_about_at_once_and_then_after_a_pause(passing: Callable[[float], None]) -> None:
    source = Source(key(kid="a"))
    remote = RemoteKeys(source.fetch)
    assert kids(remote, "a") == ["a"]
    passing(PAUSE)
    source.keys = [key(kid="a"), key(kid="b")]
    assert kids(remote, "b") == ["a", "b"]
    assert source.asked == 2
    for number in range(100):
        assert kids(remote, f"unknown-{number}") == ["a", "b"]
    assert source.asked == 2, "whoever makes up kids does not make us ask"
    passing(PAUSE)
    kids(remote, "unknown")
    assert source.asked == 3


def test_what_cannot_be_asked_for_again_is_used_for_a_while_and_then_no_more(passing: Callable[[float], None]) -> None:
    source = Source(key(kid="a"))
    remote = RemoteKeys(source.fetch)
    assert kids(remote, "a") == ["a"]
    source.keys = None
    passing(FRESH + 1)
    assert kids(remote, "a") == ["a"]
    passing(STALE)
    for _ in range(3):
        with pytest.raises(TemporarilyUnavailable):
            remote.of(URI, "a")
    source.keys = [key(kid="a")]
    passing(PAUSE)
    assert kids(remote, "a") == ["a"]


def test_a_set_that_lost_its_keys_or_its_form_leaves_the_last_good_one(passing: Callable[[float], None]) -> None:
    source = Source(key(kid="a"))
    remote = RemoteKeys(source.fetch)
    assert kids(remote) == ["a"]
    for broken in ([], [{"kty": "oct", "k": "AAAA"}], [{"kty": "EC"}], ["x"]):
        source.keys = broken  # type: ignore[assignment]
        passing(FRESH + 1)
        assert kids(remote) == ["a"]


def test_who_comes_while_it_is_fetched_waits_for_that_one_fetch() -> None:
    asked, go = [], threading.Event()
    document = json.dumps({"keys": [key(kid="a")]}).encode()

    def slow(uri: str) -> bytes:
        asked.append(uri)
        assert go.wait(30)
        return document

    remote = RemoteKeys(slow)
    found: list[list[str | None]] = []
    threads = [threading.Thread(target=lambda: found.append(kids(remote, "a"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(30)
    assert found == [["a"]] * 8
    assert asked == [URI]


def test_of_a_foreign_set_only_what_can_verify_is_kept() -> None:
    good = [key(kid="a"), key(kid="b", use="jwt-svid"), key(x5c=["MIIB"], x5t="x")]
    passed_over: list[Any] = [
        key(use="enc"), key(use="x509-svid"), {"kty": "oct", "k": "AAAA"} | {"k": ""}, {"kty": "AKP", "pub": "x"}, key(crv="P-384"), key(kty="RSA"),
        key(alg="HS256"), key(key_ops=["sign"]), "x", None, 7, [],
    ]  # fmt: skip
    passed_over = [one for one in passed_over if not (isinstance(one, dict) and "k" in one)]
    kept = foreign_jwks({"keys": [*passed_over, *good]})["keys"]
    assert [one.get("kid") for one in kept] == [one.get("kid") for one in good]
    assert all(set(one) <= {"kty", "crv", "x", "y", "n", "e", "kid", "alg", "key_ops"} for one in kept)
    assert len(import_foreign_keys({"keys": good})) == 3


@pytest.mark.parametrize("alg", SigningAlg)
def test_a_private_key_in_it_is_refused(alg: SigningAlg) -> None:
    with pytest.raises(ValueError, match="private"):
        foreign_jwks({"keys": [key(), generate_client_key(alg)]})


@pytest.mark.parametrize("jwks", [{}, {"keys": None}, {"keys": {}}, {"keys": []}, {"keys": [{"kty": "EC"}]}, {"keys": [None] * 101}])
def test_what_is_no_set_is_refused(jwks: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"JWK Set|No key"):
        foreign_jwks(jwks)
