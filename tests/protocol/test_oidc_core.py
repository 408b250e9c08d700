"""OpenID Connect Core: an application signs a human in."""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from app.vocabulary import SigningAlg
from tests.protocol.answers import code_at, landed, new_verifier, no_redirect, sent_back, sent_to_sign_in, signed_in_tokens, without
from tests.world import Answer, Browser, Party, Person, World, claims_of, header_of, hidden


@dataclass
class Story:
    world: World
    alice: Person
    app: Party
    browser: Browser

    def query(self, scope: str = "openid", **more: str) -> list[tuple[str, str]]:
        return self.world.authorization(self.app, "v" * 43, scope=scope, **more)

    def ask(self, browser: Browser | None = None, **more: str) -> Answer:
        return (browser or self.browser).authorize(self.query(**more))

    def signed_in(self, app: Party | None = None, **more: str) -> dict[str, Any]:
        return signed_in_tokens(self.world, app or self.app, self.browser, **more)


@pytest.fixture
def story(world: World) -> Story:
    alice = world.human()
    return Story(world, alice, world.app(), world.signed_in(alice))


def again(story: Story, answer: Answer, username: str | None = None) -> Answer:
    """Sign in, and go where that leads."""
    onward = sent_to_sign_in(answer)
    signed = story.browser.sign_in(username or story.alice.username, target=onward)
    assert signed.status == 303
    return story.browser.get(signed.headers["Location"])


# The ID token


@pytest.mark.rfc("OIDC Core", "2")
def test_the_id_token_says_who_signed_in_for_whom_and_when(story: Story) -> None:
    given = story.signed_in()
    claims = claims_of(given["id_token"])
    assert set(claims) == {"iss", "sub", "aud", "exp", "iat", "auth_time", "acr", "amr", "at_hash"}
    assert claims["iss"] == story.world.issuer
    assert claims["sub"] == story.alice.id
    assert claims["aud"] == story.app.client_id
    assert claims["auth_time"] <= claims["iat"] < claims["exp"] <= claims["iat"] + 600
    assert claims["amr"] == ["pwd"]
    assert given["token_type"] == "Bearer"
    assert given["scope"] == "openid"
    assert claims_of(given["access_token"])["aud"] == story.world.issuer + "/oauth/userinfo"


@pytest.mark.rfc("OIDC Core", "3.1.3.7")
def test_it_is_signed_with_rs256_unless_registered_otherwise(story: Story) -> None:
    keys = KeySet.import_key_set(story.world.get("/oauth/jwks").ok())
    token = story.signed_in()["id_token"]
    assert header_of(token)["alg"] == "RS256"
    assert jwt.decode(token, keys, algorithms=["RS256"]).claims["sub"] == story.alice.id
    assert header_of(story.signed_in(story.world.app(id_token_alg="ES256"))["id_token"])["alg"] == "ES256"


@pytest.mark.rfc("OIDC Core", "3.1.3.6")
@pytest.mark.parametrize(("alg", "hash_name"), [("RS256", "sha256"), ("ES256", "sha256"), ("PS256", "sha256"), ("EdDSA", "sha512")])
def test_at_hash_is_the_left_half_of_the_hash_of_its_algorithm(story: Story, alg: str, hash_name: str) -> None:
    story.world.server.keys.ensure_alg(SigningAlg(alg))
    given = story.signed_in(story.world.app(id_token_alg=alg))
    digest = hashlib.new(hash_name, given["access_token"].encode()).digest()
    expected = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    assert claims_of(given["id_token"])["at_hash"] == expected
    assert header_of(given["id_token"])["alg"] == alg


@pytest.mark.rfc("OIDC Core", "3.1.2.1")
def test_the_nonce_comes_back_as_it_was_and_is_not_made_up(story: Story) -> None:
    assert claims_of(story.signed_in(nonce="a b&é")["id_token"])["nonce"] == "a b&é"
    assert "nonce" not in claims_of(story.signed_in()["id_token"])


@pytest.mark.rfc("OIDC Core", "5.4")
def test_profile_and_email_are_given_where_they_were_granted(story: Story) -> None:
    assert not {"name", "email", "preferred_username"} & claims_of(story.signed_in()["id_token"]).keys()
    claims = claims_of(story.signed_in(scope="openid profile email")["id_token"])
    assert (claims["name"], claims["preferred_username"]) == (f"Name of {story.alice.username}", story.alice.username)
    assert (claims["email"], claims["email_verified"]) == (f"{story.alice.username}@example.com", False)


