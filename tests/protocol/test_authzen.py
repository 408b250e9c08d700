"""May this call be carried out: with the introspection, or in AuthZEN's shape (Authorization API 1.0); one decision behind both."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from app.policy import cedar
from app.policy.replay import Replay
from tests.policies import WRITER, in_force, text_of
from tests.protocol.conftest import Later
from tests.protocol.test_tasks import Story, at_once, story
from tests.world import Answer, Api, basic, claims_of

__all__ = ["story"]

PATH = "/access/v1/evaluation"
NEVER_BOTH = "confidential-then-external"
OBJECT = {"type": "message", "id": "msg-17"}


def sent(story: Story, api: Api, body: object, **headers: str) -> Answer:
    credential = basic(api.client_id, api.client_secret)
    return story.world.http.send("POST", PATH, json.dumps(body).encode(), {**credential, "Content-Type": "application/json", **headers})


def asked(token: str, action: str = "mail:read", context: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    return {
        "subject": {"type": "access_token", "id": token},
        "action": {"name": action, "properties": properties},
        "resource": OBJECT,
        "context": context or {},
    }


def evaluated(story: Story, token: str, action: str = "mail:read", *, consume: bool = False, **properties: Any) -> dict[str, Any]:
    return sent(story, story.mail, asked(token, action, {"consume": True} if consume else {}, **properties)).ok()


def introspected(story: Story, token: str, action: str, api: Api | None = None, **details: Any) -> Answer:
    api = api or story.mail
    form = {"token": token, "action": action, "action_details": json.dumps(details)}
    return story.world.post("/oauth/introspect", form, basic(api.client_id, api.client_secret))


def touched(story: Story, task: str) -> list[str]:
    found: list[str] = story.json("GET", f"/tasks/{task}").ok()["touched"]
    return found


@pytest.fixture
def task(story: Story) -> str:
    return story.task()


@pytest.fixture
def token(story: Story, task: str) -> str:
    return story.token(story.mail, task, scope="mail:read")


# What is decided


def test_a_call_within_the_tokens_scopes_is_permitted_and_recorded(story: Story, task: str, token: str) -> None:
    said = evaluated(story, token)
    assert (said["decision"], set(said["context"])) == (True, {"id"})
    (record,) = story.world.ledger(id=said["context"]["id"])
    assert (record["event"], record["outcome"], record["action"], record["task"]) == ("call.permitted", "permit", "mail:read", task)
    assert (record["jti"], record["resource"], record["object"]) == (claims_of(token)["jti"], story.mail.uri, OBJECT)
    assert record["who"]["actors"] == [story.assistant.uri]
    assert record["who"]["human"] == story.alice.id


def test_a_call_that_needs_another_scope_is_refused(story: Story, token: str) -> None:
    for action, properties in (("mail:send", {}), ("mail:burn", {}), ("archive", {"scope": "mail:send"})):
        said = evaluated(story, token, action, **properties)
        assert said["decision"] is False
        assert said["context"]["layer"] == "scope"
        (record,) = story.world.ledger(id=said["context"]["id"])
        assert (record["event"], record["outcome"], record["layer"], record["action"]) == ("call.refused", "deny", "scope", action)
    assert evaluated(story, token, "archive", scope="mail:read")["decision"] is True


def test_the_introspection_answers_both(story: Story, token: str) -> None:
    plain = story.world.introspect(story.mail, token)
    said = introspected(story, token, "mail:read").ok()
    assert {name: said[name] for name in plain} == plain
    assert (said["active"], said["decision"], set(said) - set(plain)) == (True, True, {"decision", "context"})
    assert story.world.ledger(id=said["context"]["id"])[0]["event"] == "call.permitted"
    said = introspected(story, token, "mail:send").ok()
    assert (said["active"], said["decision"], said["context"]["layer"]) == (True, False, "scope")


def test_of_a_dead_token_nothing_more_is_said(story: Story, task: str, token: str) -> None:
    story.end(task)
    assert evaluated(story, token) == {"decision": False}
    assert introspected(story, token, "mail:read").ok() == {"active": False}
    for other in ("nonsense", story.own, story.token(story.calendar)):
        assert evaluated(story, other) == {"decision": False}
        assert introspected(story, other, "mail:read").ok() == {"active": False}


def test_another_apis_token_is_none_of_its_business(story: Story, token: str) -> None:
    assert sent(story, story.calendar, asked(token)).ok() == {"decision": False}
    assert introspected(story, token, "mail:read", story.calendar).ok() == {"active": False}


def test_the_subject_may_be_named_beside_the_token(story: Story, token: str) -> None:
    def about(kind: str, identifier: str) -> dict[str, Any]:
        return sent(story, story.mail, asked("x", context={"access_token": token}) | {"subject": {"type": kind, "id": identifier}}).ok()

    assert about("user", story.alice.id)["decision"] is True
    assert about("agent", story.assistant.uri)["decision"] is True
    for kind, identifier in (("user", "hum_somebody"), ("agent", story.alice.id), ("user", story.assistant.uri)):
        said = about(kind, identifier)
        assert (said["decision"], said["context"]["layer"]) == (False, "subject")
        assert story.world.ledger(id=said["context"]["id"])[0]["layer"] == "subject"


# Policies


@pytest.fixture
def apart(story: Story) -> Iterator[Story]:
    with in_force(story.world.server, text_of(NEVER_BOTH), NEVER_BOTH):
        yield story


def test_a_policy_about_one_call_refuses_that_call_and_names_itself(story: Story, token: str) -> None:
    text = (
        f'forbid (principal, action == Action::"call", resource == Resource::"{story.mail.uri}") when {{ context.operation == "archive" }};'
    )
    with in_force(story.world.server, text) as name:
        said = evaluated(story, token, "archive", scope="mail:read")
        assert (said["decision"], said["context"]["layer"], said["context"]["policy"]) == (False, "policy", name)
        (record,) = story.world.ledger(id=said["context"]["id"])
        assert record["question"]["context"]["operation"] == "archive"
        assert name in record["reason"]
        assert evaluated(story, token)["decision"] is True
        answer = introspected(story, token, "archive", scope="mail:read").ok()
        assert (answer["active"], answer["decision"], answer["context"]["policy"]) == (True, False, name)
    assert evaluated(story, token, "archive", scope="mail:read")["decision"] is True


def test_a_policy_change_flips_the_next_decision_about_a_token_already_issued(story: Story, token: str) -> None:
    assert evaluated(story, token)["decision"] is True
    text = f'forbid (principal, action == Action::"call", resource == Resource::"{story.mail.uri}");'
    with in_force(story.world.server, text):
        assert evaluated(story, token)["decision"] is False
        assert story.world.active(story.mail, token)
    assert evaluated(story, token)["decision"] is True


def test_policies_see_amount_and_object(story: Story, token: str) -> None:
    text = (
        f'forbid (principal, action == Action::"call", resource == Resource::"{story.mail.uri}") when {{ '
        'context has amount && context.amount.currency == "EUR" && context.amount.value.greaterThan(decimal("500.00")) || '
        'context has object && context.object.id == "msg-secret" };'
    )
    with in_force(story.world.server, text):
        assert evaluated(story, token, amount={"currency": "EUR", "value": "500"})["decision"] is True
        assert evaluated(story, token, amount={"currency": "USD", "value": "501"})["decision"] is True
        assert evaluated(story, token, amount={"currency": "EUR", "value": "500.0001"})["decision"] is False
        secret = {**asked(token), "resource": {"type": "message", "id": "msg-secret"}}
        assert sent(story, story.mail, secret).ok()["decision"] is False


def test_what_the_call_would_touch_counts_and_stays_untouched(apart: Story, task: str, token: str) -> None:
    assert evaluated(apart, token, labels=["confidential"])["decision"] is True
    assert "confidential" not in touched(apart, task)
    assert apart.exchange(apart.mail, task, scope="mail:send").status == 200
    said = evaluated(apart, token, labels=["confidential"])
    assert (said["decision"], said["context"]["policy"], said["context"]["permitted_in"]) == (False, NEVER_BOTH, "a new task")
    assert evaluated(apart, token)["decision"] is True


def test_labels_of_what_it_is_done_to_count_too(apart: Story, task: str, token: str) -> None:
    apart.exchange(apart.mail, task, scope="mail:send").ok()
    body = asked(token) | {"resource": {**OBJECT, "properties": {"labels": ["confidential"], "folder": "Inbox"}}}
    assert sent(apart, apart.mail, body).ok()["decision"] is False


def test_what_is_consumed_is_touched(apart: Story, task: str, token: str) -> None:
    said = evaluated(apart, token, consume=True, labels=["confidential"])
    assert (said["decision"], said["context"]["consumed"]) == (True, True)
    assert "confidential" in touched(apart, task)
    assert apart.exchange(apart.mail, task, scope="mail:send").error == "access_denied"
    (record,) = apart.world.ledger(id=said["context"]["id"])
    assert (record["event"], record["labels"]) == ("call.consumed", ["confidential", "department:sales"])


def test_two_calls_that_must_not_meet_at_the_same_instant_are_never_both(apart: Story) -> None:
    for _ in range(15):
        task = apart.task()
        token = apart.token(apart.mail, task, scope="mail:read")
        gate, said = threading.Barrier(2), []

        def call(label: str, token: str = token, gate: threading.Barrier = gate, said: list[bool] = said) -> None:
            gate.wait(10)
            said.append(evaluated(apart, token, consume=True, labels=[label])["decision"])

        threads = [threading.Thread(target=call, args=(label,)) for label in ("confidential", "external-send")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(said) == [False, True]


def test_an_engine_that_fails_permits_nothing(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise ValueError("engine")

    policy = f'forbid (principal, action == Action::"call", resource == Resource::"{story.mail.uri}") when {{ context.operation == "x" }};'
    with in_force(story.world.server, policy):
        # What was answered before would do without the engine.
        monkeypatch.setattr(cedar.PolicySet, "_key", lambda *_: None)
        # Issued under these policies, so that only the call is asked about.
        token = story.token(story.mail, scope="mail:read")
        assert evaluated(story, token)["decision"] is True
        monkeypatch.setattr(cedar.cedarpy, "is_authorized", fails)
        said = evaluated(story, token)
        assert (said["decision"], said["context"]["policy"]) == (False, cedar.ERROR)
        monkeypatch.undo()
        assert evaluated(story, token)["decision"] is True


def only(story: Story, when: str, ask: str = "") -> str:
    """A policy about one kind of call at this story's mail."""
    return f'{ask}forbid (principal, action == Action::"call", resource == Resource::"{story.mail.uri}") when {{ {when} }};'


