"""Makes the pictures of docs/admin.md: a company of a few people and agents, and the pages under /admin in headless Chromium.

make pictures                                           # into docs/images
.venv/bin/python -m tests.admin.pictures --to /tmp/look --all  # every page: light and dark, desktop and phone
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from werkzeug.serving import WSGIRequestHandler, make_server

from app import create_app
from app.ledger.relay import Relay
from app.settings import load_settings
from app.vocabulary import Role
from app.wiring import build, prepare
from tests.valkey import valkey
from tests.world import BY, CONSENT, PASSWORD, OverHttp, Party, Person, World, basic, claims_of

ROOT = Path(__file__).resolve().parents[2]
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
SHOWN = {"inventory": 1320, "agent": 1180, "delegation": 840, "ledger": 960, "stop": 760, "policy": 1130}
"""Pages in the documents, and down to which pixel."""

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Company:
    """Who and what there is."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.people = {name.split()[0]: self.person(name, role) for name, role in (
            ("Alice Archer", Role.MEMBER), ("Bob Barker", Role.OPERATOR), ("Carol Chen", Role.MEMBER), ("Dmitri Dahl", Role.MEMBER),
            ("Erin Eze", Role.AUDITOR), ("Farid Faruk", Role.MEMBER),
        )}  # fmt: skip
        api = self.api
        self.calendar = api(
            "calendar", "Calendar", {"calendar:read": "Read your calendar", "calendar:write": "Add and change appointments"}, []
        )
        self.mail = api(
            "mail",
            "Mail",
            {"mail:read": "Read your mail", "mail:send": "Send mail in your name"},
            ["personal"],
            {"mail:send": ["external-send"]},
        )
        self.travel = api(
            "travel", "Travel agency", {"travel:search": "Look for flights and hotels", "travel:book": "Book flights and hotels"}, []
        )
        self.hr = api("hr", "Personnel files", {"files:read": "Read personnel files"}, ["hr", "confidential"])
        self.crm = api("crm", "Customers", {"customers:read": "Read customers", "customers:write": "Change customers"}, ["confidential"])
        self.booking = self.agent(
            "Booking agent",
            "Carol",
            "Books the cheapest journey that arrives in time.",
            [(self.travel, "travel:search"), (self.travel, "travel:book")],
        )
        self.summary = self.agent(
            "Summariser", "Dmitri", "Makes long texts short.", [(self.mail, "mail:read"), (self.crm, "customers:read")]
        )
        self.assistant = self.agent(
            "Executive assistant", "Alice", "Plans days, answers mail, arranges journeys.",
            [(self.calendar, "calendar:read"), (self.calendar, "calendar:write"), (self.mail, "mail:read"), (self.mail, "mail:send"), (self.travel, "travel:search"), (self.travel, "travel:book")],
            hands_to=[self.booking, self.summary],
        )  # fmt: skip
        self.scout = self.agent(
            "Sales scout",
            "Dmitri",
            "Looks through customers for those worth a call.",
            [(self.crm, "customers:read"), (self.crm, "customers:write")],
        )
        self.agent(
            "Onboarding helper",
            "Carol",
            "Prepares the first week of new colleagues.",
            [(self.hr, "files:read"), (self.calendar, "calendar:write")],
            draft=True,
        )
        self.intern = self.agent(
            "Expense checker",
            "Farid",
            "Compares expenses with what is allowed.",
            [(self.mail, "mail:read")],
            own=[(self.crm, "customers:read")],
        )
        self.work()

    def person(self, name: str, role: Role) -> Person:
        username = name.split(maxsplit=1)[0].lower()
        made = self.world.server.accounts.add(username, name, f"{username}@example.com", PASSWORD, role=role, by=BY)
        return Person(made, username)

    def api(self, host: str, name: str, scopes: dict[str, str], labels: list[str], scope_labels: Any = None) -> Any:
        made = self.world.resource(uri=f"https://{host}.example.com", name=name, labels=labels)
        registry = self.world.server.resource_registry
        registry.change(made.id, scopes=scopes, scope_labels=scope_labels or {}, by=BY)
        return made

    def agent(self, name: str, owner: str, purpose: str, ceiling: Any, **more: Any) -> Party:
        return self.world.agent(self.people[owner], name=name, purpose=purpose, ceiling=ceiling, **more)

    def work(self) -> None:
        world = self.world
        for name in ("Alice", "Carol", "Farid"):
            browser = world.signed_in(self.people[name])
            given = world.consented(browser, self.assistant, self.calendar, self.mail, self.travel, away=True)
            for api in (self.calendar, self.mail, self.calendar):
                token = world.exchange(self.assistant, given["consent_id"], CONSENT, resource=api.uri).ok()["access_token"]
                world.active(api, token)
            handed = world.exchange(
                self.assistant, given["consent_id"], CONSENT, audience=self.booking.uri, scope="travel:search travel:book"
            ).ok()["access_token"]
            self.booked = world.exchange(self.booking, handed, resource=self.travel.uri, scope="travel:search").ok()["access_token"]
            world.active(self.travel, self.booked)
            world.exchange(self.booking, handed, resource=self.travel.uri, scope="calendar:write")
        for name in ("Dmitri", "Alice"):
            given = world.consented(world.signed_in(self.people[name]), self.scout, self.crm, scope="customers:read", away=True)
            world.exchange(self.scout, given["consent_id"], CONSENT, resource=self.crm.uri).ok()
        world.own_token(self.intern, resource=self.crm.uri).ok()
        server = world.server
        text = (ROOT / "app/policy/ready_made/confidential-then-external.cedar").read_text()
        server.policies.add(
            "confidential-then-external",
            text,
            owner=self.people["Bob"].id,
            rule="Code of conduct §4: what is confidential stays in the house",
            by=BY,
        )
        server.policies.activate("confidential-then-external", 1, by=BY)
        self.refused = self.leak(world.consented(world.signed_in(self.people["Alice"]), self.assistant, self.mail, away=True)["consent_id"])
        self.asked, self.used_up = self.ask(), self.use_up()
        quiet = self.agent("Meeting notes", "Farid", "Writes down what was agreed.", [(self.calendar, "calendar:read")])
        server.kill.end(server.targets.find(_what("agent"), quiet.uri), keep_out=True, by=BY)
        server.kill.end(server.targets.find(_what("agent"), self.scout.uri), by=BY)
        world.consented(world.signed_in(self.people["Dmitri"]), self.scout, self.crm, scope="customers:read", away=True)
        while server.live.redis.call("XLEN", "deputy:stream"):
            time.sleep(0.05)

    def leak(self, consent: str) -> str:
        """The assistant reads a confidential mail and would then write to the outside. Returns the refusal's audit id."""
        world = self.world
        token = world.exchange(self.assistant, consent, CONSENT, resource=self.mail.uri, scope="mail:read").ok()["access_token"]
        report = {"token": token, "action": "mail:read", "labels": ["confidential"]}
        headers = {**basic(self.mail.client_id, self.mail.client_secret), "Content-Type": "application/json"}
        world.http.send("POST", f"/tasks/{claims_of(token)['txn']}/events", json.dumps(report).encode(), headers).ok()
        refusal = world.exchange(self.assistant, consent, CONSENT, resource=self.mail.uri, scope="mail:send")
        return str(refusal.json["audit_id"])

    def ask(self) -> str:
        """A policy wants a person to say yes before the scout changes a customer. Returns the audit id of the question."""
        given = self.world.consented(self.world.signed_in(self.people["Dmitri"]), self.scout, self.crm, away=True)
        policies = self.world.server.policies
        text = f"""@ask("approval")
forbid (principal, action, resource == Resource::"{self.crm.uri}")
when {{ context.scopes.contains("customers:write") }};
"""
        policies.add(
            "customers-change", text, owner=self.people["Carol"].id, rule="Sales handbook §2: a person agrees to each change", by=BY
        )
        policies.activate("customers-change", 1, by=BY)
        answer = self.world.exchange(self.scout, given["consent_id"], CONSENT, resource=self.crm.uri, scope="customers:write")
        return str(answer.json["audit_id"])

    def use_up(self) -> str:
        """A task with two tokens asks for a third. Returns the refusal's audit id."""
        world = self.world
        given = world.consented(world.signed_in(self.people["Carol"]), self.assistant, self.calendar, away=True)
        own = world.own_token(self.assistant).ok()["access_token"]
        task = world.opened(own, given["consent_id"], purpose="Look through next week", limits={"uses": 2})
        again = [world.exchange(self.assistant, given["consent_id"], CONSENT, resource=self.calendar.uri, task_id=task) for _ in range(3)]
        return str(again[-1].json["audit_id"])

    def pages(self) -> dict[str, str]:
        """Every page by name."""
        assistant, jti = self.assistant.id, claims_of(self.booked)["jti"]
        return {
            "inventory": "/admin",
            "agent": f"/admin/agents/{assistant}",
            "agent-change": f"/admin/agents/{assistant}/change",
            "agent-new": "/admin/agents/new",
            "agent-retire": f"/admin/agents/{assistant}/retire",
            "delegation": "/admin/graph",
            "delegation-one": f"/admin/graph?human={self.people['Alice'].id}",
            "apis": "/admin/resources",
            "apis-found": "/admin/resources?q=mail",
            "api": f"/admin/resources/{self.mail.id}",
            "api-change": f"/admin/resources/{self.mail.id}/change",
            "api-new": "/admin/resources/new",
            "policies": "/admin/policies",
            "policy": "/admin/policies/confidential-then-external/1?days=7#try",
            "policy-new": "/admin/policies/new?name=four-eyes",
            "ledger": "/admin/ledger",
            "ledger-filtered": f"/admin/ledger?agent={assistant}&outcome=deny",
            "entry": "/admin/ledger/5",
            "explain": f"/admin/explain?ref={jti}",
            "explain-refusal": f"/admin/explain?ref={self.refused}",
            "explain-question": f"/admin/explain?ref={self.asked}",
            "explain-limit": f"/admin/explain?ref={self.used_up}",
            "explain-nothing": "/admin/explain?ref=tok_0000000000000000000000",
            "people": "/admin/people",
            "stop-choose": "/admin/stop",
            "stop": f"/admin/stop?what=agent&ref={assistant}",
            "stop-everything": "/admin/stop?what=everything",
        }


