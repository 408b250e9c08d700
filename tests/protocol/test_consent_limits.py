"""Limits of a consent: proposed by the agent, lowered by the person, counted over all tasks together (protocol §6, §7)."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import replace
from typing import Any

import pytest

from tests.protocol.answers import refresh
from tests.protocol.test_tasks import Story, at_once, story
from tests.world import Answer, claims_of

__all__ = ["story"]

AMOUNT = {"amount": {"currency": "EUR", "max": "100.00"}}


def limited(story: Story, limits: dict[str, Any] | None, **lowered: str) -> Story:
    """The same people and things, under a consent with limits. For two APIs a code gives no API token, so nothing is used yet."""
    asked = {"limits": json.dumps(limits)} if limits is not None else {}
    scope = "mail:read mail:send calendar:read"
    given = story.world.consented(
        story.browser, story.assistant, story.mail, story.calendar, scope=scope, away=True, asked=asked, limits=lowered
    )
    return replace(story, consent=given["consent_id"])


def page(story: Story, limits: Any) -> Answer:
    text = limits if isinstance(limits, str) else json.dumps(limits)
    verifier = secrets.token_urlsafe(48)
    return story.browser.authorize(story.world.authorization(story.assistant, verifier, story.mail, scope="mail:read", limits=text))


def spend(story: Story, task: str, token: str, value: str) -> Answer:
    return story.report(story.mail, task, token, amount={"currency": "EUR", "value": value})


def test_the_page_says_the_limits_in_plain_words(story: Story) -> None:
    shown = page(story, {"uses": 10, "live_tokens": 3, **AMOUNT}).text
    assert "at most 10 times, at most 3 at the same time, at most 100.00 EUR in all" in shown
    assert "at most 10 actions" in page(story, {"uses": 10, "counts": "events"}).text


def test_a_consent_with_ten_uses_gives_ten_tokens_over_all_its_tasks(story: Story) -> None:
    story = limited(story, {"uses": 10})
    tasks = [story.task(), story.task(), None]
    answers = at_once(40, lambda at: story.exchange(story.mail, tasks[at % 3]))
    assert sum(answer.status == 200 for answer in answers) == 10
    assert {(answer.error, answer.json.get("layer"), answer.json.get("limit")) for answer in answers if answer.status != 200} == {
        ("access_denied", "limit", "uses")
    }
    (record, *_) = story.world.ledger(id=next(answer.json["audit_id"] for answer in answers if answer.status != 200))
    assert (record["layer"], record["consent"]) == ("limit", story.consent)
    assert "consent" in record["reason"]


def test_refresh_tokens_count_against_the_consent_too_and_the_one_that_was_refused_is_still_good(story: Story) -> None:
    scope = "mail:read calendar:read"
    limits = {"uses": 4}
    given = story.world.consented(
        story.browser, story.assistant, story.mail, story.calendar, scope=scope, away=True, asked={"limits": json.dumps(limits)}
    )
    for api in (story.mail, story.calendar) * 2:
        given = refresh(story.world, story.assistant, given["refresh_token"], resource=api.uri).ok()
    refused = refresh(story.world, story.assistant, given["refresh_token"], resource=story.mail.uri)
    assert (refused.error, refused.json["limit"]) == ("access_denied", "uses")
    # For both APIs it is a hand-over, which is no use.
    assert refresh(story.world, story.assistant, given["refresh_token"]).status == 200


def test_reported_amounts_add_up_over_tasks_and_children_and_never_exceed_the_consents(story: Story) -> None:
    story = limited(story, AMOUNT)
    held = []
    for _ in range(3):
        task = story.task()
        parent = story.token(story.mail, task)
        held += [(task, parent), (task, story.world.exchange(story.assistant, parent).ok()["access_token"])]
    answers = at_once(60, lambda at: spend(story, *held[at % 6], "7.77"))
    assert sum(answer.status == 200 for answer in answers) == 12
    assert spend(story, *held[0], "6.77").error == "access_denied"
    assert spend(story, *held[0], "6.76").status == 200
    assert spend(story, *held[3], "0.0001").error == "access_denied"
    foreign = story.report(story.mail, held[0][0], held[0][1], amount={"currency": "USD", "value": "0.01"})
    assert (foreign.error, foreign.json["layer"]) == ("access_denied", "limit")


def test_reported_events_count_against_the_consent(story: Story) -> None:
    story = limited(story, {"uses": 3, "counts": "events"})
    one, other = story.task(), story.task()
    tokens = {task: story.token(story.mail, task) for task in (one, other)}
    assert [story.report(story.mail, task, tokens[task]).status for task in (one, other, one, other)] == [200, 200, 200, 400]


def test_as_many_live_tokens_as_the_consent_says_over_all_tasks(story: Story) -> None:
    story = limited(story, {"live_tokens": 3})
    tasks = [story.task(), story.task()]
    answers = at_once(20, lambda at: story.exchange(story.mail, tasks[at % 2]))
    assert sum(answer.status == 200 for answer in answers) == 3


def test_a_short_token_does_not_make_a_long_one_uncounted(story: Story) -> None:
    story = limited(story, {"live_tokens": 2})
    long, short = story.task(), story.task(expires_in=2)
    story.token(story.mail, long)
    story.token(story.mail, short)
    time.sleep(3.1)
    assert [story.exchange(story.mail, long).status for _ in range(2)] == [200, 400]


def test_a_task_has_no_more_than_its_consent_and_may_have_less(story: Story) -> None:
    story = limited(story, {"uses": 5})
    small = story.task(limits={"uses": 2})
    assert [story.exchange(story.mail, small).status for _ in range(3)] == [200, 200, 400]
    large = story.task(limits={"uses": 100})
    assert [story.exchange(story.mail, large).status for _ in range(4)] == [200, 200, 200, 400]


def test_an_agent_sees_what_its_task_and_its_consent_have_left(story: Story) -> None:
    plain = story.task()
    assert "left" not in story.json("GET", f"/tasks/{plain}").ok()
    story = limited(story, {"uses": 5, **AMOUNT})
    task = story.task(limits={"uses": 9, "amount": {"currency": "EUR", "max": "20.00"}})

    def left() -> Any:
        return story.json("GET", f"/tasks/{task}").ok()["left"]

    assert left() == {"uses": 5, "amount": {"currency": "EUR", "value": "20.00"}}
    token = story.token(story.mail, task)
    spend(story, task, token, "7.50").ok()
    assert left() == {"uses": 4, "amount": {"currency": "EUR", "value": "12.50"}}
    other = story.task()
    spend(story, other, story.token(story.mail, other), "85.00").ok()
    # What is done in another task leaves the consent with less than this task has of its own.
    assert left() == {"uses": 3, "amount": {"currency": "EUR", "value": "7.50"}}
    for _ in range(3):
        story.token(story.mail, task)
    assert left()["uses"] == 0
    story.json("POST", f"/tasks/{task}/end", {}).ok()
    assert "left" not in story.json("GET", f"/tasks/{task}").ok()


def test_a_task_in_another_currency_cannot_be_compared_and_is_not_opened(story: Story) -> None:
    story = limited(story, AMOUNT)
    answer = story.asked(limits={"amount": {"currency": "USD", "max": "1.00"}})
    assert (answer.status, answer.error) == (400, "invalid_request")
    assert story.world.ledger(id=answer.json["audit_id"])[0]["layer"] == "limit"


def test_the_person_lowers_what_was_proposed(story: Story) -> None:
    story = limited(story, {"uses": 10, **AMOUNT}, uses="2", amount="50")
    held = story.world.server.consents.find(story.consent)
    assert held is not None
    assert held.value.limits.stored() == {"uses": 2, "counts": "tokens", "amount": {"currency": "EUR", "max": "50.00"}}
    assert [story.exchange(story.mail).status for _ in range(3)] == [200, 200, 400]
    (record,) = story.world.ledger(event="consent.given", consent=story.consent)
    assert record["limits"] == held.value.limits.stored()


def test_the_person_sets_a_limit_of_her_own(story: Story) -> None:
    story = limited(story, None, uses="1")
    assert [story.exchange(story.mail).status for _ in range(2)] == [200, 400]


@pytest.mark.parametrize(
    "typed",
    [{"uses": "11"}, {"uses": "0"}, {"uses": "-1"}, {"uses": "1.5"}, {"uses": "ten"}, {"uses": "9999999"},
     {"amount": "100.01"}, {"amount": "1e2"}, {"amount": "-5"}, {"amount": "12,50"}, {"live_tokens": "2"}],
    ids=str,
)  # fmt: skip
def test_nothing_is_raised_on_the_page(story: Story, typed: dict[str, str]) -> None:
    answer = story.browser.decide(page(story, {"uses": 10, **AMOUNT}), limits=typed)
    assert answer.status == 400
    assert "lowered here, not raised" in answer.text


def test_an_empty_field_is_what_was_proposed(story: Story) -> None:
    story = limited(story, {"uses": 2}, uses="")
    held = story.world.server.consents.find(story.consent)
    assert held is not None
    assert held.value.limits.uses == 2


@pytest.mark.parametrize(
    "limits", ["", "[]", "{", '{"uses":0}', '{"cost":1}', '{"uses":1,"uses":2}', '{"amount":{"currency":"EUR","max":5}}']
)
def test_limits_that_are_not_understood_are_no_request(story: Story, limits: str) -> None:
    answer = page(story, limits)
    if not limits:
        assert answer.status == 200
        return
    assert answer.status == 303
    assert "error=invalid_request" in answer.headers["Location"]


def test_an_application_that_signs_in_has_no_limits_to_propose(story: Story) -> None:
    app = story.world.app(pairs=[(story.mail, "mail:read")])
    query = story.world.authorization(app, secrets.token_urlsafe(48), story.mail, scope="openid mail:read", limits='{"uses": 3}')
    assert "error=invalid_request" in story.browser.authorize(query).headers["Location"]


def test_limits_lowered_later_hold_at_once(story: Story) -> None:
    from app.delegation.limits import Limits
    from app.errors import Refused
    from tests.world import BY

    story = limited(story, {"uses": 10})
    story.token(story.mail)
    consents = story.world.server.consents
    held = consents.find(story.consent)
    assert held is not None
    consent = held.value
    with pytest.raises(Refused):
        consents.narrow(consent.id, pairs=consent.pairs, until=consent.until, by=BY, limits=Limits(uses=11))
    with pytest.raises(Refused):
        consents.narrow(consent.id, pairs=consent.pairs, until=consent.until, by=BY, limits=Limits())
    consents.narrow(consent.id, pairs=consent.pairs, until=consent.until, by=BY, limits=Limits(uses=2))
    assert [story.exchange(story.mail).status for _ in range(2)] == [200, 400]


# Carried and narrowed as authorization_details (RFC 9396)


def details(story: Story, limit: Any = None, action: str = "mail:read") -> str:
    entry: dict[str, Any] = {"type": "resource_access", "locations": [story.mail.uri], "actions": [action]}
    return json.dumps([entry if limit is None else {**entry, "limits": limit}])


def most(value: str, currency: str = "EUR") -> dict[str, Any]:
    return {"amount": {"currency": currency, "max": value}}


def test_the_limit_is_in_the_token_the_answer_introspection_and_the_record(story: Story) -> None:
    story = limited(story, AMOUNT)
    answer = story.exchange(story.mail, scope="mail:read").ok()
    expected = json.loads(details(story, most("100.00")))
    token = answer["access_token"]
    assert answer["authorization_details"] == expected
    assert claims_of(token)["authorization_details"] == expected
    assert story.world.introspect(story.mail, token)["authorization_details"] == expected
    (record,) = story.world.ledger(event="token.issued", jti=claims_of(token)["jti"])
    assert record["limits"] == most("100.00")


def test_without_a_limit_there_are_no_details(story: Story) -> None:
    answer = story.exchange(story.mail).ok()
    assert "authorization_details" not in answer
    assert "authorization_details" not in claims_of(answer["access_token"])


def test_a_child_is_narrowed_and_its_children_stay_below(story: Story) -> None:
    story = limited(story, AMOUNT)
    task = story.task()
    parent = story.token(story.mail, task, scope="mail:read")
    exchange = story.world.exchange
    child = exchange(story.assistant, parent, authorization_details=details(story, most("40.00"))).ok()["access_token"]
    grandchild = exchange(story.assistant, child).ok()["access_token"]
    assert claims_of(grandchild)["authorization_details"] == json.loads(details(story, most("40.00")))
    for wrong in (
        most("40.0001"),
        most("10.00", "USD"),
        None,
        {"amount": {"currency": "EUR", "max": 4}},
        {"uses": 1},
        {},
        {**most("1"), "x": 1},
    ):
        answer = exchange(story.assistant, grandchild, authorization_details=details(story, wrong))
        assert (answer.status, answer.error) == (400, "invalid_authorization_details"), wrong
    assert spend(story, task, grandchild, "30.00").status == 200
    assert spend(story, task, child, "10.01").error == "access_denied"
    assert spend(story, task, child, "10.00").status == 200
    assert spend(story, task, grandchild, "0.01").error == "access_denied"
    assert spend(story, task, parent, "60.00").status == 200
    assert spend(story, task, parent, "0.01").error == "access_denied"


def test_a_limit_can_be_set_where_there_was_none(story: Story) -> None:
    task = story.task()
    parent = story.token(story.mail, task, scope="mail:read")
    child = story.world.exchange(story.assistant, parent, authorization_details=details(story, most("5.00"))).ok()["access_token"]
    assert spend(story, task, child, "5.01").error == "access_denied"
    assert spend(story, task, child, "5.00").status == 200
    assert story.report(story.mail, task, child, amount={"currency": "USD", "value": "1"}).error == "access_denied"


def test_two_limits_in_one_request_are_not_understood(story: Story) -> None:
    both = json.loads(details(story, most("5"))) + json.loads(details(story, most("6"), "mail:send"))
    answer = story.exchange(story.mail, authorization_details=json.dumps(both))
    assert answer.error == "invalid_authorization_details"


def test_a_hand_over_carries_the_limit_and_the_other_agent_cannot_raise_it(story: Story) -> None:
    world = story.world
    booking = world.agent(story.alice, ceiling=[(story.mail, "mail:read")])
    first = world.agent(story.alice, ceiling=[(story.mail, "mail:read"), (story.calendar, "calendar:read")], hands_to=[booking])
    given = world.consented(
        story.browser, first, story.mail, story.calendar, scope="mail:read calendar:read", away=True, asked={"limits": json.dumps(AMOUNT)}
    )
    handed = world.exchange(first, given["access_token"], audience=booking.uri, authorization_details=details(story, most("30.00"))).ok()
    assert handed["authorization_details"] == json.loads(details(story, most("30.00")))
    assert claims_of(handed["access_token"])["authorization_details"] == handed["authorization_details"]
    raised = world.exchange(booking, handed["access_token"], resource=story.mail.uri, authorization_details=details(story, most("30.01")))
    assert raised.error == "invalid_authorization_details"
    token = world.exchange(booking, handed["access_token"], resource=story.mail.uri).ok()
    assert token["authorization_details"] == json.loads(details(story, most("30.00")))
    assert spend(story, token["task_id"], token["access_token"], "30.01").error == "access_denied"
    assert spend(story, token["task_id"], token["access_token"], "30.00").status == 200


def test_the_amount_of_a_call_is_held_against_all_of_them(story: Story) -> None:
    story = limited(story, AMOUNT)
    task = story.task(limits=most("80.00"))
    token = story.token(story.mail, task, scope="mail:read", authorization_details=details(story, most("50.00")))

    def ask(value: str, *, consume: bool = True) -> dict[str, Any]:
        body = {
            "subject": {"type": "access_token", "id": token},
            "action": {"name": "mail:read", "properties": {"amount": {"currency": "EUR", "value": value}}},
            "resource": {"type": "message", "id": "m"},
            "context": {"consume": consume},
        }
        from tests.world import basic

        headers = {**basic(story.mail.client_id, story.mail.client_secret), "Content-Type": "application/json"}
        return story.world.http.send("POST", "/access/v1/evaluation", json.dumps(body).encode(), headers).ok()

    assert ask("50.01")["context"]["left"] == "50.00"
    assert ask("50.00", consume=False)["decision"] is True
    assert ask("50.00")["decision"] is True
    assert ask("0.01")["context"]["left"] == "0.00"
