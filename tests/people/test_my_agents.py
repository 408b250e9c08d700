"""What a human sees of her agents, and what she can do about them: all of it effective at the next request."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.agents.models import AgentRow
from app.delegation.models import ConsentRow
from tests.people.conftest import Later
from tests.people.reading import form_of, press, told, words
from tests.protocol.answers import refresh, refused
from tests.world import BY, CONSENT, PASSWORD, Answer, Api, Browser, Party, Person, World, basic, checkboxes, claims_of, hidden

DAY = 86_400
HERE = "/my/agents"


@dataclass
class Story:
    world: World
    alice: Person
    bob: Person
    calendar: Api
    travel: Api
    booking: Party
    assistant: Party
    browser: Browser
    given: dict[str, Any] = field(default_factory=dict)

    @property
    def consent(self) -> str:
        return str(self.given["consent_id"])

    def page(self) -> Answer:
        return self.browser.get(HERE)

    def exchange(self, api: Api | None = None, **more: str) -> Answer:
        return self.world.exchange(self.assistant, self.consent, CONSENT, resource=(api or self.calendar).uri, **more)

    def token(self, api: Api | None = None, **more: str) -> str:
        return str(self.exchange(api, **more).ok()["access_token"])

    def task(self, **more: Any) -> str:
        return self.world.opened(self.world.own_token(self.assistant).ok()["access_token"], self.consent, **more)


@pytest.fixture
def story(world: World) -> Story:
    alice, bob = world.human(), world.human()
    calendar = world.resource("calendar:read", "calendar:write", name="The calendar")
    travel = world.resource("travel:book", name="The travel agency", labels=["money"])
    ceiling = [(calendar, "calendar:read"), (calendar, "calendar:write"), (travel, "travel:book")]
    booking = world.agent(bob, ceiling=[(travel, "travel:book")], name="The booking agent")
    assistant = world.agent(bob, ceiling=ceiling, hands_to=[booking], name="The assistant", purpose="Plans your days")
    made = Story(world, alice, bob, calendar, travel, booking, assistant, world.signed_in(alice))
    made.given = world.consented(made.browser, assistant, calendar, travel, away=True)
    return made


# What she sees


def test_each_agent_is_there_with_its_owner_its_purpose_what_it_may_and_until_when(story: Story) -> None:
    text = words(story.page())
    for said in (
        "The assistant", f"Name of {story.bob.username} answers for it", "Plans your days", "The calendar", "Do calendar:read", "Do travel:book",
        "in 30 days", "Yes, it may work without you", "May hand work to", "The booking agent",
    ):  # fmt: skip
        assert said in text, said


def test_what_an_agent_was_allowed_twice_stands_under_its_one_name(story: Story) -> None:
    again = story.world.consented(story.browser, story.assistant, story.calendar, scope="calendar:read")
    page = story.page().text
    assert page.count("<article") == 1
    for consent in (story.consent, again["consent_id"]):
        assert page.count(f'href="{HERE}/{consent}/withdraw"') == 1


def test_a_task_is_there_with_its_purpose_its_limits_and_what_it_touched(story: Story) -> None:
    task = story.task(purpose="A trip to Rome", limits={"uses": 7, "amount": {"currency": "EUR", "max": "500.00"}}, expires_in=7200)
    story.token(story.travel, task_id=task)
    story.world.ledger(event="token.issued", task=task)
    text = words(story.page())
    for said in ("“A trip to Rome”", "at most 7 times", "at most 500.00 EUR in all", "ends in 2 hours", "Touched: The travel agency money"):
        assert said in text, said
    assert "used 1 time, last just now" in text


def test_what_may_be_used_up_of_a_consent_is_there(story: Story) -> None:
    with story.world.server.deeds.deed() as deed:
        deed.session.get_one(ConsentRow, story.consent).limits = {"uses": 3, "counts": "tokens"}
    assert "<dt>Limits</dt><dd>at most 3 times</dd>" in story.page().text


def test_what_an_api_let_it_do_and_did_not_is_told(story: Story) -> None:
    token = story.token(story.travel)
    for consume, amount in (("true", "420.00"), ("false", "1.00")):
        details = f'{{"consume":{consume},"amount":{{"currency":"EUR","value":"{amount}"}}}}'
        form = {"token": token, "action": "travel:book", "action_details": details}
        story.world.post("/oauth/introspect", form, basic(story.travel.client_id, story.travel.client_secret)).ok()
    refused = {"token": token, "action": "travel:cancel"}
    story.world.post("/oauth/introspect", refused, basic(story.travel.client_id, story.travel.client_secret)).ok()
    story.world.ledger(event="call.refused")
    text = words(story.page())
    assert "The travel agency let The assistant do “do travel:book” (EUR 420.00)" in text
    assert "The travel agency did not let The assistant do “travel:cancel”: it asked for more than it may have" in text
    # What was only looked at is no deed.
    assert "EUR 1.00" not in text


def test_what_was_done_is_told_newest_first_in_plain_words(story: Story) -> None:
    handed = story.world.exchange(story.assistant, story.consent, CONSENT, audience=story.booking.uri, scope="travel:book").ok()
    booked = story.world.exchange(story.booking, handed["access_token"], resource=story.travel.uri).ok()["access_token"]
    assert story.world.active(story.travel, booked)
    task = story.world.ledger(event="token.issued", audience=story.travel.uri)[-1]["task"]
    report = {"token": booked, "action": "travel:book", "amount": {"currency": "EUR", "value": "99.50"}}
    headers = {**basic(story.travel.client_id, story.travel.client_secret), "Content-Type": "application/json"}
    assert story.world.http.send("POST", f"/tasks/{task}/events", json.dumps(report).encode(), headers).status == 200
    refused(story.world.exchange(story.booking, handed["access_token"], resource=story.calendar.uri), "invalid_target")
    story.world.ledger(event="token.refused", consent=story.consent)
    assert told(story.page())[:5] == [
        "The booking agent, asked by The assistant, was refused access to The calendar: that is not among what you allowed",
        "The travel agency reports: The booking agent, asked by The assistant, did “do travel:book” (EUR 99.50)",
        "The booking agent, asked by The assistant, got access to The travel agency: do travel:book, for 5 minutes",
        "The assistant handed work to The booking agent: The travel agency: do travel:book, for 5 minutes",
        "The assistant began with what you allowed: The calendar: do calendar:read, do calendar:write; The travel agency: do travel:book, for 5 minutes",
    ]  # fmt: skip


def test_what_was_done_over_and_over_is_one_line_and_says_who_came_alone(story: Story) -> None:
    for _ in range(3):
        last = claims_of(story.token())["jti"]
    story.world.ledger(event="token.issued", jti=last)
    assert "3 times in a row · came on its own" in words(story.page())


def test_nobody_sees_what_is_another_humans(story: Story) -> None:
    task = story.task(purpose="A trip to Rome")
    stranger = story.world.signed_in(story.bob)
    assert "The assistant" not in words(stranger.get(HERE))
    assert "The assistant" not in words(stranger.get("/my/activity"))
    for path in (f"{HERE}/{story.consent}/narrow", f"{HERE}/{story.consent}/withdraw", f"{HERE}/tasks/{task}/stop"):
        assert stranger.get(path).status == 404
        assert stranger.post(path, form_of(story.page(), f"{HERE}/tasks/{task}/stop")).status in {403, 404}
    assert story.world.active(story.calendar, story.token(task_id=task))


def test_the_names_are_those_of_now_and_the_ledger_has_none(story: Story) -> None:
    story.world.ledger(event="token.issued", jti=claims_of(story.token())["jti"])
    (record, *_) = story.world.ledger(event="consent.given", consent=story.consent)
    assert "The assistant" not in json.dumps(record)
    with story.world.server.deeds.deed() as deed:
        deed.session.get_one(AgentRow, story.assistant.id).name = "The right hand"
    assert any(line.startswith("The right hand got access to") for line in told(story.page()))


# Pausing


def test_paused_nothing_lives_and_nothing_is_issued_and_resumed_nothing_revives(story: Story) -> None:
    token, world = story.token(), story.world
    task = story.task(purpose="Goes on afterwards")
    handed = world.exchange(story.assistant, story.consent, CONSENT, audience=story.booking.uri, scope="travel:book").ok()["access_token"]
    booked = world.exchange(story.booking, handed, resource=story.travel.uri).ok()["access_token"]
    answer = press(story.browser, story.page(), f"{HERE}/pause")
    assert answer.status == 303
    assert not world.active(story.calendar, token)
    assert not world.active(story.travel, booked)
    refused(story.exchange(), "invalid_request")
    refused(story.exchange(task_id=task), "invalid_request")
    refused(world.exchange(story.booking, handed, resource=story.travel.uri), "invalid_request")
    refused(refresh(world, story.assistant, story.given["refresh_token"], resource=story.calendar.uri), "invalid_grant")
    own = world.own_token(story.assistant).ok()["access_token"]
    asked = json.dumps({"consent_id": story.consent, "purpose": "Sneaks in"}).encode()
    opened = world.http.send("POST", "/tasks", asked, {"Authorization": f"Bearer {own}", "Content-Type": "application/json"})
    assert opened.status == 400
    assert f"{HERE}?paused={story.assistant.client_id}" == answer.headers["Location"]
    text = words(story.browser.get(answer.headers["Location"]))
    assert "The assistant is paused." in text
    assert "Paused by you" in text
    assert press(story.browser, story.page(), f"{HERE}/resume").status == 303
    assert not world.active(story.calendar, token)
    assert not world.active(story.travel, booked)
    refused(world.exchange(story.booking, handed, resource=story.travel.uri), "invalid_request")
    assert world.active(story.calendar, story.token())
    assert world.active(story.calendar, story.token(task_id=task))
    assert refresh(world, story.assistant, story.given["refresh_token"], resource=story.calendar.uri).status == 200
    world.ledger(event="consent.resumed", consent=story.consent)
    lines = told(story.page())
    assert "You paused The assistant" in lines
    assert "You resumed The assistant" in lines


def test_a_paused_agent_is_told_no_more_than_of_a_withdrawn_one(story: Story) -> None:
    press(story.browser, story.page(), f"{HERE}/pause")
    paused = story.exchange().json
    press(story.browser, story.page(), f"{HERE}/resume")
    path = f"{HERE}/{story.consent}/withdraw"
    story.browser.post(path, hidden(story.browser.get(path)))
    withdrawn = story.exchange().json
    assert {k: v for k, v in paused.items() if k != "audit_id"} == {k: v for k, v in withdrawn.items() if k != "audit_id"}


def test_pausing_is_of_one_agent_of_one_human(story: Story) -> None:
    other = story.world.agent(story.bob, ceiling=[(story.calendar, "calendar:read")], name="Another")
    beside = story.world.consented(story.browser, other, story.calendar, away=True)
    bobs = story.world.consented(story.world.signed_in(story.bob), story.assistant, story.calendar, scope="calendar:read", away=True)
    (card,) = [part for part in story.page().text.split("<article") if f"party-{story.assistant.client_id}" in part]
    fields = form_of(Answer(200, {}, card.encode()), f"{HERE}/pause")
    assert story.browser.post(f"{HERE}/pause", fields).status == 303
    refused(story.exchange(), "invalid_request")
    for agent, consent in ((other, beside), (story.assistant, bobs)):
        assert story.world.exchange(agent, consent["consent_id"], CONSENT, resource=story.calendar.uri).status == 200
    # The form for one agent pauses no other.
    assert story.browser.post(f"{HERE}/pause", [fields[0], ("client_id", other.client_id)]).status == 403


# Narrowing


def test_narrowed_it_can_do_what_is_left_and_what_it_held_is_dead(story: Story) -> None:
    held = story.token()
    page = story.browser.get(f"{HERE}/{story.consent}/narrow")
    assert set(checkboxes(page, "scope")) == {
        f"{story.calendar.uri} calendar:read",
        f"{story.calendar.uri} calendar:write",
        f"{story.travel.uri} travel:book",
    }
    answer = story.browser.post(
        f"{HERE}/{story.consent}/narrow", [*hidden(page), ("scope", f"{story.calendar.uri} calendar:read"), ("lifetime", "3600")]
    )
    assert answer.status == 303
    assert not story.world.active(story.calendar, held)
    left = story.exchange().ok()
    assert left["scope"] == "calendar:read"
    assert left["authorization_expires_in"] <= 3600
    refused(story.exchange(story.travel), "invalid_target")
    text = words(story.browser.get(answer.headers["Location"]))
    assert "The assistant has now what is listed below and no more." in text
    assert "Do travel:book" not in words(story.browser.get(f"{HERE}?updates=off")).partition("Done in your name")[0]


@pytest.mark.parametrize(
    "fields",
    [
        [("scope", "https://elsewhere.example read")], [("scope", "calendar:read")], [("scope", "")], [("lifetime", "1.5")], [("lifetime", "-1")],
        [("lifetime", "3600"), ("lifetime", "7200")],
    ],
    ids=str,
)  # fmt: skip
def test_what_the_form_did_not_offer_changes_nothing(story: Story, fields: list[tuple[str, str]]) -> None:
    page = story.browser.get(f"{HERE}/{story.consent}/narrow")
    answer = story.browser.post(f"{HERE}/{story.consent}/narrow", [*hidden(page), *fields])
    assert answer.status == 400
    assert len(story.exchange().ok()["scope"].split()) == 2


def test_a_longer_time_is_no_longer_time(story: Story) -> None:
    page = story.browser.get(f"{HERE}/{story.consent}/narrow")
    fields = [*hidden(page), ("scope", f"{story.calendar.uri} calendar:read"), ("lifetime", str(90 * DAY))]
    assert story.browser.post(f"{HERE}/{story.consent}/narrow", fields).status == 303
    assert story.exchange().ok()["authorization_expires_in"] <= 30 * DAY


def test_unticking_everything_is_asked_again(story: Story) -> None:
    page = story.browser.get(f"{HERE}/{story.consent}/narrow")
    answer = story.browser.post(f"{HERE}/{story.consent}/narrow", hidden(page))
    assert answer.status == 400
    assert "Leave it at least one thing" in answer.text
    assert story.exchange().status == 200


def test_a_limit_is_set_and_lowered_and_counts_from_then_on(story: Story) -> None:
    story.exchange().ok()

    def narrowed(**typed: str) -> Answer:
        page = story.browser.get(f"{HERE}/{story.consent}/narrow")
        ticked = [("scope", value) for value in checkboxes(page, "scope")]
        return story.browser.post(f"{HERE}/{story.consent}/narrow", [*hidden(page), *ticked, ("lifetime", ""), *typed.items()])

    assert narrowed(uses="3").status == 303
    assert 'value="3"' in story.browser.get(f"{HERE}/{story.consent}/narrow").text
    assert "at most 3 times" in words(story.browser.get(f"{HERE}?updates=off"))
    for wrong in ("4", "0", "-1", "1.5", "many"):
        answer = narrowed(uses=wrong)
        assert answer.status == 400
        assert "A limit can be lowered here, not raised" in answer.text
    assert narrowed(amount="5.00").status == 400
    assert narrowed(uses="2").status == 303
    assert [story.exchange().status for _ in range(3)] == [200, 200, 400]


def test_leaving_it_as_it_is_ends_nothing(story: Story) -> None:
    token = story.token()
    page = story.browser.get(f"{HERE}/{story.consent}/narrow")
    fields = [*hidden(page), *(("scope", value) for value in checkboxes(page, "scope")), ("lifetime", "")]
    assert story.browser.post(f"{HERE}/{story.consent}/narrow", fields).status == 303
    assert story.world.active(story.calendar, token)


# Stopping


def test_a_stopped_task_is_dead_and_the_others_go_on(story: Story) -> None:
    rome, oslo = story.task(purpose="Rome"), story.task(purpose="Oslo")
    first, second, third = story.token(task_id=rome), story.token(task_id=oslo), story.token()
    answer = press(story.browser, story.page(), f"{HERE}/tasks/{rome}/stop")
    assert answer.status == 303
    assert not story.world.active(story.calendar, first)
    assert story.world.active(story.calendar, second)
    assert story.world.active(story.calendar, third)
    refused(story.exchange(task_id=rome), "invalid_request")
    text = words(story.browser.get(answer.headers["Location"]))
    assert "Stopped. Nothing of that work of The assistant gets through any more." in text
    story.world.ledger(event="revoked", kind="task", target=rome)
    assert "You stopped “Rome”" in told(story.page())
    assert f"/tasks/{rome}/stop" not in story.page().text
    assert story.browser.post(f"{HERE}/tasks/{rome}/stop", []).status == 403


def test_work_without_a_task_is_asked_about_before_it_is_stopped(story: Story) -> None:
    token = story.token()
    page = story.page()
    (path,) = {part.split('"')[0] for part in page.text.split('href="')[1:] if part.split('"')[0].endswith("/stop")}
    asked = story.browser.get(path)
    assert "It cannot begin that again by itself" in words(asked)
    assert story.world.active(story.calendar, token)
    assert story.browser.post(path, hidden(asked)).status == 303
    assert not story.world.active(story.calendar, token)
    refused(story.exchange(), "invalid_request")


def test_what_an_operator_does_to_her_consent_is_told_to_her(story: Story) -> None:
    story.world.server.consents.withdraw(story.consent, by=BY)
    story.world.ledger(event="consent.withdrawn", consent=story.consent)
    assert told(story.page())[0] == "An operator withdrew what you allowed The assistant"


# The page that keeps itself up to date


def seen(page: Answer) -> str:
    return page.text.partition('hx-get="')[2].partition('"')[0]


def test_nothing_new_is_no_answer_and_something_new_is_the_page(story: Story) -> None:
    story.world.ledger(event="token.issued", consent=story.consent)
    for _ in range(50):
        page = story.page()
        answer = story.browser.get(seen(page))
        if answer.status == 204:
            break
    assert (answer.status, answer.body) == (204, b"")
    story.token()
    story.world.ledger(event="token.issued", consent=story.consent, audience=story.calendar.uri)
    answer = story.browser.get(seen(page))
    assert answer.status == 200
    assert told(answer)[0].startswith("The assistant got access to The calendar")
    assert "<html" not in answer.text
    assert story.browser.get(seen(answer)).status in {200, 204}


def test_a_page_that_asks_by_itself_keeps_nobody_signed_in(story: Story, later: Later) -> None:
    page = story.page()
    idle = story.world.server.settings.session_idle
    for minutes in range(60, idle, 3600):
        later(minutes)
        assert story.browser.get(seen(page)).status in {200, 204}
    later(idle + 1)
    answer = story.browser.get(seen(page))
    assert answer.status == 401
    assert answer.headers["HX-Redirect"] == "/login?next=/my/agents"
    assert story.page().status == 303


def test_updates_can_be_switched_off(story: Story) -> None:
    page = story.browser.get(f"{HERE}?updates=off")
    assert "hx-get" not in page.text
    assert "<script" not in page.text
    assert "connect-src" not in page.headers["Content-Security-Policy"]
    assert "connect-src 'self'" in story.page().headers["Content-Security-Policy"]


def test_signed_out_nothing_is_shown_and_nothing_is_done(story: Story) -> None:
    page = story.page()
    stranger = story.world.browser()
    assert stranger.get(f"{HERE}/live").status == 401
    for path in (HERE, f"{HERE}/{story.consent}/narrow", "/my/activity"):
        assert stranger.get(path).status == 303
    assert stranger.post(f"{HERE}/pause", form_of(page, f"{HERE}/pause")).status == 303
    assert story.exchange().status == 200
    assert stranger.sign_in(story.alice.username, PASSWORD).status == 303
    assert stranger.post(f"{HERE}/pause", form_of(page, f"{HERE}/pause")).status == 403
    assert story.exchange().status == 200
