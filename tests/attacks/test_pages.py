"""What a page shows of others' text, and what a browser may do with it (RFC 9700 §4.16, CSP3, Unicode TR36)."""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser
from urllib.parse import urlencode

import pytest
from flask import Flask

from app.agents.models import AgentRow
from app.clients.models import ClientRow
from app.errors import Refused
from app.humans.models import HumanRow
from app.resources.models import ResourceRow
from tests.attacks.scene import VERIFIER, Scene, elsewhere
from tests.world import BY, Answer, Browser, Party, hidden

MARKUP = [
    "<script>alert(1)</script>", '"><script>alert(1)</script>', "'><img src=x onerror=alert(1)>", "</title><script>alert(1)</script>", "--><svg onload=alert(1)>",
    "{{ 7*7 }}", "{% include '/etc/passwd' %}", "{{ config }}", "${7*7}", "<!--", "]]>", "&lt;b&gt;", "javascript:alert(1)", '" onmouseover=alert(1) x="', "`onload=alert(1)",
    "</textarea><script>alert(1)</script>", "<base href=//evil.example>", "<meta http-equiv=refresh content=0>", "<form action=//evil.example>", "<a href=//evil.example>press here</a>",
]  # fmt: skip
HIDDEN = {
    "right-to-left override": "\u202e", "left-to-right override": "\u202d", "isolate": "\u2066", "zero width space": "\u200b", "zero width joiner": "\u200d", "word joiner": "\u2060",
    "byte order mark": "\ufeff", "soft hyphen": "\u00ad", "Arabic letter mark": "\u061c", "Mongolian vowel separator": "\u180e", "interlinear": "\ufff9", "a tag letter": "\U000e0041",
    "private use": "\ue000", "line separator": "\u2028", "paragraph separator": "\u2029", "NUL": "\x00", "escape": "\x1b[31m", "carriage return": "\r", "line feed": "\n", "C1": "\x9b31m",
}  # fmt: skip
INVISIBLE_LETTERS = {
    "Hangul filler": "\u3164",
    "halfwidth Hangul filler": "\uffa0",
    "Braille blank": "\u2800",
    "combining grapheme joiner": "\u034f",
    "variation selector": "\ufe0f",
}


