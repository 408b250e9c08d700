"""What an agent does that it never did before is said, on every page, until its human says that she knows."""

from __future__ import annotations

import re

from tests.people.reading import form_of, press, words
from tests.people.test_my_agents import Story, story
from tests.protocol.answers import refresh
from tests.world import CONSENT, Answer

__all__ = ["story"]

HERE = "/my/agents"


def badge(page: Answer) -> str:
    """What the navigation says is new."""
    found = re.search(r'id="badge-agents"[^>]*>(\d*)', page.text)
    assert found is not None
    return found[1]


def news(page: Answer) -> list[str]:
    text = page.text.partition('id="news"')[2].partition("</ul>")[0]
    found = re.findall(r"<li>(.*?)</li>", text, re.DOTALL)
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", one)).partition(" ·")[0].strip() for one in found]


def settled(story: Story) -> Answer:
    story.world.ledger(event="none")
    return story.page()


def know(story: Story) -> None:
    assert press(story.browser, settled(story), f"{HERE}/seen").status == 303


def test_the_first_time_at_an_api_the_first_hand_over_and_the_first_time_alone(story: Story) -> None:
    assert news(settled(story)) == []
    assert badge(story.browser.get("/logout")) == ""
    story.token()
    assert news(settled(story)) == ["The assistant worked without you, as you had allowed", "The assistant got access to The calendar"]
    handed = story.world.exchange(story.assistant, story.consent, CONSENT, audience=story.booking.uri, scope="travel:book").ok()
    story.world.exchange(story.booking, handed["access_token"], resource=story.travel.uri).ok()
    assert news(settled(story))[2:] == [
        "The assistant handed work to The booking agent",
        "The booking agent got access to The travel agency",
    ]
    for path in ("/", "/logout", "/my/activity", HERE):
        assert badge(story.browser.get(path)) == "4", path


def test_what_she_knows_is_no_news_and_does_not_come_back(story: Story) -> None:
    story.token()
    know(story)
    assert badge(story.browser.get("/")) == ""
    story.token()
    story.token()
    assert news(settled(story)) == []
    story.token(story.travel)
    assert news(settled(story)) == ["The assistant got access to The travel agency"]


def test_a_refresh_token_is_coming_alone_and_a_code_is_not(story: Story) -> None:
    one = story.world.agent(story.bob, ceiling=[(story.calendar, "calendar:read")], name="Another")
    given = story.world.consented(story.browser, one, story.calendar, away=True)
    assert news(settled(story)) == ["Another got access to The calendar"]
    assert refresh(story.world, one, given["refresh_token"]).status == 200
    assert "Another worked without you, as you had allowed" in news(settled(story))


def test_a_new_consent_makes_nothing_new_that_is_old(story: Story) -> None:
    story.token()
    know(story)
    again = story.world.consented(story.browser, story.assistant, story.calendar, scope="calendar:read", away=True)
    story.world.exchange(story.assistant, again["consent_id"], CONSENT, resource=story.calendar.uri).ok()
    assert news(settled(story)) == []


def test_what_came_after_the_page_was_shown_is_not_seen_with_it(story: Story) -> None:
    story.token()
    page = settled(story)
    story.token(story.travel)
    story.world.ledger(event="none")
    assert press(story.browser, page, f"{HERE}/seen").status == 303
    assert news(settled(story)) == ["The assistant got access to The travel agency"]


def test_only_she_can_say_so_and_only_of_what_was_shown(story: Story) -> None:
    story.token()
    page = settled(story)
    fields = dict(form_of(page, f"{HERE}/seen"))
    stranger = story.world.signed_in(story.bob)
    assert stranger.post(f"{HERE}/seen", list(fields.items())).status == 403
    assert story.browser.post(f"{HERE}/seen", list((fields | {"upto": "9999999999"}).items())).status == 403
    assert story.browser.get(f"{HERE}/seen").status == 405
    assert badge(story.page()) == "2"


def test_more_than_fits_is_shown_next(story: Story) -> None:
    apis = [story.world.resource("read", name=f"API {number}") for number in range(9)]
    agent = story.world.agent(story.bob, ceiling=[(api, "read") for api in apis], name="Another")
    given = story.world.consented(story.browser, agent, *apis, away=True)
    for api in apis:
        story.world.exchange(agent, given["consent_id"], CONSENT, resource=api.uri).ok()
    assert "And 4 more, which come next." in words(settled(story))
    know(story)
    assert len(news(settled(story))) == 4
    know(story)
    assert news(story.page()) == []


def test_a_live_page_gets_the_number_too(story: Story) -> None:
    story.token()
    story.world.ledger(event="none")
    answer = story.browser.get(f"{HERE}/live?seen=0")
    assert badge(answer) == "2"
    assert 'hx-swap-oob="true"' in answer.text
    assert "hx-swap-oob" not in story.page().text
