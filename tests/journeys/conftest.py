"""The server at an address of its own, where a browser and other people's programs find it; and a real browser."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from app import create_app
from app.database import db
from app.settings import Settings
from app.wiring import Server, build
from tests.world import OverHttp, World

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, CHROMIUMS)), None)
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip
REQUIRED = bool(os.environ.get("REQUIRE_ALL"))
HANG = 30_000
"""Milliseconds after which a page is stuck."""

PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What needs a browser is left out where there is none, unless nothing may be left out."""
    if CHROMIUM is None and item.get_closest_marker("browser"):
        missing = "no Chromium: none of " + ", ".join(CHROMIUMS) + " is installed"
        pytest.fail(missing, pytrace=False) if REQUIRED else pytest.skip(missing)


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Nothing: codes pass through here."""


@dataclass(frozen=True)
class Site:
    """The server as others find it."""

    url: str
    server: Server

    def world(self) -> World:
        return World(self.server, OverHttp(self.url))


def serving(app: Flask, listening: socket.socket) -> tuple[Any, threading.Thread]:
    """Answer on a socket until told to shut down."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet, fd=listening.fileno())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    return server, thread


@pytest.fixture(scope="session")
def site(settings: Settings, server: Server) -> Iterator[Site]:
    """The run's database, Redis and relay, under an issuer that is where it answers."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    # Who sends DPoP proofs is asked for nonces, as stock clients must expect.
    here = settings.model_copy(update={"issuer": url, "dpop_nonce": True})
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


@pytest.fixture(scope="session")
def callback() -> Iterator[str]:
    """The redirect URI of a program on this computer, which answers whoever is sent there."""

    def answer(_environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/html")])
        return [b"<!doctype html><title>Back</title><link rel=icon href=data:,>"]

    elsewhere = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=elsewhere.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{elsewhere.server_port}/callback"
    elsewhere.shutdown()
    thread.join(10)
    elsewhere.server_close()


@pytest.fixture
def world(site: Site) -> World:
    """People and things of one test, and the wire over a socket."""
    return site.world()


@dataclass
class Visitor:
    """A person at a real browser; everything the browser complained about is kept."""

    page: Any
    context: Any
    url: str
    callback: str
    trouble: list[str] = field(default_factory=list)
    expected: Callable[[str], bool] = lambda _: False

    def goto(self, path: str) -> Any:
        return self.page.goto(path if path.startswith("http") else self.url + path)

    def sign_in(self, username: str, password: str) -> None:
        self.page.get_by_label("Username").fill(username)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()

    def landed(self) -> dict[str, str]:
        """What came back to the client."""
        self.page.wait_for_url(self.callback + "?*")
        found = parse_qs(urlsplit(self.page.url).query)
        return {name: values[0] for name, values in found.items()}

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def focused(self) -> str:
        """The accessible name of what has the focus."""
        return str(
            self.page.evaluate(
                "(() => { const e = document.activeElement; return (e.labels && e.labels.length"
                " ? e.labels[0].innerText : e.innerText || e.value || '').trim() })()"
            )
        )


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Headless Chromium, nothing else switched on."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any, site: Site, callback: str) -> Iterator[Callable[..., Visitor]]:
    """Opens a browser of one person; at the end nobody's may have complained."""
    visitors: list[Visitor] = []

    def open_one(**options: Any) -> Visitor:
        context = chromium.new_context(**{"viewport": DESKTOP, **options})
        context.set_default_timeout(HANG)
        page = context.new_page()
        visitor = Visitor(page, context, site.url, callback)
        page.on("console", lambda message: message.type in {"error", "warning"} and visitor.trouble.append(message.text))
        page.on("pageerror", lambda error: visitor.trouble.append(str(error)))
        # Going on before the icon has come is no failure.
        page.on("requestfailed", lambda request: "ERR_ABORTED" in request.failure or visitor.trouble.append(str(request.failure)))
        visitors.append(visitor)
        return visitor

    yield open_one
    for visitor in visitors:
        visitor.context.close()
    for visitor in visitors:
        assert [one for one in visitor.trouble if not visitor.expected(one)] == []


@pytest.fixture(scope="session")
def axe_source(request: pytest.FixtureRequest) -> str:
    """axe-core, from the npm registry as locked."""
    from tests.journeys.npm import installed

    return (installed(request, Path(__file__).parent / "axe") / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture
def axe(axe_source: str) -> Callable[[Visitor], list[str]]:
    """What axe finds on the page a visitor looks at, a line each."""

    def look(visitor: Visitor) -> list[str]:
        # Through the debugger, which the page's policy does not bind.
        if not visitor.page.evaluate("typeof window.axe === 'object'"):
            visitor.page.evaluate(axe_source + "; undefined")
        found = visitor.page.evaluate("axe.run(document, {resultTypes: ['violations']}).then(result => result.violations)")
        return [f"{rule['id']}: {node['html'][:120]}" for rule in found for node in rule["nodes"]]

    return look


@pytest.fixture
def visitor(visit: Callable[..., Visitor]) -> Visitor:
    """One person at one browser."""
    return visit()
