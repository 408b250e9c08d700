"""Where somebody is signed in, her password and her passkeys: seen, ended, changed (WebAuthn Level 3 §7, RFC 8176, OIDC Core §2)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from app import create_app
from app.database import db
from app.humans.models import PasskeyRow
from app.settings import Settings
from app.wiring import Server, build
from tests.authenticator import BACKED_UP, ELIGIBLE, PRESENT, VERIFIED, Authenticator, b64, unb64
from tests.people.conftest import Later
from tests.people.reading import form_of, press, told, words
from tests.protocol.answers import new_verifier
from tests.world import BY, PASSWORD, Answer, Browser, InProcess, Person, World, claims_of, hidden

HERE = "/my/security"
NAMED = "http://localhost:8000"
NEW = "another horse, another battery"


@pytest.fixture(scope="module")
def named(settings: Settings, server: Server) -> Iterator[tuple[Flask, Server]]:
    """The run's server under a name: browsers have passkeys for no number."""
    here = settings.model_copy(update={"issuer": NAMED})
    app, built = create_app(here), build(here)
    yield app, built
    built.database.close()
    with app.app_context():
        db.engine.dispose()


@dataclass
class Story:
    world: World
    alice: Person
    browser: Browser

    def page(self, browser: Browser | None = None) -> Answer:
        return (browser or self.browser).get(HERE)

    def device(self, **more: Any) -> Authenticator:
        return Authenticator(NAMED, **more)

    def register(self, device: Authenticator, name: str = "My laptop", **more: str) -> Answer:
        page = self.page()
        fields = dict(form_of(page, f"{HERE}/passkeys"))
        return self.browser.post(f"{HERE}/passkeys", [*(fields | {"response": device.create(options(page)), "name": name} | more).items()])

    def sign_in(self, device: Authenticator, browser: Browser | None = None, **more: str) -> Answer:
        browser = browser or self.world.browser()
        page = browser.get("/login?next=/my/agents")
        fields = dict(form_of(page, "/login/passkey"))
        return browser.post("/login/passkey", [*(fields | {"response": device.get(options(page))} | more).items()])


def options(page: Answer) -> dict[str, Any]:
    """What the page asks of the browser."""
    found = re.search(r'data-options="([^"]*)"', page.text)
    assert found is not None
    return dict(json.loads(unescape(found[1])))


@pytest.fixture
def story(named: tuple[Flask, Server]) -> Story:
    app, server = named
    world = World(server, InProcess(app))
    alice = world.human()
    return Story(world, alice, world.signed_in(alice))


# Sign-in sessions


def agent_of(browser: Browser, said: str) -> None:
    """Have a browser say what it is."""
    inner = browser.http.send
    browser.http.send = lambda method, path, body, headers: inner(method, path, body, {**headers, "User-Agent": said})  # type: ignore[method-assign]


def test_she_sees_where_she_is_signed_in_and_which_one_this_is(story: Story) -> None:
    phone = story.world.browser()
    agent_of(phone, "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Mobile/15E148 Safari/604.1")
    assert phone.sign_in(story.alice.username).status == 303
    text = words(story.page()).partition("Passkeys")[0]
    assert "Safari on iPhone From 127.0.0.1" in text
    assert text.count("This one") == 1
    assert text.count("with your password") == 2


def test_what_a_browser_says_of_itself_is_not_shown(story: Story) -> None:
    evil = story.world.browser()
    agent_of(evil, "<b>Your bank</b> Firefox/1")
    evil.sign_in(story.alice.username)
    page = story.page()
    assert "Your bank" not in page.text
    assert "Firefox" in page.text


def sessions_of(page: Answer) -> list[str]:
    return re.findall(r'id="session-([^"]+)"', page.text)


