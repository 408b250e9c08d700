"""RFC 7523 §2.2 and its revision: an agent proves itself with a key."""

from __future__ import annotations

import time
from typing import Any

import pytest

from app.keys.jwk import generate_client_key, public_part
from app.keys.signer import import_signing_key
from app.vocabulary import SigningAlg
from tests.forge import forge
from tests.protocol.answers import asserted, new_verifier, refused
from tests.world import ASSERTION, BY, Answer, Api, Party, Person, World, basic

OWN = {"grant_type": "client_credentials"}


@pytest.fixture
def alice(world: World) -> Person:
    return world.human()


@pytest.fixture
def api(world: World) -> Api:
    return world.resource("read")


@pytest.fixture
def agent(world: World, alice: Person, api: Api) -> Party:
    return world.agent(alice, ceiling=[(api, "read")])


def claims(world: World, agent: Party, **changed: Any) -> dict[str, Any]:
    now = int(time.time())
    body = {
        "iss": agent.client_id,
        "sub": agent.client_id,
        "aud": world.issuer,
        "iat": now,
        "exp": now + 60,
        "jti": new_verifier(),
        **changed,
    }
    return {name: value for name, value in body.items() if value is not None}


def present(world: World, assertion: str, **more: str) -> Answer:
    return world.post("/oauth/token", asserted(assertion, OWN | more))


@pytest.mark.rfc("7523", "2.2")
def test_an_assertion_of_the_agent_is_enough(world: World, agent: Party) -> None:
    assert present(world, world.assertion(agent)).status == 200
    assert present(world, world.assertion(agent), client_id=agent.client_id).status == 200


@pytest.mark.rfc("7523", "3")
@pytest.mark.parametrize("name", ["iss", "sub", "aud", "exp", "jti", "iat"])
def test_every_claim_is_required(world: World, agent: Party, name: str) -> None:
    refused(present(world, world.assertion(agent, **{name: None})), "invalid_client", 401)
    refused(present(world, world.assertion(agent, **{name: ""})), "invalid_client", 401)


@pytest.mark.rfc("7523bis", "4")
def test_the_audience_is_the_issuer_and_nobody_else(world: World, agent: Party) -> None:
    issuer = world.issuer
    for audience in (
        issuer + "/", issuer + "/oauth/token", issuer.upper(), "https://other.example", issuer + "/.well-known/oauth-authorization-server",
        [issuer, issuer + "/oauth/token"], [issuer, "https://other.example"], [], [[issuer]], {issuer: 1}, 7, True,
    ):  # fmt: skip
        refused(present(world, world.assertion(agent, aud=audience)), "invalid_client", 401)
    assert present(world, world.assertion(agent, aud=[issuer])).status == 200


def test_an_older_clients_audience_is_the_token_endpoint_as_a_string(world: World, alice: Person, api: Api) -> None:
    older = world.agent(alice, ceiling=[(api, "read")], assertion_audience="token-endpoint")
    endpoint = world.issuer + "/oauth/token"
    assert present(world, world.assertion(older, aud=endpoint)).status == 200
    for audience in (world.issuer, [endpoint, world.issuer], [endpoint], endpoint + "/", world.issuer + "/oauth/introspect"):
        refused(present(world, world.assertion(older, aud=audience)), "invalid_client", 401)
    # At every endpoint it is that one.
    form = asserted(world.assertion(older, aud=endpoint), {"token": "x"})
    assert world.post("/oauth/revoke", form).status == 200


@pytest.mark.rfc("7523", "3")
def test_it_lives_five_minutes_at_most(world: World, agent: Party) -> None:
    now = int(time.time())
    for iat, exp in (
        (now, now + 301),
        (now - 10, now + 600),
        (now - 600, now + 10),
        (now - 400, now - 100),
        (now + 60, now + 90),
        (now, now + 10**9),
    ):
        refused(present(world, world.assertion(agent, iat=iat, exp=exp)), "invalid_client", 401)
    assert present(world, world.assertion(agent, iat=now, exp=now + 300)).status == 200
    for times in ({"nbf": now + 60}, {"exp": str(now + 60)}, {"iat": "now"}, {"exp": True}, {"iat": -1}):
        refused(present(world, world.assertion(agent, **times)), "invalid_client", 401)


@pytest.mark.rfc("7523", "3")
def test_it_is_good_once(world: World, agent: Party) -> None:
    assertion = world.assertion(agent)
    assert present(world, assertion).status == 200
    refused(present(world, assertion), "invalid_client", 401)
    for path, form in (("/oauth/revoke", {"token": "x"}), ("/oauth/introspect", {"token": "x"}), ("/oauth/par", {})):
        refused(world.post(path, asserted(assertion, form)), "invalid_client", 401)


def test_a_jti_is_good_once_in_another_assertion_too(world: World, agent: Party) -> None:
    assert present(world, world.assertion(agent, jti="the same")).status == 200
    refused(present(world, world.assertion(agent, jti="the same")), "invalid_client", 401)


def test_another_agents_jti_is_another(world: World, agent: Party, alice: Person, api: Api) -> None:
    other = world.agent(alice, ceiling=[(api, "read")])
    assert present(world, world.assertion(agent, jti="one for both")).status == 200
    assert present(world, world.assertion(other, jti="one for both")).status == 200


def test_nobody_speaks_for_somebody_else(world: World, agent: Party, alice: Person, api: Api) -> None:
    other = world.agent(alice, ceiling=[(api, "read")])
    for changed in (
        {"sub": other.client_id},
        {"iss": other.client_id},
        {"iss": other.client_id, "sub": other.client_id},
        {"iss": agent.uri, "sub": agent.uri},
    ):
        refused(present(world, world.assertion(agent, **changed)), "invalid_client", 401)
    refused(present(world, world.assertion(agent), client_id=other.client_id), "invalid_client", 401)


