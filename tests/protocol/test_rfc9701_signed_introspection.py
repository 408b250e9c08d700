"""RFC 9701: the answer about a token as a signed JWT, for who must keep evidence."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.protocol.answers import refused
from tests.world import Answer, Api, Party, Person, World, basic, claims_of, header_of

SIGNED = "application/token-introspection+jwt"


@dataclass
class Story:
    world: World
    alice: Person
    api: Api
    other: Api
    agent: Party
    token: str

    def ask(self, token: str, accept: str = SIGNED, api: Api | None = None) -> Answer:
        asking = api or self.api
        return self.world.post("/oauth/introspect", {"token": token}, {**basic(asking.client_id, asking.client_secret), "Accept": accept})


@pytest.fixture
def story(world: World) -> Story:
    alice, api, other = world.human(), world.resource("read"), world.resource("read")
    agent = world.agent(alice, ceiling=[(api, "read")])
    token = world.consented(world.signed_in(alice), agent, api, scope="read")["access_token"]
    return Story(world, alice, api, other, agent, token)


@pytest.mark.rfc("9701", "5")
def test_the_answer_is_signed_for_who_asked(story: Story) -> None:
    answer = story.ask(story.token)
    assert answer.status == 200
    assert answer.headers["Content-Type"] == SIGNED
    assert answer.headers["Cache-Control"] == "no-store"
    keys = KeySet.import_key_set(story.world.get("/oauth/jwks").ok())
    decoded = jwt.decode(answer.text, keys, algorithms=["ES256"])
    assert decoded.header["typ"] == "token-introspection+jwt"
    assert decoded.claims["iss"] == story.world.issuer
    assert decoded.claims["aud"] == story.api.client_id
    assert decoded.claims["iat"] >= claims_of(story.token)["iat"]
    assert set(decoded.claims) == {"iss", "aud", "iat", "token_introspection"}


@pytest.mark.rfc("9701", "5")
def test_it_says_what_the_plain_answer_says(story: Story) -> None:
    assert claims_of(story.ask(story.token).text)["token_introspection"] == story.world.introspect(story.api, story.token)
    for value in ("x", story.token + "x"):
        assert claims_of(story.ask(value).text)["token_introspection"] == {"active": False}
    assert claims_of(story.ask(story.token, api=story.other).text)["token_introspection"] == {"active": False}


@pytest.mark.rfc("9701", "8.1")
def test_the_signed_answer_passes_as_no_token(story: Story) -> None:
    signed = story.ask(story.token).text
    assert story.world.introspect(story.api, signed) == {"active": False}
    refused(story.world.exchange(story.agent, signed, resource=story.api.uri), "invalid_request")
    assert story.world.get("/oauth/userinfo", {"Authorization": f"Bearer {signed}"}).status == 401
    assert header_of(signed)["typ"] != "at+jwt"


def test_only_who_asks_for_it_gets_it(story: Story) -> None:
    for accept in ("application/json", "*/*", "", "application/jwt", "text/html"):
        assert story.ask(story.token, accept).headers["Content-Type"] == "application/json"
    assert story.ask(story.token, f"{SIGNED}, application/json;q=0.5").headers["Content-Type"] == SIGNED
    assert story.ask(story.token, SIGNED.upper()).headers["Content-Type"] == SIGNED


def test_an_error_is_plain_json(story: Story) -> None:
    refused(story.world.post("/oauth/introspect", {"token": story.token}, {"Accept": SIGNED}), "invalid_client", 401)
    headers = {**basic(story.api.client_id, story.api.client_secret), "Accept": SIGNED}
    refused(story.world.post("/oauth/introspect", {}, headers), "invalid_request")


def test_the_metadata_names_the_algorithm_it_is_signed_with(story: Story) -> None:
    signed = story.ask(story.token).text
    assert (
        header_of(signed)["alg"]
        in story.world.get("/.well-known/oauth-authorization-server").ok()["introspection_signing_alg_values_supported"]
    )
