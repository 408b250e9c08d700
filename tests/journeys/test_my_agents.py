"""My agents at a real browser: it shows what is done as it is done, and stops what she stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.node import node
from tests.journeys.conftest import Visitor
from tests.world import BY, CONSENT, PASSWORD, Api, Party, Person, World

pytestmark = pytest.mark.browser

HERE = "/my/agents"


@dataclass
class Story:
    world: World
    alice: Person
    calendar: Api
    agent: Party
    consent: str

    def token(self, **more: str) -> str:
        answer = self.world.exchange(self.agent, self.consent, CONSENT, resource=self.calendar.uri, **more)
        return str(answer.ok()["access_token"])

    def task(self, purpose: str) -> str:
        return self.world.opened(self.world.own_token(self.agent).ok()["access_token"], self.consent, purpose=purpose)


@pytest.fixture
def story(world: World) -> Story:
    alice = world.human()
    calendar = world.resource("calendar:read", "calendar:write", name="The calendar")
    ceiling = [(calendar, "calendar:read"), (calendar, "calendar:write")]
    agent = world.agent(world.human(), ceiling=ceiling, name="The assistant")
    given = world.consented(world.signed_in(alice), agent, calendar, away=True)
    return Story(world, alice, calendar, agent, given["consent_id"])


def watching(story: Story, visitor: Visitor) -> Any:
    visitor.goto("/login?next=" + HERE)
    visitor.sign_in(story.alice.username, PASSWORD)
    visitor.page.get_by_role("heading", name="My agents").wait_for()
    return visitor.page


def test_what_is_done_shows_by_itself_and_nothing_she_holds_is_lost(story: Story, visitor: Visitor) -> None:
    page = watching(story, visitor)
    pause = page.get_by_role("button", name="Pause The assistant")
    pause.focus()
    page.evaluate("document.querySelector('.party').same = 'yes'")
    story.task("A trip to Rome")
    page.get_by_text("The assistant began a task: “A trip to Rome”").wait_for()
    page.get_by_role("button", name="Stop A trip to Rome").wait_for()
    story.token()
    page.get_by_text("The assistant got access to The calendar: do calendar:read, do calendar:write, for 5 minutes").first.wait_for()
    # It was not drawn anew: what was there is there, and so is the focus.
    assert page.evaluate("document.querySelector('.party').same") == "yes"
    assert visitor.focused().split() == ["Pause", "The", "assistant"]
    with page.expect_response(lambda response: "/my/agents/live?seen=" in response.url and response.status == 204):
        """Where nothing is new, nothing is sent."""


def test_what_she_stops_while_it_shows_by_itself_is_stopped(story: Story, visitor: Visitor) -> None:
    page = watching(story, visitor)
    task = story.task("A trip to Rome")
    token = story.token(task_id=task)
    assert story.world.active(story.calendar, token)
    page.get_by_role("button", name="Stop A trip to Rome").click()
    page.get_by_role("status").filter(has_text="Stopped.").wait_for()
    assert not story.world.active(story.calendar, token)
    page.get_by_text("You stopped “A trip to Rome”").wait_for()


def test_she_pauses_and_lets_go_on(story: Story, visitor: Visitor) -> None:
    page = watching(story, visitor)
    token = story.token()
    page.get_by_role("button", name="Pause The assistant").click()
    page.get_by_text("Paused by you").wait_for()
    assert not story.world.active(story.calendar, token)
    assert story.world.exchange(story.agent, story.consent, CONSENT, resource=story.calendar.uri).status == 400
    page.get_by_role("button", name="Let it go on The assistant").click()
    page.get_by_role("status").filter(has_text="may go on").wait_for()
    assert not story.world.active(story.calendar, token)
    assert story.world.active(story.calendar, story.token())


def test_she_allows_less_by_keyboard(story: Story, visitor: Visitor) -> None:
    page = watching(story, visitor)
    token = story.token()
    page.get_by_role("link", name="Allow less to The assistant").focus()
    visitor.press("Enter")
    page.get_by_role("heading", name="Allow The assistant less").wait_for()
    for _ in range(30):
        visitor.press("Tab")
        if visitor.focused() == "Do calendar:write":
            visitor.press("Space")
        if visitor.focused().startswith("It ends"):
            visitor.press("End")
        if visitor.focused() == "Allow only this":
            break
    visitor.press("Enter")
    page.get_by_role("status").filter(has_text="no more").wait_for()
    assert not story.world.active(story.calendar, token)
    left = story.world.exchange(story.agent, story.consent, CONSENT, resource=story.calendar.uri).ok()
    assert left["scope"] == "calendar:read"
    assert left["authorization_expires_in"] <= 3600


def test_without_script_everything_is_there(story: Story, visit: Callable[..., Visitor]) -> None:
    visitor = visit(java_script_enabled=False)
    task = story.task("A trip to Rome")
    page = watching(story, visitor)
    token = story.token(task_id=task)
    page.get_by_role("button", name="Stop A trip to Rome").click()
    page.get_by_role("status").filter(has_text="Stopped.").wait_for()
    assert not story.world.active(story.calendar, token)
    page.get_by_role("link", name="Activity", exact=True).click()
    page.get_by_role("heading", name="Done in your name").wait_for()
    page.get_by_label("Who").select_option("The assistant")
    page.get_by_role("button", name="Show").click()
    page.get_by_text("The assistant began a task: “A trip to Rome”").wait_for()


def test_a_page_nobody_looks_at_asks_nothing(story: Story, visitor: Visitor) -> None:
    page = watching(story, visitor)
    with page.expect_response(lambda response: "/my/agents/live" in response.url):
        """The script is there."""
    asks = "document.dispatchEvent(new CustomEvent('htmx:before:request', {cancelable: true}))"
    assert page.evaluate(asks) is True
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true})")
    assert page.evaluate(asks) is False


def test_signed_out_elsewhere_the_page_goes_to_the_sign_in(story: Story, visitor: Visitor) -> None:
    visitor.expected = lambda said: "401" in said
    page = watching(story, visitor)
    story.world.server.sessions.end_all(story.alice.id, BY)
    page.get_by_role("heading", name="Sign in").wait_for()


def test_at_a_whole_node_the_page_is_told_and_asks_nothing_meanwhile(visitor: Visitor) -> None:
    with node() as own:
        own.start()
        world = own.world()
        alice = world.human()
        calendar = world.resource("calendar:read", name="The calendar")
        agent = world.agent(world.human(), ceiling=[(calendar, "calendar:read")], name="The assistant")
        given = world.consented(world.signed_in(alice), agent, calendar, away=True)
        story = Story(world, alice, calendar, agent, given["consent_id"])
        visitor.url = own.url
        with visitor.page.expect_response(lambda response: "/my/agents/events" in response.url) as stream:
            page = watching(story, visitor)
        assert stream.value.status == 200
        for purpose in ("A trip to Rome", "A trip to Oslo"):
            story.task(purpose)
            page.get_by_text(f"The assistant began a task: “{purpose}”").wait_for()
        # Nobody tells it to ask: it does not, as far as the script decides.
        asks = "document.getElementById('live').dispatchEvent(new CustomEvent('htmx:before:request', {bubbles: true, cancelable: true}))"
        page.wait_for_function(f"() => !{asks}")
        own.stop()
        visitor.expected = lambda said: any(word in said for word in ("ERR_", "Failed to load", "htmx:error"))
        page.get_by_text("We cannot reach the server just now.").wait_for()
