"""A person at a real browser: signs in, decides, looks, withdraws, signs out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlencode

import pytest

from tests.journeys.conftest import Visitor
from tests.protocol.answers import new_verifier
from tests.world import CONSENT, PASSWORD, Answer, Api, Party, Person, World, claims_of

pytestmark = pytest.mark.browser


@dataclass
class Story:
    world: World
    alice: Person
    calendar: Api
    mail: Api
    agent: Party
    verifier: str

    def url(self, *resources: Api, **more: object) -> str:
        query = self.world.authorization(self.agent, self.verifier, *(resources or (self.calendar, self.mail)), **more)  # type: ignore[arg-type]
        return f"{self.world.issuer}/oauth/authorize?{urlencode(query)}"

    def redeem(self, code: str, **form: str) -> Answer:
        return self.world.redeem(self.agent, code, self.verifier, **form)


@pytest.fixture
def story(world: World, callback: str) -> Story:
    alice = world.human()
    calendar = world.resource("calendar:read", "calendar:write", name="The calendar")
    mail = world.resource("mail:read", name="The mail")
    ceiling = [(calendar, "calendar:read"), (calendar, "calendar:write"), (mail, "mail:read")]
    agent = world.agent(alice, ceiling=ceiling, name="The assistant", redirect_uris=(callback,))
    return Story(world, alice, calendar, mail, replace(agent, redirect_uri=callback), new_verifier())


def asked(story: Story, visitor: Visitor, **more: object) -> None:
    visitor.goto(story.url(**more))
    visitor.sign_in(story.alice.username, PASSWORD)
    visitor.page.get_by_role("heading", name="Let The assistant act for you?").wait_for()


def test_she_signs_in_and_is_asked(story: Story, visitor: Visitor) -> None:
    visitor.goto(story.url())
    assert visitor.page.title() == "Sign in · Deputy"
    visitor.sign_in(story.alice.username, PASSWORD)
    visitor.page.get_by_role("heading", name="Let The assistant act for you?").wait_for()
    assert visitor.page.title() == "Let The assistant act for you? · Deputy"
    (cookie,) = [one for one in visitor.context.cookies() if one["name"] == "deputy"]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    assert cookie["expires"] == -1


def test_a_wrong_password_is_told_once_and_the_name_is_kept(story: Story, visitor: Visitor) -> None:
    visitor.expected = lambda said: "401" in said
    visitor.goto(story.url())
    visitor.sign_in(story.alice.username, "wrong")
    alert = visitor.page.get_by_role("alert")
    assert alert.inner_text() == "That username and password do not belong together."
    assert visitor.page.get_by_label("Username").input_value() == story.alice.username
    assert visitor.page.get_by_label("Password").input_value() == ""
    assert visitor.page.get_by_label("Password").get_attribute("aria-describedby") == "problem"
    visitor.sign_in(story.alice.username, PASSWORD)
    visitor.page.get_by_role("heading", name="Let The assistant act for you?").wait_for()


def test_she_unticks_one_thing_shortens_the_time_and_allows(story: Story, visitor: Visitor) -> None:
    asked(story, visitor, away=True)
    page = visitor.page
    page.get_by_role("checkbox", name="Do calendar:write").uncheck()
    page.get_by_label("It ends after").select_option("1 hour")
    page.get_by_role("checkbox", name="Also while I am away").check()
    page.get_by_role("button", name="Allow").click()
    found = visitor.landed()
    assert found["iss"] == story.world.issuer
    assert found["state"] == "xyz"
    given = story.redeem(found["code"]).ok()
    assert given["scope"] == "calendar:read mail:read"
    assert given["authorization_expires_in"] <= 3600
    assert given["refresh_token"]


def test_what_is_asked_for_as_ticked_is_ticked_and_away_is_not(story: Story, visitor: Visitor) -> None:
    asked(story, visitor, away=True)
    for name in ("Do calendar:read", "Do calendar:write", "Do mail:read"):
        assert visitor.page.get_by_role("checkbox", name=name).is_checked()
    assert not visitor.page.get_by_role("checkbox", name="Also while I am away").is_checked()
    visitor.page.get_by_role("button", name="Allow").click()
    assert "refresh_token" not in story.redeem(visitor.landed()["code"]).ok()


def test_she_unticks_everything_and_is_told_what_to_do(story: Story, visitor: Visitor) -> None:
    visitor.expected = lambda said: "400" in said
    asked(story, visitor)
    for box in visitor.page.get_by_role("checkbox").all():
        box.uncheck()
    visitor.page.get_by_role("button", name="Allow").click()
    assert visitor.page.get_by_role("alert").inner_text() == "Choose at least one thing to allow, or deny the request."
    visitor.page.get_by_role("button", name="Deny").click()
    assert visitor.landed()["error"] == "access_denied"


def test_she_denies(story: Story, visitor: Visitor) -> None:
    asked(story, visitor)
    visitor.page.get_by_role("button", name="Deny").click()
    found = visitor.landed()
    assert found["error"] == "access_denied"
    assert found["iss"] == story.world.issuer
    assert "code" not in found
    visitor.goto("/my/agents")
    assert visitor.page.get_by_text("Nothing may act for you at the moment.").is_visible()


def test_she_needs_no_mouse(story: Story, visitor: Visitor) -> None:
    visitor.goto(story.url(away=True))
    assert visitor.focused() == "Username"
    visitor.page.keyboard.type(story.alice.username)
    visitor.press("Tab")
    assert visitor.focused() == "Password"
    visitor.page.keyboard.type(PASSWORD)
    visitor.press("Enter")
    visitor.page.get_by_role("heading", name="Let The assistant act for you?").wait_for()
    order: list[str] = []
    unticked = False
    while not order or order[-1] != "Allow":
        visitor.press("Tab")
        order.append(visitor.focused().split("\n")[0])
        assert len(order) < 30, order
        assert visitor.page.evaluate(
            "(() => { const s = getComputedStyle(document.activeElement);"
            " return s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) > 0 || s.boxShadow !== 'none' })()"
        ), f"no visible focus on {order[-1]}"
        if order[-1].startswith("Do calendar:write"):
            visitor.press("Space")
            unticked = True
        if order[-1].startswith("It ends after"):
            visitor.press("Home")
        if order[-1].startswith("Also while"):
            visitor.press("Space")
    assert unticked
    assert order[0] == "Skip to content"
    visitor.press("Enter")
    given = story.redeem(visitor.landed()["code"]).ok()
    assert given["scope"] == "calendar:read mail:read"
    assert given["authorization_expires_in"] <= 3600
    assert given["refresh_token"]


def test_she_denies_by_keyboard(story: Story, visitor: Visitor) -> None:
    asked(story, visitor)
    for _ in range(30):
        visitor.press("Tab")
        if visitor.focused() == "Deny":
            break
    visitor.press("Space")
    assert visitor.landed()["error"] == "access_denied"


def test_skip_to_content_skips(story: Story, visitor: Visitor) -> None:
    asked(story, visitor)
    visitor.press("Tab")
    assert visitor.page.get_by_role("link", name="Skip to content").is_visible()
    visitor.press("Enter")
    assert visitor.page.evaluate("document.activeElement.id") == "main"
    visitor.press("Tab")
    assert visitor.focused().startswith("Do ")


def test_she_withdraws_and_it_is_dead_before_the_page_says_so(story: Story, visitor: Visitor) -> None:
    asked(story, visitor, away=True)
    page = visitor.page
    page.get_by_role("checkbox", name="Also while I am away").check()
    page.get_by_role("button", name="Allow").click()
    given = story.redeem(visitor.landed()["code"]).ok()
    token = story.world.exchange(story.agent, given["access_token"], resource=story.mail.uri).ok()["access_token"]
    assert story.world.active(story.mail, token)
    visitor.goto("/my/agents")
    assert page.title() == "My agents · Deputy"
    card = page.get_by_role("article").filter(has=page.get_by_role("heading", name="The assistant"))
    assert "Do mail:read" in card.inner_text()
    assert "Yes, it may work without you" in card.inner_text()
    card.get_by_role("link", name="Withdraw").click()
    page.get_by_role("heading", name="Stop The assistant?").wait_for()
    assert story.world.active(story.mail, token)
    page.get_by_role("button", name="Withdraw").click()
    assert page.get_by_role("status").inner_text() == "The assistant can no longer act for you."
    assert story.world.introspect(story.mail, token) == {"active": False}
    assert story.world.exchange(story.agent, given["consent_id"], CONSENT, resource=story.mail.uri).error == "invalid_request"
    row = page.get_by_role("row").filter(has_text="The assistant")
    assert "Withdrawn" in row.inner_text()
    page.reload()
    assert page.get_by_role("article").count() == 0


def test_she_thinks_better_of_withdrawing(story: Story, visitor: Visitor) -> None:
    asked(story, visitor)
    visitor.page.get_by_role("button", name="Allow").click()
    given = story.redeem(visitor.landed()["code"]).ok()
    visitor.goto("/my/agents")
    visitor.page.get_by_role("link", name="Withdraw").click()
    visitor.page.get_by_role("link", name="Keep it").click()
    visitor.page.get_by_role("heading", name="My agents").wait_for()
    assert story.world.exchange(story.agent, given["access_token"], resource=story.mail.uri).status == 200


def test_she_signs_out_and_what_hung_on_it_is_dead(story: Story, visitor: Visitor) -> None:
    asked(story, visitor)
    page = visitor.page
    page.get_by_role("button", name="Allow").click()
    given = story.redeem(visitor.landed()["code"]).ok()
    token = story.world.exchange(story.agent, given["access_token"], resource=story.calendar.uri).ok()["access_token"]
    visitor.goto("/")
    page.get_by_role("link", name="Sign out").click()
    assert page.title() == "Sign out · Deputy"
    assert story.world.active(story.calendar, token)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="You are signed out").wait_for()
    assert page.title() == "Signed out · Deputy"
    assert not story.world.active(story.calendar, token)
    visitor.goto("/my/agents")
    assert page.title() == "Sign in · Deputy"
    page.go_back()
    assert story.alice.username not in page.content()


def test_it_works_without_script(story: Story, visit: Callable[..., Visitor]) -> None:
    visitor = visit(java_script_enabled=False)
    asked(story, visitor)
    visitor.page.get_by_role("checkbox", name="Do mail:read").uncheck()
    visitor.page.get_by_role("button", name="Allow").click()
    assert story.redeem(visitor.landed()["code"]).ok()["scope"] == "calendar:read calendar:write"


def test_an_application_signs_her_in_without_a_page_and_out_again(story: Story, visitor: Visitor) -> None:
    world = story.world
    back = story.agent.redirect_uri + "?out"
    app = world.app(native=True, redirect_uris=(story.agent.redirect_uri,), post_logout_redirect_uris=(back,))
    app = replace(app, redirect_uri=story.agent.redirect_uri)
    query = world.authorization(app, story.verifier, scope="openid profile", nonce="n")
    visitor.goto(f"{world.issuer}/oauth/authorize?{urlencode(query)}")
    visitor.sign_in(story.alice.username, PASSWORD)
    given = world.redeem(app, visitor.landed()["code"], story.verifier).ok()
    assert claims_of(given["id_token"])["sub"] == story.alice.id
    out = urlencode({"id_token_hint": given["id_token"], "post_logout_redirect_uri": back, "state": "s"})
    visitor.goto(f"/logout?{out}")
    visitor.page.get_by_role("button", name="Sign out").click()
    assert visitor.landed()["state"] == "s"


def test_going_back_to_an_answered_page_asks_anew_and_gives_nothing_twice(story: Story, visitor: Visitor) -> None:
    asked(story, visitor)
    visitor.page.get_by_role("button", name="Allow").click()
    first = visitor.landed()["code"]
    visitor.page.go_back()
    visitor.page.get_by_role("heading", name="Let The assistant act for you?").wait_for()
    visitor.page.get_by_role("button", name="Deny").click()
    assert visitor.landed()["error"] == "access_denied"
    assert story.redeem(first).status == 200