@pytest.mark.rfc("OIDC Core", "3.1.2.1")
def test_without_openid_there_is_no_id_token(story: Story) -> None:
    api = story.world.resource("read")
    app = story.world.app(pairs=[(api, "read")])
    body = story.world.consented(story.browser, app, api, scope="read")
    assert "id_token" not in body
    body = signed_in_tokens(story.world, app, story.browser, api, scope="openid read")
    assert "id_token" in body
    assert claims_of(body["access_token"])["scope"] == "read"
    assert body["scope"] == "openid read"


def test_an_api_does_not_take_an_id_token(story: Story) -> None:
    api = story.world.resource("read")
    assert story.world.introspect(api, story.signed_in()["id_token"]) == {"active": False}


@pytest.mark.rfc("OIDC Core", "3.1.2.1")
def test_openid_needs_a_redirect_uri(story: Story) -> None:
    no_redirect(story.browser.authorize(without(story.query(), "redirect_uri")))


def test_an_agent_signs_nobody_in(story: Story) -> None:
    api = story.world.resource("read")
    agent = story.world.agent(story.alice, ceiling=[(api, "read")])
    for scope in ("openid", "openid read", "profile read", "email"):
        query = story.world.authorization(agent, "v" * 43, api, scope=scope)
        sent_back(story.browser.authorize(query), "invalid_scope", story.world.issuer)


# prompt and max_age


@pytest.mark.rfc("OIDC Core", "3.1.2.1")
def test_prompt_none_shows_nothing(story: Story) -> None:
    stranger = story.world.browser()
    assert sent_back(story.ask(stranger, prompt="none"), "login_required", story.world.issuer)["state"] == "xyz"
    assert landed(story.ask(prompt="none"))["code"]
    api = story.world.resource("read")
    app = story.world.app(pairs=[(api, "read")])
    query = story.world.authorization(app, "v" * 43, api, scope="openid read")
    sent_back(story.browser.authorize([*query, ("prompt", "none")]), "consent_required", story.world.issuer)
    landed(story.browser.decide(story.browser.authorize(query)))
    assert landed(story.browser.authorize([*query, ("prompt", "none")]))["code"]
    for prompt in ("none login", "none consent", "none none x"):
        sent_back(story.ask(prompt=prompt), "invalid_request", story.world.issuer)


@pytest.mark.rfc("OIDC Core", "3.1.2.1")
@pytest.mark.parametrize("prompt", ["login", "select_account", "login consent"])
def test_prompt_login_asks_for_the_password_once_more_and_only_once(story: Story, prompt: str, later) -> None:
    before = claims_of(story.signed_in()["id_token"])
    later(2)
    verifier = new_verifier()
    query = story.world.authorization(story.app, verifier, scope="openid", prompt=prompt)
    answer = again(story, story.browser.authorize(query))
    if "consent" in prompt:
        answer = story.browser.decide(answer)
    after = claims_of(story.world.redeem(story.app, landed(answer)["code"], verifier).ok()["id_token"])
    assert after["auth_time"] > before["auth_time"]
    assert after["sub"] == before["sub"]


@pytest.mark.parametrize("prompt", ["login", "select_account"])
def test_prompt_login_asks_somebody_who_is_not_signed_in_once(story: Story, prompt: str) -> None:
    story.browser = story.world.browser()
    assert landed(again(story, story.ask(prompt=prompt)))["code"]
    # The next request asks again.
    assert landed(again(story, story.ask(prompt=prompt)))["code"]


def test_a_made_up_word_that_the_sign_in_was_fresh_is_not_believed(story: Story, later) -> None:
    later(2)
    for value in ("0", str(int(time.time()) - 10), "", "x.y.z", str(int(time.time()) + 1000)):
        sent_to_sign_in(story.browser.authorize([*story.query(prompt="login"), ("fresh_after", value)]))
    onward = sent_to_sign_in(story.ask(prompt="login"))
    # Ours, but the human has not signed in since.
    sent_to_sign_in(story.browser.get(onward))


