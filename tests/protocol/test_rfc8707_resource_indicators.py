"""RFC 8707: a token is for one resource, and the client says which."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.protocol.answers import code_at, new_verifier, refused, sent_back
from tests.world import BY, Answer, Api, Browser, Party, Person, World, claims_of, header_of


@dataclass
class Story:
    world: World
    alice: Person
    calendar: Api
    mail: Api
    travel: Api
    agent: Party
    app: Party
    browser: Browser

    def asked(self, client: Party, *resources: Api | str, **more: str) -> Answer:
        return self.browser.authorize(self.world.authorization(client, new_verifier(), *resources, **more))

    def redeemed(self, client: Party, *resources: Api | str, scope: str | None = None, **form: str) -> Answer:
        verifier = new_verifier()
        query = self.world.authorization(client, verifier, *resources, scope=scope)
        return self.world.redeem(client, code_at(self.browser, query), verifier, **form)


@pytest.fixture
def story(world: World) -> Story:
    alice = world.human()
    calendar, mail, travel = world.resource("read", "write"), world.resource("read", "send"), world.resource("book")
    pairs = [(calendar, "read"), (calendar, "write"), (mail, "read"), (mail, "send")]
    agent, app = world.agent(alice, ceiling=pairs), world.app(pairs=pairs)
    return Story(world, alice, calendar, mail, travel, agent, app, world.signed_in(alice))


@pytest.mark.rfc("8707", "2.1")
def test_an_unknown_disabled_or_foreign_resource_is_invalid_target(story: Story) -> None:
    for target in (
        "https://unknown.example",
        story.mail.uri + "/",
        story.mail.uri + "#f",
        "mail",
        "/",
        story.mail.uri.upper(),
        story.travel,
    ):
        sent_back(story.asked(story.agent, target), "invalid_target", story.world.issuer)
        sent_back(story.asked(story.agent, story.calendar, target), "invalid_target", story.world.issuer)
    story.world.server.resource_registry.disable(story.mail.id, by=BY)
    sent_back(story.asked(story.agent, story.mail), "invalid_target", story.world.issuer)


def test_several_in_reach_and_none_named_is_invalid_target(story: Story) -> None:
    sent_back(story.asked(story.agent), "invalid_target", story.world.issuer)
    sent_back(story.asked(story.agent, scope="read"), "invalid_target", story.world.issuer)
    assert story.asked(story.agent, scope="send").status == 200


def test_too_many_resources_are_refused(story: Story) -> None:
    sent_back(story.asked(story.agent, *[f"https://r{number}.example" for number in range(17)]), "invalid_target", story.world.issuer)


def test_naming_one_twice_names_one(story: Story) -> None:
    token = story.redeemed(story.agent, story.mail, story.mail, scope="read").ok()["access_token"]
    assert claims_of(token)["aud"] == story.mail.uri


def test_a_scope_that_none_of_the_resources_has_is_invalid_scope(story: Story) -> None:
    sent_back(story.asked(story.agent, story.calendar, scope="send"), "invalid_scope", story.world.issuer)
    sent_back(story.asked(story.agent, story.calendar, story.mail, scope="write"), "invalid_target", story.world.issuer)


@pytest.mark.rfc("8707", "2.2")
def test_the_token_endpoint_picks_one_of_those_authorized(story: Story) -> None:
    for api in (story.calendar, story.mail):
        body = story.redeemed(story.agent, story.calendar, story.mail, scope="read", resource=api.uri).ok()
        assert claims_of(body["access_token"])["aud"] == api.uri
        assert body["scope"] == "read"
        assert story.world.active(api, body["access_token"])
        other = story.mail if api is story.calendar else story.calendar
        assert not story.world.active(other, body["access_token"])


@pytest.mark.rfc("8707", "2.2")
def test_nothing_that_was_not_authorized_can_be_picked(story: Story) -> None:
    for target in (
        story.mail.uri,
        story.travel.uri,
        "https://unknown.example",
        story.world.issuer,
        story.agent.uri,
        story.calendar.uri + "/",
    ):
        answer = story.redeemed(story.agent, story.calendar, resource=target)
        refused(answer, "invalid_target")
    verifier = new_verifier()
    code = code_at(story.browser, story.world.authorization(story.agent, verifier, story.calendar, story.mail))
    refused(story.world.redeem(story.agent, code, verifier, resource=story.mail.uri, audience=story.calendar.uri), "invalid_target")
    assert story.world.redeem(story.agent, code, verifier, resource=story.mail.uri, audience=story.mail.uri).status == 200


def test_an_agent_with_several_and_none_picked_gets_a_hand_over_to_itself(story: Story) -> None:
    body = story.redeemed(story.agent, story.calendar, story.mail).ok()
    claims = claims_of(body["access_token"])
    assert header_of(body["access_token"])["typ"] == "handover+jwt"
    assert claims["aud"] == story.agent.uri
    assert claims["may_act"]["sub"] == story.agent.uri
    assert body["authorization_details"] == claims["authorization_details"]
    assert {entry["locations"][0]: entry["actions"] for entry in body["authorization_details"]} == {
        story.calendar.uri: ["read", "write"],
        story.mail.uri: ["read", "send"],
    }
    for api in (story.calendar, story.mail):
        assert not story.world.active(api, body["access_token"])
        token = story.world.exchange(story.agent, body["access_token"], resource=api.uri).ok()["access_token"]
        assert story.world.active(api, token)


def test_an_application_with_several_names_one_and_the_code_survives_the_reminder(story: Story) -> None:
    verifier = new_verifier()
    code = code_at(story.browser, story.world.authorization(story.app, verifier, story.calendar, story.mail, scope="read"))
    refused(story.world.redeem(story.app, code, verifier), "invalid_target")
    body = story.world.redeem(story.app, code, verifier, resource=story.mail.uri).ok()
    assert claims_of(body["access_token"])["aud"] == story.mail.uri


def test_the_same_scope_name_at_two_resources_is_two_things(story: Story) -> None:
    page = story.asked(story.agent, story.calendar, story.mail, scope="read")
    assert page.text.count('name="scope"') == 2
    verifier = new_verifier()
    query = story.world.authorization(story.agent, verifier, story.calendar, story.mail, scope="read")
    code = story.browser.code(query, untick=[f"{story.mail.uri} read"])
    token = story.world.redeem(story.agent, code, verifier).ok()["access_token"]
    assert claims_of(token)["aud"] == story.calendar.uri
    assert not story.world.active(story.mail, token)


def test_a_token_for_one_resource_is_dead_at_every_other(story: Story) -> None:
    token = story.redeemed(story.agent, story.calendar).ok()["access_token"]
    assert story.world.active(story.calendar, token)
    for api in (story.mail, story.travel):
        assert story.world.introspect(api, token) == {"active": False}


@pytest.mark.rfc("8707", "2")
def test_what_cannot_be_registered_as_a_resource(world: World) -> None:
    from app.errors import Refused

    for uri in (
        "https://api.example/#f",
        "https://api.example/?q",
        "api.example",
        "/api",
        "http://api.example",
        "urn:x:y",
        world.issuer + "/x",
        "",
    ):
        with pytest.raises(Refused):
            world.resource("read", uri=uri)