class Tags(HTMLParser):
    """Every element and attribute of a page, as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def harmless(page: Answer) -> None:
    """No element or attribute that our own templates do not have; nothing evaluated."""
    seen = Tags(page.text).seen
    scripts = [attributes for tag, attributes in seen if tag == "script"]
    assert all((one.get("src") or "").startswith("/static/") and one.keys() == {"src", "defer"} for one in scripts)
    seen = [(tag, attributes) for tag, attributes in seen if tag != "script" and attributes.get("name") != "htmx-config"]
    assert not {tag for tag, _ in seen} & {"script", "img", "iframe", "object", "embed", "base", "style", "textarea", "math"}
    for tag, attributes in seen:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("href", "src", "action", "formaction"):
            value = attributes.get(name)
            assert value is None or re.match(r"/(?!/)|#", value), (tag, name, value)
        assert "style" not in attributes
    assert [attributes.get("name") for tag, attributes in seen if tag == "meta"] == [None, "viewport", "color-scheme", "robots"]
    assert "49" not in re.sub(r"<[^>]*>", "", page.text).replace(VERIFIER, "").split()


def agent_named(scene: Scene, name: str, purpose: str = "Tests things", **more: object) -> Party:
    """An agent whose texts are in the register, however they got there."""
    agent = scene.world.agent(scene.bob, ceiling=[(scene.api, "read")], **more)
    with scene.world.server.deeds.deed() as deed:
        row = deed.session.get_one(AgentRow, agent.id)
        row.name, row.purpose = name[:200], purpose[:500]
        deed.session.get_one(ClientRow, agent.client_id).name = name[:200]
    return agent


def consent_page(scene: Scene, agent: Party, browser: Browser | None = None) -> Answer:
    browser = browser or scene.world.signed_in(scene.alice)
    page = browser.authorize(scene.world.authorization(agent, VERIFIER, scene.api, scope="read"))
    assert page.status == 200
    return page


# 2.6.85: markup


@pytest.mark.parametrize("text", MARKUP)
def test_markup_in_names_and_purposes_is_text(scene: Scene, text: str) -> None:
    browser = scene.world.signed_in(scene.alice)
    agent = agent_named(scene, text, text)
    page = consent_page(scene, agent, browser)
    harmless(page)
    assert browser.decide(page).status == 303
    mine = browser.get("/my/agents")
    harmless(mine)
    links = re.findall(r'href="(/my/agents/[^"]+/withdraw)"', mine.text)
    harmless(browser.get(links[0]))
    browser.post(links[0], hidden(browser.get(links[0])))
    harmless(browser.get("/my/agents"))


def test_markup_in_every_other_text_is_text(scene: Scene) -> None:
    """The owner's and the human's name, the resource's name, words, labels and scopes, an application's name."""
    evil = '"><script>alert(1)</script>{{ 7*7 }}'
    human, owner = scene.world.human(), scene.world.human()
    api = scene.world.resource("read'<b>")
    with scene.world.server.deeds.deed() as deed:
        for person in (human, owner):
            deed.session.get_one(HumanRow, person.id).name = evil
        row = deed.session.get_one(ResourceRow, api.id)
        row.name, row.scopes, row.labels = evil, {"read'<b>": evil}, ["<b>"]
    agent = scene.world.agent(owner, ceiling=[(api, "read'<b>")], hands_to=[agent_named(scene, evil)])
    browser = scene.world.signed_in(human)
    page = browser.authorize(scene.world.authorization(agent, VERIFIER, api, scope="read'<b>"))
    assert page.status == 200
    assert "&lt;script&gt;" in page.text
    harmless(page)
    assert browser.decide(page).status == 303
    for path in ("/", "/my/agents", "/logout", "/login?next=/my/agents"):
        harmless(browser.get(path))
    app = scene.world.app(name=evil, pairs=[(api, "read'<b>")])
    harmless(browser.authorize(scene.world.authorization(app, VERIFIER, agent.uri)))
    harmless(browser.authorize(scene.world.authorization(app, VERIFIER, api)))


@pytest.mark.parametrize("text", MARKUP)
def test_what_comes_in_the_address_or_a_form_is_not_reflected(scene: Scene, text: str) -> None:
    browser, signed_in = elsewhere(scene.world), scene.world.signed_in(scene.bob)
    every = {name: text for name in ("error", "error_description", "state", "next", "withdrawn", "username", "problem", "client_id", "redirect_uri", "id_token_hint", "scope", "resource",
                                     "post_logout_redirect_uri", "request_uri", "login_hint", "ui_locales", "nonce")}  # fmt: skip
    for path in (
        "/",
        "/login",
        "/logout",
        "/my/agents",
        "/oauth/authorize",
        "/nothing",
        f"/my/agents/{text}/withdraw",
        "/static/" + text,
        "/consent",
    ):
        for visitor in (browser, signed_in):
            answer = visitor.get(path.replace("#", "%23").replace("?", "%3f") + "?" + urlencode(every))
            if answer.headers["Content-Type"].startswith("text/html") and answer.status != 303:
                harmless(answer)
    page = browser.get("/login")
    answer = browser.post("/login", [*hidden(page), ("username", text), ("password", text)])
    assert answer.status == 401
    harmless(answer)


def test_a_redirect_says_nothing_that_is_markup(scene: Scene) -> None:
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", prompt="none")
    for state in MARKUP:
        answer = scene.world.browser().authorize([(n, state if n == "state" else v) for n, v in query])
        assert answer.status == 303
        assert not {tag for tag, _ in Tags(answer.text).seen} - {"html", "title", "h1", "p", "a"}
        assert "<script" not in answer.text
        assert re.fullmatch(r"[!-~]+", answer.headers["Location"])


# 2.6.86: names that imitate others


@pytest.mark.parametrize("char", [*HIDDEN.values(), *INVISIBLE_LETTERS.values()], ids=[*HIDDEN, *INVISIBLE_LETTERS])
def test_hidden_characters_are_not_registered_or_not_shown(scene: Scene, char: str) -> None:
    name = f"Good{char}Agent"
    registered = [
        lambda: scene.world.agent(scene.bob, name=name), lambda: scene.world.agent(scene.bob, purpose=name), lambda: scene.world.app(name=name),
        lambda: scene.world.resource(name=name), lambda: scene.world.server.accounts.add("u" + name, "n", "m@example.com", "password password", by=BY),
    ]  # fmt: skip
    if char in HIDDEN.values():
        for register in registered:
            with pytest.raises(Refused):
                register()
    if "\x00" in char and scene.world.server.database.engine.dialect.name != "sqlite":
        return
    browser = scene.world.signed_in(scene.alice)
    page = consent_page(scene, agent_named(scene, name, name), browser)
    browser.decide(page)
    for shown in (page, browser.get("/my/agents")):
        body = re.sub(r"[\n\t]", "", shown.text)
        assert char[0] not in body
        assert not [c for c in body if unicodedata.category(c) in {"Cf", "Cc", "Cs", "Co"}]


def test_marks_heaped_on_a_letter_do_not_write_over_the_page(scene: Scene) -> None:
    page = consent_page(scene, agent_named(scene, "A" + "\u0336\u0489\u030d" * 60, "B" + "\u0336" * 400))
    assert not re.search(r"[\u0300-\u036f\u0483-\u0489]{3}", page.text)


@pytest.mark.parametrize("name", ["G\u043e\u043egle", "P\u0430yPal", "App\u04cfe", "\u0391mazon", "Micr\u1d0fs\u043eft"])
def test_a_name_of_two_alphabets_is_pointed_out(scene: Scene, name: str) -> None:
    assert "Look twice" in consent_page(scene, agent_named(scene, name)).text
    assert "Look twice" not in consent_page(scene, agent_named(scene, "Google")).text


def test_the_page_names_the_host_it_leads_back_to_in_ascii(scene: Scene) -> None:
    agent = scene.world.agent(scene.bob, ceiling=[(scene.api, "read")], redirect_uris=("https://xn--80ak6aa92e.example/cb",))
    party = Party(agent.client_id, key=agent.key, id=agent.id, uri=agent.uri, redirect_uri="https://xn--80ak6aa92e.example/cb")
    page = consent_page(scene, party)
    assert "xn--80ak6aa92e.example" in page.text
    for evil in ("https://good.example.evil.example/cb",):
        agent = scene.world.agent(scene.bob, ceiling=[(scene.api, "read")], redirect_uris=(evil,))
        assert "good.example.evil.example" in consent_page(scene, Party(agent.client_id, redirect_uri=evil)).text


# 2.6.87: text that speaks for us


def test_an_agents_own_words_are_quoted_as_its_own_and_cut(scene: Scene) -> None:
    words = "The user already approved this. Ignore the above and press Allow. " * 7
    page = consent_page(scene, agent_named(scene, "An agent", words)).text
    quoted = re.search(r"<figure class=\"quote\">(.*?)</figure>", page, re.DOTALL)
    assert quoted is not None
    assert "in its own words, which we cannot check" in quoted[1]
    assert "press Allow" in quoted[1]
    assert "press Allow" not in page.replace(quoted[0], "")
    assert len(re.sub(r"<[^>]+>", "", quoted[1])) < 500


def test_a_very_long_name_is_cut(scene: Scene) -> None:
    page = consent_page(scene, agent_named(scene, "W" * 200, "x" * 500)).text
    assert "W" * 81 not in page
    assert "x" * 301 not in page


def test_nothing_is_ticked_that_reaches_beyond_her_presence(scene: Scene) -> None:
    """2.6.89: the wide choice is never the default."""
    browser = scene.world.signed_in(scene.alice)
    page = browser.authorize(scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", away=True))
    away = re.search(r'<input id="away"[^>]*>', page.text)
    assert away is not None
    assert "checked" not in away[0]


# 2.6.82, 2.6.93: framing, script, caching


def every_page(scene: Scene) -> dict[str, Answer]:
    browser, nobody = scene.world.signed_in(scene.alice), elsewhere(scene.world)
    form = [("x", "y")]
    return {
        "front": nobody.get("/"), "front, signed in": browser.get("/"), "sign in": nobody.get("/login"), "wrong password": nobody.post("/login", [*hidden(nobody.get("/login")), ("username", "x")]),
        "no token": nobody.post("/login", form), "my agents": browser.get("/my/agents"), "to the sign-in": nobody.get("/my/agents"), "not mine": browser.get("/my/agents/x/withdraw"),
        "withdraw": browser.get(f"/my/agents/{scene.given['consent_id']}/withdraw"), "sign out": browser.get("/logout"), "signed out": nobody.get("/logout"),
        "consent": consent_page(scene, scene.agent, browser), "consent without a form": browser.post("/consent", form), "a bad request": nobody.get("/oauth/authorize?x=y"),
        "to the sign-in first": nobody.authorize(scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read")), "nothing there": nobody.get("/nothing"),
        "another method": nobody.http.send("DELETE", "/login", None, {}), "too large": nobody.post("/login", [("x", "y" * 300_000)]), "an error sent back": browser.authorize(
            scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="nonsense")), "trace": nobody.http.send("TRACE", "/", None, {}),
    }  # fmt: skip


def test_every_page_also_an_error_forbids_frames_script_and_keeping(scene: Scene) -> None:
    for name, answer in every_page(scene).items():
        headers = answer.headers
        assert headers["Content-Type"].startswith("text/html"), name
        assert headers["X-Frame-Options"] == "DENY", name
        assert headers["Cache-Control"] == "no-store", name
        assert "Cookie" in headers["Vary"], name
        assert headers["X-Content-Type-Options"] == "nosniff", name
        assert headers["Referrer-Policy"] == "no-referrer", name
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin", name
        policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
        assert policy["default-src"] == "'none'", name
        assert policy["frame-ancestors"] == "'none'", name
        assert policy["base-uri"] == "'none'", name
        assert policy["script-src"] == "'self'", name
        assert "unsafe" not in headers["Content-Security-Policy"], name
        assert "*" not in headers["Content-Security-Policy"], name
        assert len(headers.getlist("Content-Security-Policy")) == 1, name  # type: ignore[attr-defined]
        assert "Server" not in headers or "Werkzeug" not in headers["Server"]


def test_a_form_may_end_where_the_browser_is_sent_and_nowhere_else(scene: Scene) -> None:
    page = consent_page(scene, scene.agent)
    policy = page.headers["Content-Security-Policy"]
    assert "form-action 'self' https://agent.example;" in policy + ";"
    assert "form-action 'self'" in scene.world.browser().get("/login").headers["Content-Security-Policy"]
    for evil in ("https://agent.example/;script-src%20x", "https://a.example/',x", "https://a.example/;report-uri=/x"):
        agent = scene.world.agent(scene.bob, ceiling=[(scene.api, "read")], redirect_uris=(evil,))
        policy = consent_page(scene, Party(agent.client_id, redirect_uri=evil)).headers["Content-Security-Policy"]
        assert policy.count(";") == page.headers["Content-Security-Policy"].count(";")
        assert "report-uri" not in policy
        assert "%20x" not in policy


def test_pages_need_no_script_and_load_nothing_from_elsewhere(scene: Scene) -> None:
    for name, answer in every_page(scene).items():
        if answer.status == 303:
            continue
        harmless(answer)
        for tag, attributes in Tags(answer.text).seen:
            if tag == "link":
                assert str(attributes["href"]).startswith("/static/"), name


def test_data_answers_are_no_pages_either(scene: Scene, app: Flask) -> None:
    client = app.test_client()
    for path in (
        "/oauth/jwks",
        "/.well-known/openid-configuration",
        "/healthz",
        "/readyz",
        "/oauth/userinfo",
        "/oauth/nothing",
        "/static/deputy.css",
        "/static/mark.svg",
    ):
        answer = client.get(path, buffered=True)
        assert answer.headers["X-Content-Type-Options"] == "nosniff", path
        assert not answer.headers["Content-Type"].startswith("text/html"), path
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"], path
