"""RFC 9126: an authorization request that goes past the browser."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.protocol.answers import (
    landed,
    new_verifier,
    no_redirect,
    push,
    pushed_query,
    query_string,
    recorded,
    refused,
    sent_back,
    sent_to_sign_in,
    without,
)
from tests.world import ASSERTION, BY, Api, Browser, Party, Person, World, basic


@dataclass
class Story:
    world: World
    alice: Person
    api: Api
    agent: Party
    browser: Browser
    verifier: str

    def query(self, **more: str) -> list[tuple[str, str]]:
        return self.world.authorization(self.agent, self.verifier, self.api, **more)

    def pushed(self, **more: str) -> str:
        answer = push(self.world, self.agent, self.query(**more))
        assert answer.status == 201, answer.body
        return str(answer.json["request_uri"])


@pytest.fixture
def story(world: World) -> Story:
    alice, api = world.human(), world.resource("read", "write")
    agent = world.agent(alice, ceiling=[(api, "read"), (api, "write")])
    return Story(world, alice, api, agent, world.signed_in(alice), new_verifier())


@pytest.mark.rfc("9126", "2.2")
def test_a_pushed_request_is_answered_with_a_request_uri_for_a_short_while(story: Story) -> None:
    answer = push(story.world, story.agent, story.query())
    assert answer.status == 201
    assert set(answer.json) == {"request_uri", "expires_in"}
    assert answer.json["request_uri"].startswith("urn:ietf:params:oauth:request_uri:")
    assert 10 <= answer.json["expires_in"] <= 600
    assert answer.headers["Cache-Control"] == "no-store"
    assert story.pushed() != answer.json["request_uri"]


@pytest.mark.rfc("9126", "4")
def test_the_browser_brings_the_request_uri_and_nothing_else(story: Story) -> None:
    page = story.browser.authorize(pushed_query(story.agent, story.pushed(scope="read")))
    found = landed(story.browser.decide(page))
    assert found["state"] == "xyz"
    assert story.world.redeem(story.agent, found["code"], story.verifier).ok()["scope"] == "read"


@pytest.mark.rfc("9126", "4")
def test_what_the_browser_brings_beside_it_counts_for_nothing(story: Story) -> None:
    query = [
        *pushed_query(story.agent, story.pushed(scope="read")),
        ("scope", "read write"),
        ("redirect_uri", "https://evil.example/"),
        ("state", "abc"),
    ]
    found = landed(story.browser.decide(story.browser.authorize(query)))
    assert found["state"] == "xyz"
    assert story.world.redeem(story.agent, found["code"], story.verifier).ok()["scope"] == "read"


@pytest.mark.rfc("9126", "7.3")
def test_looking_uses_nothing_up_and_an_answer_does(story: Story) -> None:
    request_uri = story.pushed()
    query = pushed_query(story.agent, request_uri)
    sent_to_sign_in(story.world.browser().authorize(query))
    for _ in range(3):
        page = story.browser.authorize(query)
        assert page.status == 200
    second = story.browser.authorize(query)
    landed(story.browser.decide(page))
    no_redirect(story.browser.authorize(query))
    no_redirect(story.browser.decide(second))


def test_a_denial_is_an_answer(story: Story) -> None:
    query = pushed_query(story.agent, story.pushed())
    sent_back(story.browser.decide(story.browser.authorize(query), allow=False), "access_denied", story.world.issuer)
    no_redirect(story.browser.authorize(query))


@pytest.mark.rfc("9126", "2.2")
def test_a_request_uri_is_good_for_its_client_only(story: Story) -> None:
    other = story.world.agent(story.alice, ceiling=[(story.api, "read")])
    request_uri = story.pushed()
    no_redirect(story.browser.authorize(pushed_query(other, request_uri)))
    no_redirect(story.browser.authorize([("request_uri", request_uri)]))
    assert story.browser.authorize(pushed_query(story.agent, request_uri)).status == 200


def test_a_request_uri_that_is_not_ours_is_refused(story: Story) -> None:
    code = story.browser.code(story.query())
    for value in (
        "https://agent.example/request.jwt",
        "urn:ietf:params:oauth:request_uri:x",
        "urn:x",
        code,
        "x",
        "urn:ietf:params:oauth:request_uri:" + code,
    ):
        no_redirect(story.browser.authorize([*story.query(), ("request_uri", value)]))


@pytest.mark.rfc("9126", "2.1")
def test_a_request_uri_inside_a_pushed_request_is_refused(story: Story) -> None:
    refused(push(story.world, story.agent, story.query(), request_uri=story.pushed()), "invalid_request")


@pytest.mark.rfc("9126", "2")
def test_the_client_authenticates_as_at_the_token_endpoint(story: Story) -> None:
    world = story.world
    refused(world.post("/oauth/par", story.query()), "invalid_client", 401)
    wrong = Party(story.agent.client_id, secret="wrong")
    refused(push(world, wrong, story.query()), "invalid_client", 401)
    app = world.app(pairs=[(story.api, "read")])
    query = world.authorization(app, story.verifier, story.api, scope="read")
    assert push(world, app, query).status == 201
    # Not somebody else's request under one's own name.
    refused(world.post("/oauth/par", story.query(), basic(app.client_id, str(app.secret))), "invalid_client", 401)
    assert world.post("/oauth/par", without(query, "client_id"), basic(app.client_id, str(app.secret))).status == 201


def test_a_public_client_may_push(story: Story) -> None:
    world = story.world
    public = world.app(pairs=[(story.api, "read")], auth="none", native=True)
    answer = world.post("/oauth/par", world.authorization(public, story.verifier, story.api, scope="read"))
    assert answer.status == 201
    page = story.browser.authorize(pushed_query(public, answer.json["request_uri"]))
    code = landed(story.browser.decide(page))["code"]
    assert world.redeem(public, code, story.verifier).status == 200


def test_a_resource_has_nothing_to_push(story: Story) -> None:
    api = Party(story.api.client_id, secret=story.api.client_secret)
    answer = push(story.world, api, without(story.query(), "client_id"))
    assert (answer.status, answer.error) in {(400, "invalid_request"), (400, "unauthorized_client")}


@pytest.mark.rfc("9126", "2.3")
def test_what_the_authorization_endpoint_would_refuse_is_refused_here(story: Story) -> None:
    query = story.query()
    for error, name, value in (
        ("unsupported_response_type", "response_type", "token"),
        ("invalid_request", "response_type", ""),
        ("invalid_request", "redirect_uri", "https://evil.example/"),
        ("invalid_request", "code_challenge", "short"),
        ("invalid_request", "code_challenge_method", "plain"),
        ("invalid_request", "prompt", "none login"),
        ("invalid_scope", "scope", "unknown"),
        ("invalid_target", "resource", "https://unknown.example"),
        ("request_not_supported", "request", "e30.e30."),
        ("invalid_authorization_details", "authorization_details", "[]"),
        ("invalid_request", "dpop_jkt", "x" * 42),
    ):
        refused(push(story.world, story.agent, [*without(query, name), *([(name, value)] if value else [])]), error)


def test_pushing_is_a_post_of_a_form(story: Story) -> None:
    assert story.world.get("/oauth/par?" + query_string(story.query())).status == 405
    members, _ = story.world.credentials(story.agent)
    refused(story.world.post("/oauth/par?x=1", [*story.query(), *members.items()]), "invalid_request")
    refused(push(story.world, story.agent, [*story.query(), ("scope", "read"), ("scope", "read")]), "invalid_request")


def test_an_assertion_pushes_once(story: Story) -> None:
    assertion = story.world.assertion(story.agent)
    form = [*story.query(), ("client_assertion_type", ASSERTION), ("client_assertion", assertion)]
    assert story.world.post("/oauth/par", form).status == 201
    refused(story.world.post("/oauth/par", form), "invalid_client", 401)
    refused(story.world.post("/oauth/token", {**dict(form[-2:]), "grant_type": "client_credentials"}), "invalid_client", 401)


def test_a_refused_push_uses_the_assertion_up_and_is_recorded(story: Story) -> None:
    assertion = story.world.assertion(story.agent)
    proof = [("client_assertion_type", ASSERTION), ("client_assertion", assertion)]
    refused(
        story.world.post("/oauth/par", [*without(story.query(), "resource"), ("resource", "https://unknown.example"), *proof]),
        "invalid_target",
    )
    refused(story.world.post("/oauth/par", [*story.query(), *proof]), "invalid_client", 401)
    assert recorded(story.world, "authorization.refused", story.agent, error="invalid_target")


def test_a_pushed_request_of_what_has_changed_since_is_judged_as_it_is_now(story: Story) -> None:
    query = pushed_query(story.agent, story.pushed())
    story.world.server.resource_registry.disable(story.api.id, by=BY)
    sent_back(story.browser.authorize(query), "invalid_target", story.world.issuer)


def test_a_pushed_request_with_prompt_login_is_signed_in_for_once(story: Story) -> None:
    query = pushed_query(story.agent, story.pushed(prompt="login"))
    onward = sent_to_sign_in(story.browser.authorize(query))
    answer = story.browser.sign_in(story.alice.username, target=onward)
    page = story.browser.get(answer.headers["Location"])
    assert landed(story.browser.decide(page))["code"]
