"""Codes and pushed requests: once, for their client, their redirect URI and their verifier (RFC 6749 §4.1.3, RFC 7636, RFC 9126)."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask

from app.live.commit import Commit
from tests.attacks.scene import REFRESH_TYPE, VERIFIER, Scene, another_app, error_page, refused, sent_back, world_of
from tests.world import REDIRECT, Answer, Browser, Party, basic

Query = list[tuple[str, str]]


@pytest.fixture(scope="module")
def browser(scene: Scene) -> Browser:
    return scene.world.signed_in(scene.alice)


def code(scene: Scene, browser: Browser, client: Party | None = None, **more: Any) -> str:
    return browser.code(scene.world.authorization(client or scene.agent, VERIFIER, scene.api, scope="read", **more))


def altered(query: Query, changed: Mapping[str, str | None]) -> Query:
    found = {**dict(query), **changed}
    return [(name, value) for name, value in found.items() if value is not None]


def redeem(scene: Scene, value: str, client: Party | None = None, **changed: str | None) -> Answer:
    client = client or scene.agent
    form = {"grant_type": "authorization_code", "code": value, "code_verifier": VERIFIER, "redirect_uri": REDIRECT, **changed}
    return scene.world.token(client, {name: text for name, text in form.items() if text is not None})


# 2.5.67: once


@pytest.mark.rfc("6749", "4.1.2")
def test_a_code_used_twice_ends_everything_that_came_of_it(scene: Scene, browser: Browser) -> None:
    value = code(scene, browser)
    first = redeem(scene, value).ok()["access_token"]
    child = scene.world.exchange(scene.agent, first).ok()["access_token"]
    assert scene.world.active(scene.api, first)
    refused(redeem(scene, value), "invalid_grant")
    assert not scene.world.active(scene.api, first)
    assert not scene.world.active(scene.api, child)
    refused(scene.world.exchange(scene.agent, first), "invalid_request")
    refused(redeem(scene, value), "invalid_grant")
    assert scene.world.ledger(event="replay.detected", what="code")


def test_the_refresh_token_of_a_replayed_code_is_dead_too(scene: Scene, browser: Browser) -> None:
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", away=True)
    value = browser.code(query, away=True)
    refresh = redeem(scene, value).ok()["refresh_token"]
    refused(redeem(scene, value), "invalid_grant")
    refused(scene.world.token(scene.agent, {"grant_type": "refresh_token", "refresh_token": refresh}), "invalid_grant")


def test_of_many_at_once_one_code_gives_one_token_and_then_none_lives(scene: Scene, browser: Browser, app: Flask) -> None:
    value = code(scene, browser)

    def one(_: int) -> Answer:
        world = world_of(scene.world.server, app)
        form = {"grant_type": "authorization_code", "code": value, "code_verifier": VERIFIER, "redirect_uri": REDIRECT}
        return world.token(scene.agent, form)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(one, range(24)))
    good = [answer for answer in answers if answer.status == 200]
    assert len(good) == 1
    assert {answer.error for answer in answers if answer.status == 400} == {"invalid_grant"}
    assert not scene.world.active(scene.api, good[0].json["access_token"])


@pytest.mark.parametrize("more", [{"scope": "write"}, {"scope": "admin"}, {"resource": "https://nowhere.example"}])
def test_a_replay_that_would_be_refused_anyway_ends_everything_too(scene: Scene, browser: Browser, more: dict[str, str]) -> None:
    value = code(scene, browser)
    token = redeem(scene, value).ok()["access_token"]
    refused(redeem(scene, value, **more), "invalid_grant")
    assert not scene.world.active(scene.api, token)


def test_after_a_code_has_run_out_its_replay_still_ends_everything_and_nothing_else_comes_of_it(scene: Scene) -> None:
    """The suite's AuthCodeReuseAfter30Seconds: a code outlives its use as evidence of theft."""
    with another_app(scene.world.server.settings, code_lifetime=5) as made:
        world = world_of(scene.world.server, made)
        visitor = world.signed_in(scene.alice)
        used, unused = (visitor.code(world.authorization(scene.agent, VERIFIER, scene.api, scope="read")) for _ in range(2))
    token = redeem(scene, used).ok()["access_token"]
    time.sleep(6)
    assert scene.world.active(scene.api, token)
    refused(redeem(scene, used, code_verifier="w" * 64), "invalid_grant")
    assert scene.world.active(scene.api, token)
    refused(redeem(scene, used), "invalid_grant")
    assert not scene.world.active(scene.api, token)
    refused(redeem(scene, unused), "invalid_grant")