def test_one_sign_in_is_ended_and_what_hung_on_it(story: Story) -> None:
    world = story.world
    api = world.resource("read")
    agent = world.agent(world.human(), ceiling=[(api, "read")])
    other = world.signed_in(story.alice)
    given = world.consented(other, agent, api)
    token = world.exchange(agent, given["access_token"], resource=api.uri).ok()["access_token"]
    mine = sessions_of(other.get(HERE))
    (theirs,) = set(mine) - set(re.findall(r'id="session-([^"]+)">(?:(?!</li>).)*This one', story.page().text, re.DOTALL))
    answer = press(story.browser, story.page(), f"{HERE}/sessions/{theirs}/end")
    assert answer.headers["Location"] == f"{HERE}?done=ended"
    assert other.get(HERE).status == 303
    assert not world.active(api, token)
    assert story.page().status == 200


def test_ending_this_one_signs_out_here(story: Story) -> None:
    (mine,) = sessions_of(story.page())
    answer = press(story.browser, story.page(), f"{HERE}/sessions/{mine}/end")
    assert answer.headers["Location"] == "/logout"
    assert story.page().status == 303


def test_everywhere_is_everywhere(story: Story) -> None:
    others = [story.world.signed_in(story.alice) for _ in range(3)]
    bob = story.world.signed_in(story.world.human())
    assert press(story.browser, story.page(), f"{HERE}/sessions/end").headers["Location"] == "/logout"
    assert all(browser.get(HERE).status == 303 for browser in (story.browser, *others))
    assert bob.get(HERE).status == 200


def test_nobody_ends_anothers_sign_in(story: Story) -> None:
    bob = story.world.human()
    bobs = story.world.signed_in(bob)
    (theirs,) = sessions_of(bobs.get(HERE))
    fields = form_of(bobs.get(HERE), f"{HERE}/sessions/{theirs}/end")
    assert story.browser.post(f"{HERE}/sessions/{theirs}/end", fields).status == 403
    (mine,) = sessions_of(story.page())
    own = form_of(story.page(), f"{HERE}/sessions/{mine}/end")
    assert story.browser.post(f"{HERE}/sessions/{theirs}/end", own).status == 403
    assert bobs.get(HERE).status == 200


def test_what_happened_to_her_account_is_told(story: Story) -> None:
    story.world.browser().sign_in(story.alice.username, "wrong")
    story.world.ledger(event="none")
    assert told(story.page()) == ["Somebody tried to sign in as you and could not: wrong password", "You signed in with your password"]
    assert "sign" not in " ".join(told(story.browser.get("/my/activity")))


# The password


def change(story: Story, now: str = PASSWORD, new: str = NEW, again: str | None = None) -> Answer:
    return press(
        story.browser, story.page(), f"{HERE}/password", ("current", now), ("new", new), ("again", new if again is None else again)
    )


def test_a_new_password_signs_out_everybody_else_and_nothing_that_hangs_on_this_sign_in(story: Story) -> None:
    world = story.world
    api = world.resource("read")
    agent = world.agent(world.human(), ceiling=[(api, "read")])
    given = world.consented(story.browser, agent, api)
    other = world.signed_in(story.alice)
    answer = change(story)
    assert answer.headers["Location"] == f"{HERE}?done=password"
    assert "Set-Cookie" in answer.headers
    assert other.get(HERE).status == 303
    assert story.page().status == 200
    assert world.exchange(agent, given["access_token"], resource=api.uri).status == 200
    assert world.browser().sign_in(story.alice.username).status == 401
    assert world.browser().sign_in(story.alice.username, NEW).status == 303


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"now": "wrong"}, 401, "That password is not yours."),
        ({"again": "another"}, 400, "The two new passwords are not the same."),
        ({"new": "short"}, 400, "A password has 8 to 1024 characters."),
        ({"new": "with\x07bell inside"}, 400, "A password holds no control characters."),
    ],
    ids=str,
)
def test_what_is_no_change_of_password(story: Story, fields: dict[str, str], status: int, said: str) -> None:
    other = story.world.signed_in(story.alice)
    answer = change(story, **fields)
    assert answer.status == status
    assert said in answer.text
    assert other.get(HERE).status == 200
    assert story.world.browser().sign_in(story.alice.username).status == 303


