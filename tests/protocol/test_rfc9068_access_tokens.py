"""RFC 9068: what an access token is made of."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

from tests.protocol.answers import refresh, signed_in_tokens
from tests.world import Api, Party, Person, World, claims_of, header_of


@dataclass
class Story:
    world: World
    alice: Person
    calendar: Api
    mail: Api
    agent: Party
    booking: Party
    app: Party
    tokens: dict[str, str]


@pytest.fixture
def story(world: World) -> Story:
    alice = world.human()
    calendar, mail = world.resource("calendar:read"), world.resource("mail:read")
    booking = world.agent(alice, ceiling=[(calendar, "calendar:read")])
    agent = world.agent(alice, ceiling=[(calendar, "calendar:read"), (mail, "mail:read")], own=[(mail, "mail:read")], hands_to=[booking])
    app = world.app(pairs=[(calendar, "calendar:read")])
    browser = world.signed_in(alice)
    given = world.consented(browser, agent, calendar, mail, away=True)
    handed = world.exchange(agent, given["access_token"], audience=booking.uri).ok()["access_token"]
    tokens = {
        "own": world.own_token(agent, resource=mail.uri).ok()["access_token"],
        "actor": world.own_token(agent).ok()["access_token"],
        "exchanged": world.exchange(agent, given["access_token"], resource=calendar.uri).ok()["access_token"],
        "deep": world.exchange(booking, handed).ok()["access_token"],
        "refreshed": refresh(world, agent, given["refresh_token"], resource=mail.uri).ok()["access_token"],
        "app": world.consented(browser, app, calendar, scope="calendar:read")["access_token"],
        "userinfo": signed_in_tokens(world, app, browser, scope="openid")["access_token"],
    }
    return Story(world, alice, calendar, mail, agent, booking, app, tokens)


@pytest.mark.rfc("9068", "2.1")
def test_every_one_says_what_it_is_and_who_signed_it(story: Story) -> None:
    kids = {key["kid"] for key in story.world.get("/oauth/jwks").ok()["keys"]}
    for token in story.tokens.values():
        header = header_of(token)
        assert set(header) == {"typ", "alg", "kid"}
        assert (header["typ"], header["alg"]) == ("at+jwt", "ES256")
        assert header["kid"] in kids


@pytest.mark.rfc("9068", "2.2")
def test_every_one_has_what_is_required_and_one_audience(story: Story) -> None:
    now = time.time()
    seen = set()
    for token in story.tokens.values():
        claims = claims_of(token)
        for name in ("iss", "exp", "aud", "sub", "client_id", "iat", "jti"):
            assert claims[name], name
        assert claims["iss"] == story.world.issuer
        assert isinstance(claims["aud"], str)
        assert isinstance(claims["iat"], int)
        assert isinstance(claims["exp"], int)
        assert claims["iat"] <= now + 1
        assert claims["iat"] < claims["exp"] <= claims["iat"] + 300
        seen.add(claims["jti"])
    assert len(seen) == len(story.tokens)


def test_who_is_named_depends_on_who_stands_behind_it(story: Story) -> None:
    claims = {name: claims_of(token) for name, token in story.tokens.items()}
    for name in ("own", "actor"):
        assert claims[name]["sub"] == story.agent.uri
        assert "act" not in claims[name]
    for name in ("exchanged", "deep", "refreshed"):
        assert claims[name]["sub"] == story.alice.id
        assert claims[name]["act"]["sub_profile"] == "ai_agent"
    for name in ("app", "userinfo"):
        assert claims[name]["sub"] == story.alice.id
        assert claims[name]["client_id"] == story.app.client_id
        assert "act" not in claims[name]
    assert claims["deep"]["client_id"] == story.booking.client_id


@pytest.mark.rfc("9068", "2.2.1")
def test_how_the_human_signed_in_is_said_wherever_there_is_one(story: Story) -> None:
    for name, token in story.tokens.items():
        claims = claims_of(token)
        if name in {"own", "actor"}:
            assert not {"auth_time", "acr", "amr"} & claims.keys()
        else:
            assert claims["auth_time"] <= claims["iat"]
            assert claims["acr"] == "urn:deputy:acr:password"
            assert claims["amr"] == ["pwd"]


@pytest.mark.rfc("9068", "2.2.3")
def test_scope_is_a_string_of_the_audiences_own_scopes(story: Story) -> None:
    expected = {
        "own": "mail:read",
        "exchanged": "calendar:read",
        "deep": "calendar:read",
        "refreshed": "mail:read",
        "app": "calendar:read",
        "userinfo": "openid",
    }
    for name, scope in expected.items():
        assert claims_of(story.tokens[name])["scope"] == scope


def test_nothing_personal_is_in_one(story: Story) -> None:
    for token in story.tokens.values():
        text = str(claims_of(token))
        assert story.alice.username not in text
        assert "@example.com" not in text


@pytest.mark.rfc("9068", "4")
def test_each_is_taken_by_one_kind_of_endpoint(story: Story) -> None:
    where = {"own": story.mail, "exchanged": story.calendar, "deep": story.calendar, "refreshed": story.mail, "app": story.calendar}
    for name, token in story.tokens.items():
        for api in (story.calendar, story.mail):
            assert story.world.active(api, token) is (where.get(name) is api), name
        taken = story.world.get("/oauth/userinfo", {"Authorization": f"Bearer {token}"}).status == 200
        assert taken is (name == "userinfo"), name


def test_a_resource_may_choose_its_algorithm(story: Story) -> None:
    from app.vocabulary import SigningAlg

    world = story.world
    world.server.keys.ensure_alg(SigningAlg.EDDSA)
    api = world.resource("read", alg="EdDSA")
    agent = world.agent(story.alice, ceiling=[(api, "read")])
    body: dict[str, Any] = world.consented(world.signed_in(story.alice), agent, api)
    assert header_of(body["access_token"])["alg"] == "EdDSA"
    assert world.active(api, body["access_token"])
