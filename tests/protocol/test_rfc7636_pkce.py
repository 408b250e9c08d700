"""RFC 7636: S256, always, for every client."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

import pytest

from tests.protocol.answers import landed, new_verifier, push, refused, sent_back, without
from tests.world import Api, Browser, Party, Person, World

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


@dataclass
class Story:
    world: World
    alice: Person
    api: Api
    browser: Browser
    clients: dict[str, Party]


@pytest.fixture
def story(world: World) -> Story:
    alice, api = world.human(), world.resource("read")
    clients = {
        "agent": world.agent(alice, ceiling=[(api, "read")]),
        "app": world.app(pairs=[(api, "read")]),
        "public": world.app(pairs=[(api, "read")], auth="none", native=True),
    }
    return Story(world, alice, api, world.signed_in(alice), clients)


def asked(story: Story, client: Party, **changed: str) -> list[tuple[str, str]]:
    query = story.world.authorization(client, VERIFIER, story.api, scope="read")
    return [*without(query, *changed), *((name, value) for name, value in changed.items() if value)]


@pytest.mark.rfc("7636", "B")
def test_the_rfcs_own_example(story: Story) -> None:
    agent = story.clients["agent"]
    query = asked(story, agent)
    assert ("code_challenge", CHALLENGE) in query
    code = story.browser.code(query)
    assert story.world.redeem(agent, code, VERIFIER).status == 200


@pytest.mark.rfc("7636", "4.3")
@pytest.mark.parametrize("kind", ["agent", "app", "public"])
def test_without_a_challenge_or_with_another_method_there_is_no_code(story: Story, kind: str) -> None:
    client = story.clients[kind]
    for changed in (
        {"code_challenge": ""},
        {"code_challenge_method": ""},
        {"code_challenge": "", "code_challenge_method": ""},
        {"code_challenge": VERIFIER, "code_challenge_method": "plain"},
        {"code_challenge_method": "s256"},
        {"code_challenge_method": "S512"},
        {"code_challenge": CHALLENGE[:-1]},
        {"code_challenge": CHALLENGE + "A"},
        {"code_challenge": CHALLENGE[:-1] + "="},
        {"code_challenge": CHALLENGE[:-1] + "+"},
        {"code_challenge": CHALLENGE[:-1] + "\n"},
    ):
        sent_back(story.browser.authorize(asked(story, client, **changed)), "invalid_request", story.world.issuer)


@pytest.mark.rfc("7636", "4.6")
@pytest.mark.parametrize("kind", ["agent", "app", "public"])
def test_a_wrong_or_missing_verifier_gives_nothing_and_the_right_one_then_does(story: Story, kind: str) -> None:
    client = story.clients[kind]
    code = story.browser.code(asked(story, client))
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": client.redirect_uri}
    refused(story.world.token(client, form), "invalid_grant")
    for verifier in (new_verifier(), VERIFIER[:-1] + "l", VERIFIER + "a", CHALLENGE, "a" * 43, "a" * 128):
        refused(story.world.redeem(client, code, verifier), "invalid_grant")
    for malformed in ("a" * 42, "a" * 129, VERIFIER[:-1] + "=", VERIFIER[:-1] + " ", VERIFIER[:-1] + "é", "x"):
        assert story.world.redeem(client, code, malformed).error in {"invalid_request", "invalid_grant"}
    assert story.world.redeem(client, code, VERIFIER).status == 200


@pytest.mark.rfc("7636", "4.1")
@pytest.mark.parametrize("verifier", ["a" * 43, "Z" * 128, "-._~" * 16])
def test_every_verifier_of_the_grammar_works(story: Story, verifier: str) -> None:
    agent = story.clients["agent"]
    code = story.browser.code(story.world.authorization(agent, verifier, story.api))
    assert story.world.redeem(agent, code, verifier).status == 200


def test_a_pushed_request_needs_a_challenge_too(story: Story) -> None:
    for client in story.clients.values():
        refused(push(story.world, client, asked(story, client, code_challenge="")), "invalid_request")
        plain = asked(story, client, code_challenge=VERIFIER, code_challenge_method="plain")
        refused(push(story.world, client, plain), "invalid_request")


def test_the_verifier_of_one_request_does_not_open_the_code_of_another(story: Story) -> None:
    agent, mine = story.clients["agent"], new_verifier()
    first = landed(story.browser.decide(story.browser.authorize(story.world.authorization(agent, mine, story.api))))["code"]
    second = story.browser.code(asked(story, agent))
    refused(story.world.redeem(agent, second, mine), "invalid_grant")
    refused(story.world.redeem(agent, first, VERIFIER), "invalid_grant")
    assert base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=") == CHALLENGE