@pytest.mark.rfc("OIDC Core", "3.1.2.1")
def test_prompt_consent_shows_the_page_although_nothing_is_left_to_ask(story: Story) -> None:
    page = story.ask(prompt="consent")
    assert page.status == 200
    assert landed(story.browser.decide(page))["code"]
    sent_back(story.browser.decide(story.ask(prompt="consent"), allow=False), "access_denied", story.world.issuer)


@pytest.mark.rfc("OIDC Core", "3.1.2.1")
def test_max_age_asks_again_when_the_sign_in_is_older(story: Story, later) -> None:
    assert landed(story.ask(max_age="100"))["code"]
    later(101)
    sent_back(story.ask(max_age="100", prompt="none"), "login_required", story.world.issuer)
    assert landed(story.ask(max_age="1000"))["code"]
    verifier = new_verifier()
    query = story.world.authorization(story.app, verifier, scope="openid", max_age="100")
    answer = again(story, story.browser.authorize(query))
    claims = claims_of(story.world.redeem(story.app, landed(answer)["code"], verifier).ok()["id_token"])
    assert claims["iat"] - claims["auth_time"] <= 100


def test_max_age_zero_is_a_sign_in_now(story: Story, later) -> None:
    later(2)
    answer = again(story, story.ask(max_age="0"))
    assert landed(answer)["code"]
    for value in ("-1", "x", "1.5", "1e3", "٣", "9" * 20):
        sent_back(story.ask(max_age=value), "invalid_request", story.world.issuer)


def test_who_signs_in_again_as_somebody_else_is_somebody_else(story: Story) -> None:
    bob = story.world.human()
    verifier = new_verifier()
    query = story.world.authorization(story.app, verifier, scope="openid", prompt="login")
    answer = again(story, story.browser.authorize(query), bob.username)
    claims = claims_of(story.world.redeem(story.app, landed(answer)["code"], verifier).ok()["id_token"])
    assert claims["sub"] == bob.id


@pytest.mark.rfc("OIDC Core", "3.1.2.1")
def test_an_id_token_hint_names_who_is_meant(story: Story) -> None:
    hint = story.signed_in()["id_token"]
    assert landed(story.ask(id_token_hint=hint, prompt="none"))["code"]
    assert landed(story.ask(id_token_hint=hint))["code"]
    bob = story.world.human()
    browser = story.world.signed_in(bob)
    sent_back(story.ask(browser, id_token_hint=hint, prompt="none"), "login_required", story.world.issuer)
    sent_back(story.ask(browser, id_token_hint=hint), "login_required", story.world.issuer)
    for bad in ("x", hint[:-4] + "AAAA", story.signed_in()["access_token"]):
        sent_back(story.ask(id_token_hint=bad), "invalid_request", story.world.issuer)


@pytest.mark.rfc("OIDC Core", "3.1.2.1")
def test_an_expired_hint_still_names_her(story: Story, later) -> None:
    hint = story.signed_in()["id_token"]
    later(1000)
    assert landed(story.ask(id_token_hint=hint, prompt="none"))["code"]


@pytest.mark.rfc("OIDC Core", "3.1.2.1")
def test_what_changes_nothing_is_ignored(story: Story) -> None:
    answer = story.ask(
        acr_values="1 2", login_hint="somebody", display="popup", ui_locales="fr", claims='{"userinfo":{}}', something="else"
    )
    assert landed(answer)["code"]


# offline_access


@pytest.mark.rfc("OIDC Core", "11")
def test_offline_access_without_consent_is_ignored(story: Story) -> None:
    given = story.signed_in(scope="openid offline_access")
    assert "refresh_token" not in given
    assert given["scope"] == "openid"


@pytest.mark.rfc("OIDC Core", "11")
def test_offline_access_is_ticked_or_there_is_none(story: Story) -> None:
    for away in (True, False):
        verifier = new_verifier()
        query = story.world.authorization(story.app, verifier, scope="openid", away=True, prompt="consent")
        given = story.world.redeem(story.app, code_at(story.browser, query, away=away), verifier).ok()
        assert ("refresh_token" in given) is away
        assert ("offline_access" in given["scope"].split()) is away


def test_the_code_of_a_sign_in_hangs_on_the_sign_in(story: Story) -> None:
    verifier = new_verifier()
    code = code_at(story.browser, story.world.authorization(story.app, verifier, scope="openid"))
    story.browser.post("/logout", hidden(story.browser.get("/logout")))
    assert story.world.redeem(story.app, code, verifier).error == "invalid_grant"
