"""An agent asks and Alice answers, at a real browser, with nothing but the keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.journeys.conftest import Visitor
from tests.world import PASSWORD, World, claims_of

pytestmark = pytest.mark.browser

CIBA = "urn:openid:params:grant-type:ciba"


def test_she_finds_the_question_takes_something_away_proves_herself_and_allows(world: World, visitor: Visitor, tmp_path: Path) -> None:
    alice = world.human()
    mail = world.resource("mail:read", "mail:send", name="The mail", labels=["personal"])
    agent = world.agent(alice, ceiling=[(mail, "mail:read"), (mail, "mail:send")], name="The assistant")
    consent = world.consented(world.signed_in(alice), agent, mail, away=True)["consent_id"]
    members, headers = world.credentials(agent)
    form = {"login_hint": consent, "resource": mail.uri, "max_age": "0", "binding_message": "The offer to Acme", **members}
    auth_req_id = world.post("/oauth/bc-authorize", form, headers).ok()["auth_req_id"]

    page = visitor.page
    visitor.goto("/login?next=/my/agents")
    visitor.sign_in(alice.username, PASSWORD)
    page.get_by_role("link", name="Approvals 1 waiting").press("Enter")
    page.get_by_role("link", name="Look at it from The assistant").press("Enter")
    page.get_by_role("heading", name="Allow The assistant this once?").wait_for()
    assert page.locator("blockquote").first.inner_text().strip("“”") == "The offer to Acme"
    # A sign-in of just now is fresh for a second: the page asks again after it.
    page.wait_for_timeout(1100)
    page.reload()
    page.screenshot(path=tmp_path / "approval.png", full_page=True)
    page.get_by_role("checkbox", name="Do mail:send").focus()
    visitor.press("Space", "Tab")
    while visitor.focused() != "Your password":
        visitor.press("Tab")
    page.keyboard.type(PASSWORD)
    visitor.press("Tab")
    assert visitor.focused() == "Allow once"
    visitor.press("Enter")
    assert page.get_by_role("status").inner_text() == "Allowed. The assistant can use it once, within 5 minutes."
    assert page.get_by_role("link", name="Approvals", exact=True).is_visible()

    given = world.token(agent, {"grant_type": CIBA, "auth_req_id": auth_req_id}).ok()
    assert claims_of(given["access_token"])["scope"] == "mail:read"
    page.reload()
    assert "Allowed, and used" in page.get_by_role("table").inner_text()


def test_she_denies_without_her_password(world: World, visitor: Visitor) -> None:
    alice, mail = world.human(), world.resource("mail:read", name="The mail")
    agent = world.agent(alice, ceiling=[(mail, "mail:read")], name="The assistant")
    consent = world.consented(world.signed_in(alice), agent, mail, away=True)["consent_id"]
    members, headers = world.credentials(agent)
    world.post("/oauth/bc-authorize", {"login_hint": consent, "max_age": "0", **members}, headers).ok()
    visitor.goto("/login?next=/my/approvals")
    visitor.sign_in(alice.username, PASSWORD)
    visitor.page.get_by_role("link", name="Look at it").click()
    visitor.page.get_by_role("button", name="Deny").click()
    assert visitor.page.get_by_role("status").inner_text() == "Denied. The assistant gets nothing."
