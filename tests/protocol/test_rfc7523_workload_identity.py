"""RFC 7523 §2.1: a running copy of an agent begins with the word of its platform, and with no secret."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from app.clients.models import InstanceRow
from app.database import db
from app.errors import NotFound, Refused
from app.keys.remote import FRESH, PAUSE, STALE
from app.vocabulary import SigningAlg, new_id
from tests.copies import Copy, code_for, enrolled
from tests.dpop import Holder
from tests.forge import encode, forge
from tests.issuers import JWT_BEARER, Issuer, attest, born, served
from tests.policies import in_force
from tests.protocol.answers import new_verifier, refused
from tests.world import ASSERTION, BY, CONSENT, Api, Party, Person, World, basic, bearer, claims_of

GITHUB = {"repository": "acme/agents", "ref": "refs/heads/main"}
NAMESPACE = {"/kubernetes.io/namespace": "agents", "/kubernetes.io/serviceaccount/name": "scheduler"}
POD = {"namespace": "agents", "serviceaccount": {"name": "scheduler", "uid": "7"}, "pod": {"name": "scheduler-0"}}


@pytest.fixture
def alice(world: World) -> Person:
    return world.human()


@pytest.fixture
def api(world: World) -> Api:
    return world.resource("read", "write")


@pytest.fixture
def agent(world: World, alice: Person, api: Api) -> Party:
    return world.agent(alice, ceiling=[(api, "read")], own=[(api, "read")], jwks=None, keyless=True)


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def instances(world: World, agent: Party) -> list[InstanceRow]:
    return world.server.instances.of_client(agent.client_id)


def nothing(world: World, agent: Party) -> None:
    """Nothing was created: no instance, and no token."""
    assert instances(world, agent) == []


# The right one


@pytest.mark.rfc("7523", "2.1")
def test_the_word_of_the_platform_and_a_fresh_key_are_a_token_and_an_instance(world: World, agent: Party, issuer: Issuer, api: Api) -> None:
    trust = issuer.trusted(world, agent, claims=GITHUB, hours=2)
    copy = Copy()
    answer = attest(world, issuer.says(world, ref="refs/heads/main"), copy)
    told = answer.ok()
    assert answer.headers["Cache-Control"] == "no-store"
    assert (told["token_type"], told["client_id"], told["agent"], told["kid"]) == ("DPoP", agent.client_id, agent.uri, copy.jkt)
    assert abs(told["instance_expires_at"] - time.time() - 7200) < 60
    claims = claims_of(told["access_token"])
    assert (claims["sub"], claims["aud"], claims["cnf"], "act" in claims) == (agent.uri, world.issuer, {"jkt": copy.jkt}, False)
    assert claims["instance"] == told["instance_id"]
    assert "refresh_token" not in told
    (registered,) = world.ledger(event="instance.registered", instance=told["instance_id"])
    assert (registered["via"], registered["under"], registered["jkt"]) == ("workload", trust, copy.jkt)
    assert registered["subject"] == "repo:acme/agents:ref:refs/heads/main"
    (issued,) = world.ledger(event="token.issued", jti=claims["jti"])
    assert (issued["grant_type"], issued["who"]["instance"]) == (JWT_BEARER, told["instance_id"])
    copy.told = told
    assert world.active(api, copy.own(world, resource=api.uri).ok()["access_token"])


def test_for_an_api_with_the_agents_own_scopes(world: World, agent: Party, issuer: Issuer, api: Api) -> None:
    issuer.trusted(world, agent)
    told = attest(world, issuer.says(world), resource=api.uri, scope="read").ok()
    assert told["scope"] == "read"
    assert world.active(api, told["access_token"])
    assert world.introspect(api, told["access_token"])["instance"] == told["instance_id"]
    refused(attest(world, issuer.says(world), resource=api.uri, scope="write"), "invalid_scope", 400)
    refused(attest(world, issuer.says(world), resource="https://nowhere.example"), "invalid_target", 400)
    assert len(instances(world, agent)) == 1, "what is refused registers nothing"


def test_an_instance_goes_on_for_a_human_who_consented(world: World, alice: Person, issuer: Issuer, api: Api) -> None:
    agent = world.agent(alice, ceiling=[(api, "read")])
    consent = world.consented(world.signed_in(alice), agent, api, away=True)["consent_id"]
    issuer.trusted(world, agent)
    copy = born(world, issuer)
    token = copy.exchange(world, consent, CONSENT, resource=api.uri).ok()["access_token"]
    assert claims_of(token)["act"]["instance"] == copy.told["instance_id"]
    assert world.active(api, token)


@pytest.mark.parametrize("alg", SigningAlg)
def test_every_algorithm_of_a_platform(world: World, agent: Party, alg: SigningAlg) -> None:
    issuer = Issuer(alg=alg)
    issuer.trusted(world, agent)
    assert attest(world, issuer.says(world)).status == 200


def test_a_kubernetes_service_account(world: World, agent: Party) -> None:
    """No typ, aud as an array of one, and the namespace inside a claim of its own."""
    cluster = Issuer("https://cluster-" + secrets.token_hex(4) + ".example")
    cluster.trusted(world, agent, claims=NAMESPACE)
    word: dict[str, Any] = {
        "sub": "system:serviceaccount:agents:scheduler",
        "repository": ...,
        "aud": [world.issuer],
        "exp": int(time.time()) + 3607,
    }
    assert attest(world, cluster.says(world, {"typ": ...}, **{"kubernetes.io": POD}, **word)).status == 200
    count = len(instances(world, agent))
    for other in (
        {**POD, "namespace": "default"}, {**POD, "namespace": ["agents"]}, {**POD, "namespace": "agents "}, {"namespace": "agents"},
        {**POD, "serviceaccount": "scheduler"}, {**POD, "serviceaccount": {"name": "Scheduler"}}, {}, "agents", None, ...,
    ):  # fmt: skip
        refused(attest(world, cluster.says(world, {"typ": ...}, **{"kubernetes.io": other}, **word)), "invalid_client", 401)
    assert len(instances(world, agent)) == count


def test_a_spiffe_jwt_svid(world: World, agent: Party) -> None:
    """No iss: the trust domain of the SPIFFE ID is the issuer; the bundle's keys are for "jwt-svid"."""
    domain = f"acme-{secrets.token_hex(4)}.example"
    spire = Issuer(f"spiffe://{domain}", SigningAlg.ES256)
    certificate = {**Issuer(alg=SigningAlg.ES256).jwk, "use": "x509-svid", "x5c": ["MIIB"]}
    bundle = {"keys": [certificate, {**spire.jwk, "use": "jwt-svid"}, {"kty": "AKP", "kid": "x"}], "spiffe_sequence": 7}
    name = f"spiffe://{domain}/ns/agents/sa/scheduler"
    spire.trusted(world, agent, claims={"sub": name}, jwks=bundle)
    word: dict[str, Any] = {"iss": ..., "jti": ..., "repository": ..., "nbf": ...}
    assert attest(world, spire.says(world, {"typ": "JOSE"}, sub=name, **word)).status == 200
    assert attest(world, spire.says(world, {"typ": ...}, sub=name, **{**word, "iss": f"spiffe://{domain}"})).status == 200
    for other in (
        name + "/x",
        name[:-1],
        name.upper(),
        f"spiffe://{domain}",
        f"spiffe://other.example/{name}",
        "spiffe://",
        "spiffe:///x",
        name + "\n",
    ):
        refused(attest(world, spire.says(world, sub=other, **word)), "invalid_client", 401)
    assert len(instances(world, agent)) == 2