def _what(kind: str) -> Any:
    from app.oversight.target import What

    return What(kind)


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def running(folder: Path) -> Iterator[tuple[str, World]]:
    """A whole Deputy with a company in it."""
    with valkey() as redis:
        listening = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        settings = load_settings(
            issuer=url, var_dir=folder / "var", keys_dir=folder / "keys", database_url=f"sqlite:///{folder}/deputy.sqlite", redis_url=redis,
            key_encryption_key=KEY, rate_client=0, rate_address=0, rate_failures=100_000, redis_timeout=2.0,
        )  # fmt: skip
        prepare(settings)
        built, stop = build(settings), threading.Event()
        relay = threading.Thread(target=Relay(built.database, built.live, built.keys, settings).run, args=(stop,), daemon=True)
        relay.start()
        _until(built.live.is_ready)
        serving = make_server("127.0.0.1", 0, create_app(settings), threaded=True, request_handler=_Quiet, fd=listening.fileno())
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield url, World(built, OverHttp(url))
        serving.shutdown()
        stop.set()
        relay.join(10)
        built.database.close()


def _until(what: Callable[[], object]) -> None:
    from app.errors import TemporarilyUnavailable

    for _ in range(400):
        try:
            if what():
                return
        except TemporarilyUnavailable:
            pass
        time.sleep(0.05)
    raise SystemExit("the server did not become ready")


