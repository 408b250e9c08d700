"""RFC 8414 and OIDC Discovery: two documents that agree, and promise nothing that is not there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from app.keys.jwk import generate_client_key, public_part
from app.keys.signer import import_signing_key
from app.vocabulary import SigningAlg
from tests.forge import forge
from tests.issuers import JWT_BEARER, Issuer, attest
from tests.protocol.answers import (
    asserted,
    code_at,
    new_verifier,
    push,
    pushed_query,
    refresh,
    refused,
    sent_back,
    sent_to_sign_in,
    without,
)
from tests.world import BY, EXCHANGE, Answer, Api, Browser, Party, Person, World, basic, checkboxes, claims_of, header_of, hidden

CIBA = "urn:openid:params:grant-type:ciba"
PATHS = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")
GRANTS = (
    "authorization_code", "client_credentials", "refresh_token", EXCHANGE, "password", "implicit", CIBA,
    "urn:ietf:params:oauth:grant-type:device_code", "urn:ietf:params:oauth:grant-type:jwt-bearer",
    "urn:ietf:params:oauth:grant-type:saml2-bearer", "urn:ietf:params:oauth:grant-type:uma-ticket",
)  # fmt: skip
METHODS = ("private_key_jwt", "client_secret_basic", "client_secret_post", "none", "client_secret_jwt", "tls_client_auth")


@dataclass
class Story:
    world: World
    alice: Person
    api: Api
    agent: Party
    app: Party
    browser: Browser


@pytest.fixture
def story(world: World) -> Story:
    alice, api = world.human(), world.resource("read")
    agent = world.agent(alice, ceiling=[(api, "read")], own=[(api, "read")])
    return Story(world, alice, api, agent, world.app(pairs=[(api, "read")]), world.signed_in(alice))


@pytest.fixture
def metadata(world: World) -> dict[str, Any]:
    return world.get(PATHS[0]).ok()


# The documents


@pytest.mark.rfc("8414", "3")
def test_both_documents_are_one(world: World) -> None:
    one, two = (world.get(path) for path in PATHS)
    assert one.body == two.body
    for answer in (one, two):
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "public" in answer.headers["Cache-Control"]
        assert "Set-Cookie" not in answer.headers


@pytest.mark.rfc("8414", "2")
def test_what_both_standards_require_is_there(metadata: dict[str, Any], world: World) -> None:
    assert metadata["issuer"] == world.issuer
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "response_types_supported", "subject_types_supported"):
        assert metadata[name]
    assert "RS256" in metadata["id_token_signing_alg_values_supported"]
    assert "openid" in metadata["scopes_supported"]
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert all(value != [] for value in metadata.values())


def test_the_issuer_comes_from_the_settings_and_never_from_the_request(world: World) -> None:
    for headers in (
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"},
        {"Forwarded": "host=evil.example"},
    ):
        assert "evil" not in world.get(PATHS[0], headers).text


def test_every_endpoint_is_under_the_issuer_and_answers(metadata: dict[str, Any], world: World) -> None:
    endpoints = {name: value for name, value in metadata.items() if name.endswith(("_endpoint", "_uri"))}
    assert len(endpoints) == 9
    for name, url in endpoints.items():
        assert url.startswith(world.issuer + "/")
        parts = urlsplit(url)
        assert not parts.query
        assert not parts.fragment
        path = url.removeprefix(world.issuer)
        answers = {world.get(path).status, world.post(path, {}).status}
        assert 404 not in answers, name
        assert not {status for status in answers if status >= 500}, name


def test_it_is_computed_from_what_is_registered(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    from app.endpoints import metadata as document

    monkeypatch.setattr(document, "FRESH", -1)
    api = story.world.resource("a-scope-only-here")
    found = story.world.get(PATHS[0]).ok()
    assert api.uri in found["protected_resources"]
    assert "a-scope-only-here" in found["scopes_supported"]
    story.world.server.resource_registry.disable(api.id, by=BY)
    found = story.world.get(PATHS[0]).ok()
    assert api.uri not in found["protected_resources"]
    assert "a-scope-only-here" not in found["scopes_supported"]


# What it promises works, what it does not is refused


def approved(story: Story, consent: str) -> Answer:
    """The token that the human approved when her agent asked."""
    members, headers = story.world.credentials(story.agent)
    form = {"login_hint": consent, "scope": "openid read", "resource": story.api.uri, **members}
    auth_req_id = story.world.post("/oauth/bc-authorize", form, headers).ok()["auth_req_id"]
    page = story.browser.get("/my/approvals")
    path = re.findall(r'href="(/my/approvals/apr_[^"]+)"', page.text)[0]
    page = story.browser.get(path)
    ticked = [("scope", value) for value in checkboxes(page, "scope")]
    story.browser.post(path, [*hidden(page), *ticked, ("decision", "allow")])
    return story.world.token(story.agent, {"grant_type": CIBA, "auth_req_id": auth_req_id})


def attested(story: Story) -> Answer:
    issuer = Issuer()
    issuer.trusted(story.world, story.agent)
    return attest(story.world, issuer.says(story.world))


def test_each_grant_that_is_advertised_works_and_no_other(metadata: dict[str, Any], story: Story) -> None:
    world = story.world
    verifier = new_verifier()
    code = story.browser.code(world.authorization(story.agent, verifier, story.api, away=True), away=True)
    given = world.redeem(story.agent, code, verifier)
    works: dict[str, Callable[[], int]] = {
        "authorization_code": lambda: given.status,
        "client_credentials": lambda: world.own_token(story.agent).status,
        "refresh_token": lambda: refresh(world, story.agent, given.ok()["refresh_token"]).status,
        EXCHANGE: lambda: world.exchange(story.agent, given.ok()["access_token"]).status,
        CIBA: lambda: approved(story, given.ok()["consent_id"]).status,
        JWT_BEARER: lambda: attested(story).status,
    }
    assert set(metadata["grant_types_supported"]) == works.keys()
    for name in GRANTS:
        if name in works:
            assert works[name]() == 200, name
        else:
            form = {"grant_type": name, "username": "x", "password": "x", "assertion": "x", "device_code": "x", "auth_req_id": "x"}
            refused(world.token(story.agent, form), "unsupported_grant_type")


def test_each_client_authentication_method_that_is_advertised_works_and_no_other(metadata: dict[str, Any], story: Story) -> None:
    world = story.world
    posting = world.app(auth="client_secret_post")
    public = world.app(auth="none", native=True)
    ways: dict[str, tuple[Party, Callable[[], tuple[dict[str, str], dict[str, str]]]]] = {
        "private_key_jwt": (story.agent, lambda: world.credentials(story.agent)),
        "client_secret_basic": (story.app, lambda: world.credentials(story.app)),
        "client_secret_post": (posting, lambda: ({"client_id": posting.client_id, "client_secret": str(posting.secret)}, {})),
        "none": (public, lambda: world.credentials(public)),
    }
    for endpoint, form in (
        ("token", {"grant_type": "refresh_token", "refresh_token": "rt_x"}),
        ("revocation", {"token": "x"}),
        ("introspection", {"token": "x"}),
    ):
        path = metadata[f"{endpoint}_endpoint"].removeprefix(world.issuer)
        advertised = set(metadata[f"{endpoint}_endpoint_auth_methods_supported"])
        assert advertised <= ways.keys()
        for name, (client, credentials) in ways.items():
            members, headers = credentials()
            answer = world.post(path, {**form, **members}, headers)
            assert (answer.status == 401) is (name not in advertised), (endpoint, name, client.client_id, answer.body)
    for name in set(METHODS) - ways.keys():
        from app.errors import Refused

        with pytest.raises(Refused):
            world.app(auth=name)


def test_each_assertion_algorithm_that_is_advertised_works(metadata: dict[str, Any], story: Story) -> None:
    world = story.world
    for endpoint, form in (
        ("token", {"grant_type": "client_credentials"}),
        ("revocation", {"token": "x"}),
        ("introspection", {"token": "x"}),
    ):
        for name in metadata[f"{endpoint}_endpoint_auth_signing_alg_values_supported"]:
            private = generate_client_key(SigningAlg(name))
            agent = world.agent(story.alice, ceiling=[(story.api, "read")], jwks={"keys": [public_part(private)]})
            now = int(time.time())
            claims = {
                "iss": agent.client_id,
                "sub": agent.client_id,
                "aud": world.issuer,
                "iat": now,
                "exp": now + 60,
                "jti": new_verifier(),
            }
            assertion = forge({"alg": name, "kid": private["kid"]}, claims, import_signing_key(private, SigningAlg(name)))
            path = metadata[f"{endpoint}_endpoint"].removeprefix(world.issuer)
            assert world.post(path, asserted(assertion, form)).status == 200, (endpoint, name)


def test_each_id_token_algorithm_that_is_advertised_can_be_registered_and_signs(metadata: dict[str, Any], story: Story) -> None:
    for name in metadata["id_token_signing_alg_values_supported"]:
        app = story.world.app(id_token_alg=name)
        verifier = new_verifier()
        code = code_at(story.browser, story.world.authorization(app, verifier, scope="openid"))
        assert header_of(story.world.redeem(app, code, verifier).ok()["id_token"])["alg"] == name


def test_response_types_and_modes_are_the_advertised_ones_and_no_others(metadata: dict[str, Any], story: Story) -> None:
    query = story.world.authorization(story.agent, new_verifier(), story.api)
    for kind in ("code", "token", "id_token", "code id_token", "code token", "id_token token", "none"):
        answer = story.browser.authorize([*without(query, "response_type"), ("response_type", kind)])
        if kind in metadata["response_types_supported"]:
            assert answer.status == 200
        else:
            sent_back(answer, "unsupported_response_type", story.world.issuer)
    for mode in ("query", "fragment", "form_post", "jwt", "query.jwt"):
        answer = story.browser.authorize([*query, ("response_mode", mode)])
        if mode in metadata["response_modes_supported"]:
            assert answer.status == 200
        else:
            sent_back(answer, "invalid_request", story.world.issuer)


def test_prompts_are_the_advertised_ones_and_no_others(metadata: dict[str, Any], story: Story) -> None:
    query = story.world.authorization(story.agent, new_verifier(), story.api)
    for prompt in ("none", "login", "consent", "select_account", "create", "x"):
        answer = story.browser.authorize([*query, ("prompt", prompt)])
        if prompt not in metadata["prompt_values_supported"]:
            sent_back(answer, "invalid_request", story.world.issuer)
        elif prompt == "none":
            sent_back(answer, "consent_required", story.world.issuer)
        elif prompt == "consent":
            assert answer.status == 200
        else:
            sent_to_sign_in(answer)


def test_what_is_said_not_to_be_supported_is_refused_or_ignored(metadata: dict[str, Any], story: Story) -> None:
    query = story.world.authorization(story.agent, new_verifier(), story.api)
    assert metadata["request_parameter_supported"] is False
    sent_back(story.browser.authorize([*query, ("request", "e30.e30.")]), "request_not_supported", story.world.issuer)
    assert metadata["request_uri_parameter_supported"] is False
    assert story.browser.authorize([*query, ("request_uri", "https://agent.example/r")]).status == 400
    assert metadata["claims_parameter_supported"] is False
    assert story.browser.authorize([*query, ("claims", '{"id_token":{"email":{"essential":true}}}')]).status == 200
    for name in ("registration_endpoint", "device_authorization_endpoint", "backchannel_authentication_request_signing_alg_values_supported",
                 "tls_client_certificate_bound_access_tokens", "introspection_encryption_alg_values_supported", "request_object_signing_alg_values_supported"):  # fmt: skip
        assert name not in metadata


def test_every_advertised_scope_exists(metadata: dict[str, Any], story: Story) -> None:
    registered = {scope for row in story.world.server.resource_registry.list() if row.enabled for scope in row.scopes}
    assert set(metadata["scopes_supported"]) <= registered | {"openid", "profile", "email", "offline_access"}
    assert {"openid", "profile", "email", "offline_access"} <= set(metadata["scopes_supported"])


def test_every_advertised_claim_is_given(metadata: dict[str, Any], story: Story) -> None:
    verifier = new_verifier()
    code = code_at(story.browser, story.world.authorization(story.app, verifier, scope="openid profile email", nonce="n"))
    claims = claims_of(story.world.redeem(story.app, code, verifier).ok()["id_token"])
    assert set(metadata["claims_supported"]) == claims.keys()


def test_the_advertised_authorization_details_narrow(metadata: dict[str, Any], story: Story) -> None:
    assert metadata["authorization_details_types_supported"] == ["resource_access"]
    verifier = new_verifier()
    code = story.browser.code(story.world.authorization(story.agent, verifier, story.api))
    details = '[{"type":"%s","locations":["%s"],"actions":["read"]}]'
    form = {"code_verifier": verifier, "redirect_uri": story.agent.redirect_uri, "grant_type": "authorization_code", "code": code}
    wrong = story.world.token(story.agent, {**form, "authorization_details": details % ("payment", story.api.uri)})
    refused(wrong, "invalid_authorization_details")
    right = story.world.token(story.agent, {**form, "authorization_details": details % ("resource_access", story.api.uri)})
    assert right.status == 200


def test_pushed_requests_are_offered_and_not_required(metadata: dict[str, Any], story: Story) -> None:
    assert metadata.get("require_pushed_authorization_requests", False) is False
    query = story.world.authorization(story.agent, new_verifier(), story.api)
    assert story.browser.authorize(query).status == 200
    request_uri = push(story.world, story.agent, query).json["request_uri"]
    assert story.browser.authorize(pushed_query(story.agent, request_uri)).status == 200


def test_an_api_that_reads_them_introspects(metadata: dict[str, Any], story: Story) -> None:
    token = story.world.own_token(story.agent, resource=story.api.uri).ok()["access_token"]
    path = metadata["introspection_endpoint"].removeprefix(story.world.issuer)
    assert story.world.post(path, {"token": token}, basic(story.api.client_id, story.api.client_secret)).ok()["active"] is True
