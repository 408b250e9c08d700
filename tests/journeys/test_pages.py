"""Every page at a real browser: titles, labels, room on a phone, contrast by day and by night, and no complaint of the browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.journeys.conftest import DESKTOP, PHONE, Visitor
from tests.protocol.answers import new_verifier
from tests.world import CONSENT, PASSWORD, Browser, Party, World, hidden

pytestmark = pytest.mark.browser

LONG = "An assistant with a name that does not end so soon and goes on for a while yet"

CHECK_LABELS = """() => [...document.querySelectorAll('input:not([type=hidden]), select, textarea')]
  .filter(e => !(e.labels && e.labels.length && e.labels[0].innerText.trim()) && !e.getAttribute('aria-label')).map(e => e.outerHTML)"""
CHECK_NAMES = """() => [...document.querySelectorAll('a, button')].filter(e => !e.innerText.trim() && !e.getAttribute('aria-label')).map(e => e.outerHTML)"""
CHECK_IDS = (
    """() => { const ids = [...document.querySelectorAll('[id]')].map(e => e.id); return ids.filter((id, at) => ids.indexOf(id) !== at) }"""
)
CHECK_REFERENCES = """() => [...document.querySelectorAll('[aria-describedby], [aria-labelledby], label[for]')]
  .flatMap(e => ['aria-describedby', 'aria-labelledby', 'for'].flatMap(name => (e.getAttribute(name) || '').split(' ').filter(Boolean)))
  .filter(id => !document.getElementById(id))"""
CHECK_HEADINGS = """() => [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(e => Number(e.tagName[1]))"""
CHECK_INLINE = """() => [...document.querySelectorAll('script:not([src]), style, [style], [onclick], [onload], [onsubmit]')]
  .filter(e => !e.closest('svg')).map(e => e.outerHTML.slice(0, 80))"""
CHECK_FOREIGN = """here => performance.getEntriesByType('resource').map(e => e.name).filter(name => !name.startsWith(here))"""
CHECK_CONTRAST = """() => {
  const channels = text => { const found = text.match(/[\\d.]+/g).map(Number); return found.length > 3 ? found : [...found, 1] };
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const light = ([r, g, b]) => { const [x, y, z] = [r, g, b].map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 });
    return 0.2126 * x + 0.7152 * y + 0.0722 * z };
  const behind = e => { const stack = []; for (; e; e = e.parentElement) stack.push(channels(getComputedStyle(e).backgroundColor));
    return stack.reverse().reduce((under, top) => over(top, under), [255, 255, 255, 1]) };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !e.checkVisibility({opacityProperty: true, visibilityProperty: true}) || e.closest('.visually-hidden, .skip, option')) continue;
    const style = getComputedStyle(e), under = behind(e), ink = over(channels(style.color), under);
    const [a, b] = [light(ink), light(under)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && Number(style.fontWeight) >= 700;
    if (ratio < (large ? 3 : 4.5)) poor.push(`${ratio.toFixed(2)} ${text.slice(0, 40)} (${style.color} on ${under.map(Math.round)})`);
  }
  return poor }"""


def asks(world: World, agent: Party, consent: str, **form: str) -> str:
    """Have an agent ask its human; the path of the question."""
    before = {one.id for one in world.server.approvals.waiting()}
    members, headers = world.credentials(agent)
    world.post("/oauth/bc-authorize", {"login_hint": consent, **form, **members}, headers).ok()
    (made,) = [one.id for one in world.server.approvals.waiting() if one.id not in before and one.parameters.agent == agent.id]
    return f"/my/approvals/{made}"


@dataclass
class Places:
    """A signed-in person with something on every page, and the paths of the pages."""

    username: str
    signed_out: dict[str, str]
    signed_in: dict[str, str]


@pytest.fixture(scope="module")
def places(site: Any) -> Places:
    world: World = site.world()
    alice = world.human()
    scopes = ["calendar:read", "calendar:write", "a-rather-long-scope-name:with-everything-in-one-word:read"]
    api = world.resource(*scopes, name="The calendar of the whole house", labels=["confidential", "personal"])
    helper = world.agent(alice, ceiling=[(api, "calendar:read")], name="A helper")
    agent = world.agent(alice, ceiling=[(api, scope) for scope in scopes], hands_to=[helper], name=LONG, purpose="Plans days. " * 20)
    app = world.app(pairs=[(api, "calendar:read")], name="Mаil")  # the second letter is Cyrillic
    browser: Browser = world.signed_in(alice)
    ended = world.consented(browser, agent, api)["consent_id"]
    browser.post(f"/my/agents/{ended}/withdraw", hidden(browser.get(f"/my/agents/{ended}/withdraw")))
    given = world.consented(browser, agent, api, away=True)
    task = world.opened(
        world.own_token(agent).ok()["access_token"], given["consent_id"], purpose="A long piece of work " * 8, limits={"uses": 9}
    )
    world.exchange(agent, given["consent_id"], CONSENT, resource=api.uri, task_id=task)
    refused = world.exchange(agent, given["consent_id"], CONSENT, resource=api.uri, scope="nonsense")
    world.ledger(event="token.refused", id=refused.json["audit_id"])
    world.consented(browser, app, api, scope="calendar:read")

    waiting = asks(world, agent, given["consent_id"], resource=api.uri, max_age="0", binding_message="Booking 4711: " + "all of it, " * 10)
    over = asks(world, agent, given["consent_id"], resource=api.uri, scope="calendar:read")
    browser.post(over, [*hidden(browser.get(over)), ("decision", "deny")])

    def asked(client: Any, **more: Any) -> str:
        return "/oauth/authorize?" + urlencode(world.authorization(client, new_verifier(), api, **more))

    return Places(
        alice.username,
        {
            "home": "/",
            "sign in": "/login?next=/my/agents",
            "signed out": "/logout",
            "nothing there": "/nothing/here",
            "refused": "/oauth/authorize?client_id=nobody",
        },
        {
            "home": "/",
            "sign in again": asked(app, scope="openid", prompt="login"),
            "consent": asked(agent, away=True),
            "consent, an application": asked(app, scope="openid profile email calendar:read", prompt="consent", away=True),
            "my agents": "/my/agents",
            "withdraw": f"/my/agents/{given['consent_id']}/withdraw",
            "just withdrawn": f"/my/agents?withdrawn={ended}",
            "approvals": "/my/approvals",
            "an approval": waiting,
            "just denied": f"/my/approvals?answered={over.rpartition('/')[2]}",
            "too late": "/my/approvals?over=1",
            "my agents, still": "/my/agents?updates=off",
            "narrow": f"/my/agents/{given['consent_id']}/narrow",
            "stop": f"/my/agents/tasks/{task}/stop",
            "activity": "/my/activity",
            "activity of one": f"/my/activity?agent={agent.client_id}",
            "no activity": "/my/activity?day=2020-01-01",
            "security": "/my/security",
            "security, just changed": "/my/security?done=password",
            "sign out": "/logout",
            "not yours": "/my/agents/con_x/withdraw",
        },
    )


Look = Callable[[dict[str, Any], Callable[[str, Visitor], None]], None]


@pytest.fixture
def look(visit: Callable[..., Visitor], places: Places) -> Look:
    """Looks at every page, signed out and signed in, through a browser with these options."""

    def at_all(options: dict[str, Any], see: Callable[[str, Visitor], None]) -> None:
        visitor = visit(**options)
        visitor.expected = lambda said: "the server responded with a status of 40" in said
        for name, path in places.signed_out.items():
            visitor.goto(path)
            see(name, visitor)
        visitor.goto("/login")
        visitor.sign_in(places.username, PASSWORD)
        visitor.page.get_by_role("link", name="Sign out").wait_for()
        for name, path in places.signed_in.items():
            visitor.goto(path)
            see(name, visitor)

    return at_all


def test_every_page_has_a_title_a_language_one_heading_and_its_landmarks(look: Look) -> None:
    titles: dict[str, str] = {}

    def see(name: str, visitor: Visitor) -> None:
        page = visitor.page
        title = page.title()
        titles[name] = title
        assert title.endswith(" · Deputy"), name
        assert page.locator("html").get_attribute("lang") == "en", name
        for role in ("main", "banner", "contentinfo"):
            assert page.get_by_role(role).count() == 1, (name, role)
        assert page.get_by_role("heading", level=1).count() == 1, name
        levels = page.evaluate(CHECK_HEADINGS)
        assert levels[0] == 1, name
        assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False)), (name, levels)

    look({"viewport": DESKTOP}, see)
    assert titles["consent"] == f"Let {LONG} act for you? · Deputy"
    assert titles["an approval"] == f"Allow {LONG} this once? · Deputy"
    assert titles["my agents"] == "My agents · Deputy"
    assert titles["sign in"] == "Sign in · Deputy"


def test_every_input_has_a_label_every_button_a_name_and_every_reference_an_end(look: Look) -> None:
    seen = 0

    def see(name: str, visitor: Visitor) -> None:
        nonlocal seen
        page = visitor.page
        for check in (CHECK_LABELS, CHECK_NAMES, CHECK_IDS, CHECK_REFERENCES):
            assert page.evaluate(check) == [], name
        seen += page.locator("input:not([type=hidden]), select").count()

    look({"viewport": DESKTOP}, see)
    assert seen >= 12


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(look: Look) -> None:
    def see(name: str, visitor: Visitor) -> None:
        assert visitor.page.evaluate(CHECK_INLINE) == [], name
        assert visitor.page.evaluate(CHECK_FOREIGN, visitor.url) == [], name

    look({"viewport": DESKTOP}, see)


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_is_wider_than_the_screen(look: Look, width: int) -> None:
    def see(name: str, visitor: Visitor) -> None:
        room = visitor.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert room[0] <= room[1], (name, room)

    look({"viewport": {**PHONE, "width": width}, "has_touch": width < 500}, see)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_by_day_and_by_night(look: Look, scheme: str) -> None:
    paper: set[str] = set()

    def see(name: str, visitor: Visitor) -> None:
        paper.add(visitor.page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
        assert visitor.page.evaluate(CHECK_CONTRAST) == [], name

    look({"viewport": DESKTOP, "color_scheme": scheme}, see)
    (colour,) = paper
    red = int(colour.removeprefix("rgb(").partition(",")[0])
    assert red > 200 if scheme == "light" else red < 60


def test_fingers_find_the_buttons_on_a_phone(look: Look) -> None:
    def see(name: str, visitor: Visitor) -> None:
        for button in visitor.page.locator("main button, main a.button").all():
            box = button.bounding_box()
            assert box["height"] >= 40, (name, button.inner_text(), box)

    look({"viewport": PHONE, "has_touch": True}, see)


def test_a_name_that_imitates_another_is_marked(look: Look) -> None:
    def see(name: str, visitor: Visitor) -> None:
        marked = visitor.page.get_by_role("alert").filter(has_text="Look twice.").count()
        assert marked == (name == "consent, an application"), name

    look({"viewport": DESKTOP}, see)
