"""Instances: a running copy of an agent has a key of its own for hours, is told apart, and ends alone (protocol §1, §9)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from app import clock
from app.clients.models import InstanceRow
from app.errors import Refused
from app.keys.jwk import generate_client_key, public_part
from app.live.things import Kind, Thing
from app.oversight.explain import Explain
from app.oversight.target import What
from app.vocabulary import SigningAlg, new_id
from tests.copies import REGISTER, Copy, code_for, enrolled
from tests.dpop import Holder
from tests.policies import in_force
from tests.protocol.answers import new_verifier, refused
from tests.world import BY, CONSENT, Api, Party, Person, World, bearer, claims_of


@pytest.fixture
def alice(world: World) -> Person:
    return world.human()


@pytest.fixture
def api(world: World) -> Api:
    return world.resource("read", "write")


@pytest.fixture
def agent(world: World, alice: Person, api: Api) -> Party:
    return world.agent(alice, ceiling=[(api, "read"), (api, "write")], own=[(api, "read")])


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """The server's clock goes on from there."""
    monkeypatch.setattr(clock, "timestamp", lambda: int(time.time() + seconds))


def consented(world: World, alice: Person, agent: Party, api: Api) -> str:
    return str(world.consented(world.signed_in(alice), agent, api, away=True)["consent_id"])


# Born by a code


def test_a_code_registers_a_key_and_says_what_is_needed_to_go_on(world: World, agent: Party, api: Api) -> None:
    copy = Copy()
    answer = copy.register(world, code_for(world, agent, hours=2))
    assert answer.status == 201
    told = answer.json
    assert (told["client_id"], told["agent"], told["kid"]) == (agent.client_id, agent.uri, copy.jkt)
    assert told["issuer"] == world.issuer
    assert told["token_endpoint"] == world.issuer + "/oauth/token"
    assert abs(told["instance_expires_at"] - time.time() - 7200) < 60
    assert answer.headers["Cache-Control"] == "no-store"
    copy.told = told
    token = copy.own(world, resource=api.uri).ok()
    assert token["token_type"] == "DPoP"
    assert claims_of(token["access_token"])["cnf"] == {"jkt": copy.jkt}
    assert world.active(api, token["access_token"])
    (record,) = world.ledger(event="instance.registered", instance=told["instance_id"])
    assert record["who"] == {
        "actors": [agent.uri], "client": agent.client_id, "instance": told["instance_id"], "owner": record["who"]["owner"],
    }  # fmt: skip
    assert (record["via"], record["jkt"], record["outcome"]) == ("enrolment", copy.jkt, "permit")


@pytest.mark.parametrize("alg", SigningAlg)
def test_a_key_of_every_algorithm(world: World, agent: Party, api: Api, alg: SigningAlg) -> None:
    copy = Copy(alg)
    copy.told = copy.register(world, code_for(world, agent)).json
    assert world.active(api, copy.own(world, resource=api.uri).ok()["access_token"])


def test_a_code_is_good_once(world: World, agent: Party) -> None:
    made = world.server.enrolments.give(agent.client_id, minutes=10, hours=1, by=BY)
    assert Copy().register(world, made.code).status == 201
    told = refused(Copy().register(world, made.code), "invalid_client", 401)
    assert len(world.server.instances.of_client(agent.client_id)) == 1
    (record,) = world.ledger(event="instance.refused", under=made.id)
    assert (record["id"], record["who"]["client"]) == (told["audit_id"], agent.client_id)
    assert "used before" in record["reason"]


def test_what_is_no_code_registers_nothing(world: World, agent: Party, api: Api) -> None:
    copy = enrolled(world, agent)
    own = copy.own(world).ok()["access_token"]
    real = code_for(world, agent)
    for code in ("enr_" + "x" * 43, real[:-1], real + "x", real.upper(), "", None, 7, [real], {"code": real}, own, "enr_\u00e9"):
        refused(Copy().register(world, code), "invalid_client", 401)
    assert len(world.server.instances.of_client(agent.client_id)) == 1
    assert Copy().register(world, real).status == 201


