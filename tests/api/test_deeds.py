"""What the API does is what pages and command line do, and the record says who did it for whom."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from app.audit.events import Who
from app.errors import NotFound, Refused
from app.policy.policies import Policies
from tests.api.conftest import ALL, Callers
from tests.world import Api, Party, Person, World, claims_of

SIZES = ("tokens", "consents", "tasks", "agents", "humans")


def given(world: World, human: Person, api: Api, agent: Party) -> dict[str, Any]:
    return world.consented(world.signed_in(human), agent, api, away=True)


def test_the_inventory_comes_in_pages_and_each_agent_once(callers: Callers) -> None:
    world = callers.world
    owner = world.human()
    made = sorted(world.agent(owner).id for _ in range(5))
    _, token = callers.machine("admin:read")
    found: list[str] = []
    after: dict[str, str] = {}
    for _ in range(4):
        page = callers.get("/agents", token, owner=owner.id, limit=2, **after).ok()
        found += [one["id"] for one in page["agents"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == made
    callers.world.server.agent_registry.suspend(made[0], by=Who(operator="test"))
    assert [one["id"] for one in callers.get("/agents", token, owner=owner.id, state="suspended").ok()["agents"]] == made[:1]


def test_an_agent_is_told_as_it_is_registered(callers: Callers) -> None:
    world = callers.world
    api, owner = world.resource("read"), world.human()
    agent = world.agent(owner, ceiling=[(api, "read")])
    _, token = callers.machine("admin:read")
    told = callers.get(f"/agents/{agent.client_id}", token).ok()
    assert told["id"] == agent.id
    assert told["uri"] == agent.uri
    assert told["owner"] == owner.id
    assert told["scopes"] == {api.uri: ["read"]}
    assert told["own_scopes"] == {}


def test_preview_and_kill_say_the_same_and_the_tokens_are_dead(callers: Callers) -> None:
    world = callers.world
    api, alice = world.resource("read"), world.human()
    agent = world.agent(world.human(), ceiling=[(api, "read")])
    held = given(world, alice, api, agent)["access_token"]
    _, token = callers.machine("kill")
    asked = {"what": "agent", "reference": agent.id}
    preview = callers.post("/kill/preview", token, asked).ok()
    assert preview["preview"]
    assert preview["complete"]
    assert (preview["tokens"], preview["consents"], preview["agents"], preview["humans"]) == (1, 1, 1, 1)
    assert world.active(api, held)
    done = callers.post("/kill", token, {**asked, "keep_out": True}).ok()
    assert [done[size] for size in SIZES] == [preview[size] for size in SIZES]
    assert done["entry"] >= preview["entry"]
    assert not world.active(api, held)
    assert world.server.agent_registry.get(agent.id).state == "suspended"


def test_the_owner_of_an_agent_stops_it_by_an_application(callers: Callers) -> None:
    world = callers.world
    alice = world.human()
    agent = world.agent(alice)
    token = callers.person(alice, "kill")
    callers.post("/kill", token, {"what": "agent", "reference": agent.id}).ok()
    (record,) = world.ledger(event="revocation.counted", target=agent.id)
    assert record["who"] == {"client": claims_of(token)["client_id"], "human": alice.id}


def test_a_human_withdraws_her_consent_and_ends_her_task(callers: Callers) -> None:
    world = callers.world
    api, alice = world.resource("read"), world.human()
    agent = world.agent(world.human(), ceiling=[(api, "read")])
    held = given(world, alice, api, agent)
    consent = held["consent_id"]
    token = callers.person(alice, "own:read", "own:write")
    assert consent in {one["id"] for one in callers.get("/consents", token).ok()["consents"]}
    (task,) = callers.get("/tasks", token, consent=consent).ok()["tasks"]
    assert callers.post(f"/tasks/{task['id']}/end", token).ok()["ended_at"]
    assert not world.active(api, held["access_token"])
    again = callers.post(f"/consents/{consent}/withdraw", token).ok()
    assert (again["stands"], again["id"]) == (False, consent)
    assert not [one for one in callers.get("/consents", token).ok()["consents"] if one["id"] == consent]
    assert callers.get(f"/consents/{consent}", token).ok()["stands"] is False


def test_what_an_operator_ends_is_told_to_the_human_whose_it_was(callers: Callers) -> None:
    world = callers.world
    api, alice, operator = world.resource("read"), world.human(), world.human(operator=True)
    agent = world.agent(world.human(), ceiling=[(api, "read")])
    consent = given(world, alice, api, agent)["consent_id"]
    helper = world.agent(operator, ceiling=[(callers.api, "admin:write")])
    token = world.consented(world.signed_in(operator), helper, callers.api, scope="admin:write")["access_token"]
    callers.post(f"/consents/{consent}/withdraw", token).ok()
    (record,) = world.ledger(event="consent.withdrawn", consent=consent)
    assert record["who"]["human"] == alice.id
    assert record["who"]["operator"] == operator.id
    assert record["who"]["actors"] == [helper.uri]


def test_others_consents_and_tasks_are_out_of_reach(callers: Callers) -> None:
    world = callers.world
    api, alice, bob = world.resource("read"), world.human(), world.human()
    agent = world.agent(world.human(), ceiling=[(api, "read")])
    consent = given(world, alice, api, agent)["consent_id"]
    _, all_ = callers.machine("admin:read")
    (task,) = callers.get("/tasks", all_, consent=consent).ok()["tasks"]
    token = callers.person(bob, *ALL)
    for path in (f"/consents/{consent}", f"/tasks/{task['id']}"):
        assert callers.get(path, token).status == 404
    for path in (f"/consents/{consent}/withdraw", f"/tasks/{task['id']}/end"):
        assert callers.post(path, token).status == 404
    assert callers.get("/consents", token, human=alice.id).ok()["consents"] == []
    assert callers.get(f"/consents/{consent}", all_).ok()["stands"]


def test_the_ledger_is_searched_in_pages_and_each_sees_what_concerns_her(callers: Callers) -> None:
    world = callers.world
    api, alice, bob = world.resource("read"), world.human(), world.human()
    agent = world.agent(alice, ceiling=[(api, "read")])
    held = given(world, bob, api, agent)
    jti = claims_of(held["access_token"])["jti"]
    world.ledger(event="token.issued", jti=jti)
    _, token = callers.machine("admin:read")
    found: list[int] = []
    query: dict[str, Any] = {"consent": held["consent_id"], "limit": 1}
    while True:
        page = callers.get("/ledger", token, **query).ok()
        found += [entry["seq"] for entry in page["entries"]]
        if page["next"] is None:
            break
        query["before"] = page["next"]
    assert len(found) > 1
    assert found == sorted(found, reverse=True)
    mine, hers, others = (callers.person(one, "own:read") for one in (bob, alice, world.human()))
    for own, seen in ((mine, 1), (hers, 1), (others, 0)):
        assert len(callers.get("/ledger", own, jti=jti, event="token.issued").ok()["entries"]) == seen
        assert callers.get(f"/explain/{jti}", own).status == (200 if seen else 404)


def test_an_explanation_is_the_command_lines(callers: Callers) -> None:
    world = callers.world
    api = world.resource("read")
    agent = world.agent(world.human(), own=[(api, "read")])
    issued = world.own_token(agent, resource=api.uri).ok()["access_token"]
    _, token = callers.machine("admin:read")
    told = callers.get(f"/explain/{claims_of(issued)['jti']}", token).ok()
    assert told["state"] == "alive"
    assert told["decision"]["record"]["jti"] == claims_of(issued)["jti"]
    assert told["names"][agent.uri]
    refusal = world.own_token(agent, resource=api.uri, scope="other").json["audit_id"]
    assert callers.get(f"/explain/{refusal}", token).ok()["state"] == "refused"


def test_policies_are_saved_activated_and_retired(callers: Callers) -> None:
    world = callers.world
    operator, name = world.human(operator=True), "tried-" + secrets.token_hex(4)
    token = callers.person(operator, "admin:read", "admin:write")
    text = 'forbid(principal == Agent::"nobody", action, resource);'
    made = callers.post(f"/policies/{name}", token, {"text": text, "rule": "A test"}).ok()
    assert (made["version"], made["state"], made["owner"]) == (1, "draft", operator.id)
    wrong = callers.post(f"/policies/{name}", token, {"text": "forbid(", "rule": "A test"})
    assert (wrong.status, wrong.error) == (409, "refused")
    try:
        assert callers.post(f"/policies/{name}/activate", token, {"version": 1}).ok()["state"] == "active"
        assert callers.get(f"/policies/{name}", token).ok()["text"] == text
    finally:
        assert callers.post(f"/policies/{name}/retire", token).ok()["state"] == "retired"
    assert callers.post(f"/policies/{name}/activate", token, {"version": 2}).status == 404
    moves = world.ledger(event="policy.moved", policy=name)
    assert [record["move"] for record in moves] == ["added", "activated", "retired"]
    assert {record["who"]["operator"] for record in moves} == {operator.id}


def test_a_person_and_her_agent_are_not_two(callers: Callers) -> None:
    world = callers.world
    alice, bob, name = world.human(operator=True), world.human(operator=True), "two-" + secrets.token_hex(4)
    strict = Policies(world.server.live, world.server.deeds, second_person=True)
    hers, his = world.agent(alice), world.agent(bob)
    strict.add(name, 'forbid(principal == Agent::"nobody", action, resource);', owner=alice.id, rule="A test", by=Who(operator=alice.id))
    for by in (Who(operator=alice.id), Who(operator=hers.id, actors=(hers.uri,), owner=alice.id)):
        with pytest.raises(Refused, match="second person"):
            strict.activate(name, 1, by=by)
    for nobody in (Who(operator="command line"), Who(operator=hers.id, actors=(hers.uri,)), Who()):
        with pytest.raises(Refused, match="named"):
            strict.activate(name, 1, by=nobody)
    try:
        strict.activate(name, 1, by=Who(operator=his.id, actors=(his.uri,), owner=bob.id))
    finally:
        strict.retire(name, by=Who(operator=bob.id))


def test_apis_and_applications_are_told_without_a_secret(callers: Callers) -> None:
    world = callers.world
    api, app = world.resource("read"), world.app()
    _, token = callers.machine("admin:read")
    assert callers.get(f"/resources/{api.id}", token).ok()["uri"] == api.uri
    assert api.uri in {one["uri"] for one in callers.get("/resources", token).ok()["resources"]}
    assert callers.get(f"/applications/{app.client_id}", token).ok()["client_id"] == app.client_id
    for path in ("/resources", "/applications", "/agents"):
        assert "secret_hash" not in callers.get(path, token).text
        assert "password" not in callers.get(path, token).text


def test_a_retired_agent_does_not_come_back(callers: Callers) -> None:
    agent = callers.world.agent(callers.world.human())
    _, token = callers.machine("admin:write")
    assert callers.post(f"/agents/{agent.id}/retire", token).ok()["state"] == "retired"
    answer = callers.post(f"/agents/{agent.id}/resume", token)
    assert (answer.status, answer.error) == (409, "refused")
    assert "retired" in answer.json["error_description"]


@pytest.mark.parametrize("version", [0, 2**31, 2**63, 10**40])
def test_a_version_that_no_policy_has_is_not_found(callers: Callers, version: int) -> None:
    with pytest.raises(NotFound):
        callers.world.server.policies.get("nobody-wrote-this", version)