def test_a_client_nobody_knows_is_answered_like_one_with_a_wrong_key(world: World, agent: Party, alice: Person, api: Api) -> None:
    other = world.agent(alice, ceiling=[(api, "read")])
    unknown = Party("agc_nobody", key=agent.key)
    wrong = Party(agent.client_id, key=other.key)
    answers = [present(world, world.assertion(client)) for client in (unknown, wrong)]
    for answer in answers:
        refused(answer, "invalid_client", 401)
    assert answers[0].body == answers[1].body


@pytest.mark.parametrize("alg", list(SigningAlg))
def test_every_advertised_algorithm_works_and_the_key_decides_which(world: World, alice: Person, api: Api, alg: SigningAlg) -> None:
    private = generate_client_key(alg)
    agent = world.agent(alice, ceiling=[(api, "read")], jwks={"keys": [public_part(private)]})
    key = import_signing_key(private, alg)
    name = {SigningAlg.EDDSA: "EdDSA"}.get(alg, alg.value)
    assert present(world, forge({"alg": name, "kid": private["kid"]}, claims(world, agent), key)).status == 200
    for other in {"ES256", "EdDSA", "RS256", "PS256", "HS256", "none"} - {name}:
        refused(present(world, forge({"alg": other, "kid": private["kid"]}, claims(world, agent), key)), "invalid_client", 401)


def test_kid_may_be_missing_where_one_key_fits_and_must_name_a_registered_one(world: World, alice: Person, api: Api) -> None:
    one, two = generate_client_key(SigningAlg.ES256), generate_client_key(SigningAlg.ES256)
    agent = world.agent(alice, ceiling=[(api, "read")], jwks={"keys": [public_part(one)]})
    key = import_signing_key(one, SigningAlg.ES256)
    assert present(world, forge({"alg": "ES256"}, claims(world, agent), key)).status == 200
    refused(present(world, forge({"alg": "ES256", "kid": two["kid"]}, claims(world, agent), key)), "invalid_client", 401)
    refused(
        present(world, forge({"alg": "ES256", "jwk": public_part(two)}, claims(world, agent), import_signing_key(two, SigningAlg.ES256))),
        "invalid_client",
        401,
    )
    world.server.agent_registry.add_key(agent.id, public_part(two), by=BY)
    refused(present(world, forge({"alg": "ES256"}, claims(world, agent), key)), "invalid_client", 401)
    for private in (one, two):
        signer = import_signing_key(private, SigningAlg.ES256)
        assert present(world, forge({"alg": "ES256", "kid": private["kid"]}, claims(world, agent), signer)).status == 200


def test_a_removed_key_is_good_no_more_and_an_added_one_at_once(world: World, agent: Party, alice: Person, api: Api) -> None:
    assert agent.key is not None
    assert present(world, world.assertion(agent)).status == 200
    new = generate_client_key(SigningAlg.ES256)
    key = import_signing_key(new, SigningAlg.ES256)
    refused(present(world, forge({"alg": "ES256", "kid": new["kid"]}, claims(world, agent), key)), "invalid_client", 401)
    world.server.agent_registry.add_key(agent.id, public_part(new), by=BY)
    assert present(world, forge({"alg": "ES256", "kid": new["kid"]}, claims(world, agent), key)).status == 200
    world.server.agent_registry.remove_key(agent.id, agent.key.thumbprint(), by=BY)
    refused(present(world, world.assertion(agent)), "invalid_client", 401)
    assert present(world, forge({"alg": "ES256", "kid": new["kid"]}, claims(world, agent), key)).status == 200


@pytest.mark.rfc("7523bis", "3")
def test_the_type_is_an_assertions_or_none(world: World, alice: Person, api: Api) -> None:
    private = generate_client_key(SigningAlg.ES256)
    agent = world.agent(alice, ceiling=[(api, "read")], jwks={"keys": [public_part(private)]})
    key = import_signing_key(private, SigningAlg.ES256)
    for typ in ("JWT", "client-authentication+jwt", "application/client-authentication+jwt"):
        assert present(world, forge({"alg": "ES256", "typ": typ}, claims(world, agent), key)).status == 200
    for typ in ("at+jwt", "handover+jwt", "dpop+jwt", "token-introspection+jwt", "logout+jwt", None, 7):
        refused(present(world, forge({"alg": "ES256", "typ": typ}, claims(world, agent), key)), "invalid_client", 401)


@pytest.mark.rfc("7521", "4.2")
def test_the_assertion_type_is_named_and_there_is_no_second_method(world: World, agent: Party) -> None:
    for kind in ("", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer", "jwt"):
        form = OWN | {"client_assertion": world.assertion(agent), "client_assertion_type": kind}
        refused(world.post("/oauth/token", form), "invalid_client", 401)
    refused(world.post("/oauth/token", OWN | {"client_assertion_type": ASSERTION}), "invalid_client", 401)
    form = asserted(world.assertion(agent), OWN)
    refused(world.post("/oauth/token", form, basic(agent.client_id, "x")), "invalid_request")
    refused(world.post("/oauth/token", form | {"client_secret": "x"}), "invalid_request")


def test_an_application_may_prove_itself_with_a_key_too(world: World, alice: Person) -> None:
    private = generate_client_key(SigningAlg.PS256)
    app = world.app(auth="private_key_jwt", jwks={"keys": [public_part(private)]})
    verifier = new_verifier()
    code = world.signed_in(alice).code(world.authorization(app, verifier, scope="openid"))
    assertion = forge({"alg": "PS256"}, claims(world, app), import_signing_key(private, SigningAlg.PS256))
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": app.redirect_uri}
    assert "id_token" in world.post("/oauth/token", asserted(assertion, form)).ok()
