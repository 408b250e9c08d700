"""Sign-in, its cookie, and where the browser goes afterwards (RFC 9700 §4.11, §4.12; OIDC Core §3.1.2.1)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from http.cookies import Morsel, SimpleCookie
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.keys.signer import sign
from app.vocabulary import SigningAlg
from tests.attacks.scene import VERIFIER, Scene, another_app, elsewhere, error_page, resign, sent_back, unique, world_of
from tests.world import BY, PASSWORD, REDIRECT, Answer, Browser, Party, World, claims_of, encoded, hidden


def cookies(answer: Answer) -> dict[str, Morsel[str]]:
    found: dict[str, Morsel[str]] = {}
    for header in answer.headers.getlist("Set-Cookie"):  # type: ignore[attr-defined]
        found.update(SimpleCookie(header))
    return found


def client_of(browser: Browser) -> FlaskClient:
    client: FlaskClient = browser.http._client  # type: ignore[attr-defined]
    return client


def secret_of(browser: Browser) -> str:
    held = client_of(browser).get_cookie("deputy", domain="localhost")
    assert held is not None
    return held.value


def planted(world: World, **values: str) -> Browser:
    """A browser in which somebody else has put cookies."""
    browser = world.browser()
    for name, value in values.items():
        client_of(browser).set_cookie(name, value, domain="localhost")
    return browser


# Fixation and rotation


def test_the_session_changes_at_sign_in_and_no_planted_one_is_adopted(scene: Scene) -> None:
    attacker = scene.world.signed_in(scene.bob)
    theirs = secret_of(attacker)
    for value in (theirs, "A" * 43, unique(), ""):
        victim = planted(scene.world, deputy=value)
        page = victim.get("/login?next=/my/agents")
        assert victim.post("/login", [*hidden(page), ("username", scene.alice.username), ("password", PASSWORD)]).status == 303
        assert secret_of(victim) not in {value, theirs}
        assert victim.get("/my/agents").status == 200
    # Whoever was planted is not signed in as anybody by it.
    assert attacker.get("/my/agents").status in {200, 303}
    assert scene.alice.username not in attacker.get("/").text


def test_signing_in_again_changes_the_secret_and_kills_the_old_one(scene: Scene) -> None:
    browser = scene.world.signed_in(scene.alice)
    before = secret_of(browser)
    page = browser.get("/login?next=/")
    assert browser.post("/login", [*hidden(page), ("username", scene.alice.username), ("password", PASSWORD)]).status == 303
    assert secret_of(browser) != before
    assert planted(scene.world, deputy=before).get("/my/agents").status == 303
    assert browser.get("/my/agents").status == 200


def test_somebody_else_who_signs_in_in_the_same_browser_ends_the_first_session(scene: Scene) -> None:
    browser = scene.world.signed_in(scene.alice)
    before = secret_of(browser)
    token = scene.world.consented(browser, scene.agent, scene.api, scope="read")["access_token"]
    page = browser.get("/login?next=/")
    assert browser.post("/login", [*hidden(page), ("username", scene.bob.username), ("password", PASSWORD)]).status == 303
    assert planted(scene.world, deputy=before).get("/my/agents").status == 303
    assert not scene.world.active(scene.api, token)


def test_a_failed_sign_in_changes_nothing(scene: Scene) -> None:
    browser = scene.world.signed_in(scene.alice)
    before = secret_of(browser)
    page = browser.get("/login?next=/")
    assert browser.post("/login", [*hidden(page), ("username", scene.alice.username), ("password", "wrong")]).status == 401
    assert secret_of(browser) == before
    assert browser.get("/my/agents").status == 200


def test_after_signing_out_the_cookie_is_nobodys(scene: Scene) -> None:
    browser = scene.world.signed_in(scene.alice)
    held = secret_of(browser)
    assert browser.post("/logout", hidden(browser.get("/logout"))).status == 303
    assert planted(scene.world, deputy=held).get("/my/agents").status == 303
    assert client_of(browser).get_cookie("deputy", domain="localhost") is None


def test_a_disabled_human_and_a_new_password_end_every_session(scene: Scene) -> None:
    human = scene.world.human()
    first, second = scene.world.signed_in(human), scene.world.signed_in(human)
    scene.world.server.accounts.set_password(human.id, "another correct horse", by=BY)
    assert first.get("/my/agents").status == second.get("/my/agents").status == 303
    human = scene.world.human()
    browser = scene.world.signed_in(human)
    scene.world.server.accounts.disable(human.id, by=BY)
    assert browser.get("/my/agents").status == 303
    scene.world.server.accounts.enable(human.id, by=BY)
    assert browser.get("/my/agents").status == 303


@pytest.mark.parametrize(
    "value",
    [
        "x",
        "",
        "A" * 43,
        "A" * 42,
        "A" * 44,
        "A" * 5000,
        "../x",
        "%00",
        "\u00e9" * 43,
        "A" * 42 + "=",
        "A" * 42 + ".",
        "' OR 1=1 --",
        '"' * 43,
    ],
)
def test_a_made_up_cookie_is_no_session_and_no_error(scene: Scene, value: str) -> None:
    client = scene.world.browser()
    for name in ("deputy", "deputy-form", "__Host-deputy", "session"):
        header = {"Cookie": f"{name}={value.encode().decode('latin-1')}"}
        assert client.http.send("GET", "/my/agents", None, header).status == 303
        assert client.http.send("GET", "/login", None, header).status == 200
        assert (
            client.http.send(
                "POST", "/login", encoded({"username": "x"}), {"Content-Type": "application/x-www-form-urlencoded", **header}
            ).status
            == 403
        )


def test_a_cookie_that_is_there_twice_is_none(scene: Scene) -> None:
    """One of them was put there by somebody else, and which comes first is his choice."""
    good = secret_of(scene.world.signed_in(scene.alice))
    for header in (f"deputy={good}; deputy={'A' * 43}", f"deputy={'A' * 43}; deputy={good}", f"deputy={good}; deputy={good}"):
        assert scene.world.http.fresh().send("GET", "/my/agents", None, {"Cookie": header}).status == 303


# The cookies themselves


@pytest.fixture(scope="module")
def https(scene: Scene) -> Iterator[Flask]:
    with another_app(scene.world.server.settings, issuer="https://as.example") as made:
        yield made


def test_on_https_cookies_are_of_this_host_alone_and_out_of_reach_of_script(scene: Scene, https: Flask) -> None:
    answer = world_of(scene.world.server, https).get("/login")
    (form,) = cookies(answer).values()
    assert form.key == "__Host-deputy-form"
    client = https.test_client()
    page = client.get("/login", base_url="https://as.example")
    fields = hidden(Answer(page.status_code, page.headers, page.data))
    signed = client.post(
        "/login", base_url="https://as.example", data=dict([*fields, ("username", scene.alice.username), ("password", PASSWORD)])
    )
    assert signed.status_code == 303
    found = cookies(Answer(signed.status_code, signed.headers, signed.data))
    for cookie in (form, found["__Host-deputy"]):
        assert cookie["secure"] is True
        assert cookie["httponly"] is True
        assert cookie["samesite"] == "Lax"
        assert cookie["path"] == "/"
        assert cookie["domain"] == ""
        assert cookie["max-age"] == cookie["expires"] == ""
    assert "deputy" not in found
    assert signed.headers["Strict-Transport-Security"].startswith("max-age=")


def test_on_http_nothing_but_the_prefix_and_secure_is_missing(scene: Scene) -> None:
    browser = scene.world.browser()
    page = browser.get("/login")
    answer = browser.post("/login", [*hidden(page), ("username", scene.alice.username), ("password", PASSWORD)])
    for cookie in (cookies(page)["deputy-form"], cookies(answer)["deputy"]):
        assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["domain"], cookie["secure"]) == (True, "Lax", "/", "", "")


def test_the_protocol_sets_no_cookie_and_reads_none(scene: Scene) -> None:
    held = {"Cookie": f"deputy={secret_of(scene.world.signed_in(scene.alice))}"}
    for path in ("/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/par"):
        answer = scene.raw(path, b"grant_type=client_credentials&token=x", held)
        assert answer.status in {400, 401}
        assert not cookies(answer)
    assert scene.raw("/oauth/userinfo", b"", held).status == 401
    for path in ("/oauth/jwks", "/.well-known/openid-configuration", "/healthz", "/readyz"):
        assert not cookies(scene.world.get(path, held))


# 2.5.79: never a redirect that sends the form on


def test_after_a_form_comes_a_303_which_sends_nothing_on(scene: Scene) -> None:
    browser = scene.world.browser()
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read")
    first = browser.authorize(query)
    page = browser.get(first.headers["Location"])
    signed = browser.post("/login", [*hidden(page), ("username", scene.alice.username), ("password", PASSWORD)])
    decided = browser.decide(browser.get(signed.headers["Location"]))
    for answer in (first, signed, decided, browser.post("/oauth/authorize", query)):
        assert answer.status == 303
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert PASSWORD not in answer.headers["Location"]
        assert PASSWORD not in answer.text


def test_a_password_is_never_shown_again(scene: Scene) -> None:
    browser = elsewhere(scene.world)
    page = browser.get("/login")
    for password in ("wrong-but-secret", PASSWORD + "x"):
        answer = browser.post("/login", [*hidden(page), ("username", scene.alice.username), ("password", password)])
        assert password not in answer.text
        assert scene.alice.username in answer.text
    assert 'autocomplete="current-password"' in page.text


# Open redirects


TARGETS = [
    "https://evil.example/", "//evil.example/", "///evil.example", "////evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "/\n/evil.example", "\t//evil.example",
    " //evil.example", "/%0d%0aLocation:%20https://evil.example", "javascript:alert(1)", "data:text/html,x", "evil.example", "@evil.example", "?x", "#x", "", "http:evil.example",
    "https:/evil.example", "/\x00/evil.example", "/\u2028/evil.example", "/\u00e9", "/\ufeff/evil.example", "\u3000//evil.example", "/" + "x" * 9000, "/.\\evil.example", "/\r\nX: y",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_signing_in_leads_nowhere_but_to_ourselves(scene: Scene, target: str) -> None:
    browser = scene.world.browser()
    page = browser.get("/login?" + urlencode({"next": target}))
    if page.status == 400:
        page = browser.get("/login")
    fields = [(n, v if n != "next" else target) for n, v in hidden(page)]
    assert dict(hidden(page))["next"].startswith("/")
    answer = browser.post("/login", [*fields, ("username", scene.bob.username), ("password", PASSWORD)])
    if answer.status == 400:
        return
    assert answer.status == 303
    location = answer.headers["Location"]
    assert re.fullmatch(r"/(?![/\\])[!-~]*", location)
    assert "\\" not in location


def test_an_internal_target_that_redirects_does_so_only_where_it_is_registered(scene: Scene) -> None:
    query = urlencode([("response_type", "code"), ("client_id", scene.agent.client_id), ("redirect_uri", "https://evil.example/")])
    browser = scene.world.browser()
    page = browser.get("/login?next=" + quote(f"/oauth/authorize?{query}", safe=""))
    assert "evil.example" not in page.headers["Content-Security-Policy"]
    answer = browser.post("/login", [*hidden(page), ("username", scene.bob.username), ("password", PASSWORD)])
    error_page(browser.get(answer.headers["Location"]))


# Signing out


@pytest.fixture(scope="module")
def leaving(scene: Scene) -> Party:
    return scene.world.app(post_logout_redirect_uris=("https://app.example/bye", "https://app.example/bye?x=1"))


def id_token(scene: Scene, client: Party, browser: Browser) -> str:
    query = scene.world.authorization(client, VERIFIER, scope="openid")
    return str(scene.world.redeem(client, browser.code(query), VERIFIER).ok()["id_token"])


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.example/", "https://app.example/bye/", "https://app.example/bye?x=2", "https://app.example/", "https://app.example/bye#x", "https://APP.example/bye",
        "https://app.example@evil.example/bye", "//app.example/bye", "https://app.example/bye\t", "https://app.example/./bye", "javascript:alert(1)", REDIRECT, "/my/agents", "x", "\u00e9",
    ],
)  # fmt: skip
def test_signing_out_leads_only_where_the_client_registered_it(scene: Scene, leaving: Party, uri: str) -> None:
    browser = scene.world.signed_in(scene.bob)
    hint = id_token(scene, leaving, browser)
    for asked in ({"client_id": leaving.client_id}, {"id_token_hint": hint}, {"id_token_hint": hint, "client_id": leaving.client_id}, {}):
        query = {**asked, "post_logout_redirect_uri": uri, "state": "s"}
        nobody = scene.world.browser().get("/logout?" + urlencode(query))
        assert nobody.status == 200
        page = browser.get("/logout?" + urlencode(query))
        assert page.status == 200
        assert "evil" not in page.headers["Content-Security-Policy"]
    answer = browser.post("/logout", hidden(page))
    assert answer.headers["Location"] == "/logout"


def test_signing_out_by_way_of_the_client_carries_its_state_and_no_more(scene: Scene, leaving: Party) -> None:
    for uri, state in (("https://app.example/bye", 'a&b=c#"<\r\n'), ("https://app.example/bye?x=1", "s")):
        browser = scene.world.signed_in(scene.bob)
        page = browser.get("/logout?" + urlencode({"client_id": leaving.client_id, "post_logout_redirect_uri": uri, "state": state}))
        answer = browser.post("/logout", hidden(page))
        assert answer.status == 303
        assert answer.headers["Location"] == uri + ("&" if "?" in uri else "?") + urlencode({"state": state})


def test_a_hint_that_is_not_ours_or_of_another_client_leads_nowhere(scene: Scene, leaving: Party) -> None:
    browser = scene.world.signed_in(scene.bob)
    hint = id_token(scene, leaving, browser)
    other = id_token(scene, scene.app, browser)
    server = scene.world.server
    uri = "https://app.example/bye"
    bad = {
        "another client's": other, "an access token": scene.token(), "a hand-over": scene.handover, "unsigned": hint.rpartition(".")[0] + ".", "garbage": "x",
        "another issuer's": resign(server, hint, "JWT", iss="https://evil.example"), "two audiences": resign(server, hint, "JWT", aud=[leaving.client_id, scene.app.client_id]),
        "no audience": resign(server, hint, "JWT", aud=None), "huge": hint + "x" * 9000,
    }  # fmt: skip
    for name, value in bad.items():
        answer = scene.world.browser().get("/logout?" + urlencode({"id_token_hint": value, "post_logout_redirect_uri": uri}))
        assert answer.status in {200, 400}, name
    disagree = {"id_token_hint": hint, "client_id": scene.app.client_id, "post_logout_redirect_uri": uri}
    assert scene.world.browser().get("/logout?" + urlencode(disagree)).status == 200
    # An old one of ours still says whom it was for (RP-Initiated Logout §2).
    old = sign({**claims_of(hint), "exp": 1, "iat": 1}, "JWT", server.keys.signing_key(SigningAlg.RS256))
    assert (
        scene.world.browser().get("/logout?" + urlencode({"id_token_hint": old, "post_logout_redirect_uri": uri})).headers["Location"]
        == uri
    )


# prompt, max_age, hints: who is asked again


def code_or_login(browser: Browser, query: list[tuple[str, str]]) -> Answer:
    answer = browser.authorize(query)
    assert answer.status in {200, 303}, answer.text[:300]
    return answer


def fresh_after(scene: Scene, browser: Browser, client: Party, **more: str) -> str:
    """Where `prompt=login` sends the browser: sign in first, then come back with a mark that it was done."""
    answer = browser.authorize(scene.world.authorization(client, VERIFIER, scope="openid", **more))
    assert answer.headers["Location"].startswith("/login?next=")
    return answer.headers["Location"]


def again(scene: Scene, browser: Browser, location: str, password: str = PASSWORD) -> Answer:
    page = browser.get(location)
    return browser.post("/login", [*hidden(page), ("username", scene.bob.username), ("password", password)])


def test_prompt_login_asks_again_and_a_wrong_password_is_not_enough(scene: Scene) -> None:
    browser = scene.world.signed_in(scene.bob)
    time.sleep(1.1)
    location = fresh_after(scene, browser, scene.app, prompt="login")
    assert again(scene, browser, location, "wrong").status == 401
    # Going on without having signed in leads back to the sign-in.
    target = dict(hidden(browser.get(location)))["next"]
    assert browser.get(target).headers["Location"].startswith("/login?")
    answer = again(scene, browser, location)
    assert answer.status == 303
    assert "code" in sent_back(browser.get(answer.headers["Location"]), REDIRECT, scene.world.issuer)


@pytest.mark.parametrize("value", ["x", "1", "9999999999", "ImEi.x.x", "", "WzFd.aaaa.bbbb"])
def test_nobody_makes_the_mark_that_says_it_was_done(scene: Scene, value: str) -> None:
    browser = scene.world.signed_in(scene.bob)
    query = scene.world.authorization(scene.app, VERIFIER, scope="openid", prompt="login")
    assert code_or_login(browser, [*query, ("fresh_after", value)]).headers["Location"].startswith("/login?")


def test_the_mark_of_one_request_does_not_pass_for_another(scene: Scene) -> None:
    browser = scene.world.signed_in(scene.bob)
    location = fresh_after(scene, browser, scene.app, prompt="login", nonce="first")
    target = dict(hidden(browser.get(location)))["next"]
    mark = target.rpartition("fresh_after=")[2]
    again(scene, browser, location)
    query = scene.world.authorization(scene.app, VERIFIER, scope="openid", prompt="login", nonce="second")
    answer = browser.get("/oauth/authorize?" + urlencode(query) + "&fresh_after=" + mark)
    assert answer.status == 303
    assert answer.headers["Location"].startswith("/login?")


def test_max_age_zero_asks_again(scene: Scene) -> None:
    browser = scene.world.signed_in(scene.bob)
    time.sleep(1.1)
    location = fresh_after(scene, browser, scene.app, max_age="0")
    answer = again(scene, browser, location)
    found = sent_back(browser.get(answer.headers["Location"]), REDIRECT, scene.world.issuer)
    assert "code" in found
    assert (
        code_or_login(browser, scene.world.authorization(scene.app, VERIFIER, scope="openid", max_age="999999999"))
        .headers["Location"]
        .startswith(REDIRECT)
    )


def test_a_hint_of_somebody_else_or_of_nobody_gives_no_code(scene: Scene) -> None:
    alices = id_token(scene, scene.app, scene.world.signed_in(scene.alice))
    browser = scene.world.signed_in(scene.bob)
    server = scene.world.server
    hints: dict[str, tuple[str, str]] = {
        "Alice's": (alices, "login_required"), "garbage": ("x", "invalid_request"), "unsigned": (alices.rpartition(".")[0] + ".", "invalid_request"),
        "an access token": (scene.token(), "invalid_request"), "a hand-over": (scene.handover, "invalid_request"),
        "of another issuer": (resign(server, alices, "JWT", iss="https://evil.example"), "invalid_request"), "of another kind": (resign(server, alices, "at+jwt"), "invalid_request"),
    }  # fmt: skip
    for name, (hint, error) in hints.items():
        for prompt in ({}, {"prompt": "none"}):
            more: dict[str, Any] = {"id_token_hint": hint, **prompt}
            found = sent_back(
                browser.authorize(scene.world.authorization(scene.app, VERIFIER, scope="openid", **more)), REDIRECT, scene.world.issuer
            )
            assert found["error"] == error, name
    own = id_token(scene, scene.app, browser)
    query = scene.world.authorization(scene.app, VERIFIER, scope="openid", id_token_hint=own, prompt="none")
    assert "code" in sent_back(browser.authorize(query), REDIRECT, scene.world.issuer)
