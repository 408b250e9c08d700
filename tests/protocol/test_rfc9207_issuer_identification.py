"""RFC 9207: `iss` in every authorization response."""

from __future__ import annotations

import pytest

from tests.protocol.answers import landed, new_verifier, push, pushed_query, without
from tests.world import World


@pytest.mark.rfc("9207", "2")
def test_every_answer_by_redirect_names_the_issuer_once(world: World) -> None:
    alice, api = world.human(), world.resource("read")
    agent, app = world.agent(alice, ceiling=[(api, "read")]), world.app()
    browser = world.signed_in(alice)
    asked = world.authorization(agent, new_verifier(), api)
    signing_in = world.authorization(app, new_verifier(), scope="openid")
    pushed = pushed_query(agent, push(world, agent, asked).json["request_uri"])
    answers = [
        browser.decide(browser.authorize(asked)),
        browser.decide(browser.authorize(asked), allow=False),
        browser.decide(browser.authorize(pushed)),
        browser.authorize(signing_in),
        browser.authorize(without(asked, "response_type")),
        browser.authorize(without(asked, "code_challenge")),
        browser.authorize([*without(asked, "resource"), ("resource", "https://unknown.example")]),
        browser.authorize([*asked, ("prompt", "none")]),
        browser.authorize([*asked, ("scope", "unknown")]),
        world.browser().authorize([*signing_in, ("prompt", "none")]),
    ]
    for answer in answers:
        assert landed(answer)["iss"] == world.issuer


@pytest.mark.rfc("9207", "3")
def test_the_metadata_says_so(world: World) -> None:
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
        found = world.get(path).ok()
        assert found["authorization_response_iss_parameter_supported"] is True
        assert found["issuer"] == world.issuer
