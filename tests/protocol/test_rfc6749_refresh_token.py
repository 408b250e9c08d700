"""RFC 6749 §6: going on with what was authorized, one refresh token after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.protocol.answers import code_at, new_verifier, refresh, refused, signed_in_tokens
from tests.world import Answer, Api, Browser, Party, Person, World, claims_of, header_of, hidden


@dataclass
class Story:
    world: World
    alice: Person
    calendar: Api
    mail: Api
    agent: Party
    browser: Browser
    given: dict[str, Any]

    @property
    def first(self) -> str:
        return str(self.given["refresh_token"])

    def refresh(self, token: str, **form: str) -> Answer:
        return refresh(self.world, self.agent, token, **form)


@pytest.fixture
def story(world: World) -> Story:
    alice = world.human()
    calendar, mail = world.resource("calendar:read", "calendar:write"), world.resource("mail:read")
    agent = world.agent(alice, ceiling=[(calendar, "calendar:read"), (calendar, "calendar:write"), (mail, "mail:read")])
    browser = world.signed_in(alice)
    given = world.consented(browser, agent, calendar, mail, scope="calendar:read calendar:write mail:read", away=True)
    return Story(world, alice, calendar, mail, agent, browser, given)


@pytest.mark.rfc("6749", "6")
def test_a_refresh_token_gives_a_token_and_the_next_refresh_token(story: Story) -> None:
    body = story.refresh(story.first, resource=story.mail.uri).ok()
    assert body["scope"] == "mail:read"
    assert body["refresh_token"] != story.first
    claims = claims_of(body["access_token"])
    assert claims["sub"] == story.alice.id
    assert claims["act"]["sub"] == story.agent.uri
    assert claims["txn"] == story.given["task_id"]
    assert story.world.active(story.mail, body["access_token"])
    assert story.refresh(body["refresh_token"], resource=story.mail.uri).status == 200


@pytest.mark.rfc("9700", "4.14.2")
def test_a_refresh_token_used_twice_ends_its_family(story: Story) -> None:
    second = story.refresh(story.first, resource=story.mail.uri).ok()
    third = story.refresh(second["refresh_token"], resource=story.calendar.uri).ok()
    assert story.world.active(story.calendar, third["access_token"])
    refused(story.refresh(story.first, resource=story.mail.uri), "invalid_grant")
    refused(story.refresh(third["refresh_token"], resource=story.mail.uri), "invalid_grant")
    for body, api in ((second, story.mail), (third, story.calendar)):
        assert not story.world.active(api, body["access_token"])
    assert story.world.exchange(story.agent, story.given["access_token"], resource=story.mail.uri).error == "invalid_request"


def test_reuse_ends_the_family_and_not_the_consent(story: Story) -> None:
    story.refresh(story.first).ok()
    refused(story.refresh(story.first), "invalid_grant")
    kind = "urn:deputy:params:oauth:token-type:consent"
    assert story.world.exchange(story.agent, story.given["consent_id"], kind, resource=story.mail.uri).status == 200


def test_reuse_is_recorded(story: Story) -> None:
    story.refresh(story.first).ok()
    refused(story.refresh(story.first), "invalid_grant")
    (replay,) = story.world.ledger(event="replay.detected", family=claims_of(story.given["access_token"])["deputy"]["f"])
    assert replay["what"] == "refresh_token"
    assert story.first not in str(replay)


@pytest.mark.rfc("6749", "6")
def test_a_refresh_token_is_good_for_its_client_only_and_is_not_used_up_by_another(story: Story) -> None:
    world = story.world
    other = world.agent(story.alice, ceiling=[(story.mail, "mail:read")])
    public = world.app(auth="none", native=True)
    for client in (other, public):
        refused(refresh(world, client, story.first, resource=story.mail.uri), "invalid_grant")
    assert story.refresh(story.first).status == 200


@pytest.mark.rfc("8707", "2.2")
def test_resource_picks_one_and_none_gives_a_hand_over(story: Story) -> None:
    body = story.refresh(story.first, resource=story.calendar.uri).ok()
    assert claims_of(body["access_token"])["aud"] == story.calendar.uri
    body = story.refresh(body["refresh_token"]).ok()
    assert header_of(body["access_token"])["typ"] == "handover+jwt"
    assert claims_of(body["access_token"])["may_act"]["sub"] == story.agent.uri
    assert body["scope"] == "calendar:read calendar:write mail:read"
    assert [entry["locations"] for entry in body["authorization_details"]] == sorted([[story.calendar.uri], [story.mail.uri]])
    elsewhere = story.world.resource("mail:read")
    for target in (elsewhere.uri, "https://unknown.example", story.world.issuer, story.world.issuer + "/oauth/userinfo"):
        refused(story.refresh(body["refresh_token"], resource=target), "invalid_target")
    assert story.refresh(body["refresh_token"], resource=story.mail.uri).status == 200


@pytest.mark.rfc("6749", "6")
def test_a_narrower_scope_is_given_and_the_next_time_the_whole_again(story: Story) -> None:
    body = story.refresh(story.first, resource=story.calendar.uri, scope="calendar:read").ok()
    assert body["scope"] == claims_of(body["access_token"])["scope"] == "calendar:read"
    body = story.refresh(body["refresh_token"], resource=story.calendar.uri).ok()
    assert body["scope"] == "calendar:read calendar:write"


@pytest.mark.rfc("6749", "6")
def test_a_scope_that_was_not_granted_is_refused_and_the_refresh_token_stays_good(story: Story) -> None:
    for scope in ("calendar:read unknown", "mail:read", "mail:send", "openid", "profile"):
        refused(story.refresh(story.first, resource=story.calendar.uri, scope=scope), "invalid_scope")
    assert story.refresh(story.first, resource=story.calendar.uri).status == 200


def test_the_scope_that_was_asked_of_the_human_may_be_repeated_whole(story: Story) -> None:
    # Client libraries do so: offline_access is among it.
    body = story.refresh(story.first, scope="calendar:read calendar:write mail:read offline_access").ok()
    assert body["scope"].split()[:3] == ["calendar:read", "calendar:write", "mail:read"]


def test_what_is_no_refresh_token_is_invalid_grant_and_a_missing_one_invalid_request(story: Story) -> None:
    for value in ("x", "rt_x", story.given["access_token"], story.given["consent_id"], story.first + "x", story.first.upper()):
        refused(story.refresh(value), "invalid_grant")
    refused(story.refresh(""), "invalid_request")


def test_without_the_tick_for_away_there_is_none(story: Story) -> None:
    world = story.world
    assert "refresh_token" not in world.consented(story.browser, story.agent, story.mail, scope="mail:read")
    verifier = new_verifier()
    query = world.authorization(story.agent, verifier, story.mail, scope="mail:read", away=True)
    given = world.redeem(story.agent, story.browser.code(query, away=False), verifier).ok()
    assert "refresh_token" not in given


def test_it_goes_on_when_she_has_signed_out(story: Story) -> None:
    page = story.browser.get("/logout")
    assert story.browser.post("/logout", hidden(page)).status == 303
    body = story.refresh(story.first, resource=story.mail.uri).ok()
    assert story.world.active(story.mail, body["access_token"])


def test_it_ends_with_the_consent_and_says_how_long_that_is(story: Story, later) -> None:
    world = story.world
    verifier = new_verifier()
    query = world.authorization(story.agent, verifier, story.mail, scope="mail:read", away=True)
    given = world.redeem(story.agent, story.browser.code(query, away=True, lifetime=3600), verifier).ok()
    assert 3590 <= given["authorization_expires_in"] <= 3600
    later(3601)
    refused(story.refresh(given["refresh_token"]), "invalid_grant")


def test_auth_time_is_the_humans_and_is_not_refreshed(story: Story, later) -> None:
    first = claims_of(story.given["access_token"])
    later(100)
    claims = claims_of(story.refresh(story.first).ok()["access_token"])
    assert (claims["auth_time"], claims["acr"], claims["amr"]) == (first["auth_time"], first["acr"], first["amr"])
    assert claims["iat"] >= first["iat"] + 99


def test_a_refusal_after_authentication_is_recorded(story: Story) -> None:
    told = refused(story.refresh("rt_unknown"), "invalid_grant")
    (record,) = story.world.ledger(id=told["audit_id"])
    assert record["who"]["actors"] == [story.agent.uri]


# Applications


def test_a_public_clients_refresh_token_rotates_too(story: Story) -> None:
    world = story.world
    native = world.app(pairs=[(story.mail, "mail:read")], auth="none", native=True)
    given = world.consented(story.browser, native, story.mail, scope="mail:read", away=True)
    second = refresh(world, native, given["refresh_token"]).ok()
    assert second["refresh_token"] != given["refresh_token"]
    refused(refresh(world, native, given["refresh_token"]), "invalid_grant")
    refused(refresh(world, native, second["refresh_token"]), "invalid_grant")
    assert not world.active(story.mail, second["access_token"])


@pytest.mark.rfc("OIDC Core", "12.2")
def test_an_application_gets_an_id_token_of_the_same_sign_in_and_without_a_nonce(story: Story) -> None:
    world = story.world
    app = world.app(pairs=[(story.mail, "mail:read")])
    verifier = new_verifier()
    query = world.authorization(app, verifier, story.mail, scope="openid mail:read", away=True, nonce="n-1")
    given = world.redeem(app, code_at(story.browser, query, away=True), verifier).ok()
    first, second = claims_of(given["id_token"]), claims_of(refresh(world, app, given["refresh_token"]).ok()["id_token"])
    assert first["nonce"] == "n-1"
    assert "nonce" not in second
    for name in ("iss", "sub", "aud", "auth_time"):
        assert first[name] == second[name]


@pytest.mark.rfc("6749", "6")
def test_identity_scopes_are_narrowed_like_any_other(story: Story) -> None:
    world = story.world
    app = world.app(pairs=[(story.mail, "mail:read")])
    given = signed_in_tokens(world, app, story.browser, story.mail, scope="openid email mail:read offline_access")
    assert "refresh_token" not in given
    verifier = new_verifier()
    query = world.authorization(app, verifier, story.mail, scope="openid email mail:read", away=True, prompt="consent")
    given = world.redeem(app, code_at(story.browser, query, away=True), verifier).ok()
    assert given["scope"] == "email mail:read offline_access openid"
    body = refresh(world, app, given["refresh_token"], scope="mail:read").ok()
    assert body["scope"] == "mail:read"
    assert "id_token" not in body
    userinfo = world.issuer + "/oauth/userinfo"
    body = refresh(world, app, body["refresh_token"], scope="openid", resource=userinfo).ok()
    assert body["scope"] == claims_of(body["access_token"])["scope"] == "openid"
    assert "email" not in claims_of(body["id_token"])
    found = world.get("/oauth/userinfo", {"Authorization": f"Bearer {body['access_token']}"}).ok()
    assert found == {"sub": story.alice.id}
    refused(refresh(world, app, body["refresh_token"], scope="openid profile"), "invalid_scope")
    assert refresh(world, app, body["refresh_token"]).ok()["scope"] == "email mail:read offline_access openid"


def test_an_application_with_nothing_but_the_sign_in_keeps_it_for_as_long_as_was_chosen(story: Story, later) -> None:
    world = story.world
    app = world.app()
    verifier = new_verifier()
    query = world.authorization(app, verifier, scope="openid", away=True, prompt="consent")
    given = world.redeem(app, story.browser.code(query, away=True, lifetime=3600), verifier).ok()
    body = refresh(world, app, given["refresh_token"]).ok()
    assert claims_of(body["id_token"])["sub"] == story.alice.id
    page = story.browser.get("/my/agents").text
    assert "Know who you are, and nothing else." in page
    later(3601)
    refused(refresh(world, app, body["refresh_token"]), "invalid_grant")
