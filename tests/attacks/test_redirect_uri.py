"""Where the browser is sent: byte for byte where it was registered, and nowhere at all before that is proven (RFC 9700 §4.1)."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from app.errors import Refused
from tests.attacks.scene import VERIFIER, Scene, error_page, refused, sent_back
from tests.world import BY, REDIRECT, Browser, Party

Query = list[tuple[str, str]]

LOOKALIKES = [
    REDIRECT + "?x=1", REDIRECT + "?", REDIRECT + "/", REDIRECT + "//", REDIRECT + ";x=1", REDIRECT + "/../callback", REDIRECT + "/..;/callback",
    REDIRECT + "#", REDIRECT + "#x", REDIRECT + "%2e", REDIRECT + "%2f..", REDIRECT + "%00", REDIRECT + "%0d%0aSet-Cookie:x", REDIRECT + " ", " " + REDIRECT,
    REDIRECT + "\t", REDIRECT + "\n", REDIRECT + ".", REDIRECT.replace("/callback", "\\callback"), REDIRECT.replace("/callback", "//callback"),
    REDIRECT.replace("/callback", "/./callback"), REDIRECT.replace("/callback", "/a/../callback"), REDIRECT.replace("/callback", "/Callback"),
    REDIRECT.replace("/callback", "/%63allback"), "https://agent.example", "https://agent.example/", "https://agent.example/callbac",
    "https://agent.example:443/callback", "https://agent.example:8443/callback", "https://agent.example:/callback", "https://agent.example./callback",
    "https://agent.example@evil.example/callback", "https://agent.example:x@evil.example/callback", "https://a@b@agent.example/callback",
    "https://evil.example\\@agent.example/callback", "https://evil.example#@agent.example/callback", "https://evil.example?@agent.example/callback",
    "https://agent.example.evil.example/callback", "https://evilagent.example/callback", "https://xagent.example/callback", "https://agent.example%2eevil.example/callback",
    "https://agent\u3002example/callback", "https://\u0430gent.example/callback", "https://xn--gent-53d.example/callback", "https://AGENT.example/callback",
    "HTTPS://agent.example/callback", "hTtPs://agent.example/callback", "http://agent.example/callback", "//agent.example/callback", "/callback", "callback", "?x", "",
    "javascript:alert(1)", "JaVaScRiPt:alert(1)//https://agent.example/callback", "data:text/html,x", "vbscript:x", "blob:https://agent.example/x", "file:///etc/passwd",
    "about:blank", "https:agent.example/callback", "https:/agent.example/callback", "https:///agent.example/callback", "https:\\\\agent.example\\callback",
    "https://[agent.example]/callback", "https://[::1]/callback", "https://127.0.0.1/callback", "https://agent.example/callback\u2028", "https://agent.example/callback\u202e",
]  # fmt: skip


def ask(scene: Scene, **changed: str | None) -> Query:
    query = dict(scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read"))
    for name, value in changed.items():
        if value is None:
            query.pop(name, None)
        else:
            query[name] = value
    return list(query.items())


def browsers(scene: Scene) -> list[Browser]:
    """Nobody, and somebody signed in: an early error sends neither anywhere."""
    return [scene.world.browser(), scene.world.signed_in(scene.alice)]


LATER = {
    "nothing else": {}, "response_type": {"response_type": "token"}, "no response_type": {"response_type": None}, "scope": {"scope": "nonsense"},
    "prompt=none": {"prompt": "none"}, "no PKCE": {"code_challenge": None}, "plain PKCE": {"code_challenge_method": "plain"}, "resource": {"resource": "x"},
    "a request object": {"request": "e30."}, "response_mode": {"response_mode": "fragment"}, "max_age": {"max_age": "-1"}, "prompt": {"prompt": "none login"},
    "a hint": {"id_token_hint": "x"}, "a huge state": {"state": "x" * 3000}, "authorization_details": {"authorization_details": "[]"},
}  # fmt: skip


@pytest.mark.rfc("6749", "4.1.2.1")
@pytest.mark.parametrize("later", LATER.values(), ids=LATER.keys())
def test_before_client_and_uri_belong_together_there_is_no_redirect_for_any_later_error(scene: Scene, later: dict[str, str | None]) -> None:
    for browser in browsers(scene):
        for client_id in ("unknown", None, "", scene.agent.client_id.upper(), scene.api.client_id):
            error_page(browser.authorize(ask(scene, client_id=client_id, **later)))
        for uri in ("https://evil.example/callback", REDIRECT + "?x=1", "javascript:alert(1)", "x"):
            error_page(browser.authorize(ask(scene, redirect_uri=uri, **later)))


@pytest.mark.parametrize("uri", LOOKALIKES)
def test_a_lookalike_is_no_match_at_the_endpoint_and_none_when_pushed(scene: Scene, uri: str) -> None:
    if uri == "":
        return
    for browser in browsers(scene):
        error_page(browser.authorize(ask(scene, redirect_uri=uri)))
    refused(
        scene.world.post("/oauth/par", [*ask(scene, redirect_uri=uri), *scene.world.credentials(scene.agent)[0].items()]), "invalid_request"
    )


def test_another_clients_redirect_uri_is_not_ones_own(scene: Scene) -> None:
    elsewhere = scene.world.agent(scene.bob, ceiling=[(scene.api, "read")], redirect_uris=("https://elsewhere.example/cb",))
    error_page(scene.world.browser().authorize(ask(scene, redirect_uri="https://elsewhere.example/cb")))
    error_page(scene.world.browser().authorize(ask(scene, client_id=elsewhere.client_id)))


def test_a_repeated_client_id_or_redirect_uri_is_a_page(scene: Scene) -> None:
    for name in ("client_id", "redirect_uri"):
        for value in (dict(ask(scene))[name], "https://evil.example/callback"):
            for browser in browsers(scene):
                error_page(browser.authorize([*ask(scene), (name, value)]))
                error_page(browser.authorize([(name, value), *ask(scene)]))


@pytest.mark.rfc("6749", "3.1.2.3")
def test_with_several_registered_one_must_be_named_and_with_openid_always(scene: Scene) -> None:
    several = scene.world.agent(scene.bob, ceiling=[(scene.api, "read")], redirect_uris=(REDIRECT, "https://agent.example/2"))
    error_page(scene.world.browser().authorize(ask(scene, client_id=several.client_id, redirect_uri=None)))
    query = ask(scene, client_id=scene.app.client_id, redirect_uri=None, scope="openid", resource=None)
    error_page(scene.world.browser().authorize(query))
    assert scene.world.browser().authorize(ask(scene, redirect_uri=None)).status == 303


def test_a_suspended_or_disabled_client_sends_nobody_anywhere(scene: Scene) -> None:
    agent, app = scene.world.agent(scene.bob, ceiling=[(scene.api, "read")]), scene.world.app(pairs=[(scene.api, "read")])
    for client in (agent, app):
        assert scene.world.browser().authorize(ask(scene, client_id=client.client_id)).status == 303
    scene.world.server.agent_registry.suspend(agent.id, by=BY)
    scene.world.server.apps.disable(app.client_id, by=BY)
    for client in (agent, app):
        for browser in browsers(scene):
            error_page(browser.authorize(ask(scene, client_id=client.client_id)))


# A loopback literal's port, and nothing else of it (RFC 8252 §7.3)


@pytest.fixture(scope="module")
def native(scene: Scene) -> Party:
    uris = ("http://127.0.0.1/cb", "http://[::1]:1/cb", "com.example.app:/cb")
    return scene.world.app(auth="none", native=True, redirect_uris=uris)


def native_query(scene: Scene, native: Party, uri: str) -> Query:
    return [(n, v) for n, v in ask(scene, client_id=native.client_id, redirect_uri=uri, scope="openid") if n != "resource"]


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1/cb",
        "http://127.0.0.1:1/cb",
        "http://127.0.0.1:65535/cb",
        "http://[::1]/cb",
        "http://[::1]:9/cb",
        "com.example.app:/cb",
    ],
)
def test_the_port_of_a_loopback_literal_may_differ(scene: Scene, native: Party, uri: str) -> None:
    answer = scene.world.browser().authorize(native_query(scene, native, uri))
    assert answer.status == 303
    assert answer.headers["Location"].startswith("/login?")


@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost/cb", "http://localhost:1/cb", "http://127.0.0.2/cb", "http://127.0.0.1:1@evil.example/cb", "http://127.0.0.1@evil.example/cb", "http://127.1/cb",
        "http://2130706433/cb", "http://0x7f.1/cb", "http://127.0.0.1:123456/cb", "http://127.0.0.1:/cb", "http://127.0.0.1:1/cb/", "http://127.0.0.1:1/cb?x", "http://127.0.0.1:1/",
        "http://127.0.0.1:1", "https://127.0.0.1/cb", "http://127.0.0.1.evil.example/cb", "http://[::1%25lo]/cb", "http://[0:0:0:0:0:0:0:1]/cb", "http://[::ffff:127.0.0.1]/cb",
        "http://127.0.0.1:1/CB", "http://127.0.0.1:-1/cb", "http://127.0.0.1: 1/cb", "http://127.0.0.1:1\\cb", "http://127.0.0.1:\u0661/cb", "com.example.app://cb", "com.example.app:/cb/x",
        "com.example.app:cb", "com.example.evil:/cb", "COM.example.app:/cb", "http://0.0.0.0/cb", "http://::1/cb",
    ],
)  # fmt: skip
def test_nothing_else_of_a_loopback_uri_may_differ(scene: Scene, native: Party, uri: str) -> None:
    error_page(scene.world.browser().authorize(native_query(scene, native, uri)))


# 2.5.65: what may be registered


@pytest.mark.rfc("9700", "2.1")
@pytest.mark.parametrize(
    "uri",
    [
        "javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "\tjavascript:alert(1)", "data:text/html,x", "vbscript:x", "blob:x", "file:///x", "about:blank", "",
        " ", "x", "/cb", "//agent.example/cb", "http://agent.example/cb", "http://localhost/cb", "https://", "https:///cb", "https:/cb", "https:cb", "https://agent.example/cb#",
        "https://agent.example/cb#x", "https://*.example/cb", "https://agent.example/*", "https://agent.example\\cb", "https://agent.example@evil.example/cb",
        "https://user:pw@agent.example/cb", "https://agent.example:0/cb", "https://agent.example:99999/cb", "https://agent.example:x/cb", "https://[::1/cb", "https://agent.example/c b",
        "https://agent.example/cb\n", "https://agent.example/\u00e9", "https://\u0430gent.example/cb", "https://agent.example/cb\x00", "https://agent.example/\u202ecb",
        "http://127.0.0.1@evil.example/cb", "http://127.0.0.1.evil.example/cb", "javascript.x:/alert(1)", "https://agent.example/" + "x" * 3000,
    ],
)  # fmt: skip
def test_what_is_no_place_to_go_is_not_registered(scene: Scene, uri: str) -> None:
    with pytest.raises(Refused):
        scene.world.app(redirect_uris=(uri,))
    with pytest.raises(Refused):
        scene.world.app(redirect_uris=(REDIRECT, uri))
    with pytest.raises(Refused):
        scene.world.app(post_logout_redirect_uris=(uri,))
    if not uri.startswith(("http://127.0.0.1", "javascript.x:")):
        with pytest.raises(Refused):
            scene.world.app(redirect_uris=(uri,), native=True)


@pytest.mark.parametrize(
    "uri",
    [
        "javascript:/x",
        "data:/x",
        "x:/y",
        "http:/cb",
        "https://agent.example#",
        "mailto:a@b.example",
        "intent://x",
        "ms-settings:/x",
        "com.example.app://host/cb",
    ],
)
def test_a_native_application_owns_a_scheme_that_is_a_domain_turned_round(scene: Scene, uri: str) -> None:
    with pytest.raises(Refused):
        scene.world.app(redirect_uris=(uri,), native=True)


# The redirect itself


@pytest.mark.rfc("9207", "2")
def test_a_query_of_the_registered_uri_stays_and_ours_is_added_once(scene: Scene) -> None:
    uri = "https://agent.example/cb?a=1&code=theirs"
    app = scene.world.app(redirect_uris=(uri,))
    query = [("response_type", "token"), ("client_id", app.client_id), ("redirect_uri", uri), ("state", "s")]
    answer = scene.world.browser().authorize(query)
    assert answer.headers["Location"].startswith(uri + "&error=unsupported_response_type&")


@pytest.mark.parametrize(
    "state", ["a&code=evil", "a#b", "a\r\nSet-Cookie: x=y", "a b", '"><script>', "\u202e", "%0d%0a", "a;b", "=", "😀", "x" * 2048]
)
def test_state_goes_back_whole_and_as_nothing_else(scene: Scene, state: str) -> None:
    answer = scene.world.browser().authorize(ask(scene, response_type="token", state=state))
    found = sent_back(answer, REDIRECT, scene.world.issuer)
    assert found == {
        "error": "unsupported_response_type",
        "error_description": found["error_description"],
        "state": state,
        "iss": scene.world.issuer,
    }
    assert "\r" not in answer.headers["Location"]
    assert answer.headers["Location"].isascii()


def test_a_state_too_long_is_not_sent_anywhere(scene: Scene) -> None:
    found = sent_back(scene.world.browser().authorize(ask(scene, state="x" * 2049)), REDIRECT, scene.world.issuer)
    assert found["error"] == "invalid_request"
    assert "state" not in found


def test_a_post_to_the_authorization_endpoint_is_no_way_around(scene: Scene) -> None:
    for query in (ask(scene, redirect_uri="https://evil.example/"), ask(scene, client_id="x")):
        browser = scene.world.browser()
        answer = browser.post("/oauth/authorize", query)
        assert answer.status == 303
        assert answer.headers["Location"] == "/oauth/authorize?" + urlencode(query)
        error_page(browser.get(answer.headers["Location"]))
    for kind in ("application/json", "multipart/form-data; boundary=x", "text/plain", ""):
        error_page(scene.raw("/oauth/authorize", urlencode(ask(scene)).encode(), {"Content-Type": kind}))
    error_page(scene.raw("/oauth/authorize?x=1", urlencode(ask(scene)).encode()))
    error_page(scene.raw("/oauth/authorize", b"x" * 9000))
    answer = scene.raw("/oauth/authorize", b"a=\r\nLocation:%20https://evil.example&\xff\x00")
    assert "evil.example" not in answer.headers.get("Location", "") or answer.headers["Location"].startswith("/oauth/authorize?")