def main() -> None:
    """Make them."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--to", type=Path, default=ROOT / "docs" / "images")
    asked.add_argument("--all", action="store_true", help="every page, in light and dark, on a desktop and a phone")
    asked.add_argument("--only", default="", help="pages whose name has this in it")
    asked.add_argument("--as", dest="who", default="bob", help="who looks")
    options = asked.parse_args()
    if CHROMIUM is None:
        raise SystemExit("no Chromium is installed")
    options.to.mkdir(parents=True, exist_ok=True)
    looks = [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)] if options.all else [("light", 1280)]
    with tempfile.TemporaryDirectory(prefix="dpp") as folder, running(Path(folder)) as (url, world), sync_playwright() as playwright:
        pages = Company(world).pages()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for scheme, width in looks:
            size = {"width": width, "height": 900 if width > 500 else 780}
            page = browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=1).new_page()
            page.on("console", lambda said: print("console:", said.text))
            page.goto(f"{url}/login?next=/admin")
            page.get_by_label("Username").fill(options.who)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_load_state()
            for name, path in pages.items():
                if options.only not in name or not (options.all or name in SHOWN):
                    continue
                page.goto(url + path)
                suffix = f"-{scheme}-{width}" if options.all else ""
                if not options.all:
                    page.set_viewport_size({"width": width, "height": SHOWN[name]})
                page.screenshot(path=options.to / f"admin-{name}{suffix}.png", full_page=options.all)
        browser.close()


if __name__ == "__main__":
    main()