# Whose, and where to


def test_a_code_is_its_clients_and_trying_does_not_spend_it(scene: Scene, browser: Browser) -> None:
    value = code(scene, browser)
    for thief in (scene.second, scene.keyless, scene.app, scene.public):
        refused(redeem(scene, value, thief), "invalid_grant")
    assert redeem(scene, value).status == 200


@pytest.mark.rfc("6749", "4.1.3")
def test_the_redirect_uri_is_the_one_that_was_used(scene: Scene, browser: Browser) -> None:
    value = code(scene, browser)
    for other in (None, "", "https://agent.example/", REDIRECT + "/", REDIRECT + "?x", REDIRECT.upper(), "https://evil.example/callback"):
        refused(redeem(scene, value, redirect_uri=other), "invalid_grant")
    assert redeem(scene, value).status == 200


def test_a_redirect_uri_that_was_left_out_is_not_made_up_later(scene: Scene, browser: Browser) -> None:
    query = altered(scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read"), {"redirect_uri": None})
    value = browser.code(query)
    refused(redeem(scene, value, redirect_uri="https://evil.example/"), "invalid_grant")
    assert redeem(scene, value, redirect_uri=None).status == 200


# 2.5.70, 2.5.71: PKCE


@pytest.mark.rfc("7636", "4.4.1")
@pytest.mark.parametrize("who", ["agent", "app", "public"])
@pytest.mark.parametrize(
    "changed",
    [
        {"code_challenge": None}, {"code_challenge": ""}, {"code_challenge_method": None}, {"code_challenge_method": ""}, {"code_challenge_method": "plain"},
        {"code_challenge_method": "S512"}, {"code_challenge_method": "s256"}, {"code_challenge_method": "S256 "}, {"code_challenge": "x"}, {"code_challenge": "x" * 42},
        {"code_challenge": "x" * 44}, {"code_challenge": "+" * 43}, {"code_challenge": "x" * 42 + "="}, {"code_challenge": "x" * 42 + "\n"},
        {"code_challenge": None, "code_challenge_method": None}, {"code_challenge": VERIFIER, "code_challenge_method": "plain"},
    ],
    ids=str,
)  # fmt: skip
def test_without_a_sound_s256_challenge_there_is_no_request(
    scene: Scene, browser: Browser, who: str, changed: dict[str, str | None]
) -> None:
    client: Party = getattr(scene, who)
    query = altered(scene.world.authorization(client, VERIFIER, scene.api, scope="read"), changed)
    found = sent_back(browser.authorize(query), REDIRECT, scene.world.issuer)
    assert found["error"] == "invalid_request"
    members, headers = scene.world.credentials(client)
    refused(scene.world.post("/oauth/par", [*query, *((n, v) for n, v in members.items() if n != "client_id")], headers), "invalid_request")


@pytest.mark.rfc("7636", "4.6")
def test_the_verifier_is_required_and_is_the_one(scene: Scene, browser: Browser) -> None:
    value = code(scene, browser)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
    for wrong in (None, "", "w" * 64, VERIFIER.upper(), challenge, VERIFIER[:-1] + "w"):
        refused(redeem(scene, value, code_verifier=wrong), "invalid_grant")
    for malformed in ("v" * 42, "v" * 129, "v" * 60_000, "v" * 63 + "!", "v" * 63 + " ", "v" * 63 + "\u00e9", "v" * 63 + "\n"):
        assert redeem(scene, value, code_verifier=malformed).error in {"invalid_grant", "invalid_request"}
    assert redeem(scene, value).status == 200


def test_a_stolen_code_is_nothing_without_its_verifier_also_for_a_public_client(scene: Scene, browser: Browser) -> None:
    """Code injection: the thief starts a flow of his own and slips in the victim's code."""
    stolen = code(scene, browser, scene.public)
    mallory = scene.world.signed_in(scene.bob)
    own = secrets.token_urlsafe(48)
    mallory.code(scene.world.authorization(scene.public, own, scene.api, scope="read"))
    refused(redeem(scene, stolen, scene.public, code_verifier=own), "invalid_grant")
    token = redeem(scene, stolen, scene.public).ok()["access_token"]
    # Nor can he end what the honest one holds by showing the code again.
    refused(redeem(scene, stolen, scene.public, code_verifier=own), "invalid_grant")
    assert scene.world.active(scene.api, token)


# 2.5.69: one kind of handle is not another


def test_no_handle_passes_as_another(scene: Scene, browser: Browser) -> None:
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", away=True)
    refresh = redeem(scene, browser.code(query, away=True), scope="read").ok()["refresh_token"]
    value = code(scene, browser)
    pushed = push(scene, scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read")).json["request_uri"]
    handles = {
        "code": value, "refresh": refresh, "request_uri": pushed, "request_uri's end": pushed.rpartition(":")[2], "token": scene.token(), "hand-over": scene.handover,
        "consent": str(scene.given["consent_id"]), "task": str(scene.given["task_id"]), "client": scene.agent.client_id, "bare code": value.removeprefix("ac_"),
        "code as refresh": "rt_" + value.removeprefix("ac_"), "refresh as code": "ac_" + refresh.removeprefix("rt_"),
    }  # fmt: skip
    for name, handle in handles.items():
        if name != "code":
            refused(redeem(scene, handle), "invalid_grant")
        if name != "refresh":
            refused(scene.world.token(scene.agent, {"grant_type": "refresh_token", "refresh_token": handle}), "invalid_grant")
        if name not in {"token", "hand-over"}:
            refused(scene.world.exchange(scene.agent, handle, resource=scene.api.uri), "invalid_request")
            assert scene.world.introspect(scene.api, handle) == {"active": False}
        if name != "consent":
            refused(
                scene.world.exchange(scene.agent, handle, "urn:deputy:params:oauth:token-type:consent", resource=scene.api.uri),
                "invalid_request",
            )
        if name != "request_uri":
            error_page(browser.authorize([("client_id", scene.agent.client_id), ("request_uri", handle)]))
    refused(scene.world.exchange(scene.agent, refresh, REFRESH_TYPE, resource=scene.api.uri), "invalid_request")
    assert redeem(scene, value).status == 200


# Pushed requests


def push(scene: Scene, query: Query, client: Party | None = None) -> Answer:
    members, headers = scene.world.credentials(client or scene.agent)
    return scene.world.post("/oauth/par", [*((n, v) for n, v in query if n not in members), *members.items()], headers)


def pushed(scene: Scene, **more: str) -> str:
    answer = push(scene, scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", **more))
    assert answer.status == 201, answer.body
    return str(answer.json["request_uri"])


def opened(browser: Browser, scene: Scene, request_uri: str, *, client: Party | None = None, **more: str) -> Answer:
    return browser.authorize([("client_id", (client or scene.agent).client_id), ("request_uri", request_uri), *more.items()])


@pytest.mark.rfc("9126", "4")
def test_a_pushed_request_is_its_clients_alone(scene: Scene, browser: Browser) -> None:
    request_uri = pushed(scene)
    for other in (scene.second, scene.app, scene.public):
        error_page(opened(browser, scene, request_uri, client=other))
    error_page(browser.authorize([("request_uri", request_uri)]))
    assert opened(browser, scene, request_uri).status == 200


def test_what_was_pushed_is_what_is_asked_whatever_stands_beside_it(scene: Scene, browser: Browser) -> None:
    request_uri = pushed(scene)
    page = opened(
        browser,
        scene,
        request_uri,
        scope="write",
        redirect_uri="https://evil.example/",
        state="evil",
        resource=scene.other.uri,
        code_challenge="x" * 43,
    )
    assert page.status == 200
    assert "Do write" not in page.text
    found = sent_back(browser.decide(page), REDIRECT, scene.world.issuer)
    assert found["state"] == "xyz"
    assert redeem(scene, found["code"]).ok()["scope"] == "read"


def test_a_pushed_request_is_answered_once(scene: Scene, browser: Browser) -> None:
    request_uri = pushed(scene)
    first, second = opened(browser, scene, request_uri), opened(browser, scene, request_uri)
    assert browser.decide(first).status == 303
    error_page(browser.decide(second))
    error_page(opened(browser, scene, request_uri))


def test_reading_a_pushed_request_uses_nothing_up(scene: Scene, browser: Browser) -> None:
    request_uri = pushed(scene)
    for visitor in (scene.world.browser(), scene.world.browser(), browser):
        assert opened(visitor, scene, request_uri).status in {200, 303}
    assert browser.decide(opened(browser, scene, request_uri)).status == 303


@pytest.mark.parametrize("name", ["request_uri", "request"])
def test_no_request_inside_a_request(scene: Scene, name: str) -> None:
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", **{name: "urn:ietf:params:oauth:request_uri:x"})
    refused(push(scene, query), "invalid_request" if name == "request_uri" else "request_not_supported")


def test_a_foreign_request_uri_is_a_page_and_nothing_is_fetched(scene: Scene, browser: Browser) -> None:
    for uri in (
        "https://evil.example/request.jwt",
        "http://127.0.0.1:1/x",
        "urn:ietf:params:oauth:request_uri:",
        "urn:ietf:params:oauth:request_uri:x",
        "data:,x",
        "x",
    ):
        for visitor in (browser, scene.world.browser()):
            error_page(opened(visitor, scene, uri))
            error_page(opened(visitor, scene, uri, redirect_uri=REDIRECT, prompt="none"))


def test_nobody_pushes_for_another(scene: Scene) -> None:
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read")
    members, _ = scene.world.credentials(scene.second)
    refused(scene.world.post("/oauth/par", [*query, *members.items()]), "invalid_client", 401)
    refused(scene.world.post("/oauth/par", query), "invalid_client", 401)


def test_a_resource_pushes_nothing(scene: Scene) -> None:
    query = [(n, v) for n, v in scene.world.authorization(scene.agent, VERIFIER, scene.api) if n != "client_id"]
    refused(scene.world.post("/oauth/par", query, basic(scene.api.client_id, scene.api.client_secret)), "invalid_request")


def test_a_nonce_that_would_not_fit_the_id_token_is_refused_while_it_can_be(scene: Scene) -> None:
    """Past the commit there is no saying no: a token would be recorded that nobody gets."""
    for nonce in ("\U0001f600" * 2048, "\x01" * 2048, '"' * 2048, "x" * 2049):
        query = [(n, v) for n, v in scene.world.authorization(scene.app, VERIFIER, scope="openid profile email", nonce=nonce)]
        answer = push(scene, query, scene.app)
        if answer.status == 201:
            visitor = scene.world.signed_in(scene.bob)
            found = sent_back(opened(visitor, scene, answer.json["request_uri"], client=scene.app), REDIRECT, scene.world.issuer)
            assert redeem(scene, found["code"], scene.app).status == 200
        else:
            refused(answer, "invalid_request")


# 2.5.74, 2.5.77, 2.5.81: the rest of the request


@pytest.mark.parametrize(
    "response_type",
    ["token", "id_token", "code id_token", "id_token code", "code token", "none", "CODE", "code ", " code", "code code", "x"],
)
def test_only_a_code_is_given(scene: Scene, browser: Browser, response_type: str) -> None:
    query = altered(scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read"), {"response_type": response_type})
    assert sent_back(browser.authorize(query), REDIRECT, scene.world.issuer)["error"] == "unsupported_response_type"


@pytest.mark.parametrize("response_mode", ["fragment", "form_post", "query.jwt", "web_message", "Query", "x"])
def test_a_code_never_travels_in_another_way(scene: Scene, browser: Browser, response_mode: str) -> None:
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", response_mode=response_mode)
    answer = browser.authorize(query)
    assert sent_back(answer, REDIRECT, scene.world.issuer)["error"] == "invalid_request"
    assert "#" not in answer.headers["Location"]


@pytest.mark.parametrize(
    "name",
    [
        "response_type",
        "scope",
        "state",
        "code_challenge",
        "code_challenge_method",
        "nonce",
        "prompt",
        "max_age",
        "response_mode",
        "id_token_hint",
    ],
)
def test_a_parameter_of_the_authorization_request_twice_gives_nothing(scene: Scene, browser: Browser, name: str) -> None:
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read")
    value = dict(query).get(name, "x")
    twice = query if name in dict(query) else [*query, (name, value)]
    answer = browser.authorize([*twice, (name, value)])
    if answer.status == 303:
        assert sent_back(answer, REDIRECT, scene.world.issuer)["error"] == "invalid_request"
    else:
        error_page(answer)


@pytest.mark.rfc("8707", "2")
@pytest.mark.parametrize(
    "resource",
    ["https://api.example#x", "/relative", "x", "https://unknown.example", "", "*", "javascript:x", "https://api.example/\u00e9", "urn:x"],
)
def test_a_resource_nobody_registered_is_invalid_target(scene: Scene, browser: Browser, resource: str) -> None:
    query = altered(scene.world.authorization(scene.agent, VERIFIER, scope="read"), {"resource": resource})
    assert sent_back(browser.authorize(query), REDIRECT, scene.world.issuer)["error"] == "invalid_target"
    lookalikes = (
        scene.api.uri + "/",
        scene.api.uri + "#",
        scene.api.uri + "?",
        scene.api.uri.upper(),
        scene.api.uri + "%20",
        scene.api.uri.replace("https", "http"),
    )
    for lookalike in lookalikes:
        query = altered(scene.world.authorization(scene.agent, VERIFIER, scope="read"), {"resource": lookalike})
        assert sent_back(browser.authorize(query), REDIRECT, scene.world.issuer)["error"] == "invalid_target"


def test_what_is_not_supported_is_not_ignored(scene: Scene, browser: Browser) -> None:
    for name, value, error in (
        ("authorization_details", '[{"type":"resource_access"}]', "invalid_authorization_details"), ("authorization_details", "x", "invalid_authorization_details"),
        ("request", "eyJhbGciOiJub25lIn0.e30.", "request_not_supported"), ("dpop_jkt", "x", "invalid_request"),
    ):  # fmt: skip
        query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", **{name: value})
        assert sent_back(browser.authorize(query), REDIRECT, scene.world.issuer)["error"] == error


@pytest.mark.parametrize("scope", ["write", "send", "read unknown", "openid", "profile", "read\x7f", "read  write", "*", "x" * 3000])
def test_an_agent_asks_for_no_more_than_it_is_registered_for(scene: Scene, browser: Browser, scope: str) -> None:
    query = scene.world.authorization(scene.second, VERIFIER, scene.api, scope=scope)
    assert sent_back(browser.authorize(query), REDIRECT, scene.world.issuer)["error"] == "invalid_scope"


def test_prompt_none_never_shows_a_page_and_never_allows(scene: Scene, browser: Browser) -> None:
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", prompt="none")
    assert sent_back(scene.world.browser().authorize(query), REDIRECT, scene.world.issuer)["error"] == "login_required"
    assert sent_back(browser.authorize(query), REDIRECT, scene.world.issuer)["error"] == "consent_required"
    for prompt in ("none login", "login none", "none consent", "nonsense", "NONE", "none none none login"):
        query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", prompt=prompt)
        assert sent_back(browser.authorize(query), REDIRECT, scene.world.issuer)["error"] == "invalid_request"


@pytest.mark.parametrize("max_age", ["-1", "1.5", "x", "1e9", "9" * 30, " 1", "+1", "0x1", "\u0661"])
def test_a_max_age_that_is_no_number_of_seconds_is_refused(scene: Scene, browser: Browser, max_age: str) -> None:
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", max_age=max_age)
    assert sent_back(browser.authorize(query), REDIRECT, scene.world.issuer)["error"] == "invalid_request"


def test_every_authorization_response_says_who_it_is_from(scene: Scene, browser: Browser) -> None:
    """RFC 9207, against mix-up: `sent_back` looks at `iss` of each; the issuer is the metadata's."""
    metadata = scene.world.get("/.well-known/oauth-authorization-server").json
    assert metadata["authorization_response_iss_parameter_supported"] is True
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read")
    for answer in (
        browser.decide(browser.authorize(query)),
        browser.decide(browser.authorize(query), allow=False),
        browser.authorize([*query, ("response_mode", "x")]),
    ):
        assert parse_qs(urlsplit(answer.headers["Location"]).query)["iss"] == [metadata["issuer"]]


def test_nothing_of_this_filled_live_state_for_good(scene: Scene) -> None:
    scene.alive()
    live = scene.world.server.live
    live.commit(Commit())
    held = live.redis.call("KEYS", f"deputy:{live.generation().number}:code:*")
    assert all(live.redis.call("TTL", key) > 0 for key in held)