def test_where_a_policy_asks_for_a_human_a_call_is_a_no(story: Story, token: str) -> None:
    with in_force(story.world.server, only(story, "true", '@ask("approval") ')) as name:
        said = evaluated(story, token)
        assert (said["decision"], said["context"]["policy"]) == (False, name)
        assert "max_age" not in said["context"]


def test_a_fresh_sign_in_will_do_where_a_policy_asks_for_one(story: Story, token: str, later: Later) -> None:
    with in_force(story.world.server, only(story, "true", '@ask("sign-in:60") ')):
        assert evaluated(story, token)["decision"] is True
        later(120)
        said = evaluated(story, token)
        assert (said["decision"], said["context"]["max_age"]) == (False, 60)


def test_a_policy_is_tried_on_calls_of_the_past(story: Story, token: str) -> None:
    ids = [evaluated(story, token, labels=labels)["context"]["id"] for labels in ([], ["confidential"])]
    ids.append(evaluated(story, token, consume=True, labels=["confidential"])["context"]["id"])
    assert len(story.world.ledger(jti=claims_of(token)["jti"])) >= 3
    server = story.world.server
    name = "test-" + secrets.token_hex(4)
    server.policies.add(name, only(story, 'context.labels.contains("confidential")'), owner="hum_test", rule="A rule", by=WRITER)
    found = [one.entry.record["id"] for one in Replay(server.database, server.policies.trial(name, None)).differences()]
    # What was consumed came by another stream than what was looked at, and may have come first.
    assert sorted(one for one in found if one in ids) == sorted(ids[1:])


