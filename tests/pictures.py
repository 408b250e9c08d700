"""Pictures of the pages, taken in a real Chromium of a server with people and agents in it: `make pictures`.

Without arguments: those of the documents, into `docs/images`. With a directory: every page, by day and by night, on a desk and
on a phone, to look at.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from app import create_app
from app.ledger.relay import Relay
from app.oversight.news import News
from app.settings import load_settings
from app.wiring import Server, build, prepare
from tests.conftest import KEY
from tests.journeys.conftest import ARGUMENTS, CHROMIUM, DESKTOP, serving
from tests.protocol.answers import new_verifier
from tests.valkey import valkey
from tests.world import BY, CONSENT, PASSWORD, Api, OverHttp, Party, Person, World, basic, hidden

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SIZES = {"desk": DESKTOP, "phone": {"width": 390, "height": 844}}
DOCUMENT = {"width": 1180, "height": 960}


@contextmanager
def running() -> Iterator[World]:
    """A server of its own on a free port, with its relay, and nothing left of it afterwards."""
    import socket

    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="dpp"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        url = f"http://localhost:{listening.getsockname()[1]}"
        settings = load_settings(
            issuer=url,
            var_dir=directory / "var",
            keys_dir=directory / "keys",
            database_url=f"sqlite:///{directory}/deputy.sqlite",
            redis_url=stack.enter_context(valkey()),
            key_encryption_key=KEY,
        )
        prepare(settings)
        server = build(settings)
        stop = threading.Event()
        relay = threading.Thread(target=Relay(server.database, server.live, server.keys, settings).run, args=(stop,), daemon=True)
        relay.start()
        while not _is_ready(server):
            time.sleep(0.05)
        answering, thread = serving(create_app(settings), listening)
        yield World(server, OverHttp(url))
        answering.shutdown()
        stop.set()
        relay.join(10)
        thread.join(10)
        server.database.close()


def _is_ready(server: Server) -> bool:
    from app.errors import TemporarilyUnavailable

    try:
        return server.live.is_ready()
    except TemporarilyUnavailable:
        return False


@dataclass
class Scene:
    """A day at work: what there is to see."""

    world: World
    alice: Person
    calendar: Api
    travel: Api
    mail: Api
    booking: Party
    assistant: Party
    filer: Party

    def ask(self, agent: Party, *apis: Api, **more: Any) -> str:
        """The path of an authorization request."""
        return "/oauth/authorize?" + urlencode(self.world.authorization(agent, new_verifier(), *apis, **more))


def person(world: World, username: str, name: str, **more: Any) -> Person:
    """Somebody with a name."""
    return Person(world.server.accounts.add(username, name, f"{username}@example.com", PASSWORD, by=BY, **more), username)


def scene(world: World) -> Scene:
    """Alice, her agents, and what they did this morning."""
    alice, bob = person(world, "alice", "Alice Archer"), person(world, "bob", "Bob Barker")
    registry = world.server.resource_registry

    def api(name: str, uri: str, labels: tuple[str, ...] = (), **scopes: str) -> Api:
        made = registry.add(uri, name=name, scopes={key.replace("_", ":"): words for key, words in scopes.items()}, labels=labels, by=BY)
        return Api(uri, made.id, made.client_id, made.client_secret)

    calendar = api(
        "Calendar", "https://calendar.acme.example", calendar_read="Read your calendar", calendar_write="Add and change appointments"
    )
    travel = api(
        "Travel agency", "https://travel.example", travel_search="Look for flights and hotels", travel_book="Book flights and hotels"
    )
    mail = api("Mail", "https://mail.acme.example", ("confidential",), mail_read="Read your mail", mail_send="Send mail in your name")
    trips = [(travel, "travel:search"), (travel, "travel:book")]
    booking = world.agent(bob, name="Booking agent", purpose="Books flights and hotels for other agents", ceiling=trips)
    assistant = world.agent(
        alice,
        name="Executive assistant",
        purpose="Looks after your calendar and your mail, and books your trips",
        ceiling=[*trips, (calendar, "calendar:read"), (calendar, "calendar:write"), (mail, "mail:read")],
        hands_to=[booking],
    )
    filer = world.agent(
        bob, name="Expense filer", purpose="Files what your trips cost", ceiling=[(mail, "mail:read"), (travel, "travel:search")]
    )
    made = Scene(world, alice, calendar, travel, mail, booking, assistant, filer)
    _morning(made)
    return made


def _morning(made: Scene) -> None:
    world, browser = made.world, made.world.signed_in(made.alice)
    away = world.consented(browser, made.assistant, made.calendar, made.travel, made.mail, away=True)
    filed = world.consented(browser, made.filer, made.mail, away=True)
    old = world.consented(browser, made.filer, made.travel)
    _known(made)
    browser.post(f"/my/agents/{old['consent_id']}/withdraw", hidden(browser.get(f"/my/agents/{old['consent_id']}/withdraw")))
    own = world.own_token(made.assistant).ok()["access_token"]
    rome = world.opened(
        own,
        away["consent_id"],
        purpose="Trip to Rome, 3 to 6 May",
        resources=[made.calendar.uri, made.travel.uri],
        limits={"uses": 20, "amount": {"currency": "EUR", "max": "800.00"}},
    )
    read = world.exchange(
        made.assistant, away["consent_id"], CONSENT, resource=made.calendar.uri, scope="calendar:read", task_id=rome
    ).ok()["access_token"]
    world.introspect(made.calendar, read)
    handed = world.exchange(
        made.assistant, away["consent_id"], CONSENT, audience=made.booking.uri, task_id=rome, scope="travel:search travel:book"
    )
    booked = world.exchange(made.booking, handed.ok()["access_token"], resource=made.travel.uri).ok()["access_token"]
    world.introspect(made.travel, booked)
    _report(made, made.travel, booked, rome, action="travel:book", amount={"currency": "EUR", "value": "312.40"})
    for _ in range(3):
        world.exchange(made.assistant, away["consent_id"], CONSENT, resource=made.mail.uri)
    world.exchange(made.filer, filed["consent_id"], CONSENT, resource=made.mail.uri, scope="mail:send")
    world.exchange(made.booking, handed.ok()["access_token"], resource=made.mail.uri)
    world.ledger(event="token.refused")


def _known(made: Scene) -> None:
    """What she has seen before."""
    made.world.ledger()
    News(made.world.server.database).see(made.alice.id, 2**62)


def _report(made: Scene, api: Api, token: str, task: str, **body: Any) -> None:
    import json

    sent = json.dumps({"token": token, **body}).encode()
    headers = {**basic(api.client_id, api.client_secret), "Content-Type": "application/json"}
    answer = made.world.http.send("POST", f"/tasks/{task}/events", sent, headers)
    assert answer.status in {200, 201}, answer.text


Visit = Callable[[Any], None]


def _go(path: str) -> Visit:
    return lambda page: page.goto(path)


def pages(made: Scene) -> dict[str, str]:
    """Every page, by the name of its picture."""
    browser = made.world.signed_in(made.alice)
    mine = browser.get("/my/agents").text
    return {
        "sign-in": "/login?next=/my/agents",
        "consent": made.ask(made.assistant, made.calendar, made.travel, made.mail, away=True),
        "my-agents": "/my/agents",
        "activity": "/my/activity",
        "withdraw": _first(mine, "/withdraw"),
        "narrow": _first(mine, "/narrow"),
        "stop": _first(mine, "/stop", "href"),
        "security": "/my/security",
        "approvals": "/my/approvals",
        "sign-out": "/logout",
        "home": "/",
    }


def _first(page: str, ending: str, attribute: str = "href") -> str:
    import re

    found = re.search(rf'{attribute}="([^"]*{ending})"', page)
    assert found is not None, ending
    return found[1]


DOCUMENTS = {"consent": "consent", "my-agents": "my-agents", "activity": "activity"}
"""Pictures that documents show, and the page each is of."""


def shoot(world: World, made: Scene, into: Path, *, everything: bool) -> list[Path]:
    """Take the pictures. Returns their paths."""
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        sys.exit("This needs Chromium.")
    into.mkdir(parents=True, exist_ok=True)
    taken: list[Path] = []
    shots = [(size, scheme) for size in SIZES for scheme in ("light", "dark")] if everything else [("document", "light")]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        for size, scheme in shots:
            context = chromium.new_context(
                viewport=SIZES.get(size, DOCUMENT), color_scheme=scheme, base_url=world.issuer, reduced_motion="reduce"
            )
            page = context.new_page()
            for name, path in pages(made).items():
                if not everything and name not in DOCUMENTS.values():
                    continue
                page.goto(path)
                if name != "sign-in" and "/login?" in page.url:
                    page.get_by_label("Username").fill(made.alice.username)
                    page.get_by_label("Password").fill(PASSWORD)
                    page.get_by_role("button", name="Sign in", exact=True).click()
                    page.wait_for_url(lambda url: "/login?" not in url)
                file = into / (f"{name}-{size}-{scheme}.png" if everything else f"{name}.png")
                page.screenshot(path=file, full_page=everything or name == "consent", animations="disabled")
                taken.append(file)
            context.close()
        chromium.close()
    return taken


def main() -> None:
    """The command."""
    everything = len(sys.argv) > 1
    with running() as world:
        for path in shoot(world, scene(world), Path(sys.argv[1]) if everything else IMAGES, everything=everything):
            print(path)


if __name__ == "__main__":
    main()