# The wrong one


def hs256_with_the_public_key(world: World, issuer: Issuer) -> str:
    key = json.dumps(issuer.jwk).encode()
    made = issuer.says(world, {"alg": "HS256"}).rpartition(".")[0]
    return made + "." + encode(hmac.new(key, made.encode(), hashlib.sha256).digest())


def soon(seconds: int) -> int:
    return int(time.time()) + seconds


WRONG: dict[str, Callable[[World, Issuer], str]] = {
    "another repository": lambda w, i: i.says(w, repository="acme/other"),
    "a repository that begins so": lambda w, i: i.says(w, repository="acme/agents-evil"),
    "a repository in other letters": lambda w, i: i.says(w, repository="Acme/Agents"),
    "a repository with a space": lambda w, i: i.says(w, repository="acme/agents "),
    "a repository in an array": lambda w, i: i.says(w, repository=["acme/agents"]),
    "no repository": lambda w, i: i.says(w, repository=...),
    "a repository that is null": lambda w, i: i.says(w, repository=None),
    "another audience": lambda w, i: i.says(w, aud="https://other.example"),
    "two audiences": lambda w, i: i.says(w, aud=[w.issuer, "https://other.example"]),
    "the token endpoint as audience": lambda w, i: i.says(w, aud=w.issuer + "/oauth/token"),
    "an audience with a slash more": lambda w, i: i.says(w, aud=w.issuer + "/"),
    "no audience": lambda w, i: i.says(w, aud=...),
    "another issuer": lambda w, i: i.says(w, iss="https://nobody.example"),
    "no issuer": lambda w, i: i.says(w, iss=...),
    "an issuer with a slash more": lambda w, i: i.says(w, iss=i.name + "/"),
    "an issuer in an array": lambda w, i: i.says(w, iss=[i.name]),
    "another's key": lambda w, i: Issuer(i.name).says(w),
    "another's key under the right kid": lambda w, i: Issuer(i.name).says(w, {"kid": i.kid}),
    "a key in the header": lambda w, i: (o := Issuer(i.name)).says(w, {"jwk": o.jwk, "kid": ...}),
    "keys elsewhere": lambda w, i: Issuer(i.name).says(w, {"jku": "https://attacker.example/keys"}),
    "an unknown kid": lambda w, i: i.says(w, {"kid": "unknown"}),
    "of the future": lambda w, i: i.says(w, iat=soon(60)),
    "not valid yet": lambda w, i: i.says(w, nbf=soon(60)),
    "expired": lambda w, i: i.says(w, iat=soon(-400), nbf=soon(-400), exp=soon(-100)),
    "too old, though it has not expired": lambda w, i: i.says(w, iat=soon(-900), nbf=soon(-900), exp=soon(3600)),
    "without exp": lambda w, i: i.says(w, exp=...),
    "without iat": lambda w, i: i.says(w, iat=...),
    "iat as a text": lambda w, i: i.says(w, iat=str(soon(0))),
    "without sub": lambda w, i: i.says(w, sub=...),
    "an ID token by its claims": lambda w, i: i.says(w, nonce="n", auth_time=soon(-10)),
    "an ID token by its type": lambda w, i: i.says(w, {"typ": "id_token+jwt"}),
    "an access token": lambda w, i: i.says(w, {"typ": "at+jwt"}),
    "a client assertion": lambda w, i: i.says(w, {"typ": "client-authentication+jwt"}),
    "a DPoP proof": lambda w, i: i.says(w, {"typ": "dpop+jwt", "jwk": i.jwk}),
    "a logout token": lambda w, i: i.says(w, {"typ": "logout+jwt"}),
    "bound in an unknown way": lambda w, i: i.says(w, cnf={"x5t#S256": "x"}),
    "unsigned": lambda w, i: i.says(w, {"alg": "none"}).rpartition(".")[0] + ".",
    "alg none with a signature": lambda w, i: i.says(w, {"alg": "none"}),
    "HS256 with the public key": hs256_with_the_public_key,
    "another algorithm of the key": lambda w, i: i.says(w, {"alg": "ES256"}),
    "crit": lambda w, i: i.says(w, {"crit": ["exp"]}),
    "a signature that is not": lambda w, i: i.says(w).rpartition(".")[0] + ".AAAA",
    "claims changed afterwards": lambda w, i: swapped(i.says(w), "acme/agents", "acme/other_"),
    "a member twice": lambda w, i: forge(
        {"alg": i.alg.value, "kid": i.kid}, f'{{"iss":"{i.name}","iss":"{i.name}","repository":"acme/agents"}}'.encode(), i.key
    ),
    "no JWT": lambda _w, _i: "not a jwt",
    "a JWE's shape": lambda _w, _i: "a.b.c.d.e",
    "very long": lambda w, i: i.says(w, more="x" * 9000),
}  # fmt: skip