def test_the_password_cannot_be_guessed_here_either(story: Story) -> None:
    for _ in range(story.world.server.accounts._attempts):
        assert change(story, now="wrong").status in {401, 429}
    answer = change(story, now="wrong")
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) > 0


# Passkeys


def test_a_passkey_is_registered_and_signs_in_and_the_tokens_say_how(story: Story) -> None:
    device = story.device()
    assert story.register(device).headers["Location"] == f"{HERE}?done=added"
    assert "My laptop On one device" in words(story.page())
    browser = story.world.browser()
    answer = story.sign_in(device, browser)
    assert (answer.status, answer.headers["Location"]) == (303, "/my/agents")
    assert "with a passkey" in words(browser.get(HERE))
    app = story.world.app(auth="none", native=True, redirect_uris=("http://127.0.0.1/callback",))
    verifier = new_verifier()
    query = story.world.authorization(app, verifier, scope="openid")
    query = [(name, "http://127.0.0.1/callback" if name == "redirect_uri" else value) for name, value in query]
    code = browser.code(query)
    form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": "http://127.0.0.1/callback"}
    claims = claims_of(story.world.token(app, form).ok()["id_token"])
    assert (claims["acr"], claims["amr"]) == ("urn:deputy:acr:passkey", ["hwk", "user", "mfa"])
    (record,) = story.world.ledger(event="changed", target=story.alice.id)
    assert list(record["what"]) == ["passkey_added"]
    story.world.ledger(event="none")
    assert told(browser.get(HERE))[0] == "You signed in with a passkey"


def test_a_synced_passkey_is_told_from_one_of_one_device(story: Story) -> None:
    device = story.device(flags=PRESENT | VERIFIED | ELIGIBLE | BACKED_UP)
    story.register(device)
    assert "Synced between your devices" in words(story.page())
    browser = story.world.browser()
    assert story.sign_in(device, browser).status == 303
    record = story.world.ledger(event="human.signed_in", who={"human": story.alice.id})[-1]
    assert record["amr"] == ["swk", "user", "mfa"]


def test_what_the_page_asks_of_the_browser(story: Story) -> None:
    device = story.device()
    story.register(device)
    created, asked = options(story.page()), options(story.world.browser().get("/login"))
    assert created["rp"]["id"] == asked["rpId"] == "localhost"
    assert created["authenticatorSelection"]["userVerification"] == asked["userVerification"] == "required"
    assert created["authenticatorSelection"]["residentKey"] == "required"
    assert created["attestation"] == "none"
    assert [one["id"] for one in created["excludeCredentials"]] == [b64(device.id)]
    assert not asked["allowCredentials"]
    assert unb64(created["user"]["id"]).decode() == story.alice.id
    assert len(unb64(asked["challenge"])) >= 32
    assert asked["challenge"] != options(story.world.browser().get("/login"))["challenge"]


WRONGS: dict[str, Callable[[Authenticator], None]] = {
    "another origin": lambda device: setattr(device, "origin", "http://localhost:8001"),
    "a false page": lambda device: setattr(device, "origin", "https://localhost.evil.example"),
    "another relying party": lambda device: setattr(device, "rp_id", "evil.example"),
    "nobody verified": lambda device: setattr(device, "flags", PRESENT),
    "nobody there": lambda device: setattr(device, "flags", VERIFIED),
    "inside a frame of others": lambda device: device.client_data.update(crossOrigin=True),
    "another ceremony": lambda device: device.client_data.update(type="payment.get"),
}
wrongs = pytest.mark.parametrize("spoil", WRONGS.values(), ids=WRONGS)


@wrongs
def test_a_wrong_answer_registers_nothing(story: Story, spoil: Callable[[Authenticator], None]) -> None:
    device = story.device()
    spoil(device)
    assert story.register(device).status == 400
    assert "On one device" not in words(story.page())