# Limits


def test_limits_are_looked_at_and_taken_from_only_when_it_is_said(story: Story) -> None:
    task = story.task(limits={"uses": 2, "counts": "events"})
    token = story.token(story.mail, task)
    for _ in range(3):
        assert evaluated(story, token)["decision"] is True
    for _ in range(2):
        assert evaluated(story, token, consume=True)["decision"] is True
    for consume in (True, False):
        said = evaluated(story, token, consume=consume)
        assert (said["decision"], said["context"]["layer"], said["context"]["limit"], said["context"]["left"]) == (
            False,
            "limit",
            "uses",
            0,
        )
    assert introspected(story, token, "mail:read", consume=True).ok()["decision"] is False
    assert story.report(story.mail, task, token).error == "access_denied"


def test_an_amount_is_refused_with_what_is_left_and_who_follows_that_succeeds(story: Story) -> None:
    task = story.task(limits={"amount": {"currency": "EUR", "max": "100.00"}})
    token = story.token(story.mail, task)
    evaluated(story, token, consume=True, amount={"currency": "EUR", "value": "60"})
    said = evaluated(story, token, consume=True, amount={"currency": "EUR", "value": "41"})
    assert (said["decision"], said["context"]["limit"], said["context"]["left"]) == (False, "amount", "40.00")
    assert evaluated(story, token, consume=True, amount={"currency": "EUR", "value": said["context"]["left"]})["decision"] is True
    said = evaluated(story, token, amount={"currency": "USD", "value": "0.01"})
    assert (said["decision"], said["context"]["layer"]) == (False, "limit")


