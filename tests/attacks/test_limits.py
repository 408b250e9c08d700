"""Too many: requests of one client, of one address, wrong secrets, wrong passwords. What is refused costs nothing (RFC 9700 §4, RFC 6819 §4.3.2)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app import clock
from app.rim import noise
from app.rim.noise import MAX_ADDRESSES, Noise
from tests.attacks.counting import counted
from tests.attacks.scene import FORM, VERIFIER, Scene, another_app, elsewhere, refused, unique, world_of
from tests.world import BY, PASSWORD, Answer, Browser, Person, World, encoded, hidden

LIMIT = 5
TRIES = 2 * LIMIT + 2
"""A minute may end in between: among so many there are more than LIMIT in one of the two."""


@contextmanager
def limited(scene: Scene, **limits: int) -> Iterator[tuple[Flask, World]]:
    with another_app(scene.world.server.settings, **limits) as made:
        yield made, world_of(scene.world.server, made)


def too_many(answer: Answer) -> bool:
    if answer.status != 429:
        return False
    refused(answer, "temporarily_unavailable", 429)
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    return True


# Clients


def test_one_client_is_limited_and_another_is_not(scene: Scene) -> None:
    agent = scene.world.agent(scene.alice, own=[(scene.api, "read")])
    with limited(scene, rate_client=LIMIT) as (_, world):
        answers = [world.own_token(agent) for _ in range(TRIES)]
        assert sum(answer.status == 200 for answer in answers) <= 2 * LIMIT
        assert any(map(too_many, answers))
        assert world.own_token(scene.second).status == 200


def test_refusals_count_too_and_all_endpoints_that_commit_together(scene: Scene) -> None:
    """Otherwise a client could ask for what it may not have for ever."""
    agent = scene.world.agent(scene.alice, own=[(scene.api, "read")], ceiling=[(scene.api, "read")])
    with limited(scene, rate_client=LIMIT) as (_, world):

        def one(turn: int) -> Answer:
            if turn % 3 == 0:
                return world.own_token(agent, scope="nonsense", resource=scene.api.uri)
            if turn % 3 == 1:
                return world.exchange(agent, "x")
            query = [(n, v) for n, v in world.authorization(agent, VERIFIER, scene.api, scope="read")]
            return world.post("/oauth/par", [*query, *world.credentials(agent)[0].items()])

        assert any(too_many(one(turn)) for turn in range(TRIES))


def test_a_limited_request_is_answered_for_and_uses_the_assertion_up_no_more_than_once(scene: Scene) -> None:
    agent = scene.world.agent(scene.alice, own=[(scene.api, "read")])
    with limited(scene, rate_client=LIMIT) as (_, world):
        for _ in range(TRIES):
            members, _headers = world.credentials(agent)
            answer = world.post("/oauth/token", {"grant_type": "client_credentials", **members})
            if answer.status == 429:
                break
        assert answer.status == 429
    # Under another worker's limits it still is a good assertion: nothing was done with it.
    assert scene.world.post("/oauth/token", {"grant_type": "client_credentials", **members}).status in {200, 401}


# Addresses


def at(app: Flask, address: str, path: str, method: str = "GET", **more: Any) -> TestResponse:
    return app.test_client().open(path, method=method, environ_overrides={"REMOTE_ADDR": address}, buffered=True, **more)


PATHS = [
    "/oauth/token",
    "/oauth/introspect",
    "/oauth/revoke",
    "/oauth/par",
    "/oauth/userinfo",
    "/oauth/authorize?x=y",
    "/login",
    "/",
    "/my/agents",
    "/logout",
    "/.well-known/openid-configuration",
]


@pytest.mark.parametrize("path", PATHS)
def test_one_address_is_limited_everywhere_and_another_is_not(scene: Scene, path: str) -> None:
    with limited(scene, rate_address=LIMIT) as (made, _):
        method = "POST" if path in PATHS[:4] else "GET"
        statuses = [at(made, "203.0.113.1", path, method, data=b"x=y", content_type=FORM).status_code for _ in range(TRIES)]
        assert 429 in statuses
        limited_answer = next(a for a in (at(made, "203.0.113.1", path, method) for _ in range(TRIES)) if a.status_code == 429)
        assert int(limited_answer.headers["Retry-After"]) > 0
        assert limited_answer.headers["Cache-Control"] == "no-store"
        assert at(made, "203.0.113.2", path, method).status_code != 429


def test_what_keeps_a_node_watched_is_not_limited(scene: Scene) -> None:
    with limited(scene, rate_address=LIMIT) as (made, _):
        for path in ("/healthz", "/readyz", "/metrics"):
            assert {at(made, "127.0.0.1", path).status_code for _ in range(TRIES)} == {200}


def wrong_secret(app: Flask, address: str, client_id: str = "x") -> int:
    form = encoded({"grant_type": "client_credentials", "client_id": client_id, "client_secret": "wrong"})
    return at(app, address, "/oauth/token", "POST", data=form, content_type=FORM).status_code


def test_wrong_secrets_from_one_address_have_an_end(scene: Scene) -> None:
    with limited(scene, rate_failures=LIMIT) as (made, world):
        statuses = [wrong_secret(made, "203.0.113.3", scene.posting.client_id) for _ in range(TRIES)]
        assert set(statuses) == {401, 429}
        assert wrong_secret(made, "203.0.113.4") == 401
        # Whoever shares nothing with him but the client is not kept out.
        assert world.own_token(scene.agent).status == 200


def test_a_whole_network_of_addresses_is_one_address(scene: Scene) -> None:
    """Whoever has one address of IPv6 has 2^64."""
    with limited(scene, rate_failures=LIMIT, rate_address=1000) as (made, _):
        statuses = [wrong_secret(made, f"2001:db8:1:1::{turn:x}") for turn in range(TRIES)]
        assert 429 in statuses
        assert wrong_secret(made, "2001:db8:1:2::1") == 401


def test_what_is_refused_for_its_number_costs_no_statement_and_no_hash(scene: Scene) -> None:
    with limited(scene, rate_failures=LIMIT) as (made, _):
        for _ in range(TRIES):
            with counted() as work:
                status = wrong_secret(made, "203.0.113.5")
            if status == 429:
                break
        assert status == 429
        assert not work


def test_many_addresses_do_not_fill_the_memory(scene: Scene) -> None:
    counting = Noise(scene.world.server.live, scene.world.server.settings)
    for turn in range(MAX_ADDRESSES + 500):
        counting.admit(f"10.{turn >> 16 & 255}.{turn >> 8 & 255}.{turn & 255}")
    assert len(counting._requests) <= MAX_ADDRESSES


def test_a_minute_of_strangers_is_one_entry_in_the_ledger(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody fills the ledger without being somebody: what nobody known asked for is counted, and the count is entered."""
    world = scene.world
    before = len(world.ledger())
    with limited(scene, rate_failures=10_000) as (made, _):
        assert {wrong_secret(made, f"203.0.113.{turn}", unique("stranger")) for turn in range(100)} == {401}
        later = clock.timestamp() + 3600
        monkeypatch.setattr(noise, "clock", SimpleNamespace(timestamp=lambda: later))
        wrong_secret(made, "203.0.113.1")

    def counts() -> list[int]:
        return [one["counts"].get("invalid_client", 0) for one in world.ledger()[before:] if one["event"] == "noise.counted"]

    end = time.monotonic() + 30
    while sum(counts()) < 100 and time.monotonic() < end:
        time.sleep(0.05)
    assert sum(counts()) >= 100
    assert len(world.ledger()) - before < 10