@wrongs
def test_a_wrong_answer_signs_nobody_in(story: Story, spoil: Callable[[Authenticator], None]) -> None:
    device = story.device()
    story.register(device)
    spoil(device)
    browser = story.world.browser()
    answer = story.sign_in(device, browser)
    assert answer.status == 401
    assert "That passkey could not be checked." in answer.text or "This took too long" in answer.text
    assert browser.get(HERE).status == 303


def test_another_key_a_strangers_passkey_and_anothers_handle_sign_nobody_in(story: Story) -> None:
    device, forged, unknown = story.device(), story.device(), story.device()
    story.register(device)
    forged.id, forged.handle, unknown.handle = device.id, device.handle, device.handle
    assert story.sign_in(forged).status == 401
    assert story.sign_in(unknown).status == 401
    device.handle = b64(story.world.human().id.encode())
    assert story.sign_in(device).status == 401


def test_a_challenge_is_answered_once_in_time_and_in_its_own_browser(story: Story, later: Later) -> None:
    device = story.device()
    story.register(device)
    browser = story.world.browser()
    page = browser.get("/login")
    asked, fields = options(page), form_of(page, "/login/passkey")

    def send(at: Browser, response: str) -> int:
        fresh = dict(form_of(at.get("/login"), "/login/passkey"))
        return at.post("/login/passkey", [*(fresh | {"response": response}).items()]).status

    assert send(story.world.browser(), device.get(asked)) == 401
    first = device.get(asked)
    assert browser.post("/login/passkey", [*(dict(fields) | {"response": first}).items()]).status == 303
    other = story.world.browser()
    page = other.get("/login")
    answer = device.get(options(page))
    assert send(other, answer) == 303
    assert send(story.world.browser(), answer) == 401
    assert send(story.world.browser(), first) == 401
    slow = story.world.browser()
    page = slow.get("/login")
    late = device.get(options(page))
    later(301)
    assert send(slow, late) == 401


def test_a_wrong_answer_uses_the_challenge_up(story: Story) -> None:
    device = story.device()
    story.register(device)
    browser = story.world.browser()
    page = browser.get("/login")
    fields = dict(form_of(page, "/login/passkey"))
    device.flags = PRESENT
    assert browser.post("/login/passkey", [*(fields | {"response": device.get(options(page))}).items()]).status == 401
    device.flags = PRESENT | VERIFIED
    assert browser.post("/login/passkey", [*(fields | {"response": device.get(options(page))}).items()]).status == 401


def test_a_challenge_to_register_is_none_to_sign_in_and_the_other_way_round(story: Story) -> None:
    device = story.device()
    story.register(device)
    page = story.page()
    again = story.browser.get("/login?next=/")
    fields = dict(form_of(again, "/login/passkey"))
    assert story.browser.post("/login/passkey", [*(fields | {"response": device.get(options(page))}).items()]).status == 401
    second = story.device()
    fields = dict(form_of(page, f"{HERE}/passkeys"))
    asked = options(page) | {"challenge": options(again)["challenge"]}
    assert story.browser.post(f"{HERE}/passkeys", [*(fields | {"response": second.create(asked), "name": "x"}).items()]).status == 400


def test_a_copied_passkey_is_found_out_by_its_count(story: Story) -> None:
    device = story.device(count=5)
    story.register(device)
    assert story.sign_in(device).status == 303
    device.count = 3
    assert story.sign_in(device).status == 401
    story.world.ledger(event="none")
    assert "Somebody tried to sign in as you and could not: passkey" in told(story.page())
    device.count = 20
    assert story.sign_in(device).status == 303


def test_a_removed_passkey_and_a_disabled_human_sign_nobody_in(story: Story) -> None:
    device = story.device()
    story.register(device)
    with story.world.server.database.reading() as session:
        row = session.scalar(select(PasskeyRow).where(PasskeyRow.human == story.alice.id))
    assert row is not None
    assert press(story.browser, story.page(), f"{HERE}/passkeys/{row.id}/rename", ("name", "The old one")).status == 303
    assert "The old one" in words(story.page())
    assert press(story.browser, story.page(), f"{HERE}/passkeys/{row.id}/remove").headers["Location"] == f"{HERE}?done=removed"
    assert story.sign_in(device).status == 401
    other = story.device()
    story.register(other)
    story.world.server.accounts.disable(story.alice.id, by=BY)
    assert story.sign_in(other).status == 401


