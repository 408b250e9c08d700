"""Passkeys in a real browser, whose authenticator is Chromium's own virtual one (WebAuthn Level 3 §11)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app import create_app
from app.database import db
from app.settings import Settings
from app.wiring import Server, build
from tests.journeys.conftest import Site, Visitor, serving
from tests.world import PASSWORD, Person

pytestmark = pytest.mark.browser

HERE = "/my/security"


@pytest.fixture(scope="module")
def named(settings: Settings, server: Server) -> Iterator[Site]:
    """The server under a name: browsers have passkeys for no number."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://localhost:{listening.getsockname()[1]}"
    here = settings.model_copy(update={"issuer": url})
    app, built = create_app(here), build(here)
    answering, thread = serving(app, listening)
    yield Site(url, built)
    answering.shutdown()
    thread.join(10)
    answering.server_close()
    listening.close()
    built.database.close()
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def alice(named: Site) -> Person:
    return named.world().human()


def authenticator(visitor: Visitor, **more: Any) -> Any:
    """Put a virtual authenticator into the browser; returns the way to speak to it."""
    session = visitor.context.new_cdp_session(visitor.page)
    session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
        "isUserVerified": True, "automaticPresenceSimulation": True, **more,
    }  # fmt: skip
    made = session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return session, made["authenticatorId"]


def at_security(visitor: Visitor, named: Site, alice: Person) -> Any:
    visitor.url = named.url
    visitor.goto("/login?next=" + HERE)
    page = visitor.page
    page.get_by_label("Username").fill(alice.username)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("heading", name="Security").wait_for()
    return page


def test_she_registers_one_signs_out_and_signs_in_with_it(visitor: Visitor, named: Site, alice: Person, axe: Any) -> None:
    authenticator(visitor)
    page = at_security(visitor, named, alice)
    page.get_by_label("Name of the new passkey").fill("My laptop")
    page.get_by_role("button", name="Add a passkey").click()
    page.get_by_role("status").filter(has_text="Your passkey is registered.").wait_for()
    page.get_by_text("My laptop").first.wait_for()
    assert axe(visitor) == []
    page.get_by_role("button", name="Sign out everywhere").click()
    page.get_by_role("heading", name="You are signed out").wait_for()
    visitor.goto("/login?next=" + HERE)
    assert axe(visitor) == []
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.get_by_role("heading", name="Security").wait_for()
    assert page.get_by_text("with a passkey").first.is_visible()
    row = page.get_by_role("listitem").filter(has_text="My laptop")
    row.get_by_text("Rename or remove").click()
    row.get_by_role("button", name="Remove My laptop").click()
    page.get_by_role("status").filter(has_text="Nobody signs in with that passkey any more.").wait_for()
    visitor.goto("/logout")
    page.get_by_role("button", name="Sign out").click()
    visitor.expected = lambda said: "401" in said
    visitor.goto("/login?next=" + HERE)
    page.get_by_role("button", name="Sign in with a passkey").click()
    assert page.get_by_role("alert").first.inner_text() == "That passkey could not be checked. Nothing was changed."


def test_who_is_not_verified_gets_nowhere_and_the_page_says_so(visitor: Visitor, named: Site, alice: Person) -> None:
    session, device = authenticator(visitor)
    page = at_security(visitor, named, alice)
    session.send("WebAuthn.setUserVerified", {"authenticatorId": device, "isUserVerified": False})
    page.get_by_label("Name of the new passkey").fill("My laptop")
    page.get_by_role("button", name="Add a passkey").click()
    page.get_by_role("alert").filter(has_text="No passkey was made.").wait_for()
    visitor.goto(HERE)
    assert page.get_by_text("My laptop").count() == 0


def test_a_device_that_has_one_says_so(visitor: Visitor, named: Site, alice: Person) -> None:
    authenticator(visitor)
    page = at_security(visitor, named, alice)
    page.get_by_label("Name of the new passkey").fill("My laptop")
    page.get_by_role("button", name="Add a passkey").click()
    page.get_by_role("status").filter(has_text="registered").wait_for()
    page.get_by_label("Name of the new passkey").fill("Again")
    page.get_by_role("button", name="Add a passkey").click()
    page.get_by_role("alert").filter(has_text="This device already has a passkey of yours.").wait_for()


def test_she_changes_her_password_and_is_signed_out_elsewhere(visit: Callable[..., Visitor], named: Site, alice: Person) -> None:
    here, there = visit(), visit()
    page, other = at_security(here, named, alice), at_security(there, named, alice)
    page.get_by_label("Password now").fill(PASSWORD)
    page.get_by_label("New password", exact=True).fill("another horse, another battery")
    page.get_by_label("New password again").fill("another horse, another battery")
    page.get_by_role("button", name="Change password").click()
    page.get_by_role("status").filter(has_text="Your password is changed.").wait_for()
    other.reload()
    other.get_by_role("heading", name="Sign in").wait_for()


def test_without_script_there_is_the_password(visit: Callable[..., Visitor], named: Site, alice: Person) -> None:
    visitor = visit(java_script_enabled=False)
    page = at_security(visitor, named, alice)
    assert not page.get_by_role("button", name="Add a passkey").is_visible()
    page.get_by_text("Passkeys need script.").wait_for()
    visitor.goto("/login?next=/")
    assert not page.get_by_role("button", name="Sign in with a passkey").is_visible()
    visitor.goto(HERE)
    page.get_by_role("button", name="Sign out everywhere").click()
    page.get_by_role("heading", name="You are signed out").wait_for()