# Passwords


def attempt(browser: Browser, username: str, password: str) -> Answer:
    return browser.post("/login", [*hidden(browser.get("/login")), ("username", username), ("password", password)])


def from_there(app: Flask, world: World, address: str) -> Browser:
    """A browser at another address."""
    browser = world.browser()
    browser.http._client.environ_base["REMOTE_ADDR"] = address  # type: ignore[attr-defined]
    return browser


def test_guessing_one_humans_password_has_an_end_wherever_it_is_done(scene: Scene) -> None:
    human = scene.world.human()
    with limited(scene, login_attempts=LIMIT) as (made, world):
        statuses = [attempt(from_there(made, world, f"198.51.100.{turn}"), human.username, "wrong").status for turn in range(LIMIT + 2)]
        assert statuses[:LIMIT] == [401] * LIMIT
        assert statuses[LIMIT:] == [429, 429]
        answer = attempt(from_there(made, world, "198.51.100.99"), human.username, PASSWORD)
        assert answer.status == 429
        assert int(answer.headers["Retry-After"]) > 0
        assert attempt(from_there(made, world, "198.51.100.98"), scene.bob.username, PASSWORD).status == 303


def test_guessing_many_humans_passwords_from_one_address_has_an_end(scene: Scene) -> None:
    with limited(scene, login_attempts=2) as (made, world):
        browser = from_there(made, world, "198.51.100.200")
        statuses = [attempt(browser, unique("human"), "wrong").status for _ in range(11)]
        assert statuses[-1] == 429
        assert attempt(from_there(made, world, "198.51.100.201"), scene.bob.username, PASSWORD).status == 303


