"""The pages under `/admin` at a real browser: axe, labels, room on a phone, contrast, and an agent stopped without a mouse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.journeys.conftest import DESKTOP, PHONE, Visitor
from tests.journeys.test_pages import (
    CHECK_CONTRAST,
    CHECK_FOREIGN,
    CHECK_HEADINGS,
    CHECK_IDS,
    CHECK_INLINE,
    CHECK_LABELS,
    CHECK_NAMES,
    CHECK_REFERENCES,
)
from tests.world import CONSENT, PASSWORD, Api, Party, World, claims_of

pytestmark = pytest.mark.browser

LONG = "An agent with a name that goes on for a while yet and a-word-that-does-not-end-so-soon"


@dataclass
class Desk:
    """An operator and what she looks at."""

    world: World
    username: str
    agent: Party
    api: Api
    token: str
    pages: dict[str, str]


@pytest.fixture(scope="module")
def desk(site: Any) -> Desk:
    world: World = site.world()
    operator, alice = world.human(operator=True), world.human()
    api = world.resource(
        "read", "a-rather-long-scope-name:with-everything-in-one-word", name="An API " + "of the whole house " * 3, labels=["personal"]
    )
    helper = world.agent(alice, ceiling=[(api, "read")], name="A helper")
    agent = world.agent(alice, ceiling=[(api, "read")], hands_to=[helper], name=LONG, purpose="Plans days. " * 12)
    given = world.consented(world.signed_in(alice), agent, api, scope="read", away=True)
    token = world.exchange(agent, given["consent_id"], CONSENT, resource=api.uri).ok()["access_token"]
    refused = world.exchange(agent, given["consent_id"], CONSENT, resource=api.uri, scope="nonsense")
    (entry,) = world.ledger(event="token.refused", id=refused.json["audit_id"])
    pages = {
        "inventory": "/admin",
        "nothing found": "/admin?q=no-agent-is-called-this",
        "delegation": "/admin/graph",
        "agent": f"/admin/agents/{agent.id}",
        "change": f"/admin/agents/{agent.id}/change",
        "register": "/admin/agents/new",
        "retire": f"/admin/agents/{agent.id}/retire",
        "apis": "/admin/resources",
        "api": f"/admin/resources/{api.id}",
        "change api": f"/admin/resources/{api.id}/change",
        "register api": "/admin/resources/new",
        "policies": "/admin/policies",
        "write policy": "/admin/policies/new?name=four-eyes",
        "ledger": "/admin/ledger",
        "filtered": f"/admin/ledger?agent={agent.id}&outcome=deny",
        "bad filter": "/admin/ledger?since=yesterday",
        "explain": f"/admin/explain?ref={claims_of(token)['jti']}",
        "explain refusal": f"/admin/explain?ref={entry['id']}",
        "people": "/admin/people",
        "stop": "/admin/stop",
        "stop nobody": "/admin/stop?what=task&ref=tsk_none",
        "preview": f"/admin/stop?what=agent&ref={agent.id}",
        "preview everything": "/admin/stop?what=everything",
        "not there": "/admin/agents/agt_none",
    }
    return Desk(world, operator.username, agent, api, token, pages)


Look = Callable[[dict[str, Any], Callable[[str, Visitor], None]], None]


@pytest.fixture
def look(visit: Callable[..., Visitor], desk: Desk) -> Look:
    """Looks at every page through a browser with these options."""

    def at_all(options: dict[str, Any], see: Callable[[str, Visitor], None]) -> None:
        visitor = visit(**options)
        visitor.expected = lambda said: "the server responded with a status of 40" in said
        visitor.goto("/login?next=/admin")
        visitor.sign_in(desk.username, PASSWORD)
        visitor.page.get_by_role("navigation", name="Administration").wait_for()
        for name, path in desk.pages.items():
            visitor.goto(path)
            see(name, visitor)

    return at_all


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_and_everything_has_its_name(look: Look, axe: Callable[[Visitor], list[str]], scheme: str) -> None:
    def see(name: str, visitor: Visitor) -> None:
        page = visitor.page
        # What is folded away is looked at too.
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        assert axe(visitor) == [], name
        assert page.title().endswith(" · Deputy"), name
        assert page.get_by_role("heading", level=1).count() == 1, name
        levels = page.evaluate(CHECK_HEADINGS)
        assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False)), (name, levels)
        for check in (CHECK_LABELS, CHECK_NAMES, CHECK_IDS, CHECK_REFERENCES, CHECK_INLINE, CHECK_CONTRAST):
            assert page.evaluate(check) == [], name
        assert page.evaluate(CHECK_FOREIGN, visitor.url) == [], name

    look({"viewport": DESKTOP, "color_scheme": scheme}, see)


@pytest.mark.parametrize("width", [320, 768])
def test_nothing_is_wider_than_the_screen(look: Look, width: int) -> None:
    def see(name: str, visitor: Visitor) -> None:
        room = visitor.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert room[0] <= room[1], (name, room)

    look({"viewport": {**PHONE, "width": width}, "has_touch": width < 500}, see)


def test_the_pages_work_without_script(look: Look) -> None:
    seen = []

    def see(name: str, visitor: Visitor) -> None:
        assert visitor.page.get_by_role("heading", level=1).count() == 1, name
        seen.append(name)

    look({"viewport": DESKTOP, "java_script_enabled": False}, see)
    assert len(seen) > 20


def test_what_was_used_is_told_from_what_is_allowed_without_colour(visitor: Visitor, desk: Desk) -> None:
    visitor.goto(f"/login?next=/admin/agents/{desk.agent.id}")
    visitor.sign_in(desk.username, PASSWORD)
    page = visitor.page
    page.get_by_role("img", name="Who lets whom act, and where").wait_for()
    style = "e => [getComputedStyle(e).strokeWidth, getComputedStyle(e).strokeDasharray]"
    used = page.locator(".canvas path.used").first.evaluate(style)
    allowed = page.locator(".canvas path.allowed").first.evaluate(style)
    assert float(used[0].removesuffix("px")) >= 2 * float(allowed[0].removesuffix("px"))
    assert (used[1], allowed[1] == "none") == ("none", False)
    page.get_by_text("The same as a table").click()
    table = page.get_by_role("region", name="Table of the delegation")
    assert table.get_by_role("row").filter(has_text="allowed, never used").filter(has_text="A helper").count() == 1
    assert table.get_by_role("row").filter(has_text="used, ").filter(has_text="An API").count() == 1


def test_an_agent_is_stopped_with_the_keyboard_alone(visitor: Visitor, desk: Desk) -> None:
    agent = desk.world.agent(desk.world.human(), own=[(desk.api, "read")], name="Runs wild")
    token = desk.world.own_token(agent, resource=desk.api.uri).ok()["access_token"]
    assert desk.world.active(desk.api, token)
    visitor.goto(f"/login?next=/admin/stop?what=agent%26ref={agent.id}")
    visitor.sign_in(desk.username, PASSWORD)
    page = visitor.page
    page.get_by_role("heading", name="Stop Runs wild?").wait_for()
    for _ in range(40):
        if visitor.focused() == "Stop" and page.evaluate("document.activeElement.tagName") == "BUTTON":
            break
        visitor.press("Tab")
    visitor.press("Enter")
    page.get_by_role("heading", name="Stopped: Runs wild").wait_for()
    assert page.get_by_role("status").inner_text().startswith("It holds everywhere.")
    assert not desk.world.active(desk.api, token)
    assert desk.world.own_token(agent).status == 401
