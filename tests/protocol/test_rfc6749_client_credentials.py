"""RFC 6749 §4.4: the agent's own token."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.protocol.answers import refused
from tests.world import ACCESS_TOKEN, BY, EXCHANGE, Api, Party, Person, World, basic, claims_of, header_of


@dataclass
class Story:
    world: World
    alice: Person
    weather: Api
    calendar: Api
    agent: Party


@pytest.fixture
def story(world: World) -> Story:
    alice = world.human()
    weather, calendar = world.resource("weather:read", "weather:write", "read"), world.resource("calendar:read", "read")
    agent = world.agent(
        alice,
        ceiling=[(calendar, "calendar:read"), (weather, "weather:write")],
        own=[(weather, "weather:read"), (weather, "read")],
    )
    return Story(world, alice, weather, calendar, agent)


@pytest.mark.rfc("6749", "4.4.3")
def test_the_answer_has_a_bearer_token_of_minutes_and_no_refresh_token(story: Story) -> None:
    answer = story.world.own_token(story.agent, resource=story.weather.uri)
    body = answer.ok()
    assert body["token_type"] == "Bearer"
    assert 0 < body["expires_in"] <= 300
    assert body["scope"] == "read weather:read"
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Pragma"] == "no-cache"
    assert answer.headers["Content-Type"] == "application/json"


def test_the_token_is_the_agents_own_and_nobody_acts(story: Story) -> None:
    claims = claims_of(story.world.own_token(story.agent, resource=story.weather.uri).ok()["access_token"])
    assert claims["sub"] == story.agent.uri
    assert claims["client_id"] == story.agent.client_id != claims["sub"]
    assert claims["aud"] == story.weather.uri
    assert not {"act", "may_act", "txn", "auth_time", "acr", "amr"} & claims.keys()


def test_without_a_target_it_is_for_the_issuer_and_no_api_takes_it(story: Story) -> None:
    answer = story.world.own_token(story.agent).ok()
    claims = claims_of(answer["access_token"])
    assert claims["aud"] == story.world.issuer
    assert "scope" not in claims
    assert "scope" not in answer
    assert header_of(answer["access_token"])["typ"] == "at+jwt"
    for api in (story.weather, story.calendar):
        assert not story.world.active(api, answer["access_token"])
    assert claims_of(story.world.own_token(story.agent, resource=story.world.issuer).ok()["access_token"])["aud"] == story.world.issuer


@pytest.mark.rfc("6749", "3.3")
def test_a_scope_that_is_the_agents_own_is_given_and_no_other(story: Story) -> None:
    own = story.world.own_token
    assert own(story.agent, resource=story.weather.uri, scope="weather:read").ok()["scope"] == "weather:read"
    for scope in ("weather:write", "weather:read weather:write", "unknown", "openid", "offline_access", "calendar:read"):
        refused(own(story.agent, resource=story.weather.uri, scope=scope), "invalid_scope")
        refused(own(story.agent, scope=scope), "invalid_scope")


def test_what_needs_a_human_is_out_of_reach(story: Story) -> None:
    answer = story.world.own_token(story.agent, resource=story.calendar.uri, scope="calendar:read")
    assert answer.error in {"invalid_scope", "invalid_target"}
    answer = story.world.own_token(story.agent, resource=story.calendar.uri)
    assert answer.error in {"invalid_scope", "invalid_target"}


def test_an_unknown_disabled_or_second_target_is_invalid_target(story: Story) -> None:
    own = story.world.own_token
    for target in ("https://unknown.example", story.weather.uri + "/", story.weather.uri + "#f", "weather", story.world.issuer + "/"):
        refused(own(story.agent, resource=target), "invalid_target")
    refused(own(story.agent, resource=story.weather.uri, audience=story.calendar.uri), "invalid_target")
    assert own(story.agent, resource=story.weather.uri, audience=story.weather.uri).status == 200
    story.world.server.resource_registry.disable(story.weather.id, by=BY)
    refused(own(story.agent, resource=story.weather.uri), "invalid_target")


def test_nothing_is_handed_over_by_an_agent_alone(story: Story) -> None:
    other = story.world.agent(story.alice, ceiling=[(story.weather, "weather:read")])
    for target in (other.uri, story.agent.uri):
        assert story.world.own_token(story.agent, resource=target).error in {"invalid_scope", "invalid_target", "invalid_request"}


def test_nobody_but_an_agent_gets_one(story: Story) -> None:
    world = story.world
    api = Party(story.weather.client_id, secret=story.weather.client_secret)
    apps = [world.app(pairs=[(story.weather, "read")]), world.app(auth="none", native=True, redirect_uris=("http://127.0.0.1/cb",))]
    for caller in (*apps, api):
        refused(world.own_token(caller, resource=story.weather.uri), "unauthorized_client")
        refused(world.own_token(caller), "unauthorized_client")


def test_a_parameter_that_would_narrow_or_name_somebody_else_is_not_ignored(story: Story) -> None:
    details = '[{"type":"resource_access","locations":["%s"],"actions":["read"]}]' % story.weather.uri
    refused(story.world.own_token(story.agent, resource=story.weather.uri, authorization_details=details), "invalid_authorization_details")
    for name in ("subject_token", "actor_token"):
        refused(story.world.own_token(story.agent, resource=story.weather.uri, **{name: "x"}), "invalid_request")


@pytest.mark.rfc("6749", "3.1")
def test_an_unrecognized_parameter_is_ignored_and_an_empty_one_is_as_if_left_out(story: Story) -> None:
    body = story.world.own_token(story.agent, resource=story.weather.uri, scope="", authorization_details="", something="else").ok()
    assert body["scope"] == "read weather:read"


def test_two_tokens_are_two(story: Story) -> None:
    one, two = (story.world.own_token(story.agent).ok()["access_token"] for _ in range(2))
    assert claims_of(one)["jti"] != claims_of(two)["jti"]


# What every request to the token endpoint is held to


@pytest.mark.rfc("6749", "5.2")
def test_a_missing_grant_type_is_invalid_request_and_an_unknown_one_unsupported(story: Story) -> None:
    refused(story.world.token(story.agent, {}), "invalid_request")
    refused(story.world.token(story.agent, {"grant_type": ""}), "invalid_request")
    for name in ("password", "implicit", "Client_Credentials", "client_credentials ", "urn:ietf:params:oauth:grant-type:device_code", "é"):
        refused(story.world.token(story.agent, {"grant_type": name}), "unsupported_grant_type")


@pytest.mark.rfc("6749", "3.2")
def test_the_token_endpoint_is_posted_to_with_a_form_and_nothing_in_the_address(story: Story) -> None:
    world = story.world
    form = {"grant_type": "client_credentials"}
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = world.http.send(method, "/oauth/token", b"", {})
        assert answer.status == 405
        assert "POST" in answer.headers["Allow"]
    members, _ = world.credentials(story.agent)
    refused(world.post("/oauth/token?grant_type=client_credentials", {**form, **members}), "invalid_request")
    refused(world.post("/oauth/token", {**form, **members}, {"Content-Type": "application/json"}), "invalid_request")


def test_a_parameter_given_twice_is_refused(story: Story) -> None:
    form = [("grant_type", "client_credentials"), ("scope", "read"), ("scope", "read")]
    refused(story.world.token(story.agent, form), "invalid_request")
    refused(story.world.token(story.agent, [("grant_type", "client_credentials"), ("x", "1"), ("x", "1")]), "invalid_request")


@pytest.mark.rfc("6749", "5.2")
def test_failed_client_authentication_is_one_answer_for_all_causes(story: Story) -> None:
    world = story.world
    secretive = world.agent(story.alice, ceiling=[(story.calendar, "read")], auth="client_secret_basic", jwks=None)
    stranger = Party("agc_nobody", secret="x" * 43)
    bodies = set()
    for headers in (
        basic(secretive.client_id, "wrong"),
        basic(stranger.client_id, stranger.secret or ""),
        basic(secretive.client_id, ""),
        basic("", ""),
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer x"},
    ):
        answer = world.post("/oauth/token", {"grant_type": "client_credentials"}, headers)
        refused(answer, "invalid_client", 401)
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
        bodies.add(answer.body)
    assert len(bodies) == 1
    assert world.own_token(secretive).status == 200


@pytest.mark.rfc("6749", "2.3")
def test_a_request_authenticates_in_one_way_and_in_the_registered_one(story: Story) -> None:
    world = story.world
    assert story.agent.key is not None
    secretive = world.agent(story.alice, ceiling=[(story.calendar, "read")], auth="client_secret_basic", jwks=None)
    posting = world.agent(story.alice, ceiling=[(story.calendar, "read")], auth="client_secret_post", jwks=None)
    form = {"grant_type": "client_credentials"}
    secret = str(secretive.secret)
    refused(world.post("/oauth/token", {**form, "client_id": secretive.client_id, "client_secret": secret}), "invalid_client", 401)
    refused(world.post("/oauth/token", form, basic(posting.client_id, str(posting.secret))), "invalid_client", 401)
    refused(world.post("/oauth/token", {**form, "client_id": secretive.client_id}), "invalid_client", 401)
    refused(world.post("/oauth/token", {**form, "client_id": story.agent.client_id}), "invalid_client", 401)
    assert world.post("/oauth/token", {**form, "client_id": posting.client_id, "client_secret": str(posting.secret)}).status == 200
    both = {**form, "client_id": secretive.client_id, "client_secret": secret}
    refused(world.post("/oauth/token", both, basic(secretive.client_id, secret)), "invalid_request")
    differs = {**form, "client_id": posting.client_id}
    refused(world.post("/oauth/token", differs, basic(secretive.client_id, secret)), "invalid_client", 401)
    assert world.post("/oauth/token", {**form, "client_id": secretive.client_id}, basic(secretive.client_id, secret)).status == 200


@pytest.mark.rfc("6749", "2.3.1")
def test_both_halves_of_basic_are_form_encoded(story: Story) -> None:
    world = story.world
    secretive = world.agent(story.alice, ceiling=[(story.calendar, "read")], auth="client_secret_basic", jwks=None)

    def escaped(text: str) -> str:
        return "".join(f"%{ord(char):02X}" for char in text)

    headers = basic(escaped(secretive.client_id), escaped(str(secretive.secret)))
    assert world.post("/oauth/token", {"grant_type": "client_credentials"}, headers).status == 200


def test_an_agents_shared_secret_expires(story: Story, later) -> None:
    secretive = story.world.agent(story.alice, ceiling=[(story.calendar, "read")], auth="client_secret_basic", jwks=None)
    assert story.world.own_token(secretive).status == 200
    later(31 * 86400)
    refused(story.world.own_token(secretive), "invalid_client", 401)


def test_a_disabled_client_is_an_unknown_one_and_good_again_when_enabled(story: Story) -> None:
    registry = story.world.server.agent_registry
    registry.suspend(story.agent.id, by=BY)
    refused(story.world.own_token(story.agent), "invalid_client", 401)
    registry.resume(story.agent.id, by=BY)
    assert story.world.own_token(story.agent).status == 200
    registry.retire(story.agent.id, by=BY)
    refused(story.world.own_token(story.agent), "invalid_client", 401)


def test_the_own_token_is_no_subject_of_an_exchange_and_no_bearer_at_userinfo(story: Story) -> None:
    world = story.world
    token = world.own_token(story.agent, resource=story.weather.uri).ok()["access_token"]
    form = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN}
    refused(world.token(story.agent, {**form, "resource": story.weather.uri}), "invalid_request")
    assert world.get("/oauth/userinfo", {"Authorization": f"Bearer {token}"}).status == 401


def test_cors_is_open_at_the_token_endpoint_without_credentials(story: Story) -> None:
    answer = story.world.http.send(
        "OPTIONS", "/oauth/token", None, {"Origin": "https://spa.example", "Access-Control-Request-Method": "POST"}
    )
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