def test_nobody_touches_anothers_passkey(story: Story) -> None:
    story.register(story.device())
    with story.world.server.database.reading() as session:
        row = session.scalar(select(PasskeyRow).where(PasskeyRow.human == story.alice.id))
    assert row is not None
    bob = story.world.signed_in(story.world.human())
    fields = form_of(story.page(), f"{HERE}/passkeys/{row.id}/remove")
    assert bob.post(f"{HERE}/passkeys/{row.id}/remove", fields).status == 403
    assert "My laptop" in words(story.page())


def test_adding_one_needs_a_sign_in_of_just_now(story: Story, later: Later) -> None:
    page = story.page()
    fields = dict(form_of(page, f"{HERE}/passkeys"))
    response = story.device().create(options(page))
    later(601)
    answer = story.browser.post(f"{HERE}/passkeys", [*(fields | {"response": response, "name": "x"}).items()])
    assert answer.headers["Location"] == f"/login?next={HERE}"
    assert "data-options" not in story.page().text
    assert "You signed in a while ago" in words(story.page())


@pytest.mark.parametrize("name", ["\ud800", "\x00", "ä" * 20, "x" * 1401], ids=ascii)
def test_an_id_that_no_passkey_has_signs_nobody_in(story: Story, name: str) -> None:
    device = story.device()
    assert story.register(device).status == 303
    browser = story.world.browser()
    page = browser.get("/login")
    answer = json.loads(device.get(options(page))) | {"id": name}
    fields = dict(form_of(page, "/login/passkey"))
    assert browser.post("/login/passkey", [*(fields | {"response": json.dumps(answer)}).items()]).status == 401


@pytest.mark.parametrize("name", ["", "   ", "x" * 61, "two\nlines", "turned\u202eround"])
def test_a_name_is_a_name(story: Story, name: str) -> None:
    assert story.register(story.device(), name).status == 400
    assert "data-options" in story.page().text


@pytest.mark.parametrize(
    "response", ["", "x", "[]", "{}", '{"id": 1}', '{"id": "x", "response": {"clientDataJSON": "e30"}}', "[" * 20_000, '"' + "x" * 40_000]
)
def test_nonsense_is_refused_and_changes_nothing(story: Story, response: str) -> None:
    page = story.page()
    fields = dict(form_of(page, f"{HERE}/passkeys"))
    assert story.browser.post(f"{HERE}/passkeys", [*(fields | {"response": response, "name": "x"}).items()]).status == 400
    browser = story.world.browser()
    fields = dict(form_of(browser.get("/login"), "/login/passkey"))
    assert browser.post("/login/passkey", [*(fields | {"response": response}).items()]).status in {400, 401}


def test_the_same_passkey_is_registered_once(story: Story) -> None:
    device = story.device()
    assert story.register(device).status == 303
    assert story.register(device).status == 400
    bob = story.world.human()
    other = Story(story.world, bob, story.world.signed_in(bob))
    assert other.register(device).status == 400


def test_signing_in_with_one_rotates_the_secret_and_keeps_the_session(story: Story) -> None:
    device = story.device()
    story.register(device)
    before = sessions_of(story.page())
    answer = story.sign_in(device, story.browser)
    assert answer.status == 303
    assert "Set-Cookie" in answer.headers
    assert sessions_of(story.page()) == before


def test_where_the_server_has_no_name_there_are_none(world: World) -> None:
    browser = world.signed_in(world.human())
    assert "passkey" not in world.browser().get("/login").text
    assert "This one is reached by a number." in words(browser.get(HERE))
    assert hidden(browser.get(HERE))