def test_a_hundred_calls_at_once_take_exactly_what_there_is(story: Story) -> None:
    task = story.task(limits={"uses": 10, "counts": "events"})
    parent = story.token(story.mail, task)
    children = [story.world.exchange(story.assistant, parent).ok()["access_token"] for _ in range(3)]
    answers = at_once(100, lambda at: sent(story, story.mail, asked(children[at % 3], context={"consume": True})))
    assert sum(answer.ok()["decision"] for answer in answers) == 10


def test_a_reference_is_counted_once_asked_about_or_reported(story: Story) -> None:
    task = story.task(limits={"uses": 2, "counts": "events"})
    token = story.token(story.mail, task)
    assert "repeated" not in evaluated(story, token, consume=True, reference="m-1")["context"]
    said = evaluated(story, token, consume=True, reference="m-1")
    assert (said["decision"], said["context"]["repeated"]) == (True, True)
    assert story.world.ledger(id=said["context"]["id"])[0]["event"] == "call.permitted"
    assert story.report(story.mail, task, token, action="mail:read", reference="m-1").ok()["repeated"]
    assert evaluated(story, token, consume=True, reference="m-2")["decision"] is True
    assert evaluated(story, token, consume=True, reference="m-3")["decision"] is False


def test_a_reference_hides_no_other_amount_and_no_other_label(story: Story) -> None:
    task = story.task(limits={"amount": {"currency": "EUR", "max": "100.00"}})
    token = story.token(story.mail, task)

    def spent(value: str) -> bool:
        said = evaluated(story, token, consume=True, reference="m-1", amount={"currency": "EUR", "value": value})
        return bool(said["decision"])

    def reported(value: str) -> Answer:
        amount = {"currency": "EUR", "value": value}
        return story.report(story.mail, task, token, action="mail:read", reference="m-1", amount=amount)

    assert spent("30") and spent("30.00") and not spent("71")
    assert reported("30").ok()["repeated"]
    assert reported("71").error == "access_denied"
    assert spent("70") and not spent("0.01")
    evaluated(story, token, consume=True, reference="m-2")
    assert "secret-file" not in touched(story, task)
    evaluated(story, token, consume=True, reference="m-2", labels=["secret-file"])
    assert "secret-file" in touched(story, task)


