"""All that was done in somebody's name: by agent, by day, a page at a time, with few questions to SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from flask import Flask
from sqlalchemy import delete, insert

from app import clock
from app.ledger.models import EntryRow
from app.ledger.relay import columns_of
from app.oversight.activity import PAGE
from app.oversight.names import Names
from app.oversight.telling import tell
from app.vocabulary import new_id
from tests.people.reading import counted, told, words
from tests.people.test_my_agents import Story, story
from tests.world import CONSENT, Answer, claims_of

__all__ = ["story"]

HERE = "/my/activity"
MINUTE = 60_000


def older(page: Answer) -> str:
    found = re.search(r'href="(/my/activity\?[^"]*before=\d+)"', page.text)
    return found[1].replace("&amp;", "&") if found else ""


def settled(story: Story) -> None:
    story.world.ledger(event="token.issued", jti=claims_of(story.token())["jti"])


def test_it_goes_back_to_the_first_thing_a_page_at_a_time_and_repeats_nothing(story: Story) -> None:
    for number in range(PAGE + 3):
        story.task(purpose=f"Piece {number}")
    settled(story)
    page, lines = story.browser.get(HERE), []
    for _ in range(10):
        lines += told(page)
        if not (further := older(page)):
            break
        page = story.browser.get(further)
    pieces = [line for line in lines if "began a task" in line]
    assert pieces == [f"The assistant began a task: “Piece {number}”" for number in reversed(range(PAGE + 3))]
    assert lines[-1].startswith("You allowed The assistant")
    assert 'href="/my/activity"' in page.text


def test_by_agent_it_shows_what_that_agent_did_and_what_others_did_for_it(story: Story) -> None:
    other = story.world.agent(story.bob, ceiling=[(story.calendar, "calendar:read")], name="Another")
    story.world.consented(story.browser, other, story.calendar)
    handed = story.world.exchange(story.assistant, story.consent, CONSENT, audience=story.booking.uri, scope="travel:book").ok()
    story.world.exchange(story.booking, handed["access_token"], resource=story.travel.uri).ok()
    settled(story)
    lines = told(story.browser.get(f"{HERE}?agent={story.assistant.client_id}"))
    assert any(line.startswith("The booking agent, asked by The assistant, got access") for line in lines)
    assert not any("Another" in line for line in lines)
    lines = told(story.browser.get(f"{HERE}?agent={other.client_id}"))
    assert lines
    assert all("Another" in line for line in lines)
    lines = told(story.browser.get(f"{HERE}?agent={story.booking.client_id}"))
    assert lines
    assert all(line.startswith("The booking agent") for line in lines)


def test_whatever_is_in_the_ledger_can_be_sentencealso_when_nobody_knows_the_names(story: Story) -> None:
    settled(story)
    for record in story.world.ledger():
        sentence = tell(1, record, Names())
        assert sentence is None or all(part.text for part in sentence.parts[:1])


def test_by_day(story: Story) -> None:
    settled(story)
    today = datetime.fromtimestamp(clock.timestamp(), UTC).date().isoformat()
    assert told(story.browser.get(f"{HERE}?day={today}"))
    assert "Nothing of that kind." in words(story.browser.get(f"{HERE}?day=2020-02-29"))


@pytest.mark.parametrize(
    "query",
    ["day=2021-02-29", "day=yesterday", "day=2021-2-1", "day=2021-02-01T00:00", "before=0", "before=-1", "before=x", "before=" + "9" * 30, "agent=%00", "agent=a%20b", "agent=a&agent=b"],
)  # fmt: skip
def test_nonsense_is_no_page(story: Story, query: str) -> None:
    assert story.browser.get(f"{HERE}?{query}").status == 400


def test_the_number_of_questions_does_not_grow_with_what_there_is(story: Story, app: Flask) -> None:
    """A page costs the same in a small world and in a large one: here a dozen agents, and fifty thousand entries in her name."""
    world = story.world
    settled(story)
    few: dict[str, int] = {}
    paths = {"agents": "/my/agents", "activity": HERE, "one agent": f"{HERE}?agent={story.assistant.client_id}"}
    for name, path in paths.items():
        with counted(app) as asked:
            assert story.browser.get(path).status == 200
        few[name] = len(asked)
    for number in range(12):
        agent = world.agent(story.bob, ceiling=[(story.calendar, "calendar:read")], hands_to=[story.booking], name=f"Agent {number}")
        given = world.consented(story.browser, agent, story.calendar, away=True)
        own = world.own_token(agent).ok()["access_token"]
        for piece in range(2):
            world.opened(own, given["consent_id"], purpose=f"Piece {piece}")
    settled(story)
    with many(story, 50_000):
        for name, path in paths.items():
            with counted(app) as asked:
                assert story.browser.get(path).status == 200
            assert len(asked) <= few[name] + 2, (name, asked)
    assert all(5 < count <= 30 for count in few.values()), few


@contextmanager
def many(story: Story, count: int) -> Iterator[None]:
    """Entries in her name as the relay writes them, numbered below the chain's first, until the block ends."""
    template = story.world.ledger(event="token.issued", consent=story.consent)[0]
    rows: list[dict[str, Any]] = []
    for number in range(count):
        record = template | {"id": f"{story.alice.id[-20:]}-{number}", "jti": new_id("tok"), "at": template["at"] - MINUTE * number}
        rows.append({"seq": -number - 1, **columns_of(record), "record": orjson.dumps(record), "hash": "0" * 64})
    try:
        with story.world.server.database.transaction() as session:
            session.execute(insert(EntryRow), rows)
        yield
    finally:
        with story.world.server.database.transaction() as session:
            session.execute(delete(EntryRow).where(EntryRow.seq < 0, EntryRow.human == story.alice.id))