def test_a_code_waits_minutes(world: World, agent: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    code = code_for(world, agent, minutes=1)
    copy = Copy()
    later(monkeypatch, 61)
    refused(copy.register(world, code, copy.proof(world, REGISTER, iat=clock.timestamp())), "invalid_client", 401)
    assert world.server.instances.of_client(agent.client_id) == []


def test_the_key_must_be_proven(world: World, agent: Party) -> None:
    code, copy, another = code_for(world, agent), Copy(), Holder()
    body = json.dumps({"enrolment_code": code}).encode()
    refused(world.http.send("POST", REGISTER, body, {"Content-Type": "application/json"}), "invalid_dpop_proof", 400)
    for proof in (
        copy.proof(world), copy.proof(world, REGISTER, htm="GET"), copy.proof(world, REGISTER, iat=int(time.time()) - 300),
        copy.proof(world, REGISTER, {"jwk": dict(another.jwk)}), copy.proof(world, REGISTER, {"alg": "none"}), "x", "",
    ):  # fmt: skip
        answer = world.http.send("POST", REGISTER, body, {"Content-Type": "application/json", "DPoP": proof})
        refused(answer, "invalid_dpop_proof", 400)
    assert world.server.instances.of_client(agent.client_id) == []
    proof = copy.proof(world, REGISTER)
    assert copy.register(world, code, proof).status == 201
    refused(copy.register(world, code_for(world, agent), proof), "invalid_dpop_proof", 400)


def test_a_body_that_is_not_as_it_must_be(world: World, agent: Party) -> None:
    code = code_for(world, agent)
    refused(Copy().register(world, code, more="x"), "invalid_request", 400)
    proof = {"DPoP": Copy().proof(world, REGISTER)}
    form = {**proof, "Content-Type": "application/x-www-form-urlencoded"}
    refused(world.http.send("POST", REGISTER, b"enrolment_code=" + code.encode(), form), "invalid_request", 400)
    for body in (
        b"",
        b"[]",
        b'{"enrolment_code": "\\u0000"}',
        b'{"enrolment_code": "x", "enrolment_code": "' + code.encode() + b'"}',
        b"{" * 100,
    ):
        refused(world.http.send("POST", REGISTER, body, {**proof, "Content-Type": "application/json"}), "invalid_request", 400)
    assert world.server.instances.of_client(agent.client_id) == []


def test_a_key_is_registered_once_and_is_fresh(world: World, alice: Person, agent: Party, api: Api) -> None:
    """Not again for more time, not for another agent, and not the agent's registered key."""
    copy = enrolled(world, agent)
    other = world.agent(alice, own=[(api, "read")])
    for of in (agent, other):
        refused(copy.register(world, code_for(world, of)), "invalid_dpop_proof", 400)
    registered = Copy()
    world.server.agent_registry.add_key(agent.id, dict(registered.jwk), by=BY)
    refused(registered.register(world, code_for(world, agent)), "invalid_dpop_proof", 400)
    assert len(world.server.instances.of_client(agent.client_id)) == 1
    assert world.server.instances.of_client(other.client_id) == []


def test_an_instance_does_not_extend_itself(world: World, agent: Party) -> None:
    copy = enrolled(world, agent)
    end = copy.told["instance_expires_at"]
    own = copy.own(world, bound=False).ok()["access_token"]
    for code in (own, copy.told["instance_id"], copy.told["kid"]):
        refused(copy.register(world, code), "invalid_client", 401)
        refused(Copy().register(world, code), "invalid_client", 401)
    assert [row.expires_at for row in world.server.instances.of_client(agent.client_id)] == [end]


def test_hours_and_minutes_are_bounded(world: World, agent: Party) -> None:
    for minutes, hours in ((0, 1), (61, 1), (-1, 1), (10, 0), (10, 25)):
        with pytest.raises(Refused):
            world.server.enrolments.give(agent.client_id, minutes=minutes, hours=hours, by=BY)


def test_only_an_agent_with_keys_has_instances(world: World, alice: Person) -> None:
    secret = world.agent(alice, auth="client_secret_basic", jwks=None)
    for client in (secret, world.app()):
        with pytest.raises(Refused):
            world.server.enrolments.give(client.client_id, minutes=10, hours=1, by=BY)


def test_no_more_than_so_many_live(world: World, agent: Party) -> None:
    limit = world.server.settings.instances_per_agent
    first, code = enrolled(world, agent), code_for(world, agent)
    with world.server.database.transaction() as session:
        row = session.get_one(InstanceRow, first.told["instance_id"])
        common = {
            name: getattr(row, name) for name in ("client_id", "jwk", "born", "via", "under", "subject", "registered_at", "expires_at")
        }
        session.add_all(InstanceRow(id=new_id("ins"), jkt=new_verifier()[:43], **common) for _ in range(limit - 1))
    answer = Copy().register(world, code)
    refused(answer, "access_denied", 400)
    assert answer.json["layer"] == "instance"
    world.server.instances.end(first.told["instance_id"], by=BY)
    assert Copy().register(world, code).status == 201, "the code was not used up by the refusal"


# Who it is


@pytest.mark.rfc("7523", "2.2")
def test_it_authenticates_with_its_own_key_and_nobody_elses(world: World, alice: Person, agent: Party, api: Api) -> None:
    copy, sibling = enrolled(world, agent), enrolled(world, agent)
    other = world.agent(alice, own=[(api, "read")])
    form = {"grant_type": "client_credentials"}
    assert world.post("/oauth/token", {**form, **copy.assertion(world, agent.client_id)}).status == 200
    for said in (
        copy.assertion(world, other.client_id),
        copy.assertion(world, agent.client_id, {"kid": sibling.jkt}),
        copy.assertion(world, agent.client_id, {"kid": copy.told["instance_id"]}),
        copy.assertion(world, agent.client_id, {"jwk": dict(copy.jwk), "kid": "x"}),
        copy.assertion(world, agent.client_id, {"kid": ""}),
        copy.assertion(world, agent.client_id, {"alg": "HS256"}),
        copy.assertion(world, agent.client_id, aud="https://other.example"),
        Copy().assertion(world, agent.client_id, {"kid": copy.jkt}),
        Copy().assertion(world, agent.client_id),
    ):
        refused(world.post("/oauth/token", {**form, **said}), "invalid_client", 401)
    said = copy.assertion(world, agent.client_id)
    assert world.post("/oauth/token", {**form, **said}).status == 200
    refused(world.post("/oauth/token", {**form, **said}), "invalid_client", 401)


def test_without_a_key_of_its_own_an_agent_has_its_instances(world: World, alice: Person, api: Api) -> None:
    agent = world.agent(alice, own=[(api, "read")], jwks=None, keyless=True)
    refused(world.own_token(agent), "invalid_client", 401)
    copy = enrolled(world, agent)
    assert world.active(api, copy.own(world, resource=api.uri).ok()["access_token"])
    refused(world.own_token(agent), "invalid_client", 401)


def test_an_instance_proves_no_other_key_than_its_own(world: World, agent: Party) -> None:
    copy, sibling = enrolled(world, agent), enrolled(world, agent)
    for other in (sibling, Holder()):
        form = {"grant_type": "client_credentials", **copy.assertion(world, agent.client_id)}
        refused(world.post("/oauth/token", form, {"DPoP": other.proof(world)}), "invalid_dpop_proof", 400)


def test_act_and_the_ledger_tell_which_instance_acts(world: World, alice: Person, agent: Party, api: Api) -> None:
    consent = consented(world, alice, agent, api)
    copy = enrolled(world, agent)
    name = copy.told["instance_id"]
    token = copy.exchange(world, consent, CONSENT, resource=api.uri, scope="read").ok()["access_token"]
    act = claims_of(token)["act"]
    assert act == {"iss": world.issuer, "sub": agent.uri, "sub_profile": "ai_agent", "instance": name}
    found = world.introspect(api, token)
    assert found["act"] == act
    (issued,) = world.ledger(event="token.issued", jti=claims_of(token)["jti"])
    assert (issued["who"]["actors"], issued["who"]["instance"]) == ([agent.uri], name)
    (used,) = world.ledger(event="token.first_used", jti=claims_of(token)["jti"])
    assert used["who"]["instance"] == name
    own = copy.own(world, resource=api.uri).ok()["access_token"]
    assert "act" not in claims_of(own)
    assert claims_of(own)["instance"] == world.introspect(api, own)["instance"] == name
    told = refused(copy.own(world, resource="https://nowhere.example"), "invalid_target", 400)
    (record,) = world.ledger(id=told["audit_id"])
    assert (record["event"], record["who"]["instance"]) == ("token.refused", name)


def test_tasks_tell_which_instance_opened_and_ended_them(world: World, alice: Person, agent: Party, api: Api) -> None:
    consent = consented(world, alice, agent, api)
    copy = enrolled(world, agent)
    own = copy.own(world, bound=False).ok()["access_token"]
    task = world.opened(own, consent)
    token = copy.exchange(world, consent, CONSENT, bound=False, resource=api.uri, task_id=task).ok()["access_token"]
    assert world.active(api, token)
    world.ended(own, task)
    assert not world.active(api, token)
    for event in ({"event": "task.opened", "task": task}, {"event": "revoked", "kind": "task", "target": task}):
        (record,) = world.ledger(**event)
        assert record["who"]["instance"] == copy.told["instance_id"]


def test_without_an_instance_nothing_names_one(world: World, alice: Person, agent: Party, api: Api) -> None:
    consent = consented(world, alice, agent, api)
    token = world.exchange(agent, consent, CONSENT, resource=api.uri, scope="read").ok()["access_token"]
    assert "instance" not in claims_of(token)["act"]
    assert "instance" not in claims_of(world.own_token(agent).ok()["access_token"])


def test_the_chain_names_the_instance_of_every_agent_in_it(world: World, alice: Person, api: Api) -> None:
    second = world.agent(alice, ceiling=[(api, "read")])
    first = world.agent(alice, ceiling=[(api, "read")], hands_to=[second])
    one, two = enrolled(world, first), enrolled(world, second)
    browser = world.signed_in(alice)
    given = world.consented(browser, first, api, away=True)
    handed = one.exchange(world, given["consent_id"], CONSENT, audience=second.uri).ok()["access_token"]
    token = two.exchange(world, handed, resource=api.uri).ok()["access_token"]
    act = claims_of(token)["act"]
    assert (act["sub"], act["instance"]) == (second.uri, two.told["instance_id"])
    assert (act["act"]["sub"], act["act"]["instance"]) == (first.uri, one.told["instance_id"])
    assert world.active(api, token)
    world.server.instances.end(one.told["instance_id"], by=BY)
    assert not world.active(api, token), "the whole chain hangs on every instance in it"
    assert world.server.instances.find(two.told["instance_id"]) is not None


def test_a_sibling_that_goes_on_is_named_and_hangs_on_both(world: World, alice: Person, agent: Party, api: Api) -> None:
    """(iss, sub) is the actor: another copy of it is no new actor, and the chain does not grow."""
    consent = consented(world, alice, agent, api)
    one, two = enrolled(world, agent), enrolled(world, agent)
    token = one.exchange(world, consent, CONSENT, bound=False, resource=api.uri).ok()["access_token"]
    child = two.exchange(world, token, bound=False, resource=api.uri).ok()["access_token"]
    act = claims_of(child)["act"]
    assert (act["instance"], "act" in act) == (two.told["instance_id"], False)
    plain = world.exchange(agent, token, resource=api.uri).ok()["access_token"]
    assert "instance" not in claims_of(plain)["act"]
    world.server.instances.end(one.told["instance_id"], by=BY)
    assert [world.active(api, t) for t in (token, child, plain)] == [False, False, False]
    again = two.exchange(world, consent, CONSENT, bound=False, resource=api.uri).ok()["access_token"]
    assert world.active(api, again)


def test_what_is_bound_to_a_siblings_key_is_the_siblings(world: World, alice: Person, agent: Party, api: Api) -> None:
    consent = consented(world, alice, agent, api)
    one, two = enrolled(world, agent), enrolled(world, agent)
    token = one.exchange(world, consent, CONSENT, resource=api.uri).ok()["access_token"]
    refused(two.exchange(world, token, resource=api.uri), "invalid_dpop_proof", 400)
    refused(world.exchange(agent, token, resource=api.uri), "invalid_dpop_proof", 400)
    assert world.active(api, one.exchange(world, token, resource=api.uri).ok()["access_token"])


# Its end


def test_revoking_one_leaves_its_siblings_and_the_agents_keys(world: World, alice: Person, agent: Party, api: Api) -> None:
    consent = consented(world, alice, agent, api)
    one, two = enrolled(world, agent), enrolled(world, agent)
    tokens = {
        who: copy.exchange(world, consent, CONSENT, resource=api.uri, bound=False).ok()["access_token"]
        for who, copy in (("one", one), ("two", two))
    }
    tokens |= {"child": one.exchange(world, tokens["one"], bound=False, resource=api.uri, scope="read").ok()["access_token"]}
    tokens |= {"agent": world.exchange(agent, consent, CONSENT, resource=api.uri).ok()["access_token"]}
    tokens |= {"own": one.own(world, bound=False, resource=api.uri).ok()["access_token"]}
    assert all(world.active(api, token) for token in tokens.values())
    world.server.instances.end(one.told["instance_id"], by=BY)
    assert {who for who, token in tokens.items() if world.active(api, token)} == {"two", "agent"}
    refused(one.own(world), "invalid_client", 401)
    refused(one.exchange(world, consent, CONSENT, resource=api.uri), "invalid_client", 401)
    refused(world.exchange(agent, tokens["one"], resource=api.uri), "invalid_request", 400)
    assert two.own(world).status == 200
    assert world.own_token(agent).status == 200
    (record,) = world.ledger(event="revoked", kind="instance", target=one.told["instance_id"])
    assert record["who"] == {"operator": "test"}


def test_the_kill_switch_counts_what_hangs_on_one(world: World, alice: Person, agent: Party, api: Api) -> None:
    consent = consented(world, alice, agent, api)
    one, two = enrolled(world, agent), enrolled(world, agent)
    tokens = [copy.exchange(world, consent, CONSENT, resource=api.uri).ok()["access_token"] for copy in (one, one, two)]
    target = world.server.targets.find(What.INSTANCE, one.told["instance_id"])
    assert target.owner == alice.id
    assert world.server.kill.preview(target).tokens == 2
    assert world.server.kill.end(target, by=BY).tokens == 2
    assert [world.active(api, token) for token in tokens] == [False, False, True]
    assert world.server.kill.end(target, by=BY).tokens == 0
    made = world.server
    explain = Explain(made.database, made.live, made.accounts, made.clients, made.agent_registry, made.resource_registry, made.policies)
    found = explain.of(claims_of(tokens[0])["jti"])
    assert found.ended is not None
    assert (found.ended.record["kind"], found.ended.record["target"]) == ("instance", one.told["instance_id"])


def test_an_expired_one_authenticates_nobody_and_its_tokens_end_before(
    world: World, alice: Person, agent: Party, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    consent = consented(world, alice, agent, api)
    copy = enrolled(world, agent, hours=1)
    end = copy.told["instance_expires_at"]
    later(monkeypatch, 3600 - 20)
    now = clock.timestamp()
    fresh: dict[str, Any] = {"iat": now, "exp": now + 60}
    for form in (
        {"grant_type": "client_credentials", "resource": api.uri},
        {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": consent, "subject_token_type": CONSENT,
         "resource": api.uri},
    ):  # fmt: skip
        answer = world.post("/oauth/token", {**form, **copy.assertion(world, agent.client_id, **fresh)}).ok()
        assert claims_of(answer["access_token"])["exp"] == end
        assert answer["expires_in"] <= 20
    later(monkeypatch, 3600 + 1)
    now = clock.timestamp()
    form = {"grant_type": "client_credentials", **copy.assertion(world, agent.client_id, iat=now, exp=now + 60)}
    refused(world.post("/oauth/token", form), "invalid_client", 401)


def test_what_ends_the_agent_ends_its_instances_for_good(world: World, agent: Party, api: Api) -> None:
    registry = world.server.agent_registry
    copy = enrolled(world, agent)
    waiting = code_for(world, agent)
    token = copy.own(world, bound=False, resource=api.uri).ok()["access_token"]
    registry.suspend(agent.id, by=BY)
    assert not world.active(api, token)
    refused(copy.own(world), "invalid_client", 401)
    refused(Copy().register(world, waiting), "invalid_client", 401)
    with pytest.raises(Refused):
        code_for(world, agent)
    registry.resume(agent.id, by=BY)
    assert world.own_token(agent).status == 200
    refused(copy.own(world), "invalid_client", 401)
    refused(Copy().register(world, waiting), "invalid_client", 401)
    assert enrolled(world, agent).own(world).status == 200
    third = enrolled(world, agent)
    world.server.revocation.end(Thing(Kind.AGENT, agent.id), Thing(Kind.CLIENT, agent.client_id), by=BY)
    refused(third.own(world), "invalid_client", 401)


def test_a_refresh_token_is_good_in_the_hands_it_was_given_to(world: World, alice: Person, agent: Party, api: Api) -> None:
    one, two = enrolled(world, agent), enrolled(world, agent)
    verifier = new_verifier()
    code = world.signed_in(alice).code(world.authorization(agent, verifier, api, away=True), away=True)
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": agent.redirect_uri}
    given = one.ask(world, form, bound=False).ok()
    assert claims_of(given["access_token"])["act"]["instance"] == one.told["instance_id"]
    again = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
    refused(two.ask(world, again, bound=False), "invalid_grant", 400)
    refused(world.token(agent, again), "invalid_grant", 400)
    refreshed = one.ask(world, again, bound=False).ok()
    assert world.active(api, refreshed["access_token"])
    again = {"grant_type": "refresh_token", "refresh_token": refreshed["refresh_token"]}
    world.server.instances.end(one.told["instance_id"], by=BY)
    refused(one.ask(world, again, bound=False), "invalid_client", 401)
    refused(two.ask(world, again, bound=False), "invalid_grant", 400)
    refused(world.token(agent, again), "invalid_grant", 400)


def test_an_instance_that_is_done_ends_itself_and_no_other(world: World, alice: Person, agent: Party, api: Api) -> None:
    one, two, three = enrolled(world, agent), enrolled(world, agent), enrolled(world, agent)
    stranger = world.agent(alice)

    def end(token: str, which: Copy) -> int:
        return world.http.send("POST", f"{REGISTER}/{which.told['instance_id']}/end", None, bearer(token)).status

    own, sibling = one.own(world, bound=False).ok()["access_token"], two.own(world, bound=False).ok()["access_token"]
    plain, foreign = world.own_token(agent).ok()["access_token"], world.own_token(stranger).ok()["access_token"]
    assert [end(own, two), end(sibling, one), end(foreign, one), end("x", one)] == [404, 404, 404, 401]
    assert end(own, one) == 200
    refused(one.own(world), "invalid_client", 401)
    assert end(own, one) == 401, "its token is dead with it"
    assert two.own(world).status == 200
    assert end(plain, three) == 200, "whoever holds the agent's registered key ends any of its own"
    refused(three.own(world), "invalid_client", 401)


def test_revoked_instances_push_and_revoke_nothing(world: World, agent: Party, api: Api) -> None:
    copy = enrolled(world, agent)
    token = world.own_token(agent, resource=api.uri).ok()["access_token"]
    assert copy.ask(world, {"token": "x"}, bound=False, path="/oauth/revoke").status == 200
    world.server.instances.end(copy.told["instance_id"], by=BY)
    for path in ("/oauth/revoke", "/oauth/par"):
        answer = copy.ask(world, {"token": token}, bound=False, path=path)
        assert answer.status in {401, 503}, answer.text
        refused(copy.ask(world, {"token": token}, bound=False, path=path), "invalid_client", 401)
    assert world.active(api, token)


# What policies see


def test_policies_see_how_old_the_instance_is(world: World, agent: Party, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = enrolled(world, agent)
    text = f'forbid (principal == Agent::"{agent.uri}", action, resource) when {{ context.instance_age >= 600 }};'
    with in_force(world.server, text):
        token = copy.own(world, resource=api.uri, bound=False).ok()["access_token"]
        assert world.own_token(agent, resource=api.uri).status == 200, "-1: no instance"
        later(monkeypatch, 601)
        now = clock.timestamp()
        form = {"grant_type": "client_credentials", "resource": api.uri, **copy.assertion(world, agent.client_id, iat=now, exp=now + 60)}
        refused(world.post("/oauth/token", form), "access_denied", 400)
    monkeypatch.undo()
    text = f'forbid (principal == Agent::"{agent.uri}", action, resource) when {{ context.instance_age == -1 }};'
    assert world.active(api, token)
    plain = world.own_token(agent, resource=api.uri).ok()["access_token"]
    with in_force(world.server, text):
        assert world.active(api, token), "asked again about a token that is out, it is as old as it is"
        assert not world.active(api, plain)
        refused(world.own_token(agent, resource=api.uri), "access_denied", 400)


def test_a_decision_recorded_before_there_were_instances_is_asked_as_it_was(world: World) -> None:
    from app.policy.cedar import Question

    context = {"human": "", "scopes": []}
    parsed = Question.parse(
        {"action": "issue", "agent": "a", "owner": "o", "target": "t", "target_owner": "", "target_labels": [], "context": context}
    )
    assert parsed.context == {**context, "instance_age": -1}


def test_keys_of_a_keyless_agent_come_and_go(world: World, alice: Person, agent: Party) -> None:
    registry = world.server.agent_registry
    assert agent.key is not None
    with pytest.raises(Refused):
        registry.remove_key(agent.id, agent.key.thumbprint(), by=BY)
    registry.remove_key(agent.id, agent.key.thumbprint(), last=True, by=BY)
    refused(world.own_token(agent), "invalid_client", 401)
    registry.add_key(agent.id, public_part(generate_client_key(SigningAlg.ES256)), by=BY)
    with pytest.raises(Refused):
        world.agent(alice, jwks=None)