def swapped(jwt: str, old: str, new: str) -> str:
    head, payload, signature = jwt.split(".")
    text = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).replace(old.encode(), new.encode())
    return f"{head}.{encode(text)}.{signature}"


@pytest.mark.rfc("7523", "3")
@pytest.mark.parametrize("wrong", WRONG)
def test_the_wrong_one_is_401_and_nothing_is_created(world: World, agent: Party, issuer: Issuer, wrong: str) -> None:
    issuer.trusted(world, agent)
    answer = attest(world, WRONG[wrong](world, issuer))
    body = refused(answer, "invalid_client", 401)
    assert body["error_description"] == "Client authentication failed."
    nothing(world, agent)
    assert attest(world, issuer.says(world)).status == 200


def test_an_algorithm_that_the_trust_does_not_name(world: World, agent: Party, issuer: Issuer) -> None:
    issuer.trusted(world, agent, algorithms=["ES256"])
    refused(attest(world, issuer.says(world)), "invalid_client", 401)
    refused(attest(world, issuer.says(world, {"alg": "PS256"})), "invalid_client", 401)
    nothing(world, agent)


def test_without_a_kid_the_only_key_is_meant(world: World, agent: Party, issuer: Issuer) -> None:
    trust = issuer.trusted(world, agent)
    assert attest(world, issuer.says(world, {"kid": ...})).status == 200
    world.server.trusts.set_keys(trust, jwks={"keys": [issuer.jwk, Issuer().jwk]}, by=BY)
    refused(attest(world, issuer.says(world, {"kid": ...})), "invalid_client", 401)
    assert attest(world, issuer.says(world)).status == 200


