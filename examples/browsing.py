"""The human at her browser: you, or a headless Chromium that does what you would do."""

from __future__ import annotations

import os
import shutil
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from configuration import SERVER

USERNAME = "alice"
PASSWORD = "correct horse battery staple"
PATIENCE = 30.0
"""Seconds the headless browser waits for a page."""

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


class Human(Protocol):
    """What the story needs of her."""

    seconds: float
    """How long to wait for her."""

    def allow(self, url: str) -> None:
        """Go there, sign in if asked to, allow what is asked."""

    def approve(self, name: str) -> None:
        """Look at what that agent asks under Approvals, and allow it this once."""

    def sign_out(self) -> None:
        """Sign out."""

    def withdraw(self, name: str) -> None:
        """Withdraw, under My agents, all that agent may do."""


class You:
    """You, at your own browser."""

    seconds = 900.0

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        if not sys.stdin.isatty():
            sys.exit("This asks you to click. AUTO=1 drives a headless Chromium instead.")

    def allow(self, url: str) -> None:
        """Open the page; the callback tells when you are done."""
        self._say(f"In your browser: sign in as {USERNAME}, password: {PASSWORD}")
        self._say("Leave all boxes ticked. If it asks for “Also while I am away”, tick that too. Then Allow.")
        self._open(url)

    def approve(self, name: str) -> None:
        """Ask for it."""
        self._say(f"In your browser: look at what the {name} asks, and allow it.")
        self._open(SERVER + "/my/approvals")
        self._enter()

    def sign_out(self) -> None:
        """Ask for it."""
        self._say("In your browser: sign out.")
        self._open(SERVER + "/logout")
        self._enter()

    def withdraw(self, name: str) -> None:
        """Ask for it."""
        self._say(f"In your browser: sign in again as {USERNAME}, and withdraw all the {name} may do.")
        self._open(SERVER + "/my/agents")
        self._enter()

    def _open(self, url: str) -> None:
        self._say(url)
        webbrowser.open(url)

    def _enter(self) -> None:
        input("  Then press Enter here. ")


class Chromium:
    """A headless Chromium, with the cookies kept from one visit to the next."""

    seconds = 60.0

    def __init__(self) -> None:
        found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
        if found is None:
            sys.exit("AUTO=1 needs Chromium; none of " + ", ".join(CHROMIUMS) + " is installed.")
        self._path = found
        self._cookies: Any = None
        self._pictures = os.environ.get("SCREENSHOT_DIR")

    def allow(self, url: str) -> None:
        """Sign in where the sign-in page comes, tick what is left to tick, allow."""

        def visit(page: Any) -> None:
            page.goto(url)
            self._sign_in(page)
            for box in page.get_by_role("checkbox").all():
                box.check()
            self._picture(page, "consent")
            page.get_by_role("button", name="Allow").click()
            page.wait_for_url("http://127.0.0.1:*/callback?*")

        self._browse(visit)

    def approve(self, name: str) -> None:
        """Find the question, look at it, say yes."""

        def visit(page: Any) -> None:
            page.goto(SERVER + "/my/approvals")
            self._sign_in(page)
            self._picture(page, "approvals")
            card = page.get_by_role("article").filter(has=page.get_by_role("heading", name=name, exact=True))
            card.first.get_by_role("link", name="Look at it").click()
            self._picture(page, "approval")
            page.get_by_role("button", name="Allow once").click()
            page.get_by_role("status").filter(has_text=name).wait_for()

        self._browse(visit)

    def sign_out(self) -> None:
        """Sign out."""

        def visit(page: Any) -> None:
            page.goto(SERVER + "/logout")
            page.get_by_role("button", name="Sign out").click()
            page.get_by_role("heading", name="You are signed out").wait_for()

        self._browse(visit)

    def withdraw(self, name: str) -> None:
        """Sign in, find the agent, withdraw, confirm."""

        def visit(page: Any) -> None:
            page.goto(SERVER + "/my/agents")
            self._sign_in(page)
            self._picture(page, "my-agents")
            card = page.get_by_role("article").filter(has=page.get_by_role("heading", name=name, exact=True))
            ways = card.get_by_role("link", name="Withdraw")
            # One for each time she allowed it and did not withdraw it, also on another day.
            for _ in range(ways.count()):
                ways.first.click()
                self._picture(page, "withdraw")
                page.get_by_role("button", name="Withdraw").click()
                page.get_by_role("status").filter(has_text=name).wait_for()

        self._browse(visit)

    def _sign_in(self, page: Any) -> None:
        if not page.get_by_label("Password").count():
            return
        self._picture(page, "sign-in")
        page.get_by_label("Username").fill(USERNAME)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_label("Password").wait_for(state="detached")

    def _picture(self, page: Any, name: str) -> None:
        if self._pictures:
            directory = Path(self._pictures)
            directory.mkdir(parents=True, exist_ok=True)
            path = directory / f"{name}.png"
            if not path.exists():
                page.screenshot(path=path, full_page=True, animations="disabled")

    def _browse(self, visit: Callable[[Any], None]) -> None:
        from playwright.sync_api import sync_playwright

        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=self._path, args=quiet)
            context = browser.new_context(storage_state=self._cookies, viewport={"width": 1280, "height": 900})
            page = context.new_page()
            page.set_default_timeout(PATIENCE * 1000)
            visit(page)
            self._cookies = context.storage_state()
            browser.close()
