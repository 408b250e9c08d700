"""Forms: taken from the browser they were shown in, for what they were shown for, once (RFC 9700 §4.7, OIDC Core §3.1.2.1)."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import select

from app.clients.models import ClientRow
from app.delegation.models import ConsentRow
from app.live.things import Kind, Thing
from app.resources.models import ResourceRow
from tests.attacks.scene import FORM, VERIFIER, Scene, error_page, sent_back
from tests.world import BY, PASSWORD, REDIRECT, Answer, Browser, Party, Person, encoded, hidden

Fields = list[tuple[str, str]]


@dataclass(frozen=True)
class Shown:
    """A form in a browser: where it goes, what it holds when honestly filled in, and whether it took effect."""

    browser: Browser
    path: str
    fields: Fields
    happened: Callable[[], bool]


def consents_of(scene: Scene, human: Person, client: Party) -> list[str]:
    with scene.world.server.database.reading() as session:
        where = (ConsentRow.human == human.id, ConsentRow.client_id == client.client_id, ConsentRow.ended_at.is_(None))
        return list(session.scalars(select(ConsentRow.id).where(*where)))


def consent_form(scene: Scene, human: Person | None = None, **more: Any) -> Shown:
    human = human or scene.world.human()
    browser = scene.world.signed_in(human)
    page = browser.authorize(scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", **more))
    assert page.status == 200
    fields = [*hidden(page), ("scope", f"{scene.api.uri} read"), ("lifetime", "3600"), ("decision", "allow")]
    return Shown(browser, "/consent", fields, lambda: bool(consents_of(scene, human, scene.agent)))


def withdraw_form(scene: Scene) -> Shown:
    human = scene.world.human()
    browser = scene.world.signed_in(human)
    given = scene.world.consented(browser, scene.agent, scene.api, scope="read")
    path = f"/my/agents/{given['consent_id']}/withdraw"
    return Shown(browser, path, hidden(browser.get(path)), lambda: not consents_of(scene, human, scene.agent))


def logout_form(scene: Scene) -> Shown:
    browser = scene.world.signed_in(scene.world.human())
    return Shown(browser, "/logout", hidden(browser.get("/logout")), lambda: browser.get("/my/agents").status == 303)


def login_form(scene: Scene) -> Shown:
    human, browser = scene.world.human(), scene.world.browser()
    fields = [*hidden(browser.get("/login")), ("username", human.username), ("password", PASSWORD)]
    return Shown(browser, "/login", fields, lambda: browser.get("/my/agents").status == 200)


FORMS = {"consent": consent_form, "withdraw": withdraw_form, "logout": logout_form, "login": login_form}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
Make = Callable[[Scene], Shown]


def field(fields: Fields, name: str) -> str:
    return dict(fields)[name]


def changed(fields: Fields, **values: str | None) -> Fields:
    found = [(name, values.get(name, value)) for name, value in fields]
    return [(name, value) for name, value in found if value is not None]


# 2.6.83, 2.5.78: cross-site


@forms
def test_the_honest_form_takes_effect(scene: Scene, form: Make) -> None:
    shown = form(scene)
    assert not shown.happened()
    assert shown.browser.post(shown.path, shown.fields).status == 303
    assert shown.happened()


@forms
def test_a_form_without_its_token_or_with_another_does_nothing(scene: Scene, form: Make) -> None:
    shown = form(scene)
    good = field(shown.fields, "csrf_token")
    salt, _, mac = good.partition(".")
    bad = [None, "", "x", ".", f"{salt}.", f".{mac}", f"{salt}.{mac[:-1]}", f"{salt}.{mac[:-1]}g", f"{salt}x.{mac}", f"{'y' if salt[0] == 'x' else 'x'}{salt[1:]}.{mac}", f"{mac}.{salt}", good + "x", good.upper(),
           f"{salt}.{mac}.{mac}", "\u00e9" * 16 + "." + mac, "\x00" * 16 + "." + mac, salt + "." + "\u0661" * 64]  # fmt: skip
    for token in bad:
        answer = shown.browser.post(shown.path, changed(shown.fields, csrf_token=token))
        assert answer.status in {403, 303}, token
        # A sign-out without a token comes from an application: it becomes the question.
        assert answer.status == 403 or (shown.path == "/logout" and answer.headers["Location"].startswith("/logout"))
        assert not shown.happened()
    assert shown.browser.post(shown.path, [*shown.fields, ("csrf_token", good)]).status in {303, 400, 403}


@forms
def test_a_token_of_another_browser_does_nothing(scene: Scene, form: Make) -> None:
    shown, theirs = form(scene), form(scene)
    answer = shown.browser.post(shown.path, changed(shown.fields, csrf_token=field(theirs.fields, "csrf_token")))
    assert answer.status == 403
    assert not shown.happened()


@forms
def test_a_whole_form_of_another_browser_does_nothing(scene: Scene, form: Make) -> None:
    """The attacker's own page, submitted in the victim's browser: login CSRF and its kin."""
    shown, theirs = form(scene), form(scene)
    answer = shown.browser.post(theirs.path, theirs.fields)
    assert answer.status in {403, 404}
    assert not shown.happened()
    assert not theirs.happened()


@forms
def test_a_token_for_another_purpose_does_nothing(scene: Scene, form: Make) -> None:
    shown = form(scene)
    others = {"login": "/login", "logout": "/logout"}
    for path in others.values():
        page = shown.browser.get(path + ("?next=/my/agents" if path == "/login" else ""))
        if path == shown.path or page.status != 200 or not hidden(page):
            continue
        answer = shown.browser.post(shown.path, changed(shown.fields, csrf_token=field(hidden(page), "csrf_token")))
        assert answer.status == 403
        assert not shown.happened()


def test_a_consent_token_is_for_one_request(scene: Scene) -> None:
    human = scene.world.human()
    shown, other = consent_form(scene, human), consent_form(scene, human)
    again = consent_form(scene)
    for ticket_of, token_of in ((shown, other), (other, shown), (shown, again)):
        answer = shown.browser.post(
            "/consent", changed(shown.fields, ticket=field(ticket_of.fields, "ticket"), csrf_token=field(token_of.fields, "csrf_token"))
        )
        assert answer.status == 403
    assert not shown.happened()


@forms
@pytest.mark.parametrize("site", ["cross-site", "same-site", "evil", ""])
def test_a_form_that_a_browser_says_comes_from_elsewhere_does_nothing(scene: Scene, form: Make, site: str) -> None:
    shown = form(scene)
    answer = shown.browser.http.send("POST", shown.path, encoded(shown.fields), {"Content-Type": FORM, "Sec-Fetch-Site": site})
    assert answer.status == 403
    assert not shown.happened()


@forms
def test_no_get_has_an_effect(scene: Scene, form: Make) -> None:
    shown = form(scene)
    query = encoded(shown.fields).decode()
    for method in ("GET", "HEAD"):
        answer = shown.browser.http.send(method, f"{shown.path}?{query}", None, {})
        assert answer.status in {200, 303, 400, 405}
        assert not shown.happened()
    for method in ("PUT", "PATCH", "DELETE"):
        assert shown.browser.http.send(method, shown.path, encoded(shown.fields), {"Content-Type": FORM}).status == 405
        assert not shown.happened()


@forms
def test_nothing_is_read_from_the_address_of_a_form(scene: Scene, form: Make) -> None:
    shown = form(scene)
    answer = shown.browser.http.send("POST", f"{shown.path}?{encoded(shown.fields).decode()}", b"", {"Content-Type": FORM})
    assert answer.status in {403, 303, 400}
    assert not shown.happened()


@forms
@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/octet-stream", ""])
def test_a_form_of_a_type_that_any_page_may_send_is_not_read(scene: Scene, form: Make, kind: str) -> None:
    shown = form(scene)
    answer = shown.browser.http.send("POST", shown.path, encoded(shown.fields), {"Content-Type": kind})
    assert answer.status in {403, 303, 400}
    assert not shown.happened()


@forms
def test_a_form_after_the_sign_in_changed_does_nothing(scene: Scene, form: Make) -> None:
    """The token dies with the sign-in it was shown under: also when the same person comes back."""
    shown = form(scene)
    if shown.path == "/login":
        assert shown.browser.post(shown.path, shown.fields).status == 303
        assert shown.browser.post(shown.path, shown.fields).status == 403
        return
    page = shown.browser.get("/login?next=/my/agents")
    username = re.search(r'name="username"[^>]*value="([^"]*)"', page.text)
    assert username is not None
    signed = shown.browser.post("/login", [*hidden(page), ("username", username[1]), ("password", PASSWORD)])
    assert signed.status == 303
    assert shown.browser.post(shown.path, shown.fields).status == 403
    assert not shown.happened()


# The consent ticket


def test_a_ticket_is_answered_once_whatever_the_answer(scene: Scene) -> None:
    shown = consent_form(scene)
    assert shown.browser.post(shown.path, shown.fields).status == 303
    error_page(shown.browser.post(shown.path, shown.fields))
    denied = consent_form(scene)
    refusal = denied.browser.post(denied.path, changed(denied.fields, decision="deny"))
    assert sent_back(refusal, REDIRECT, scene.world.issuer)["error"] == "access_denied"
    error_page(denied.browser.post(denied.path, denied.fields))
    assert not denied.happened()
    error_page(denied.browser.post(denied.path, changed(denied.fields, decision="deny")))


def in_parallel(count: int, one: Callable[[], Answer]) -> list[Answer]:
    barrier = threading.Barrier(count)

    def wait_and_go(_: int) -> Answer:
        barrier.wait(20)
        return one()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(wait_and_go, range(count)))


def test_many_clicks_at_once_are_one_consent_and_one_code(scene: Scene) -> None:
    human = scene.world.human()
    shown = consent_form(scene, human)
    answers = in_parallel(8, lambda: shown.browser.post(shown.path, shown.fields))
    assert sum(answer.status == 303 for answer in answers) == 1
    assert all(answer.status in {303, 400, 503} for answer in answers)
    assert len(consents_of(scene, human, scene.agent)) == 1


def test_two_tabs_of_one_pushed_request_are_one_consent(scene: Scene) -> None:
    human = scene.world.human()
    browser = scene.world.signed_in(human)
    members, _ = scene.world.credentials(scene.agent)
    query = [(n, v) for n, v in scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read")]
    request_uri = scene.world.post("/oauth/par", [*query, *members.items()]).json["request_uri"]
    tabs: list[Fields] = []
    for _ in range(6):
        page = browser.authorize([("client_id", scene.agent.client_id), ("request_uri", request_uri)])
        tabs.append([*hidden(page), ("scope", f"{scene.api.uri} read"), ("lifetime", "3600"), ("decision", "allow")])
    waiting = list(tabs)
    answers = in_parallel(len(tabs), lambda: browser.post("/consent", waiting.pop()))
    assert sum(answer.status == 303 for answer in answers) == 1
    assert len(consents_of(scene, human, scene.agent)) == 1


def test_a_ticket_is_its_humans_and_its_sessions(scene: Scene) -> None:
    """Another human, and the same one in another browser: neither can finish what was begun here (Hydra #770)."""
    alice, bob = scene.world.human(), scene.world.human()
    theirs = consent_form(scene, alice)
    for victim in (bob, alice):
        mine = consent_form(scene, victim)
        stolen = changed(mine.fields, ticket=field(theirs.fields, "ticket"))
        assert mine.browser.post("/consent", stolen).status == 403
        assert mine.browser.post("/consent", theirs.fields).status == 403
        assert not mine.happened()


def test_a_ticket_that_was_tampered_with_is_none(scene: Scene) -> None:
    shown = consent_form(scene)
    ticket = field(shown.fields, "ticket")
    head, _, tail = ticket.rpartition(".")
    for bad in (
        "",
        "x",
        head,
        ticket[:-1],
        ticket + "x",
        f"{head}.{tail[:-2]}AA",
        "." + ticket,
        ticket.replace(".", "..", 1),
        "W10." + ticket.split(".", 1)[1],
    ):
        answer = shown.browser.post("/consent", changed(shown.fields, ticket=bad))
        assert answer.status in {400, 403}
        assert not shown.happened()


@pytest.mark.parametrize(
    "values",
    [
        {"scope": "send-me write"}, {"scope": "API write"}, {"scope": "https://unknown.example read"}, {"scope": "read"}, {"scope": "API "}, {"scope": " read"}, {"scope": ""},
        {"lifetime": "0"}, {"lifetime": "-1"}, {"lifetime": "9999999999"}, {"lifetime": "99999999999999"}, {"lifetime": "1.5"}, {"lifetime": "x"}, {"lifetime": "\u0661"},
        {"away": "yes"}, {"away": "1"}, {"away": "YES"}, {"decision": ""}, {"decision": "Allow"}, {"decision": "maybe"}, {"decision": None},
    ],
    ids=str,
)  # fmt: skip
def test_no_more_is_allowed_than_was_shown(scene: Scene, values: dict[str, str | None]) -> None:
    shown = consent_form(scene)
    filled = {name: value and value.replace("API", scene.api.uri) for name, value in values.items()}
    fields = changed(shown.fields, **filled)
    if "away" in filled:
        fields.append(("away", str(filled["away"])))
    answer = shown.browser.post("/consent", fields)
    assert answer.status == 400
    assert not shown.happened()


def test_a_scope_more_beside_the_shown_one_is_refused(scene: Scene) -> None:
    shown = consent_form(scene)
    for more in (f"{scene.api.uri} write", f"{scene.other.uri} read", "https://unknown.example read"):
        fresh = consent_form(scene)
        error_page(fresh.browser.post("/consent", [*fresh.fields, ("scope", more)]))
        assert not fresh.happened()
    for name in ("ticket", "decision", "lifetime"):
        error_page(shown.browser.post("/consent", [*shown.fields, (name, field(shown.fields, name))]))
        assert not shown.happened()


def test_what_changed_since_it_was_shown_is_shown_again(scene: Scene) -> None:
    """The approval is bound to a hash of the page: the resource's words, the agent's purpose and reach."""
    agent = scene.world.agent(scene.bob, ceiling=[(scene.api, "read")], purpose="Reads")
    human = scene.world.human()
    browser = scene.world.signed_in(human)
    page = browser.authorize(scene.world.authorization(agent, VERIFIER, scene.api, scope="read"))
    fields = [*hidden(page), ("scope", f"{scene.api.uri} read"), ("lifetime", "3600"), ("decision", "allow")]
    with scene.world.server.deeds.deed() as deed:
        row = deed.session.scalars(select(ResourceRow).where(ResourceRow.uri == scene.api.uri)).one()
        before, row.scopes = dict(row.scopes), {**row.scopes, "read": "Delete everything"}
        deed.change(Thing(Kind.RESOURCE, row.id))
    try:
        answer = browser.post("/consent", fields)
        assert answer.status == 400
        assert "Delete everything" in answer.text
        assert "changed since" in answer.text
        assert not consents_of(scene, human, agent)
    finally:
        with scene.world.server.deeds.deed() as deed:
            deed.session.scalars(select(ResourceRow).where(ResourceRow.uri == scene.api.uri)).one().scopes = before
            deed.change(Thing(Kind.RESOURCE, row.id))


def test_a_page_left_open_by_one_who_was_disabled_or_signed_out_or_whose_agent_was_stopped_does_nothing(scene: Scene) -> None:
    human = scene.world.human()
    shown = consent_form(scene, human)
    scene.world.server.accounts.disable(human.id, by=BY)
    assert shown.browser.post("/consent", shown.fields).status in {303, 403}
    assert not shown.happened()

    shown = consent_form(scene)
    shown.browser.post("/logout", hidden(shown.browser.get("/logout")))
    assert shown.browser.post("/consent", shown.fields).status == 403
    assert not shown.happened()

    agent, human = scene.world.agent(scene.bob, ceiling=[(scene.api, "read")]), scene.world.human()
    browser = scene.world.signed_in(human)
    page = browser.authorize(scene.world.authorization(agent, VERIFIER, scene.api, scope="read"))
    scene.world.server.agent_registry.suspend(agent.id, by=BY)
    error_page(browser.post("/consent", [*hidden(page), ("scope", f"{scene.api.uri} read"), ("lifetime", "3600"), ("decision", "allow")]))
    assert not consents_of(scene, human, agent)


# Others' things


def test_a_consent_is_withdrawn_by_its_human_alone(scene: Scene) -> None:
    """2.6.90: a guessed id is as absent as one that never was."""
    mine = withdraw_form(scene)
    browser = scene.world.signed_in(scene.bob)
    bobs = scene.world.consented(browser, scene.agent, scene.api, scope="read")
    own = hidden(browser.get(f"/my/agents/{bobs['consent_id']}/withdraw"))
    for fields in (own, mine.fields, []):
        answer = browser.post(mine.path, fields)
        assert answer.status == 404
        assert not mine.happened()
    assert browser.get(mine.path).status == 404
    assert consents_of(scene, scene.bob, scene.agent)


def test_an_applications_sign_out_only_asks(scene: Scene) -> None:
    shown = logout_form(scene)
    answer = shown.browser.post("/logout", [("client_id", scene.app.client_id), ("post_logout_redirect_uri", "https://evil.example/")])
    assert answer.status == 303
    assert answer.headers["Location"].startswith("/logout?")
    assert not shown.happened()


def test_the_last_registered_client_is_still_there(scene: Scene) -> None:
    with scene.world.server.database.reading() as session:
        assert session.get(ClientRow, scene.agent.client_id) is not None
    scene.alive()
