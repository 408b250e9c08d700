"""RFC 6749 §4.1: from a human's consent to a token."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from tests.protocol.answers import landed, new_verifier, no_redirect, refused, sent_back, sent_to_sign_in, without
from tests.world import BY, REDIRECT, Answer, Api, Browser, Party, Person, World, claims_of, header_of

OTHER = "https://agent.example/other?tenant=7"


@dataclass
class Story:
    world: World
    alice: Person
    calendar: Api
    mail: Api
    agent: Party
    browser: Browser
    verifier: str

    def query(self, *resources: Api | str, **more: str) -> list[tuple[str, str]]:
        return self.world.authorization(self.agent, self.verifier, *(resources or (self.calendar,)), **more)

    def code(self, *resources: Api | str, **more: str) -> str:
        return self.browser.code(self.query(*resources, **more))

    def redeem(self, code: str, **form: str) -> Answer:
        return self.world.redeem(self.agent, code, self.verifier, **form)


@pytest.fixture
def story(world: World) -> Story:
    alice = world.human()
    calendar, mail = world.resource("calendar:read", "calendar:write"), world.resource("mail:read", "mail:send")
    agent = world.agent(
        alice,
        ceiling=[(calendar, "calendar:read"), (calendar, "calendar:write"), (mail, "mail:read")],
        redirect_uris=(REDIRECT, OTHER),
    )
    return Story(world, alice, calendar, mail, agent, world.signed_in(alice), new_verifier())


# The request


@pytest.mark.rfc("6749", "4.1.1")
def test_somebody_not_signed_in_signs_in_first_and_comes_back_to_the_same_request(story: Story) -> None:
    browser = story.world.browser()
    query = story.query(scope="calendar:read")
    onward = sent_to_sign_in(browser.authorize(query))
    assert onward.startswith("/oauth/authorize?")
    answer = browser.sign_in(story.alice.username, target=onward)
    assert (answer.status, answer.headers["Location"]) == (303, onward)
    page = browser.get(onward)
    assert page.status == 200
    assert landed(browser.decide(page))["code"]


def test_fetching_an_authorization_url_without_a_session_uses_nothing_up(story: Story) -> None:
    browser = story.world.browser()
    for _ in range(3):
        sent_to_sign_in(browser.authorize(story.query()))
    assert landed(story.browser.decide(story.browser.authorize(story.query())))["code"]


@pytest.mark.rfc("6749", "4.1.2.1")
def test_an_unknown_client_or_a_redirect_uri_not_its_own_gets_a_page_and_no_redirect(story: Story) -> None:
    query = story.query()
    base = without(query, "redirect_uri")
    for uri in (
        "https://evil.example/callback", REDIRECT + "/", REDIRECT + "?x=1", REDIRECT.upper(), "https://agent.example", "x",
        "https://agent.example/callback#f", "https://agent.example:443/callback", "https://agent.example/a/../callback",
        "https://agent.example/other", OTHER + "&a=1", "http://agent.example/callback", "javascript:alert(1)",
        "https://agent.example\\@evil.example/callback",
    ):  # fmt: skip
        assert "not registered for that program" in no_redirect(story.browser.authorize([*base, ("redirect_uri", uri)]))
    for client_id in ("nobody", "", story.calendar.client_id, story.agent.id, story.agent.uri):
        no_redirect(story.browser.authorize([*without(query, "client_id"), ("client_id", client_id)]))
    no_redirect(story.browser.authorize([*query, ("redirect_uri", "https://evil.example/")]))
    no_redirect(story.browser.authorize([*query, ("client_id", story.agent.client_id)]))


def test_without_a_redirect_uri_the_only_one_is_meant_and_two_leave_it_open(story: Story) -> None:
    no_redirect(story.browser.authorize(without(story.query(), "redirect_uri")))
    world = story.world
    agent = world.agent(story.alice, ceiling=[(story.calendar, "calendar:read")])
    query = without(world.authorization(agent, story.verifier, story.calendar), "redirect_uri")
    code = landed(story.browser.decide(story.browser.authorize(query)))["code"]
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": story.verifier}
    assert world.token(agent, form).status == 200


def test_a_redirect_uris_own_query_is_kept(story: Story) -> None:
    agent = replace(story.agent, redirect_uri=OTHER)
    answer = story.browser.decide(story.browser.authorize(story.world.authorization(agent, story.verifier, story.calendar)))
    found = landed(answer, "https://agent.example/other")
    assert found["tenant"] == "7"
    assert found["code"]
    assert story.world.redeem(agent, found["code"], story.verifier).status == 200


@pytest.mark.rfc("6749", "4.1.2")
def test_state_comes_back_as_it_was_and_is_not_made_up(story: Story) -> None:
    for state in ("xyz", "a b&c=d#é%20", "x" * 2048):
        query = [*without(story.query(), "state"), ("state", state)]
        assert landed(story.browser.decide(story.browser.authorize(query)))["state"] == state
    answer = story.browser.decide(story.browser.authorize(without(story.query(), "state")))
    assert set(landed(answer)) == {"code", "iss"}
    assert (
        sent_back(story.browser.decide(story.browser.authorize(story.query()), allow=False), "access_denied", story.world.issuer)["state"]
        == "xyz"
    )


@pytest.mark.rfc("6749", "4.1.2.1")
def test_what_is_wrong_with_a_request_is_told_the_client_by_redirect(story: Story) -> None:
    query = story.query()

    def asked(**changed: str) -> Answer:
        return story.browser.authorize([*without(query, *changed), *((n, v) for n, v in changed.items() if v)])

    def error(expected: str, **changed: str) -> None:
        found = sent_back(asked(**changed), expected, story.world.issuer)
        assert found["state"] == "xyz"
        assert found["error_description"].isascii()

    error("invalid_request", response_type="")
    for kind in ("token", "id_token", "code id_token", "code token", "none", "CODE", "device"):
        error("unsupported_response_type", response_type=kind)
    for mode in ("fragment", "form_post", "query.jwt", "web_message"):
        error("invalid_request", response_mode=mode)
    assert asked(response_mode="query").status == 200
    error("request_not_supported", request="e30.e30.")
    error("invalid_authorization_details", authorization_details='[{"type":"resource_access"}]')
    error("invalid_request", dpop_jkt="x" * 42)
    error("invalid_request", nonce="x" * 3000)
    for scope in ("unknown", "calendar:read mail:read", "calendar:read  calendar:write", ' "', "a\\b", "x" * 3000, "openid calendar:read"):
        error("invalid_scope", scope=scope)


def test_a_state_too_long_to_return_is_refused_without_it(story: Story) -> None:
    found = sent_back(
        story.browser.authorize([*without(story.query(), "state"), ("state", "x" * 3000)]), "invalid_request", story.world.issuer
    )
    assert "state" not in found


def test_a_parameter_given_twice_is_refused(story: Story) -> None:
    for name, value in (("scope", "calendar:read"), ("state", "abc"), ("response_type", "code"), ("code_challenge", "x" * 43)):
        found = sent_back(story.browser.authorize([*story.query(), (name, value), (name, value)]), "invalid_request", story.world.issuer)
        assert "code" not in found
    no_redirect(story.browser.authorize([*story.query(), ("anything", "1"), ("anything", "2")]))


def test_a_post_goes_on_as_a_get(story: Story) -> None:
    answer = story.browser.post("/oauth/authorize", story.query(scope="calendar:read"))
    assert answer.status == 303
    assert story.browser.get(answer.headers["Location"]).status == 200


def test_leaving_scope_out_means_the_clients_own_for_that_resource(story: Story) -> None:
    assert story.redeem(story.code(story.calendar)).ok()["scope"] == "calendar:read calendar:write"
    assert story.redeem(story.code(story.mail)).ok()["scope"] == "mail:read"


def test_a_suspended_agent_gets_no_page(story: Story) -> None:
    story.world.server.agent_registry.suspend(story.agent.id, by=BY)
    no_redirect(story.browser.authorize(story.query()))


def test_cors_is_closed_where_there_is_a_session(story: Story) -> None:
    for path in ("/oauth/authorize", "/login", "/consent", "/my/agents", "/logout", "/oauth/introspect", "/oauth/revoke", "/oauth/par"):
        for method in ("GET", "OPTIONS"):
            answer = story.world.http.send(method, path, None, {"Origin": "https://spa.example"})
            assert "Access-Control-Allow-Origin" not in answer.headers, path


# The code


@pytest.mark.rfc("6749", "4.1.3")
def test_a_code_gives_a_token_that_is_the_humans_done_by_the_agent(story: Story) -> None:
    body = story.redeem(story.code(scope="calendar:read")).ok()
    claims = claims_of(body["access_token"])
    assert body["token_type"] == "Bearer"
    assert 0 < body["expires_in"] <= 300
    assert body["scope"] == claims["scope"] == "calendar:read"
    assert claims["sub"] == story.alice.id
    assert claims["aud"] == story.calendar.uri
    assert claims["client_id"] == story.agent.client_id
    assert claims["act"] == {"iss": story.world.issuer, "sub": story.agent.uri, "sub_profile": "ai_agent"}
    assert claims["txn"] == body["task_id"]
    assert body["consent_id"].startswith("con_")
    assert body["authorization_expires_in"] > 0
    assert not {"refresh_token", "id_token"} & body.keys()
    assert story.world.active(story.calendar, body["access_token"])


@pytest.mark.rfc("6749", "4.1.2")
def test_a_code_used_twice_ends_what_it_gave(story: Story) -> None:
    code = story.code(scope="calendar:read")
    token = story.redeem(code).ok()["access_token"]
    assert story.world.active(story.calendar, token)
    refused(story.redeem(code), "invalid_grant")
    assert not story.world.active(story.calendar, token)
    refused(story.redeem(code), "invalid_grant")


def test_a_code_used_twice_ends_the_refresh_token_too(story: Story) -> None:
    query = story.world.authorization(story.agent, story.verifier, story.calendar, away=True)
    code = story.browser.code(query, away=True)
    given = story.redeem(code).ok()
    refused(story.redeem(code), "invalid_grant")
    form = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
    refused(story.world.token(story.agent, form), "invalid_grant")
    assert not story.world.active(story.calendar, given["access_token"])


def test_a_replayed_code_harms_no_other_authorization(story: Story) -> None:
    other = story.redeem(story.code()).ok()["access_token"]
    code = story.code()
    story.redeem(code).ok()
    refused(story.redeem(code), "invalid_grant")
    assert story.world.active(story.calendar, other)


def test_a_code_is_good_for_a_minute(story: Story, later) -> None:
    code = story.code()
    later(61)
    refused(story.redeem(code), "invalid_grant")


@pytest.mark.rfc("6749", "4.1.3")
def test_a_code_is_good_for_its_client_only(story: Story) -> None:
    world = story.world
    other = world.agent(story.alice, ceiling=[(story.calendar, "calendar:read")])
    app = world.app(pairs=[(story.calendar, "calendar:read")])
    code = story.code()
    for client in (other, app):
        refused(world.redeem(client, code, story.verifier), "invalid_grant")
    assert story.redeem(code).status == 200


@pytest.mark.rfc("6749", "4.1.3")
def test_a_code_is_good_with_its_redirect_uri_only(story: Story) -> None:
    code = story.code()
    for uri in (OTHER, REDIRECT + "/", "https://evil.example/", REDIRECT.upper()):
        refused(story.redeem(code, redirect_uri=uri), "invalid_grant")
    refused(story.redeem(code, redirect_uri=""), "invalid_grant")
    assert story.redeem(code).status == 200


def test_what_is_no_code_is_invalid_grant_and_a_missing_one_invalid_request(story: Story) -> None:
    given = story.world.consented(story.browser, story.agent, story.calendar, away=True)
    for value in ("x", "ac_x", given["access_token"], given["refresh_token"], given["consent_id"], "é", "\x7f"):
        refused(story.redeem(value), "invalid_grant")
    refused(story.redeem(""), "invalid_request")


def test_scope_and_details_at_the_token_endpoint_narrow(story: Story) -> None:
    assert story.redeem(story.code(), scope="calendar:read").ok()["scope"] == "calendar:read"
    details = '[{"type":"resource_access","locations":["%s"],"actions":["calendar:write"]}]' % story.calendar.uri
    assert story.redeem(story.code(), authorization_details=details).ok()["scope"] == "calendar:write"
    code = story.code(scope="calendar:read")
    refused(story.redeem(code, scope="calendar:write"), "invalid_scope")
    refused(story.redeem(code, authorization_details=details), "invalid_authorization_details")
    refused(story.redeem(code, authorization_details="[]"), "invalid_authorization_details")
    assert story.redeem(code).status == 200


def test_a_refusal_at_the_token_endpoint_is_recorded_and_leaves_the_code(story: Story) -> None:
    code = story.code(scope="calendar:read")
    told = refused(story.redeem(code, scope="calendar:write"), "invalid_scope")
    (record,) = story.world.ledger(id=told["audit_id"])
    assert (record["event"], record["outcome"], record["error"]) == ("token.refused", "deny", "invalid_scope")
    assert code not in str(record)
    assert story.redeem(code).status == 200


def test_an_application_gets_a_token_without_act(story: Story) -> None:
    world = story.world
    app = world.app(pairs=[(story.calendar, "calendar:read")])
    body = world.consented(story.browser, app, story.calendar, scope="calendar:read")
    claims = claims_of(body["access_token"])
    assert claims["sub"] == story.alice.id
    assert claims["client_id"] == app.client_id
    assert not {"act", "txn", "may_act"} & claims.keys()
    assert not {"consent_id", "task_id"} & body.keys()
    assert world.active(story.calendar, body["access_token"])
    assert header_of(body["access_token"])["typ"] == "at+jwt"


def test_a_public_client_redeems_by_its_verifier_alone(story: Story) -> None:
    world = story.world
    native = replace(world.app(pairs=[(story.mail, "mail:read")], auth="none", native=True, redirect_uris=(REDIRECT,)), secret=None)
    body = world.consented(story.browser, native, story.mail, scope="mail:read")
    assert world.active(story.mail, body["access_token"])


def test_permit_and_code_are_recorded_with_their_consent(story: Story) -> None:
    body = story.redeem(story.code(scope="calendar:read")).ok()
    (issued,) = story.world.ledger(event="token.issued", jti=claims_of(body["access_token"])["jti"])
    assert issued["consent"] == body["consent_id"]
    assert issued["who"]["human"] == story.alice.id
    assert issued["who"]["actors"] == [story.agent.uri]
    assert issued["scope"] == {story.calendar.uri: ["calendar:read"]}
    (given,) = story.world.ledger(event="consent.given", consent=body["consent_id"])
    assert given["shown"]
    assert story.world.ledger(event="code.issued", consent=body["consent_id"])
