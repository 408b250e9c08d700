"""Who may do what over the JSON API: by scope, and within that by the office of the human behind the token."""

from __future__ import annotations

import pytest

from app.api.operations import OPERATIONS
from tests.api.conftest import ALL, Callers
from tests.dpop import Holder, ath, own
from tests.protocol.conftest import later  # noqa: F401
from tests.world import BY, Answer, World, bearer, claims_of


def refused(answer: Answer, error: str, status: int) -> Answer:
    assert (answer.status, answer.error) == (status, error), answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"
    assert "Access-Control-Allow-Origin" not in answer.headers
    return answer


def send(callers: Callers, method: str, path: str, token: str | None) -> Answer:
    return callers.get(path, token) if method == "GET" else callers.post(path, token)


OPERATION = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)


@OPERATION
def test_nothing_is_done_without_a_token(callers: Callers, operation) -> None:
    path = operation.path.replace("{", "").replace("}", "")
    answer = refused(send(callers, operation.method, path, None), "invalid_token", 401)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert "error" not in answer.headers["WWW-Authenticate"]


def test_each_operation_takes_its_scopes_and_no_other(callers: Callers) -> None:
    tokens = {scope: callers.machine(scope)[1] for scope in ALL}
    for operation in OPERATIONS:
        path = operation.path.replace("{", "").replace("}", "")
        for scope, token in tokens.items():
            answer = send(callers, operation.method, path, token)
            if scope in {one.value for one in operation.scopes}:
                assert answer.status in {200, 400, 404}, (operation.name, scope, answer.text)
                continue
            refused(answer, "insufficient_scope", 403)
            challenge = answer.headers["WWW-Authenticate"]
            assert 'error="insufficient_scope"' in challenge
            assert f'scope="{" ".join(sorted(one.value for one in operation.scopes))}"' in challenge


def test_a_token_for_another_audience_is_no_token_here(callers: Callers) -> None:
    world = callers.world
    api = world.resource("admin:read")
    agent = world.agent(world.human(), own=[(api, "admin:read")])
    other = world.own_token(agent, resource=api.uri).ok()["access_token"]
    bare = world.own_token(agent).ok()["access_token"]
    for token in (other, bare, "x", "a.b.c", callers.machine("admin:read")[1][:-2]):
        refused(callers.get("/agents", token), "invalid_token", 401)


def test_a_token_is_good_until_it_is_revoked_or_its_agent_ends_or_it_expires(callers: Callers, later) -> None:  # noqa: F811
    agent, token = callers.machine("admin:read")
    assert callers.get("/agents", token).status == 200
    callers.world.revoke(agent, token)
    refused(callers.get("/agents", token), "invalid_token", 401)
    token = callers.own(agent)
    callers.world.server.agent_registry.suspend(agent.id, by=BY)
    refused(callers.get("/agents", token), "invalid_token", 401)
    callers.world.server.agent_registry.resume(agent.id, by=BY)
    refused(callers.get("/agents", token), "invalid_token", 401)
    token = callers.own(agent)
    later(901)
    refused(callers.get("/agents", token), "invalid_token", 401)


def test_a_bound_token_needs_its_proof(callers: Callers) -> None:
    world = callers.world
    agent = world.agent(world.human(), own=[(callers.api, "admin:read")])
    holder = Holder()
    token = own(world, agent, holder, resource=callers.api.uri).ok()["access_token"]
    refused(callers.get("/agents", token), "invalid_token", 401)
    proof = holder.proof(world, "/api/v1/agents", htm="GET", ath=ath(token))
    answer = world.get("/api/v1/agents", {"Authorization": f"DPoP {token}", "DPoP": proof})
    assert answer.status == 200, answer.text