def test_it_is_good_once(world: World, agent: Party, issuer: Issuer) -> None:
    issuer.trusted(world, agent)
    assertion = issuer.says(world)
    assert attest(world, assertion).status == 200
    refused(attest(world, assertion), "invalid_client", 401)
    refused(attest(world, issuer.says(world, jti=claims_of(assertion)["jti"])), "invalid_client", 401)
    assert len(instances(world, agent)) == 1


def test_without_a_jti_what_was_signed_is_good_once(world: World, agent: Party) -> None:
    """Of an ES256 signature (r, s) there is a second one, (r, n - s), that verifies just as well."""
    issuer = Issuer(alg=SigningAlg.ES256)
    issuer.trusted(world, agent)
    assertion = issuer.says(world, jti=...)
    head, _, signature = assertion.rpartition(".")
    octets = base64.urlsafe_b64decode(signature + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = order - int.from_bytes(octets[32:], "big")
    assert attest(world, assertion).status == 200
    refused(attest(world, assertion), "invalid_client", 401)
    refused(attest(world, head + "." + encode(octets[:32] + other.to_bytes(32, "big"))), "invalid_client", 401)
    assert len(instances(world, agent)) == 1


def test_a_refused_request_uses_it_up_and_is_recorded(world: World, agent: Party, issuer: Issuer, api: Api) -> None:
    issuer.trusted(world, agent)
    assertion = issuer.says(world)
    told = refused(attest(world, assertion, resource=api.uri, scope="write"), "invalid_scope", 400)
    (record,) = world.ledger(id=told["audit_id"])
    assert (record["event"], record["grant_type"], record["who"]["client"]) == ("token.refused", JWT_BEARER, agent.client_id)
    refused(attest(world, assertion), "invalid_client", 401)
    nothing(world, agent)


@pytest.mark.rfc("9449", "5")
def test_the_key_must_be_proven(world: World, agent: Party, issuer: Issuer) -> None:
    issuer.trusted(world, agent)
    form = {"grant_type": JWT_BEARER, "assertion": issuer.says(world)}
    refused(world.post("/oauth/token", form), "invalid_dpop_proof", 400)
    refused(world.post("/oauth/token", form, {"DPoP": Copy().proof(world)}), "invalid_client", 401)
    copy = Copy()
    for proof in ("x", copy.proof(world, htm="GET"), copy.proof(world, "/oauth/par"), copy.proof(world, iat=soon(-300)),
                  copy.proof(world, header={"jwk": dict(Holder().jwk)})):  # fmt: skip
        refused(attest(world, issuer.says(world), proof=proof), "invalid_dpop_proof", 400)
    proof = copy.proof(world)
    assert attest(world, issuer.says(world), proof=proof).status == 200
    refused(attest(world, issuer.says(world), proof=proof), "invalid_dpop_proof", 400)
    assert len(instances(world, agent)) == 1


def test_what_was_said_of_one_key_is_good_for_that_key(world: World, agent: Party, issuer: Issuer) -> None:
    issuer.trusted(world, agent)
    copy = Copy()
    refused(attest(world, issuer.says(world, cnf={"jkt": copy.jkt})), "invalid_dpop_proof", 400)
    nothing(world, agent)
    assert attest(world, issuer.says(world, cnf={"jkt": copy.jkt}), copy).status == 200


def test_there_is_no_other_proof_beside_it(world: World, alice: Person, agent: Party, issuer: Issuer) -> None:
    issuer.trusted(world, agent)
    other, secret = world.agent(alice), world.agent(alice, auth="client_secret_basic", jwks=None)
    form = {"grant_type": JWT_BEARER, "assertion": issuer.says(world)}
    said = {"client_assertion_type": ASSERTION, "client_assertion": world.assertion(other)}
    refused(world.post("/oauth/token", {**form, **said}, {"DPoP": Copy().proof(world)}), "invalid_request", 400)
    headers = {**basic(secret.client_id, secret.secret or ""), "DPoP": Copy().proof(world)}
    refused(world.post("/oauth/token", form, headers), "invalid_request", 400)
    refused(world.post("/oauth/token", {**form, "client_secret": "x"}, {"DPoP": Copy().proof(world)}), "invalid_request", 400)
    refused(world.post("/oauth/token", {"grant_type": JWT_BEARER}, {"DPoP": Copy().proof(world)}), "invalid_request", 400)
    nothing(world, agent)
    assert attest(world, form["assertion"], client_id=agent.client_id).status == 200
    refused(attest(world, issuer.says(world), client_id=other.client_id), "invalid_client", 401)


def test_nowhere_else_does_it_authenticate(world: World, agent: Party, issuer: Issuer) -> None:
    issuer.trusted(world, agent)
    for path, form in (("/oauth/introspect", {"token": "x"}), ("/oauth/revoke", {"token": "x"}), ("/oauth/par", {})):
        refused(world.post(path, {**form, "grant_type": JWT_BEARER, "assertion": issuer.says(world)}), "invalid_client", 401)
    form = {"grant_type": "client_credentials", "assertion": issuer.says(world)}
    refused(world.post("/oauth/token", form, {"DPoP": Copy().proof(world)}), "invalid_client", 401)
    said = {"client_assertion_type": ASSERTION, "client_assertion": issuer.says(world)}
    refused(world.post("/oauth/token", {"grant_type": "client_credentials", **said}), "invalid_client", 401)


def test_our_own_tokens_attest_nobody(world: World, agent: Party, issuer: Issuer) -> None:
    issuer.trusted(world, agent)
    copy = born(world, issuer)
    end = copy.told["instance_expires_at"]
    for token in (
        copy.told["access_token"],
        copy.own(world, bound=False).ok()["access_token"],
        copy.assertion(world, agent.client_id)["client_assertion"],
    ):
        refused(attest(world, token), "invalid_client", 401)
        refused(attest(world, token, copy), "invalid_client", 401)
    assert [row.expires_at for row in instances(world, agent)] == [end]
    with pytest.raises(Refused):
        world.server.trusts.add(world.issuer, agent.client_id, claims={"sub": agent.uri}, jwks=issuer.jwks, by=BY)


# One agent, one key, one life


def test_an_assertion_that_fits_two_trusts_is_nobodys(world: World, alice: Person, agent: Party, issuer: Issuer) -> None:
    other = world.agent(alice)
    issuer.trusted(world, agent, claims={"repository": "acme/agents"})
    issuer.trusted(world, other, claims={"repository": "acme/agents", "environment": "production"})
    assert attest(world, issuer.says(world)).ok()["client_id"] == agent.client_id
    refused(attest(world, issuer.says(world, environment="production")), "invalid_client", 401)
    assert attest(world, issuer.says(world, environment="production"), client_id=other.client_id).ok()["client_id"] == other.client_id


def test_the_same_key_again_is_the_same_instance_and_lives_no_longer(world: World, alice: Person, agent: Party, issuer: Issuer) -> None:
    issuer.trusted(world, agent)
    copy = born(world, issuer)
    again = attest(world, issuer.says(world), copy).ok()
    assert (again["instance_id"], again["instance_expires_at"]) == (copy.told["instance_id"], copy.told["instance_expires_at"])
    assert len(instances(world, agent)) == 1
    other, elsewhere = world.agent(alice), Issuer()
    elsewhere.trusted(world, other)
    refused(attest(world, elsewhere.says(world), copy), "invalid_dpop_proof", 400)
    world.server.instances.end(copy.told["instance_id"], by=BY)
    refused(attest(world, issuer.says(world), copy), "invalid_dpop_proof", 400)
    refused(copy.register(world, code_for(world, agent)), "invalid_dpop_proof", 400)
    assert born(world, issuer).told["instance_id"] != copy.told["instance_id"]


def test_no_more_than_so_many_live(world: World, agent: Party, issuer: Issuer) -> None:
    issuer.trusted(world, agent)
    first = born(world, issuer)
    with world.server.database.transaction() as session:
        row = session.get_one(InstanceRow, first.told["instance_id"])
        common = {
            name: getattr(row, name) for name in ("client_id", "jwk", "born", "via", "under", "subject", "registered_at", "expires_at")
        }
        session.add_all(
            InstanceRow(id=new_id("ins"), jkt=new_verifier()[:43], **common) for _ in range(world.server.settings.instances_per_agent - 1)
        )
    refused(attest(world, issuer.says(world)), "access_denied", 400)
    assert attest(world, issuer.says(world), first).status == 200
    world.server.instances.end(first.told["instance_id"], by=BY)
    assert attest(world, issuer.says(world)).status == 200


def test_what_a_policy_forbids_registers_nothing(world: World, agent: Party, issuer: Issuer, api: Api) -> None:
    issuer.trusted(world, agent)
    with in_force(world.server, f'forbid (principal == Agent::"{agent.uri}", action, resource) when {{ context.instance_age >= 0 }};'):
        refused(attest(world, issuer.says(world), resource=api.uri), "access_denied", 400)
        nothing(world, agent)


# The end of trust


def test_a_trust_that_is_taken_back_ends_what_was_born_of_it(world: World, agent: Party, issuer: Issuer, api: Api) -> None:
    second = Issuer()
    trust, _ = issuer.trusted(world, agent), second.trusted(world, agent)
    copies = [born(world, issuer), born(world, issuer), born(world, second), enrolled(world, agent)]
    tokens = [copy.own(world, resource=api.uri, bound=False).ok()["access_token"] for copy in copies]
    waiting = issuer.says(world)
    assert world.server.trusts.disable(trust, by=BY) == 2
    assert [world.active(api, token) for token in tokens] == [False, False, True, True]
    for copy in copies[:2]:
        refused(copy.own(world), "invalid_client", 401)
    refused(attest(world, waiting), "invalid_client", 401)
    assert all(copy.own(world).status == 200 for copy in copies[2:])
    world.server.trusts.enable(trust, by=BY)
    assert attest(world, issuer.says(world)).status == 200
    refused(copies[0].own(world), "invalid_client", 401)
    assert world.server.trusts.remove(trust, by=BY) == 1
    refused(attest(world, issuer.says(world)), "invalid_client", 401)
    with pytest.raises(NotFound):
        world.server.trusts.get(trust)


def test_a_suspended_or_retired_agent_has_no_new_instance(world: World, agent: Party, issuer: Issuer) -> None:
    issuer.trusted(world, agent)
    registry = world.server.agent_registry
    registry.suspend(agent.id, by=BY)
    refused(attest(world, issuer.says(world)), "invalid_client", 401)
    nothing(world, agent)
    registry.resume(agent.id, by=BY)
    copy = born(world, issuer)
    registry.retire(agent.id, by=BY)
    refused(attest(world, issuer.says(world)), "invalid_client", 401)
    refused(attest(world, issuer.says(world), copy), "invalid_client", 401)
    refused(copy.own(world), "invalid_client", 401)


# What a trust must be


@pytest.mark.parametrize(
    "wrong",
    [
        {"claims": {}}, {"claims": {"iss": "x"}}, {"claims": {"aud": "x"}}, {"claims": {"": "x"}}, {"claims": {"sub": ""}}, {"claims": {"jti": "x"}},
        {"claims": {"repository": "acme/*"}}, {"claims": {"repository": "a\nb"}}, {"claims": {f"c{n}": "x" for n in range(21)}},
        {"jwks": None}, {"jwks_uri": "https://keys.example", "jwks": {"keys": []}}, {"jwks": {"keys": []}}, {"jwks": {"keys": "x"}},
        {"jwks": {"keys": [{"kty": "oct", "k": "AAAA"}]}}, {"jwks_uri": "ftp://keys.example"}, {"jwks_uri": "https://user@keys.example"},
        {"jwks_uri": "/etc/passwd"}, {"audience": "https://other.example"}, {"audience": "*"}, {"algorithms": ["HS256"]}, {"algorithms": ["none"]},
        {"max_age": 29}, {"max_age": 3601}, {"hours": 0}, {"hours": 25},
    ],
)  # fmt: skip
def test_what_is_unsafe_is_not_trusted(world: World, agent: Party, issuer: Issuer, wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        issuer.trusted(world, agent, **wrong)
    assert not [row for row in world.server.trusts.list() if row.issuer == issuer.name]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "issuer.example",
        "ftp://issuer.example",
        "https://",
        "spiffe://",
        "spiffe://a/b",
        "spiffe://a@b",
        "https://x\n",
        "https://user@x",
    ],
)
def test_an_issuer_has_a_name(world: World, agent: Party, name: str) -> None:
    with pytest.raises(Refused):
        Issuer(name or " ").trusted(world, agent)


