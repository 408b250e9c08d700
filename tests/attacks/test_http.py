"""What HTTP lets a caller do: methods, paths, hosts, proxies, origins; and never a 5xx, whatever is sent (RFC 9110)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from flask import Flask
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException

from tests.attacks.scene import FORM, VERIFIER, Scene, another_app, refused, sent_back, world_of
from tests.world import REDIRECT, Answer, basic, encoded

PROTOCOL = ["/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/par", "/oauth/userinfo", "/oauth/jwks"]
TASKS = ["/tasks", "/tasks/x", "/tasks/x/end", "/tasks/x/events"]
METADATA = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"]
PAGES = ["/", "/login", "/logout", "/consent", "/my/agents", "/my/agents/x/withdraw", "/oauth/authorize"]
OPERATIONS = ["/healthz", "/readyz", "/metrics"]
EVERYWHERE = [*PROTOCOL, *TASKS, *METADATA, *PAGES, *OPERATIONS, "/static/deputy.css", "/nothing", "/oauth/nothing", "/.well-known/nothing"]
SURFACES = (
    "/admin", "/api/v1/", "/my/", "/login/passkey", "/agents/instances", "/oauth/bc-authorize", "/access/v1/evaluation",
    "/.well-known/authzen-configuration",
)  # fmt: skip
OPEN_TO_BROWSERS = {"/oauth/token", "/oauth/jwks", *METADATA}


# Methods and paths


def allowed(app: Flask, path: str) -> set[str]:
    adapter = app.url_map.bind("x")
    return set(adapter.allowed_methods(path))


def paths(app: Flask) -> set[str]:
    """Every path there is, with something in place of what varies."""
    return {re.sub(r"<(int:)?[^>]*>", r"1", rule.rule.replace("<path:filename>", "deputy.css")) for rule in app.url_map.iter_rules()}


def test_these_are_all_the_paths_there_are(app: Flask) -> None:
    """A surface with tests of its own is named by where it begins; what begins elsewhere is named here path by path."""
    there = paths(app)
    named = {path.replace("/x", "/1") for path in EVERYWHERE if "nothing" not in path}
    assert named <= there
    assert {path for path in there - named if not path.startswith(SURFACES)} == set()


def test_any_method_at_any_path_is_answered_and_nobody_gets_further(app: Flask) -> None:
    for path in sorted(paths(app)):
        for method in ("GET", "POST", "PUT", "DELETE"):
            answer = app.test_client().open(path, method=method, buffered=True)
            assert answer.status_code < 500, (method, path, answer.status_code)
            if path.startswith(("/admin", "/api/v1", "/my/")) and path != "/api/v1/openapi.json":
                assert answer.status_code in {302, 303, 400, 401, 403, 404, 405}, (method, path, answer.status_code)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "X" * 300])
@pytest.mark.parametrize("path", EVERYWHERE)
def test_any_method_anywhere_is_answered_and_a_foreign_one_with_405(app: Flask, path: str, method: str) -> None:
    answer = app.test_client().open(path, method=method, buffered=True)
    if path.endswith("/nothing"):
        assert answer.status_code == 404
    elif method not in allowed(app, path):
        assert answer.status_code == 405
        assert set(answer.headers["Allow"].split(", ")) == allowed(app, path)
    else:
        assert answer.status_code < 500
    if path.startswith("/oauth/") and path != "/oauth/authorize" and answer.status_code in {404, 405} and method != "HEAD":
        assert answer.json is not None
        assert answer.json["error"] == "invalid_request"
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "header",
    [
        "X-HTTP-Method-Override",
        "X-Method-Override",
        "X-HTTP-Method",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Forwarded-Prefix",
        "X-Script-Name",
    ],
)
def test_no_header_changes_method_or_path(scene: Scene, header: str) -> None:
    for value in ("DELETE", "POST", "/metrics", "/oauth/token"):
        assert scene.world.get("/login", {header: value}).status == 200
        answer = scene.raw("/oauth/token", b"grant_type=client_credentials", {header: value})
        refused(answer, "invalid_client", 401)
        assert scene.world.get("/nothing", {header: value}).status == 404


@pytest.mark.parametrize(
    "path",
    ["/oauth//token", "//oauth/token", "///oauth/token", "/oauth/token/", "/oauth/./token", "/oauth/x/../token", "/oauth/../oauth/token", "/oauth%2ftoken", "/oauth/%74oken", "/OAUTH/TOKEN", "/oauth/Token",
     "/oauth/token;x=1", "/oauth/token%00", "/oauth/token%0a", "/oauth/token.json", "/oauth/token%20", "/oauth\\token", "/./oauth/token", "/oauth/token//", "/my//agents", "//evil.example/oauth/token",
     "//my/agents", "/login/", "//login", "/.well-known//openid-configuration", "/.well-known/openid-configuration/", "/static/../app/settings.py", "/static/..%2f..%2fpyproject.toml", "/static/%2e%2e/%2e%2e/etc/passwd",
     "/static//etc/passwd", "/static/....//....//etc/passwd", "/static/\\..\\x", "/static/%00", "/static/", "/static"],
)  # fmt: skip
def test_another_spelling_of_a_path_is_another_path(scene: Scene, app: Flask, path: str) -> None:
    """2.12.170: never a redirect to the right one either, least of all one that sends a POST with its secrets again."""
    raw = unquote_to_bytes(path).decode("latin-1")
    for method in ("GET", "POST"):
        members, _ = scene.world.credentials(scene.agent)
        form = encoded({"grant_type": "client_credentials", **members})
        answer = app.test_client().open(
            "/", method=method, data=form, content_type=FORM, buffered=True, environ_overrides={"PATH_INFO": raw}
        )
        same = "/" + raw.lstrip("/")
        if same == "/oauth/token":
            # WSGI has it decoded (RFC 3986 §6.2.2.2), Werkzeug cuts slashes in front: the same path, the same decisions about it.
            assert answer.status_code == {"GET": 405, "POST": 200}[method]
        elif same in EVERYWHERE:
            assert answer.status_code in {200, 303, 403, 405}
        else:
            assert answer.status_code in {404, 405}, (answer.status_code, answer.headers)
        assert answer.headers.get("Location", "/login?next=/my/agents") == "/login?next=/my/agents"


def test_options_says_what_there_is_and_does_nothing(app: Flask) -> None:
    for path in EVERYWHERE:
        answer = app.test_client().open(path, method="OPTIONS", buffered=True)
        assert answer.status_code in {200, 204, 404, 405}
        assert not answer.data or path.endswith("/nothing")


# Host and proxies


HOSTS = ["evil.example", "evil.example:80", "127.0.0.1:8000.evil.example", "evil.example@127.0.0.1:8000", "127.0.0.1:8000, evil.example", "", " ", "[::1", "a b", "\u00e9", "x" * 5000, "evil.example/x?", "..", "-",
         "localhost:99999", "localhost:x", "127.0.0.1:8000\tx", "'", '"><script>']  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_the_host_header_means_nothing(scene: Scene, host: str) -> None:
    sent = {"Host": host.encode().decode("latin-1")}
    plain = scene.world.get(METADATA[0])
    for path in METADATA:
        answer = scene.world.get(path, sent)
        # What is no host at all may be refused; nobody's word for it is repeated.
        assert answer.body == plain.body or answer.status == 400
        assert b"evil" not in answer.body
    token = scene.world.http.send(
        "POST",
        "/oauth/token",
        encoded({"grant_type": "client_credentials", **scene.world.credentials(scene.agent)[0]}),
        {"Content-Type": FORM, **sent},
    )
    assert token.status in {200, 400}
    for path in ("/", "/login", "/my/agents", "/logout", "/nothing", "/oauth/authorize?x=y"):
        answer = scene.world.http.fresh().send("GET", path, None, sent)
        assert answer.status < 500
        assert "evil" not in answer.headers.get("Location", "")
        assert "evil" not in answer.text
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", prompt="none")
    found = scene.world.http.fresh().send("GET", "/oauth/authorize?" + encoded(query).decode(), None, sent)
    if found.status == 400:
        return
    assert sent_back(found, REDIRECT, scene.world.issuer)["error"] == "login_required"


FORWARDED = {
    "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "1", "X-Forwarded-Server": "evil.example", "X-Forwarded-Prefix": "/evil",
    "Forwarded": 'for=127.0.0.1;host=evil.example;proto=https;by="x"', "X-Real-IP": "127.0.0.1", "X-Client-IP": "127.0.0.1", "True-Client-IP": "127.0.0.1", "X-Original-Host": "evil.example",
    "X-Host": "evil.example", "X-Forwarded-Scheme": "https", "Front-End-Https": "on",
}  # fmt: skip


def test_forwarded_headers_mean_nothing_without_a_proxy_that_is_trusted(scene: Scene) -> None:
    plain = scene.world.get(METADATA[0])
    assert scene.world.get(METADATA[0], FORWARDED).body == plain.body
    answer = scene.world.http.fresh().send("GET", "/my/agents", None, FORWARDED)
    assert answer.headers["Location"] == "/login?next=/my/agents"
    page = scene.world.http.fresh().send("GET", "/login", None, FORWARDED)
    assert "evil" not in page.text
    assert "Secure" not in page.headers["Set-Cookie"]


@pytest.fixture(scope="module")
def proxied(scene: Scene) -> Iterator[Flask]:
    with another_app(scene.world.server.settings, trusted_proxies=1, rate_failures=3) as made:
        yield made


def from_address(app: Flask, path: str, address: str, headers: dict[str, str] | None = None, method: str = "GET") -> Any:
    return app.test_client().open(path, method=method, headers=headers or {}, environ_overrides={"REMOTE_ADDR": address}, buffered=True)


def test_details_and_figures_are_for_this_machine_or_by_token_only(scene: Scene, app: Flask, proxied: Flask) -> None:
    assert from_address(app, "/metrics", "127.0.0.1").status_code == 200
    assert from_address(app, "/metrics", "::1").status_code == 200
    for address in ("203.0.113.9", "10.0.0.1", "2001:db8::1", "", "x"):
        assert from_address(app, "/metrics", address).status_code == 404
        assert from_address(app, "/metrics", address, {"Authorization": "Bearer "}).status_code == 404
        assert from_address(app, "/metrics", address, {"Authorization": ""}).status_code == 404
        assert "missing" not in from_address(app, "/readyz", address).json
    # Somebody else's word for it, and a proxy nobody told us of that passes the word on.
    for name, value in FORWARDED.items():
        assert from_address(app, "/metrics", "203.0.113.9", {name: value}).status_code == 404
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        assert from_address(app, "/metrics", "127.0.0.1", {name: "203.0.113.9"}).status_code == 404
    # Behind a trusted proxy: its word counts, and only its own.
    assert from_address(proxied, "/metrics", "10.0.0.1", {"X-Forwarded-For": "203.0.113.9"}).status_code == 404
    assert from_address(proxied, "/metrics", "10.0.0.1", {"X-Forwarded-For": "127.0.0.1, 203.0.113.9"}).status_code == 404
    assert from_address(proxied, "/metrics", "127.0.0.1", {"X-Forwarded-For": "203.0.113.9"}).status_code == 404
    for nonsense in (
        "x",
        "",
        ",",
        "127.0.0.1:80",
        "[::1]:80",
        "127.0.0.1, x",
        "\u00e9",
        "unknown",
        "_hidden",
        "x" * 5000,
        "1.2.3.4.5",
        "%00",
    ):
        assert from_address(proxied, "/metrics", "10.0.0.1", {"X-Forwarded-For": nonsense.encode().decode("latin-1")}).status_code == 404
        assert from_address(proxied, "/readyz", "10.0.0.1", {"X-Forwarded-For": nonsense.encode().decode("latin-1")}).status_code == 200


def test_the_operations_token_opens_them_and_nothing_like_it_does(scene: Scene) -> None:
    with another_app(scene.world.server.settings, operations_token="an-operations-token") as made:
        good = {"Authorization": "Bearer an-operations-token"}
        assert from_address(made, "/metrics", "203.0.113.9", good).status_code == 200
        for value in (
            "",
            "Bearer",
            "Bearer ",
            "Bearer an-operations-toke",
            "Bearer an-operations-tokenx",
            "an-operations-toke",
            "Bearer \u00e9",
            "Basic x",
            "Bearer an-operations-token, x",
        ):
            assert from_address(made, "/metrics", "203.0.113.9", {"Authorization": value.encode().decode("latin-1")}).status_code == 404


def test_behind_a_trusted_proxy_the_address_is_its_word_and_one_hop_deep(scene: Scene, proxied: Flask) -> None:
    """A caller who writes addresses of his own into X-Forwarded-For does not get a fresh count for each."""

    def fail(forwarded: str) -> int:
        form = encoded({"grant_type": "client_credentials", "client_id": "x", "client_secret": "y"})
        answer = proxied.test_client().post("/oauth/token", data=form, content_type=FORM, headers={"X-Forwarded-For": forwarded})
        return int(answer.status_code)

    statuses = [fail(f"198.51.100.{turn}, 203.0.113.77") for turn in range(10)]
    assert 429 in statuses
    assert fail("203.0.113.78") == 401


# CORS


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:8000", "https://agent.example", "x", "\u00e9"])
def test_only_what_has_no_session_is_open_to_other_origins_and_never_with_cookies(app: Flask, origin: str) -> None:
    sent = {
        "Origin": origin.encode().decode("latin-1"),
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type, x-evil",
    }
    for path in EVERYWHERE:
        for method in ("OPTIONS", "GET", "POST"):
            answer = app.test_client().open(path, method=method, headers=sent, buffered=True)
            assert "Access-Control-Allow-Credentials" not in answer.headers
            if path not in OPEN_TO_BROWSERS:
                assert not [name for name in answer.headers.keys() if name.startswith("Access-Control")], (path, method)
            elif answer.status_code != 405:
                assert answer.headers["Access-Control-Allow-Origin"] == "*"
                assert "x-evil" not in answer.headers.get("Access-Control-Allow-Headers", "").lower()
                assert ("Access-Control-Allow-Headers" in answer.headers) is (method == "OPTIONS")


# Caching


def test_only_what_everybody_may_know_is_kept(scene: Scene, app: Flask) -> None:
    keep = {"/oauth/jwks", *METADATA}
    for path in EVERYWHERE:
        answer = app.test_client().get(path, buffered=True)
        if path in keep:
            assert answer.headers["Cache-Control"] == "public, max-age=60"
            assert "Set-Cookie" not in answer.headers
        elif path.startswith("/static"):
            assert "no-store" not in answer.headers["Cache-Control"]
        elif path != "/metrics":
            assert answer.headers["Cache-Control"] == "no-store", path
    answer = scene.world.own_token(scene.agent)
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")


def test_the_key_set_shows_public_parts_only(scene: Scene) -> None:
    for key in scene.world.get("/oauth/jwks").json["keys"]:
        assert not {"d", "p", "q", "dp", "dq", "qi", "k", "oth"} & key.keys()
        assert key["use"] == "sig"


def test_an_answer_is_not_compressed_beside_a_secret(scene: Scene) -> None:
    for path in EVERYWHERE:
        if not path.startswith("/static"):
            assert "Content-Encoding" not in scene.world.get(path, {"Accept-Encoding": "gzip, br, zstd"}).headers


def test_no_answer_says_what_it_is_made_with(scene: Scene) -> None:
    for path in ("/", "/oauth/token", "/nothing", METADATA[0]):
        answer = scene.world.get(path)
        text = json.dumps(dict(answer.headers)) + answer.text
        for word in ("Werkzeug", "Flask", "gunicorn", "Python", "SQLAlchemy", "Authlib", "Traceback"):
            assert word not in text


# Whatever is sent


NAMES = st.sampled_from(
    ["grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "token", "token_type_hint", "code", "code_verifier", "redirect_uri", "refresh_token", "subject_token", "subject_token_type",
     "actor_token", "actor_token_type", "requested_token_type", "resource", "audience", "scope", "authorization_details", "task_id", "response_type", "state", "nonce", "code_challenge", "code_challenge_method",
     "prompt", "max_age", "request_uri", "request", "id_token_hint", "csrf_token", "ticket", "decision", "lifetime", "away", "username", "password", "next", "post_logout_redirect_uri", "withdrawn", "fresh_after"],
) | st.text(max_size=6)  # fmt: skip
VALUES = st.sampled_from(
    ["client_credentials", "authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:token-exchange", "urn:ietf:params:oauth:token-type:access_token", "urn:ietf:params:oauth:token-type:jwt",
     "urn:deputy:params:oauth:token-type:consent", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "eyJhbGciOiJub25lIn0.e30.", "a.b.c", "code", "S256", "none", "login", "allow", "deny", "yes", "3600",
     "openid", "read", "https://agent.example/callback", "urn:ietf:params:oauth:request_uri:x", "[]", '[{"type":"resource_access"}]', "-1", "0", "rt_x", "ac_x", "/my/agents", "VALID_CLIENT", "VALID_SECRET", "VALID_API"],
) | st.text(max_size=40) | st.text("\x00\ud7ff\u202e\U0001f600&=%;+\r\n\"'<>", max_size=20) | st.just("x" * 9000)  # fmt: skip
FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
BODIES = (
    FIELDS.map(lambda fields: encoded([(name, value.encode("utf-8", "replace").decode()) for name, value in fields]))
    | st.binary(max_size=200)
    | st.none()
)
CONTENT_TYPES = st.sampled_from(
    [
        FORM,
        FORM + "; charset=utf-8",
        "application/json",
        "multipart/form-data; boundary=x",
        "text/plain",
        "",
        "/",
        ";",
        "multipart/form-data",
        FORM + "; charset=\x7f",
    ]
)
HEADER_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, blacklist_characters="\x7f"), max_size=60)
HEADERS = st.dictionaries(
    st.sampled_from(["Authorization", "Accept", "Cookie", "Host", "Origin", "Referer", "X-Forwarded-For", "X-Forwarded-Proto", "DPoP", "Range", "If-None-Match", "If-Modified-Since", "Sec-Fetch-Site", "Content-Encoding",
                     "Transfer-Encoding", "User-Agent", "Accept-Language", "Expect", "Upgrade", "Forwarded"]),
    HEADER_TEXT | st.sampled_from(["Basic " + "QUFB" * 10, "Bearer a.b.c", "Basic Og==", "Basic VALID", "deputy=" + "A" * 43, "deputy=x; deputy-form=" + "A" * 43, "bytes=0-", "bytes=-1,5-2", "application/token-introspection+jwt", "gzip", "*/*;q=x"]),
    max_size=4,
)  # fmt: skip
PATHS = (
    st.sampled_from(EVERYWHERE)
    | st.text(max_size=20).map(lambda text: "/" + text)
    | st.text(max_size=10).map(lambda text: f"/my/agents/{text}/withdraw")
)
METHODS = st.sampled_from(["GET", "POST", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "X"])


@pytest.fixture(scope="module")
def visitors(scene: Scene) -> list[Any]:
    """Nobody, and Alice with her session; both with a form cookie."""
    nobody, alice = scene.world.browser(), scene.world.signed_in(scene.alice)
    nobody.get("/login")
    return [nobody, alice]


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(method=METHODS, path=PATHS, query=FIELDS, body=BODIES, kind=CONTENT_TYPES, headers=HEADERS, who=st.integers(0, 1))
@example(method="POST", path="/oauth/token", query=[], body=b"\xff", kind=FORM, headers={"Authorization": "Basic //4="}, who=0)
@example(method="GET", path="/oauth/authorize", query=[("id_token_hint", "a.b.c")], body=None, kind="", headers={}, who=1)
@example(method="POST", path="/consent", query=[], body=b"ticket=x&csrf_token=x.y", kind=FORM, headers={}, who=1)
@example(method="GET", path="/static/deputy.css", query=[], body=None, kind="", headers={"Range": "bytes=-1,5-2"}, who=0)
@example(method="GET", path="/login", query=[], body=None, kind="", headers={"Host": "a\xa0b"}, who=0)
def test_nothing_at_all_is_a_5xx(
    scene: Scene,
    visitors: list[Any],
    method: str,
    path: str,
    query: list[tuple[str, str]],
    body: bytes | None,
    kind: str,
    headers: dict[str, str],
    who: int,
) -> None:
    known = {
        b"VALID_CLIENT": scene.posting.client_id.encode(),
        b"VALID_SECRET": str(scene.posting.secret).encode(),
        b"VALID_API": scene.api.uri.encode(),
    }
    for name, value in known.items():
        body = None if body is None else body.replace(name, value)
    sent = {
        name: basic(scene.keyless.client_id, str(scene.keyless.secret))["Authorization"] if value == "Basic VALID" else value
        for name, value in headers.items()
    }
    if kind:
        sent["Content-Type"] = kind
    target = path.encode("utf-8", "replace").decode()
    if query and "?" not in target and "#" not in target:
        target += "?" + encoded([(name, value.encode("utf-8", "replace").decode()) for name, value in query]).decode()
    client = visitors[who].http._client
    try:
        answer = client.open(target, method=method, data=body, headers=sent, buffered=True)
    except (ValueError, HTTPException) as refusal:
        # The test client itself does not build such a request.
        assert "werkzeug" in str(type(refusal).__module__) or isinstance(refusal, ValueError)
        return
    assert answer.status_code < 500, (answer.status_code, answer.data)
    if answer.status_code in {307, 308}:
        raise AssertionError(answer.headers["Location"])
    location = answer.headers.get("Location", "/")
    assert location.startswith(("/", REDIRECT)), location
    assert not location.startswith("//")


@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.sampled_from(["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange", "authorization_code", "refresh_token"]),
    FIELDS,
)
def test_an_authenticated_client_gets_an_error_of_the_protocol_whatever_it_sends(
    scene: Scene, grant_type: str, fields: list[tuple[str, str]]
) -> None:
    form = [
        (name, value.encode("utf-8", "replace").decode())
        for name, value in fields
        if name not in {"grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type"}
    ]
    answer = scene.raw(
        "/oauth/token", encoded([("grant_type", grant_type), *form]), basic(scene.keyless.client_id, str(scene.keyless.secret))
    )
    if answer.status != 200:
        refused(answer, str(answer.error))
        assert answer.error in {
            "invalid_request",
            "invalid_grant",
            "invalid_scope",
            "invalid_target",
            "invalid_authorization_details",
            "unauthorized_client",
        }


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(FIELDS)
def test_an_exchange_of_a_good_token_is_never_worse_than_refused(scene: Scene, fields: list[tuple[str, str]]) -> None:
    skip = {"grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "subject_token", "subject_token_type"}
    form = [(name, value.encode("utf-8", "replace").decode()) for name, value in fields if name not in skip]
    members, _ = scene.world.credentials(scene.agent)
    start = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", scene.handover),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
    ]
    answer: Answer = scene.raw("/oauth/token", encoded([*start, *form, *members.items()]))
    if answer.status == 200:
        assert set(answer.json["scope"].split()) <= {"read", "write"}
    else:
        refused(answer, str(answer.error))


def test_after_all_this_everything_is_as_it_was(scene: Scene) -> None:
    scene.alive()
    assert world_of(scene.world.server, scene.world.http._app).get("/readyz").json == {"status": "ready"}  # type: ignore[attr-defined]