def test_a_member_with_every_scope_has_what_is_her_own_and_no_more(callers: Callers) -> None:
    world = callers.world
    alice, bob = world.human(), world.human()
    hers, his = world.agent(alice), world.agent(bob)
    token = callers.person(alice, *ALL)
    assert [one["id"] for one in callers.get("/agents", token).ok()["agents"]] == [hers.id]
    assert callers.get(f"/agents/{hers.id}", token).ok()["owner"] == alice.id
    refused(callers.get(f"/agents/{his.id}", token), "not_found", 404)
    refused(callers.post(f"/agents/{his.id}/suspend", token), "not_found", 404)
    refused(callers.post(f"/agents/{hers.id}/resume", token), "access_denied", 403)
    refused(callers.get("/policies", token), "access_denied", 403)
    refused(callers.get("/resources", token), "access_denied", 403)
    refused(callers.get("/applications", token), "access_denied", 403)
    for what, reference in (("agent", his.id), ("human", bob.id), ("human", alice.id), ("everything", ""), ("agent", "agt_none")):
        refused(callers.post("/kill/preview", token, {"what": what, "reference": reference}), "access_denied", 403)
        refused(callers.post("/kill", token, {"what": what, "reference": reference}), "access_denied", 403)
    assert callers.post("/kill/preview", token, {"what": "agent", "reference": hers.id}).status == 200
    assert callers.post(f"/agents/{hers.id}/suspend", token).ok()["state"] == "suspended"
    assert world.server.agent_registry.get(his.id).state == "active"


def test_a_scope_of_administration_alone_gives_a_member_nothing(callers: Callers) -> None:
    alice = callers.world.human()
    callers.world.agent(alice)
    token = callers.person(alice, "admin:read", "admin:write")
    answer = refused(callers.get("/agents", token), "access_denied", 403)
    assert answer.json["layer"] == "role"
    assert "scope" not in answer.headers.get("WWW-Authenticate", "")
    refused(callers.post("/policies/tried/retire", token), "access_denied", 403)


def test_an_auditor_reads_all_and_changes_nothing(callers: Callers) -> None:
    world = callers.world
    agent = world.agent(world.human())
    token = callers.person(world.human(auditor=True), *ALL)
    assert callers.get(f"/agents/{agent.id}", token).ok()["state"] == "active"
    assert callers.get("/policies", token).status == 200
    refused(callers.post(f"/agents/{agent.id}/suspend", token), "not_found", 404)
    refused(callers.post(f"/agents/{agent.id}/resume", token), "access_denied", 403)
    refused(callers.post("/kill", token, {"what": "agent", "reference": agent.id}), "access_denied", 403)
    assert world.server.agent_registry.get(agent.id).state == "active"


def test_an_operator_does_what_her_scopes_say_and_is_named_in_the_record(callers: Callers) -> None:
    world = callers.world
    agent, operator = world.agent(world.human()), world.human(operator=True)
    reading = callers.person(operator, "admin:read")
    refused(callers.post(f"/agents/{agent.id}/suspend", reading), "insufficient_scope", 403)
    token = callers.person(operator, "admin:write")
    assert callers.post(f"/agents/{agent.id}/suspend", token).ok()["state"] == "suspended"
    assert callers.post(f"/agents/{agent.id}/resume", token).ok()["state"] == "active"
    records = world.ledger(event="changed", target=agent.id)
    assert records[-1]["who"]["operator"] == operator.id
    assert records[-1]["who"]["client"] == claims_of(token)["client_id"]


def test_an_office_that_is_taken_away_is_gone_at_the_next_request(callers: Callers) -> None:
    world = callers.world
    operator = world.human(operator=True)
    token = callers.person(operator, "admin:read")
    assert callers.get("/policies", token).status == 200
    from app.vocabulary import Role

    world.server.accounts.set_role(operator.id, Role.MEMBER, by=BY)
    refused(callers.get("/policies", token), "access_denied", 403)
    world.server.accounts.disable(operator.id, by=BY)
    refused(callers.get("/policies", token), "invalid_token", 401)