def test_who_speaks_for_the_whole_world_must_say_for_whom(world: World, agent: Party) -> None:
    github = Issuer("https://token.actions.githubusercontent.com/" + secrets.token_hex(4))
    for claims in ({"ref": "refs/heads/main"}, {"environment": "production", "ref": "refs/heads/main"}):
        with pytest.raises(Refused, match="everybody"):
            github.trusted(world, agent, claims=claims)
    github.trusted(world, agent, claims={"repository_id": "123", "ref": "refs/heads/main"})


def test_only_an_agent_with_keys_is_attested(world: World, alice: Person, issuer: Issuer) -> None:
    for client in (world.agent(alice, auth="client_secret_basic", jwks=None), world.app()):
        with pytest.raises(Refused):
            issuer.trusted(world, client)
    with pytest.raises(NotFound):
        issuer.trusted(world, Party("agc_nowhere"))


def test_the_same_claims_are_trusted_once(world: World, alice: Person, agent: Party, issuer: Issuer) -> None:
    issuer.trusted(world, agent)
    for other in (agent, world.agent(alice)):
        with pytest.raises(Refused, match="already"):
            issuer.trusted(world, other)


# Keys that are fetched


def test_keys_are_fetched_and_asked_for_again_when_a_new_one_signs(
    world: World, agent: Party, issuer: Issuer, later: Callable[[int], None]
) -> None:
    document = issuer.jwks
    with served(document) as (uri, asked):
        issuer.trusted(world, agent, jwks_uri=uri)
        for _ in range(3):
            assert attest(world, issuer.says(world)).status == 200
        assert len(asked) == 1
        rotated = Issuer(issuer.name)
        document["keys"] = [rotated.jwk]
        for _ in range(3):
            # Asked a moment ago: an unknown kid does not make the server ask without end.
            refused(attest(world, rotated.says(world)), "invalid_client", 401)
        assert len(asked) == 1


