"""RFC 7662: an API asks about a token, and is told about tokens for itself only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.protocol.answers import refused, signed_in_tokens
from tests.world import BY, Api, Party, Person, World, basic, claims_of

INACTIVE = {"active": False}
MEMBERS = {
    "iss", "sub", "act", "may_act", "scope", "authorization_details", "aud", "client_id", "exp", "iat", "jti", "txn", "cnf", "auth_time", "acr",
}  # fmt: skip


@dataclass
class Story:
    world: World
    alice: Person
    calendar: Api
    mail: Api
    assistant: Party
    booking: Party
    given: dict[str, Any]

    @property
    def token(self) -> str:
        return str(self.world.exchange(self.assistant, self.given["access_token"], resource=self.calendar.uri).ok()["access_token"])


@pytest.fixture
def story(world: World) -> Story:
    alice = world.human()
    calendar, mail = world.resource("calendar:read", "calendar:write"), world.resource("mail:read")
    booking = world.agent(alice, ceiling=[(calendar, "calendar:read")])
    assistant = world.agent(
        alice, ceiling=[(calendar, "calendar:read"), (calendar, "calendar:write"), (mail, "mail:read")], hands_to=[booking]
    )
    given = world.consented(world.signed_in(alice), assistant, calendar, mail, away=True)
    return Story(world, alice, calendar, mail, assistant, booking, given)


@pytest.mark.rfc("7662", "2.2")
def test_the_answer_and_the_token_agree_in_every_member(story: Story) -> None:
    handed = story.world.exchange(story.assistant, story.given["access_token"], audience=story.booking.uri).ok()["access_token"]
    deep = story.world.exchange(story.booking, handed).ok()["access_token"]
    for token in (story.token, deep):
        answer, claims = story.world.introspect(story.calendar, token), claims_of(token)
        assert answer == {"active": True, "token_type": "Bearer"} | {name: claims[name] for name in MEMBERS & claims.keys()}
        assert {"iss", "sub", "act", "scope", "aud", "client_id", "exp", "iat", "jti", "txn", "auth_time", "acr"} <= answer.keys()
    assert answer["act"]["act"]["sub"] == story.assistant.uri


def test_an_agents_own_token_has_no_act_and_no_sign_in(story: Story) -> None:
    agent = story.world.agent(story.alice, own=[(story.mail, "mail:read")])
    token = story.world.own_token(agent, resource=story.mail.uri).ok()["access_token"]
    answer = story.world.introspect(story.mail, token)
    assert answer["active"] is True
    assert answer["sub"] == agent.uri
    assert not {"act", "txn", "auth_time", "acr"} & answer.keys()


@pytest.mark.rfc("7662", "2.2")
def test_everything_else_is_inactive_and_nothing_more(story: Story) -> None:
    world, token = story.world, story.token
    app = world.app()
    signed_in = signed_in_tokens(world, app, world.signed_in(story.alice))
    head, body, signature = token.split(".")
    values = [
        "x", "é", "a.b.c", " ", "\x7f", "x" * 60_000, token[:-1], token + "=", token + " ", f"{head}.{body}.", f"{head}.{body}.{signature[:-4]}AAAA",
        f"{body}.{head}.{signature}", token.upper(),
        story.given["access_token"], story.given["refresh_token"], story.given["consent_id"], story.given["task_id"],
        signed_in["id_token"], signed_in["access_token"],
        world.own_token(story.assistant).ok()["access_token"],
        world.exchange(story.assistant, story.given["access_token"], audience=story.booking.uri).ok()["access_token"],
        world.exchange(story.assistant, story.given["access_token"], resource=story.mail.uri).ok()["access_token"],
    ]  # fmt: skip
    for value in values:
        assert world.introspect(story.calendar, value) == INACTIVE
    assert world.active(story.calendar, token)


@pytest.mark.rfc("7662", "4")
def test_a_client_asking_about_a_token_it_holds_is_told_nothing(story: Story) -> None:
    world, token = story.world, story.token
    app = world.app()
    for client in (story.assistant, story.booking, app):
        members, headers = world.credentials(client)
        assert world.post("/oauth/introspect", {"token": token, **members}, headers).ok() == INACTIVE


def test_a_public_client_may_not_ask(story: Story) -> None:
    public = story.world.app(auth="none", native=True)
    refused(story.world.post("/oauth/introspect", {"token": story.token, "client_id": public.client_id}), "invalid_client", 401)


@pytest.mark.rfc("7662", "2.1")
def test_who_asks_must_say_who_it_is(story: Story) -> None:
    world, token = story.world, story.token
    for headers in ({}, basic(story.calendar.client_id, "wrong"), basic("nobody", "x"), {"Authorization": f"Bearer {token}"}):
        answer = world.post("/oauth/introspect", {"token": token}, headers)
        refused(answer, "invalid_client", 401)
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


def test_the_token_is_required_and_posted(story: Story) -> None:
    world, credential = story.world, basic(story.calendar.client_id, story.calendar.client_secret)
    for form in ({}, {"token": ""}, {"token_type_hint": "access_token"}):
        refused(world.post("/oauth/introspect", form, credential), "invalid_request")
    refused(world.post("/oauth/introspect?token=x", {"token": story.token}, credential), "invalid_request")
    refused(world.post("/oauth/introspect", [("token", story.token), ("token", story.token)], credential), "invalid_request")
    assert world.get(f"/oauth/introspect?token={story.token}", credential).status == 405


@pytest.mark.rfc("7662", "2.1")
def test_the_hint_changes_nothing(story: Story) -> None:
    world, credential = story.world, basic(story.calendar.client_id, story.calendar.client_secret)
    token = story.token
    for hint in ("access_token", "refresh_token", "whatever", ""):
        assert world.post("/oauth/introspect", {"token": token, "token_type_hint": hint}, credential).ok()["active"] is True


def test_nobody_stores_the_answer(story: Story) -> None:
    answer = story.world.post("/oauth/introspect", {"token": story.token}, basic(story.calendar.client_id, story.calendar.client_secret))
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"


def test_an_expired_token_is_inactive(story: Story, later) -> None:
    token = story.token
    later(claims_of(token)["exp"] - claims_of(token)["iat"] - 2)
    assert story.world.active(story.calendar, token)
    later(claims_of(token)["exp"] - claims_of(token)["iat"] + 2)
    assert story.world.introspect(story.calendar, token) == INACTIVE


def test_an_expired_token_is_inactive_to_the_second(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    from app import clock

    token = story.token
    monkeypatch.setattr(clock, "timestamp", lambda: int(claims_of(token)["exp"]))
    assert story.world.introspect(story.calendar, token) == INACTIVE
    monkeypatch.setattr(clock, "timestamp", lambda: int(claims_of(token)["exp"]) - 1)
    assert story.world.active(story.calendar, token)


def test_a_disabled_resource_is_told_about_no_token_and_what_was_alive_stays_dead(story: Story) -> None:
    token = story.token
    registry = story.world.server.resource_registry
    assert story.world.active(story.calendar, token)
    registry.disable(story.calendar.id, by=BY)
    assert story.world.introspect(story.calendar, token) == INACTIVE
    registry.enable(story.calendar.id, by=BY)
    assert story.world.introspect(story.calendar, token) == INACTIVE
    assert story.world.active(story.calendar, story.token)


def test_a_new_credential_replaces_the_old_at_once(story: Story) -> None:
    world, token = story.world, story.token
    assert world.active(story.calendar, token)
    client_id, secret = world.server.resource_registry.new_secret(story.calendar.id, by=BY)
    refused(
        world.post("/oauth/introspect", {"token": token}, basic(story.calendar.client_id, story.calendar.client_secret)),
        "invalid_client",
        401,
    )
    assert world.post("/oauth/introspect", {"token": token}, basic(client_id, secret)).ok()["active"] is True


def test_a_tokens_first_active_answer_is_recorded_and_only_the_first(story: Story) -> None:
    token = story.token
    jti = claims_of(token)["jti"]
    assert not story.world.ledger(event="token.first_used", jti=jti)
    for _ in range(3):
        assert story.world.active(story.calendar, token)
    story.world.introspect(story.mail, token)
    (record,) = story.world.ledger(event="token.first_used", jti=jti)
    assert record["resource"] == story.calendar.uri
    assert record["who"]["actors"] == [story.assistant.uri]
    assert record["who"]["human"] == story.alice.id


@pytest.mark.parametrize("alg", ["ES256", "EdDSA", "RS256", "PS256"])
def test_a_token_in_the_algorithm_its_resource_chose_is_told_about_alike(world: World, alg: str) -> None:
    from app.vocabulary import SigningAlg
    from tests.world import header_of

    world.server.keys.ensure_alg(SigningAlg(alg))
    alice, api = world.human(), world.resource("read", alg=alg)
    agent = world.agent(alice, own=[(api, "read")])
    token = world.own_token(agent, resource=api.uri).ok()["access_token"]
    assert header_of(token)["alg"] == alg
    assert world.active(api, token)
