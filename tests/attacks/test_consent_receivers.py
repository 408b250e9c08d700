"""A consent is for the agents its page named: a hand-over list, or a service, that grows later reaches no consent of before."""

from __future__ import annotations

import pytest

from app.agents.change import Change
from tests.world import BY, CONSENT, Answer, Party, Person, World


@pytest.fixture
def alice(world: World) -> Person:
    return world.human()


def refused(world: World, answer: Answer) -> None:
    assert (answer.status, answer.error) == (400, "invalid_request"), answer.text
    (record,) = world.ledger(id=answer.json["audit_id"])
    assert record["layer"] == "consent", record


def test_a_list_that_grows_later_lets_nobody_act_under_a_consent_of_before(world: World, alice: Person) -> None:
    api = world.resource("read")
    known, late = (world.agent(alice, ceiling=[(api, "read")]) for _ in range(2))
    agent = world.agent(alice, ceiling=[(api, "read")], hands_to=[known])
    given = world.consented(world.signed_in(alice), agent, api, away=True)
    world.server.agent_registry.change(agent.id, Change(hands_to=frozenset({known.id, late.id})), by=BY)
    refused(world, world.exchange(agent, given["consent_id"], CONSENT, audience=late.uri))
    world.exchange(agent, given["consent_id"], CONSENT, audience=known.uri).ok()
    again = world.consented(world.signed_in(alice), agent, api, away=True)
    handed = world.exchange(agent, again["consent_id"], CONSENT, audience=late.uri).ok()["access_token"]
    world.exchange(late, handed, resource=api.uri).ok()


def test_nor_does_the_list_of_a_receiver(world: World, alice: Person) -> None:
    api = world.resource("read")
    late, last = (world.agent(alice, ceiling=[(api, "read")]) for _ in range(2))
    middle = world.agent(alice, ceiling=[(api, "read")], hands_to=[last])
    agent = world.agent(alice, ceiling=[(api, "read")], hands_to=[middle])
    given = world.consented(world.signed_in(alice), agent, api, away=True)
    world.server.agent_registry.change(middle.id, Change(hands_to=frozenset({last.id, late.id})), by=BY)
    handed = world.exchange(agent, given["consent_id"], CONSENT, audience=middle.uri).ok()["access_token"]
    refused(world, world.exchange(middle, handed, audience=late.uri))
    onward = world.exchange(middle, handed, audience=last.uri).ok()["access_token"]
    world.exchange(last, onward, resource=api.uri).ok()


@pytest.mark.parametrize("how", ["serves", "entitled"])
def test_an_agent_that_comes_to_serve_an_api_later_acts_under_new_consents_only(world: World, alice: Person, how: str) -> None:
    front, back = world.resource("read"), world.resource("read")
    pairs = [(front, "read"), (back, "read")]
    agent = world.agent(alice, ceiling=pairs)
    world.agent(alice, ceiling=pairs, serves=back.uri, name="There before " + how)
    browser = world.signed_in(alice)

    def token_for_front() -> str:
        given = world.consented(browser, agent, front, back, away=True)
        return str(world.exchange(agent, given["consent_id"], CONSENT, resource=front.uri).ok()["access_token"])

    before = token_for_front()
    late: Party = world.agent(alice, ceiling=pairs, **({"serves": front.uri} if how == "serves" else {}))
    if how == "entitled":
        world.server.agent_registry.entitle(late.id, audience=front.uri, target=front.uri, by=BY)
    refused(world, world.exchange(late, before, resource=front.uri))
    world.exchange(late, token_for_front(), resource=front.uri).ok()


def test_the_page_names_those_who_are_handed_to_in_turn(world: World, alice: Person) -> None:
    api = world.resource("read")
    last = world.agent(alice, ceiling=[(api, "read")], name="Last of all")
    middle = world.agent(alice, ceiling=[(api, "read")], hands_to=[last], name="Middle one")
    agent = world.agent(alice, ceiling=[(api, "read")], hands_to=[middle])
    page = world.signed_in(alice).authorize(world.authorization(agent, "v" * 43, api))
    assert "Middle one</strong>" in page.text and "on in turn to <strong>Last of all</strong>" in page.text


def test_the_page_names_those_to_whom_the_services_agents_hand_on(world: World, alice: Person) -> None:
    api = world.resource("read")
    last = world.agent(alice, ceiling=[(api, "read")], name="Behind the service")
    world.agent(alice, ceiling=[(api, "read")], hands_to=[last], serves=api.uri, name="The service itself")
    agent = world.agent(alice, ceiling=[(api, "read")])
    page = world.signed_in(alice).authorize(world.authorization(agent, "v" * 43, api))
    assert "The service itself</strong>" in page.text and "on in turn to <strong>Behind the service</strong>" in page.text