def test_keys_that_cannot_be_fetched_are_a_503_and_nothing_is_created(world: World, agent: Party, issuer: Issuer) -> None:
    with served(issuer.jwks) as (uri, _):
        pass
    issuer.trusted(world, agent, jwks_uri=uri)
    answer = attest(world, issuer.says(world))
    refused(answer, "temporarily_unavailable", 503)
    assert int(answer.headers["Retry-After"]) == PAUSE
    nothing(world, agent)
    assert FRESH < STALE


def test_what_sql_does_not_keep_was_not_delivered(world: World, app: Flask, agent: Party, issuer: Issuer) -> None:
    """The commit of the live state passed, and SQL's failed: no instance, no token, and the record says so."""
    issuer.trusted(world, agent)
    copy = Copy()
    made: list[str] = []

    def fail(connection: Connection) -> None:
        if made and connection.info.pop("writes", None) == agent.client_id:
            raise OperationalError("COMMIT", {}, Exception("the disk is full"))

    def watch(connection: Connection, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("INSERT INTO instance ") and agent.client_id in str(parameters):
            made.append(statement)
            connection.info["writes"] = agent.client_id

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", watch)
    event.listen(engine, "commit", fail)
    try:
        refused(attest(world, issuer.says(world), copy), "temporarily_unavailable", 503)
    finally:
        event.remove(engine, "before_cursor_execute", watch)
        event.remove(engine, "commit", fail)
    assert made
    nothing(world, agent)
    issued = [r for r in world.ledger(event="token.issued", grant_type=JWT_BEARER) if r["who"]["client"] == agent.client_id]
    (lost,) = world.ledger(event="token.not_delivered", jti=issued[0]["jti"])
    assert lost["reason"].startswith("sql")
    assert attest(world, issuer.says(world), copy).status == 200


def test_the_token_at_tasks_needs_its_key(world: World, agent: Party, issuer: Issuer) -> None:
    issuer.trusted(world, agent)
    told = attest(world, issuer.says(world)).ok()
    body = json.dumps({"consent_id": "con_x", "purpose": "x"}).encode()
    headers = {**bearer(told["access_token"]), "Content-Type": "application/json"}
    assert world.http.send("POST", "/tasks", body, headers).status == 401