def test_a_reference_reported_hides_no_other_label(story: Story) -> None:
    task = story.task()
    token = story.token(story.mail, task)
    story.report(story.mail, task, token, reference="r-1").ok()
    assert "repeated" not in story.report(story.mail, task, token, reference="r-1", labels=["secret-file"]).ok()
    assert "secret-file" in touched(story, task)


# The wire


def test_metadata_names_the_endpoint(story: Story) -> None:
    found = story.world.get("/.well-known/authzen-configuration")
    issuer = story.world.issuer
    assert found.ok() == {"policy_decision_point": issuer, "access_evaluation_endpoint": issuer + PATH}


def test_the_callers_request_id_comes_back(story: Story, token: str) -> None:
    identifier = "bfe9eb29-ab87-4ca3-be83-a1d5d8305716"
    answer = sent(story, story.mail, asked(token), **{"X-Request-ID": identifier})
    assert answer.headers["X-Request-Id"] == identifier
    assert answer.headers["Cache-Control"] == "no-store"
    for strange in ("two words", "x" * 300):
        assert sent(story, story.mail, asked(token), **{"X-Request-ID": strange}).headers["X-Request-Id"].startswith("req_")


def test_who_does_not_authenticate_is_told_nothing(story: Story, token: str) -> None:
    forged = Api(story.mail.uri, story.mail.id, story.mail.client_id, "wrong")
    answer = sent(story, forged, asked(token))
    assert (answer.status, answer.error) == (401, "invalid_client")
    answer = story.world.http.send("POST", PATH, json.dumps(asked(token)).encode(), {"Content-Type": "application/json"})
    assert answer.status == 401


def test_an_agent_is_no_resource(story: Story, token: str) -> None:
    members, _ = story.world.credentials(story.assistant)
    body = json.dumps({**asked(token), **members}).encode()
    assert story.world.http.send("POST", PATH, body, {"Content-Type": "application/json"}).ok() == {"decision": False}


@pytest.mark.parametrize(
    "change",
    [
        {"subject": None}, {"subject": {"type": "access_token"}}, {"subject": {"type": "access_token", "id": 7}},
        {"subject": {"type": "planet", "id": "x"}}, {"subject": {"type": "user", "id": "x"}},
        {"action": None}, {"action": {}}, {"action": {"name": ""}}, {"action": {"name": "two\nlines"}}, {"action": {"name": "x" * 101}},
        {"action": {"name": "mail:read", "properties": []}},
        {"action": {"name": "mail:read", "properties": {"amount": 12}}},
        {"action": {"name": "mail:read", "properties": {"amount": {"currency": "EUR", "value": 12.5}}}},
        {"action": {"name": "mail:read", "properties": {"labels": ["No Label"]}}},
        {"action": {"name": "mail:read", "properties": {"scope": "mail:read mail:send"}}},
        {"action": {"name": "mail:read", "properties": {"reference": ""}}},
        {"resource": None}, {"resource": {"type": "message"}}, {"resource": {"type": "message", "id": "x" * 201}},
        {"resource": {**OBJECT, "properties": {"labels": "confidential"}}},
        {"context": []}, {"context": {"consume": "yes"}}, {"context": {"access_token": "another"}},
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_not_understood_is_refused(story: Story, token: str, change: dict[str, Any]) -> None:
    body = {name: value for name, value in {**asked(token), **change}.items() if value is not None}
    answer = sent(story, story.mail, body)
    assert (answer.status, answer.error) == (400, "invalid_request"), answer.text


@pytest.mark.parametrize("details", ["", "[]", "{", '{"amount": 1}', '{"unheard": 1}', '{"consume": 1}', '{"labels": [], "labels": []}'])
def test_details_beside_an_introspection_are_read_strictly(story: Story, token: str, details: str) -> None:
    credential = basic(story.mail.client_id, story.mail.client_secret)
    answer = story.world.post("/oauth/introspect", {"token": token, "action": "mail:read", "action_details": details}, credential)
    if details:
        assert (answer.status, answer.error) == (400, "invalid_request")
    answer = story.world.post("/oauth/introspect", {"token": token, "action_details": "{}"}, credential)
    assert answer.error == "invalid_request"