def test_a_right_password_forgets_the_wrong_ones(scene: Scene) -> None:
    human = scene.world.human()
    with limited(scene, login_attempts=LIMIT) as (made, world):
        for turn in range(3):
            for _ in range(LIMIT - 1):
                assert attempt(elsewhere(world), human.username, "wrong").status == 401
            assert attempt(from_there(made, world, f"198.51.100.{200 + turn}"), human.username, PASSWORD).status == 303


def test_a_throttled_guess_does_not_reach_the_password_hash(scene: Scene) -> None:
    """2.2.30: a thousand guesses must not be a thousand Argon2 hashes."""
    human = scene.world.human()
    with limited(scene, login_attempts=2) as (_, world):
        for _ in range(2):
            attempt(elsewhere(world), human.username, "wrong")
        browser = elsewhere(world)
        with counted() as work:
            answer = attempt(browser, human.username, PASSWORD)
        assert answer.status == 429
        assert work["password"] == 0
        assert work["commit"] == 0


@pytest.mark.parametrize(
    "username",
    [
        "",
        " ",
        "\u00e9",
        "e\u0301",
        "\uff41lice",
        "x" * 5000,
        "a\x00b",
        "\u202ealice",
        "' OR 1=1 --",
        "<script>",
        "*",
        "%",
        "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    ],
)
def test_any_username_is_at_most_wrong(scene: Scene, username: str) -> None:
    assert attempt(elsewhere(scene.world), username, PASSWORD).status in {400, 401}


def test_usernames_that_look_alike_are_two(scene: Scene) -> None:
    """2.1.10: nothing is folded, so that two accounts never collapse; what is not in normal form is nobody's."""
    alike: list[Person] = []
    for username in (unique("andr\u00e9"), unique("Andr\u00e9"), unique("ANDR\u00c9")):
        alike.append(Person(scene.world.server.accounts.add(username, "N", "n@example.com", PASSWORD, by=BY), username))
    for person in alike:
        assert attempt(scene.world.browser(), person.username, PASSWORD).status == 303
        for other in (
            person.username.upper(),
            person.username.replace("\u00e9", "e\u0301"),
            person.username.replace("\u00e9", "e"),
            person.username + " ",
            " " + person.username,
            person.username + "\u200b",
        ):
            if other not in {one.username for one in alike}:
                assert attempt(elsewhere(scene.world), other, PASSWORD).status == 401


@pytest.mark.parametrize(
    "password",
    [
        "",
        " ",
        PASSWORD.upper(),
        PASSWORD + " ",
        " " + PASSWORD,
        PASSWORD[:-1],
        PASSWORD * 50,
        "x" * 100_000,
        PASSWORD + "\x00",
        "\x00" + PASSWORD,
        PASSWORD + "\x00x",
        "\ufffd",
    ],
)
def test_any_other_password_is_wrong(scene: Scene, password: str) -> None:
    answer = attempt(elsewhere(scene.world), scene.bob.username, password)
    assert answer.status in {400, 401}
    attempt(scene.world.browser(), scene.bob.username, PASSWORD)