def test_nothing_dangerous_is_done_long_after_a_sign_in(callers: Callers, later) -> None:  # noqa: F811
    world = callers.world
    agent, operator = world.agent(world.human()), world.human(operator=True)
    app = world.app(pairs=[(callers.api, scope) for scope in ALL])
    given = world.consented(world.signed_in(operator), app, callers.api, scope=" ".join(ALL), away=True)
    later(310)
    token = world.token(app, {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}).ok()["access_token"]
    assert callers.get(f"/agents/{agent.id}", token).status == 200
    for path, body in (
        (f"/agents/{agent.id}/suspend", None),
        (f"/agents/{agent.id}/retire", None),
        (f"/agents/{agent.id}/resume", None),
        ("/kill", {"what": "agent", "reference": agent.id}),
        ("/policies/tried/retire", None),
    ):
        answer = refused(callers.post(path, token, body), "insufficient_user_authentication", 401)
        assert 'max_age="300"' in answer.headers["WWW-Authenticate"]
    assert world.server.agent_registry.get(agent.id).state == "active"


def test_an_agent_with_the_scope_administers_and_stands_in_the_record_itself(callers: Callers) -> None:
    world = callers.world
    owner = world.human()
    warden, token = callers.machine("admin:read", "admin:write", "kill", owner=owner)
    agent = world.agent(world.human())
    assert callers.post(f"/agents/{agent.id}/suspend", token).ok()["state"] == "suspended"
    (record,) = world.ledger(event="revoked", target=agent.id)
    assert record["who"] == {"actors": [warden.uri], "client": warden.client_id, "owner": owner.id, "operator": warden.id}


def test_an_agent_with_its_own_scopes_sees_itself_and_stops_nobody(callers: Callers) -> None:
    world = callers.world
    agent, token = callers.machine("own:read", "own:write")
    other = world.agent(world.human())
    assert [one["id"] for one in callers.get("/agents", token).ok()["agents"]] == [agent.id]
    refused(callers.get(f"/agents/{other.id}", token), "not_found", 404)
    for deed in ("suspend", "retire"):
        refused(callers.post(f"/agents/{agent.id}/{deed}", token), "not_found", 404)
        refused(callers.post(f"/agents/{other.id}/{deed}", token), "not_found", 404)


def test_an_agent_acts_for_a_human_within_what_she_may_and_the_record_says_both(callers: Callers) -> None:
    world = callers.world
    alice = world.human()
    agent = world.agent(alice, ceiling=[(callers.api, scope) for scope in ALL])
    hers = world.agent(alice)
    given = world.consented(world.signed_in(alice), agent, callers.api, scope="own:read own:write")
    own = given["access_token"]
    assert {one["id"] for one in callers.get("/agents", own).ok()["agents"]} == {agent.id, hers.id}
    assert callers.post(f"/agents/{hers.id}/suspend", own).ok()["state"] == "suspended"
    (record,) = world.ledger(event="revoked", target=hers.id)
    assert record["who"]["actors"] == [agent.uri]
    assert record["who"]["human"] == alice.id


def test_a_policy_that_forbids_it_now_ends_a_token_here_too(callers: Callers) -> None:
    world = callers.world
    agent, token = callers.machine("admin:read")
    assert callers.get("/agents", token).status == 200
    name = f"no-{agent.id[-6:].lower().replace('_', 'x').replace('-', 'x')}"
    text = f'forbid(principal == Agent::"{agent.uri}", action, resource);'
    world.server.policies.add(name, text, owner=world.human().id, rule="A test", by=BY)
    world.server.policies.activate(name, None, by=BY)
    try:
        refused(callers.get("/agents", token), "invalid_token", 401)
    finally:
        world.server.policies.retire(name, by=BY)
    assert callers.get("/agents", token).status == 200


def test_the_first_use_of_a_token_is_recorded_once(callers: Callers) -> None:
    _, token = callers.machine("admin:read")
    for _ in range(2):
        assert callers.get("/agents", token).status == 200
    (record,) = callers.world.ledger(event="token.first_used", jti=claims_of(token)["jti"])
    assert record["resource"] == callers.api.uri


def test_the_api_is_registered_once_and_closing_it_closes_it(callers: Callers, world: World) -> None:
    from app.wiring import prepare

    before = callers.api
    prepare(world.server.settings)
    assert callers.api == before
    _, token = callers.machine("admin:read")
    world.server.resource_registry.disable(before.uri, by=BY)
    try:
        refused(world.get("/api/v1/agents", bearer(token)), "invalid_token", 401)
    finally:
        world.server.resource_registry.enable(before.uri, by=BY)
