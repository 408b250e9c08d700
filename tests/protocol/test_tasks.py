"""Tasks (protocol §7): opened within a consent, ended for good, remembered, limited."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.dpop import Holder, ath, own
from tests.world import CONSENT, Answer, Api, Browser, Party, Person, World, basic, claims_of


@dataclass
class Story:
    """Alice lets her assistant work while she is away: it reads her mail and calendar and sends mail."""

    world: World
    alice: Person
    browser: Browser
    mail: Api
    calendar: Api
    assistant: Party
    consent: str
    own: str = field(default="", repr=False)

    def json(self, method: str, path: str, body: dict[str, Any] | None = None, *, token: str | None = None) -> Answer:
        sent = {"Authorization": "Bearer " + (token or self.own)}
        if body is None:
            return self.world.http.send(method, path, None, sent)
        return self.world.http.send(method, path, json.dumps(body).encode(), {**sent, "Content-Type": "application/json"})

    def asked(self, **body: Any) -> Answer:
        return self.json("POST", "/tasks", {"consent_id": self.consent, "purpose": "Answer the mail", **body})

    def task(self, **body: Any) -> str:
        answer = self.asked(**body)
        assert answer.status == 201, answer.text
        return str(answer.json["task_id"])

    def exchange(self, api: Api, task: str | None = None, **form: str) -> Answer:
        named = {"task_id": task} if task else {}
        return self.world.exchange(self.assistant, self.consent, CONSENT, resource=api.uri, **named, **form)

    def token(self, api: Api, task: str | None = None, **form: str) -> str:
        return str(self.exchange(api, task, **form).ok()["access_token"])

    def end(self, task: str) -> Answer:
        return self.json("POST", f"/tasks/{task}/end")

    def report(self, api: Api, task: str, token: str, **body: Any) -> Answer:
        headers = {**basic(api.client_id, api.client_secret), "Content-Type": "application/json"}
        sent = json.dumps({"token": token, "action": "mail:send", **body}).encode()
        return self.world.http.send("POST", f"/tasks/{task}/events", sent, headers)


@pytest.fixture
def story(world: World) -> Story:
    alice = world.human()
    mail = world.resource("mail:read", "mail:send", labels=["department:sales"], scope_labels={"mail:send": ["external-send"]})
    calendar = world.resource("calendar:read", labels=["confidential"])
    assistant = world.agent(alice, ceiling=[(mail, "mail:read"), (mail, "mail:send"), (calendar, "calendar:read")])
    browser = world.signed_in(alice)
    given = world.consented(browser, assistant, mail, calendar, scope="mail:read mail:send calendar:read", away=True)
    own = world.own_token(assistant).ok()["access_token"]
    return Story(world, alice, browser, mail, calendar, assistant, given["consent_id"], own)


def test_a_task_narrows_the_consent(story: Story) -> None:
    answer = story.asked(resources=[story.mail.uri], scopes=["mail:read"], expires_in=600)
    assert answer.status == 201
    assert answer.json["resources"] == {story.mail.uri: ["mail:read"]}
    task = answer.json["task_id"]
    given = story.exchange(story.mail, task).ok()
    assert (given["scope"], given["task_id"]) == ("mail:read", task)
    assert claims_of(given["access_token"])["txn"] == task
    assert story.exchange(story.mail, task, scope="mail:send").error == "invalid_scope"
    assert story.exchange(story.calendar, task).status == 400


def test_a_token_ends_with_its_tasks_deadline(story: Story) -> None:
    answer = story.asked(expires_in=60)
    claims = claims_of(story.token(story.mail, answer.json["task_id"]))
    assert claims["exp"] <= answer.json["expires_at"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"consent_id": "con_nobody"}, "invalid_request"),
        ({"consent_id": 7}, "invalid_request"),
        ({"purpose": ""}, "invalid_request"),
        ({"purpose": "two\nlines"}, "invalid_request"),
        ({"expires_in": 0}, "invalid_request"),
        ({"expires_in": True}, "invalid_request"),
        ({"resources": ["https://elsewhere.example"]}, "invalid_target"),
        ({"resources": []}, "invalid_request"),
        ({"scopes": ["mail:delete"]}, "invalid_scope"),
        ({"limits": {"uses": 0}}, "invalid_request"),
        ({"limits": {"uses": 1.5}}, "invalid_request"),
        ({"limits": {"cost": 3}}, "invalid_request"),
        ({"limits": {"amount": {"currency": "EUR", "max": 12}}}, "invalid_request"),
        ({"limits": {"amount": {"currency": "euro", "max": "12.00"}}}, "invalid_request"),
        ({"anything": "else"}, "invalid_request"),
    ],
)
def test_a_task_that_is_not_understood_is_not_opened(story: Story, body: dict[str, Any], error: str) -> None:
    answer = story.asked(**body)
    assert (answer.status, answer.error) == (400, error), answer.text
    (refused,) = story.world.ledger(id=answer.json["audit_id"])
    assert (refused["event"], refused["who"]["client"]) == ("task.refused", story.assistant.client_id)


def test_a_task_never_outlives_its_consent(story: Story) -> None:
    answer = story.asked(expires_in=10**9)
    held = story.world.server.consents.find(story.consent)
    assert held is not None
    assert answer.json["expires_at"] == held.value.until


def test_only_the_agents_own_token_opens_and_sees(story: Story) -> None:
    task = story.task()
    delegated = story.token(story.mail, task)
    other = story.world.agent(story.alice, ceiling=[(story.mail, "mail:read")])
    others = story.world.own_token(other).ok()["access_token"]
    for token, status in ((delegated, 401), ("nonsense", 401), (others, 404)):
        assert story.json("GET", f"/tasks/{task}", token=token).status == status
        assert story.json("POST", f"/tasks/{task}/end", token=token).status == status
    assert story.json("POST", "/tasks", {"consent_id": story.consent, "purpose": "Mine now"}, token=others).error == "invalid_request"
    assert story.world.active(story.mail, delegated)
    assert story.json("GET", f"/tasks/{task}").ok()["purpose"] == "Answer the mail"


def test_when_the_end_is_acknowledged_everything_of_the_task_is_dead_and_the_other_task_lives(story: Story) -> None:
    ended, other = story.task(), story.task()
    first, kept = story.token(story.mail, ended), story.token(story.mail, other)
    child = story.world.exchange(story.assistant, first, resource=story.mail.uri, scope="mail:read").ok()["access_token"]
    grandchild = story.world.exchange(story.assistant, child).ok()["access_token"]
    assert all(story.world.active(story.mail, one) for one in (first, child, grandchild, kept))
    assert story.end(ended).ok() == {"task_id": ended, "active": False}
    assert not any(story.world.active(story.mail, one) for one in (first, child, grandchild))
    assert story.world.active(story.mail, kept)
    for token in (first, child, grandchild):
        assert story.world.exchange(story.assistant, token, resource=story.mail.uri).error == "invalid_request"
    assert story.exchange(story.mail, ended).error == "invalid_request"
    assert story.end(ended).status == 200
    assert not story.json("GET", f"/tasks/{ended}").ok()["active"]


def test_a_delegated_subject_token_keeps_its_task(story: Story) -> None:
    one, other = story.task(), story.task()
    token = story.token(story.mail, one)
    assert story.world.exchange(story.assistant, token, task_id=other).error == "invalid_request"
    child = story.world.exchange(story.assistant, token).ok()["access_token"]
    assert claims_of(child)["txn"] == one


def test_leaving_the_task_out_never_gives_a_fresh_history(story: Story) -> None:
    default = claims_of(story.token(story.calendar))["txn"]
    assert claims_of(story.token(story.mail))["txn"] == default
    shown = story.json("GET", f"/tasks/{default}").ok()
    assert shown["default"]
    assert shown["touched"] == ["confidential", "department:sales", "external-send"]
    story.end(default)
    assert story.exchange(story.mail).error == "invalid_request"


def test_another_agents_task_is_no_task_of_this_consent(story: Story) -> None:
    task = story.task()
    other = story.world.agent(story.alice, ceiling=[(story.mail, "mail:read")])
    given = story.world.consented(story.browser, other, story.mail, scope="mail:read", away=True)
    answer = story.world.exchange(other, given["consent_id"], CONSENT, resource=story.mail.uri, task_id=task)
    assert answer.error == "invalid_request"


# Reports


def test_a_report_is_remembered_and_recorded(story: Story) -> None:
    task = story.task()
    token = story.token(story.mail, task, scope="mail:read")
    assert story.json("GET", f"/tasks/{task}").ok()["touched"] == ["department:sales"]
    answer = story.report(story.mail, task, token, action="mail:read", labels=["hr-data"], effect="opened-attachment").ok()
    assert answer["active"]
    assert story.json("GET", f"/tasks/{task}").ok()["touched"] == ["department:sales", "hr-data", "opened-attachment"]
    (entry,) = story.world.ledger(event="task.reported", task=task)
    assert entry["id"] == answer["event_id"]
    assert entry["labels"] == ["department:sales", "hr-data", "opened-attachment"]
    assert entry["who"]["actors"] == [story.assistant.uri]


def test_only_the_resource_of_the_token_reports_and_only_on_its_task(story: Story) -> None:
    task, other = story.task(), story.task()
    token = story.token(story.mail, task)
    assert story.report(story.calendar, task, token).error == "invalid_request"
    assert story.report(story.mail, other, token).error == "invalid_request"
    assert story.report(story.mail, task, token, labels=["No Label"]).error == "invalid_request"
    assert story.report(story.mail, task, token, more="x").error == "invalid_request"
    forged = Api(story.mail.uri, story.mail.id, story.mail.client_id, "wrong")
    assert story.report(forged, task, token).status == 401
    assert "hr-data" not in story.json("GET", f"/tasks/{task}").ok()["touched"]


def test_what_is_reported_after_the_end_is_recorded_and_changes_nothing(story: Story) -> None:
    task = story.task()
    token = story.token(story.mail, task)
    story.end(task)
    assert not story.report(story.mail, task, token, labels=["hr-data"]).ok()["active"]
    assert story.world.ledger(event="task.reported", task=task)


# Limits


def at_once(count: int, act: Callable[[int], Answer]) -> list[Answer]:
    answers: list[Answer | None] = [None] * count
    gate = threading.Barrier(min(count, 20))

    def run(first: int) -> None:
        gate.wait()
        for at in range(first, count, 20):
            answers[at] = act(at)

    threads = [threading.Thread(target=run, args=(first,)) for first in range(min(count, 20))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(answers)
    return [answer for answer in answers if answer is not None]


def test_a_task_with_two_uses_gives_two_tokens_whoever_asks(story: Story) -> None:
    task = story.task(limits={"uses": 2})
    token = story.token(story.mail, task)
    story.world.exchange(story.assistant, token, scope="mail:read").ok()
    for answer in (story.exchange(story.mail, task), story.world.exchange(story.assistant, token)):
        assert answer.error == "access_denied"
        assert answer.json["layer"] == "limit"
    assert story.world.active(story.mail, token)


def test_two_hundred_reports_over_three_children_with_ten_uses_are_ten(story: Story) -> None:
    task = story.task(limits={"uses": 10, "counts": "events"})
    parent = story.token(story.mail, task)
    children = [story.world.exchange(story.assistant, parent).ok()["access_token"] for _ in range(3)]
    answers = at_once(200, lambda at: story.report(story.mail, task, children[at % 3]))
    assert sum(answer.status == 200 for answer in answers) == 10
    assert {answer.error for answer in answers if answer.status != 200} == {"access_denied"}


def test_amounts_add_up_over_all_children_and_never_beyond_the_limit(story: Story) -> None:
    task = story.task(limits={"amount": {"currency": "EUR", "max": "100.00"}})
    parent = story.token(story.mail, task)
    children = [story.world.exchange(story.assistant, parent).ok()["access_token"] for _ in range(3)]

    def spend(at: int) -> Answer:
        return story.report(story.mail, task, children[at % 3], amount={"currency": "EUR", "value": "7.77"})

    assert sum(answer.status == 200 for answer in at_once(40, spend)) == 12
    for value in ("6.77", "1000000.00"):
        assert story.report(story.mail, task, parent, amount={"currency": "EUR", "value": value}).error == "access_denied"
    assert story.report(story.mail, task, parent, amount={"currency": "USD", "value": "0.01"}).error == "access_denied"
    for wrong in ({"currency": "EUR", "value": 1}, {"currency": "EUR", "value": "-1"}, {"currency": "EUR", "value": "1e3"}, "1"):
        assert story.report(story.mail, task, parent, amount=wrong).error == "invalid_request"
    story.report(story.mail, task, parent, amount={"currency": "EUR", "value": "6.76"}).ok()


def test_a_reference_counts_once(story: Story) -> None:
    task = story.task(limits={"uses": 2, "counts": "events"})
    token = story.token(story.mail, task)
    assert "repeated" not in story.report(story.mail, task, token, reference="msg-1").ok()
    assert story.report(story.mail, task, token, reference="msg-1").ok()["repeated"]
    story.report(story.mail, task, token, reference="msg-2").ok()
    assert story.report(story.mail, task, token, reference="msg-3").error == "access_denied"


def test_as_many_live_tokens_as_the_limit_says(story: Story) -> None:
    task = story.task(limits={"live_tokens": 3})
    answers = at_once(20, lambda _at: story.exchange(story.mail, task))
    assert sum(answer.status == 200 for answer in answers) == 3
    assert {answer.error for answer in answers if answer.status != 200} == {"access_denied"}
    said = {(answer.json["layer"], answer.json["limit"], answer.json["left"]) for answer in answers if answer.status != 200}
    assert said == {("limit", "live_tokens", 0)}


def test_a_bound_own_token_opens_a_task_only_with_a_proof_of_its_key(story: Story) -> None:
    holder, world = Holder(), story.world
    bound = own(world, story.assistant, holder).ok()["access_token"]

    def asked(scheme: str, token: str, **proof: str) -> Answer:
        body = json.dumps({"consent_id": story.consent, "purpose": "Answer the mail"}).encode()
        headers = {"Authorization": f"{scheme} {token}", "Content-Type": "application/json", **proof}
        return world.http.send("POST", "/tasks", body, headers)

    proof = holder.proof(world, "/tasks", ath=ath(bound))
    assert asked("Bearer", bound).error == "invalid_token"
    assert asked("DPoP", bound).error == "invalid_dpop_proof"
    assert asked("DPoP", bound, DPoP=Holder().proof(world, "/tasks", ath=ath(bound))).error == "invalid_dpop_proof"
    assert asked("DPoP", story.own, DPoP=proof).error == "invalid_token"
    assert asked("DPoP", bound, DPoP=proof).status == 201
    assert asked("DPoP", bound, DPoP=proof).error == "invalid_dpop_proof"
