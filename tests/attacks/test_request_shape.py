"""Two readings of one request: parameters twice, in the address, in other types, charsets and encodings (RFC 6749 §3.2)."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flask import Flask

from app.rim.form import MAX_BODY, MAX_FIELDS
from app.vocabulary import MAX_SCOPE_LENGTH, MAX_SCOPES
from tests.attacks.scene import FORM, VERIFIER, Scene, refused
from tests.world import EXCHANGE, Answer, basic, encoded

Pairs = list[tuple[str, str]]
PATHS = ("/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/par")


def honest(scene: Scene, path: str) -> Pairs:
    """A form that the endpoint answers well."""
    members: Mapping[str, str] = {}
    match path:
        case "/oauth/token":
            form = [("grant_type", "client_credentials"), ("resource", scene.api.uri), ("scope", "read")]
        case "/oauth/introspect":
            return [("token", scene.handover), ("token_type_hint", "access_token")]
        case "/oauth/revoke":
            form = [("token", "no-such-token"), ("token_type_hint", "access_token")]
        case _:
            form = [("nonce", "n"), *scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read")]
    members, _ = scene.world.credentials(scene.agent)
    return [*form, *members.items()]


def credentials(scene: Scene, path: str) -> dict[str, str]:
    return basic(scene.api.client_id, scene.api.client_secret) if path == "/oauth/introspect" else {}


def send(scene: Scene, path: str, form: Pairs, *, query: str = "") -> Answer:
    return scene.raw(path + query, encoded(form), credentials(scene, path))


@pytest.mark.parametrize("path", PATHS)
def test_the_form_these_attacks_are_made_of_is_good(scene: Scene, path: str) -> None:
    assert send(scene, path, honest(scene, path)).status in {200, 201}


# 2.1.1 to 2.1.3: twice, and in the address


@pytest.mark.rfc("6749", "3.2")
@pytest.mark.parametrize("path", PATHS)
def test_any_parameter_twice_is_refused_also_with_the_same_value(scene: Scene, path: str) -> None:
    names = [name for name, _ in honest(scene, path)]
    for name in names:
        if name == "resource":
            continue
        form = honest(scene, path)
        value = dict(form)[name]
        for again in (value, "another", ""):
            refused(send(scene, path, [*form, (name, again)]), "invalid_request")
            refused(send(scene, path, [(name, again), *form]), "invalid_request")


@pytest.mark.parametrize("path", PATHS)
def test_a_parameter_nobody_knows_is_not_there_twice_either(scene: Scene, path: str) -> None:
    refused(send(scene, path, [*honest(scene, path), ("zz", "1"), ("zz", "1")]), "invalid_request")
    assert send(scene, path, [*honest(scene, path), ("zz", "1")]).status in {200, 201}


@pytest.mark.parametrize("path", PATHS)
def test_a_name_spelled_in_two_ways_is_one_name(scene: Scene, path: str) -> None:
    form = encoded(honest(scene, path))
    name = b"grant_type" if path == "/oauth/token" else b"client_id" if path == "/oauth/par" else b"token"
    spelled = b"".join(b"%%%02x" % octet for octet in name)
    refused(scene.raw(path, form + b"&" + spelled + b"=x", credentials(scene, path)), "invalid_request")


def test_the_query_never_beats_the_body(scene: Scene) -> None:
    form = [(n, v) for n, v in honest(scene, "/oauth/token") if n != "scope"]
    refused(send(scene, "/oauth/token", [*form, ("scope", "read")], query="?scope=write"), "invalid_request")


@pytest.mark.parametrize("path", PATHS)
def test_a_parameter_in_the_address_is_refused_beside_the_body_and_alone(scene: Scene, path: str) -> None:
    form = honest(scene, path)
    for name, value in form:
        rest = [(n, v) for n, v in form if n != name]
        refused(send(scene, path, form, query="?" + encoded([(name, value)]).decode()), "invalid_request")
        refused(send(scene, path, rest, query="?" + encoded([(name, value)]).decode()), "invalid_request")
    refused(send(scene, path, [], query="?" + encoded(form).decode()), "invalid_request")
    refused(send(scene, path, form, query="?zz"), "invalid_request")


@pytest.mark.rfc("6749", "2.3.1")
def test_credentials_in_the_address_authenticate_nobody(scene: Scene) -> None:
    form = [("grant_type", "client_credentials")]
    query = f"?client_id={scene.posting.client_id}&client_secret={scene.posting.secret}"
    refused(send(scene, "/oauth/token", form, query=query), "invalid_request")
    refused(send(scene, "/oauth/revoke", [("token", "x")], query=query), "invalid_request")


@pytest.mark.parametrize("query", ["?resource={0}", "?audience={0}"])
def test_not_even_a_target_comes_from_the_address(scene: Scene, query: str) -> None:
    refused(send(scene, "/oauth/token", honest(scene, "/oauth/token"), query=query.format(scene.other.uri)), "invalid_request")


# 2.1.5: other content types


TYPES = [
    "application/json", "multipart/form-data", "multipart/form-data; boundary=b", "text/plain", "application/octet-stream",
    "application/x-www-form-urlencoded2", "application/x-www-form-urlencoded, text/plain", "application/xml", "", "x", ";", "/",
    "APPLICATION/JSON", "application/x-www-form-urlencoded; charset=utf-7", "application/x-www-form-urlencoded; charset=utf-16",
    "application/x-www-form-urlencoded; charset=iso-8859-1", 'application/x-www-form-urlencoded; charset="utf-7"',
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", TYPES)
def test_a_body_of_another_type_or_charset_is_not_read(scene: Scene, path: str, kind: str) -> None:
    body = encoded(honest(scene, path))
    refused(scene.raw(path, body, {"Content-Type": kind, **credentials(scene, path)}), "invalid_request")


@pytest.mark.parametrize("path", PATHS)
def test_json_and_multipart_are_not_read_as_what_they_are_either(scene: Scene, path: str) -> None:
    form, headers = honest(scene, path), credentials(scene, path)
    parts = "".join(f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in form)
    bodies = {
        "application/json": json.dumps(dict(form)),
        "multipart/form-data; boundary=b": parts + "--b--\r\n",
        "text/plain": "\r\n".join(f"{name}={value}" for name, value in form),
    }
    for kind, body in bodies.items():
        refused(scene.raw(path, body.encode(), {"Content-Type": kind, **headers}), "invalid_request")


@pytest.mark.parametrize(
    "kind", [FORM, FORM.upper(), f"{FORM};charset=UTF-8", f"{FORM}; charset=utf-8", f'{FORM}; charset="utf-8"', f"{FORM};"]
)
def test_the_one_type_may_be_spelled_as_mime_allows(scene: Scene, kind: str) -> None:
    assert scene.raw("/oauth/token", encoded(honest(scene, "/oauth/token")), {"Content-Type": kind}).status == 200


@pytest.mark.parametrize("path", PATHS)
def test_no_body_and_no_type_is_a_malformed_request(scene: Scene, path: str) -> None:
    refused(scene.world.http.send("POST", path, None, {}), "invalid_request")
    refused(scene.world.http.send("POST", path, b"", credentials(scene, path)), "invalid_request")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "identity", "x", "gzip, gzip"])
def test_an_encoded_body_is_not_decoded(scene: Scene, coding: str) -> None:
    import gzip

    body = encoded(honest(scene, "/oauth/token"))
    for sent in (body, gzip.compress(body), gzip.compress(b"a=" + b"0" * 5_000_000)):
        refused(scene.raw("/oauth/token", sent, {"Content-Encoding": coding}), "invalid_request")


# 2.1.6: empty is absent, and absent is never "all"


@pytest.mark.rfc("6749", "3.1")
@pytest.mark.parametrize("name", ["scope", "audience", "authorization_details", "requested_token_type", "actor_token", "task_id"])
def test_an_empty_parameter_is_as_if_it_were_left_out(scene: Scene, name: str) -> None:
    narrow = scene.token(scope="read")
    answer = scene.world.exchange(scene.agent, narrow, **{name: ""}).ok()
    assert answer["scope"] == "read"


def test_an_empty_required_parameter_is_missing(scene: Scene) -> None:
    empties = {
        "/oauth/token": ("grant_type",), "/oauth/introspect": ("token",), "/oauth/revoke": ("token",),
        "/oauth/par": ("response_type", "code_challenge", "client_id"),
    }  # fmt: skip
    for path, names in empties.items():
        for name in names:
            form = [(n, "" if n == name else v) for n, v in honest(scene, path)]
            answer = send(scene, path, form)
            if name != "client_id":
                refused(answer, "invalid_request")
    refused(scene.world.exchange(scene.agent, ""), "invalid_request")
    refused(scene.world.exchange(scene.agent, scene.handover, ""), "invalid_request")


# 2.1.7, 2.1.9, 2.1.10, 2.1.11: characters


BAD_ESCAPES = {
    "NUL": b"%00",
    "NUL among letters": b"re%00ad",
    "a byte that is no UTF-8": b"%ff",
    "UTF-8 cut short": b"%c3",
    "an overlong slash": b"%c0%af",
    "an overlong NUL": b"%c0%80",
    "an overlong three-byte slash": b"%e0%80%af",
    "a lone high surrogate": b"%ed%a0%80",
    "a lone low surrogate": b"%ed%bf%bf",
    "a surrogate pair in CESU-8": b"%ed%a0%bd%ed%b8%80",
    "beyond Unicode": b"%f4%90%80%80",
    "a stray continuation byte": b"%80",
    "an escape cut short": b"%",
    "half an escape": b"%4",
    "an escape of no digits": b"%zz",
    "a raw byte": b"\xff",
    "raw UTF-8": "é".encode(),
    "a raw NUL": b"\x00",
    "a raw space": b" ",
    "a raw line feed": b"\n",
    "a raw tab": b"\t",
    "raw DEL": b"\x7f",
    "a percent-u escape": b"%u0041",
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bad", BAD_ESCAPES.values(), ids=BAD_ESCAPES.keys())
def test_bad_utf8_nul_and_loose_escapes_are_refused_in_any_value_and_name(scene: Scene, path: str, bad: bytes) -> None:
    headers, form = credentials(scene, path), honest(scene, path)
    refused(scene.raw(path, encoded(form) + b"&zz=" + bad, headers), "invalid_request")
    refused(scene.raw(path, encoded(form) + b"&" + bad + b"=zz", headers), "invalid_request")
    for name, value in form:
        rest = [(n, v) for n, v in form if n != name]
        refused(scene.raw(path, encoded(rest) + f"&{name}=".encode() + encoded([("", value)])[1:] + bad, headers), "invalid_request")


@pytest.mark.parametrize("bad", [b"%00", b"%ff", b"%ed%a0%80", b"%c0%80"])
@pytest.mark.parametrize("path", ["/oauth/authorize?client_id=", "/login?next=/", "/logout?client_id=", "/logout?post_logout_redirect_uri=x&client_id=",
                                  "/my/agents?withdrawn=", "/my/agents/", "/static/"])  # fmt: skip
def test_pages_survive_bad_characters_in_addresses(scene: Scene, path: str, bad: bytes) -> None:
    browser = scene.world.signed_in(scene.bob)
    for address in (path + bad.decode(), path + bad.decode() + "/withdraw"):
        assert browser.get(address).status in {200, 303, 400, 404}


@pytest.mark.rfc("6749", "3.3")
@pytest.mark.parametrize(
    "scope",
    ["read\r\nX:y", "read\twrite", 'read"', "read\\", "read  write", " read", "read ", "read\x7f", "read\u00a0write", "r\u00e9ad", "read\u2028write", "\u200bread",
     "read,write\n", "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16")],
)  # fmt: skip
def test_scope_follows_the_grammar_byte_for_byte(scene: Scene, scope: str) -> None:
    refused(scene.world.own_token(scene.agent, resource=scene.api.uri, scope=scope), "invalid_scope")
    refused(scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri, scope=scope), "invalid_scope")


@pytest.mark.parametrize(
    "scope", ["READ", "Read", "\uff52\uff45\uff41\uff44", "read\u0301", "re\u00adad", "rea%64", "read,write", "read+write", "*", "read*"]
)
def test_scope_is_compared_byte_for_byte(scene: Scene, scope: str) -> None:
    refused(scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri, scope=scope), "invalid_scope")


def test_a_client_id_is_compared_byte_for_byte(scene: Scene) -> None:
    client_id, secret = scene.keyless.client_id, str(scene.keyless.secret)
    form = {"grant_type": "client_credentials"}
    for other in (
        client_id.upper(),
        client_id + " ",
        " " + client_id,
        client_id + "\u200b",
        client_id.replace("a", "\uff41", 1),
        client_id + "\n",
    ):
        refused(scene.world.post("/oauth/token", form, basic(other, secret)), "invalid_client", 401)


# 2.1.13 and 2.1.14


@pytest.mark.rfc("6749", "5.2")
def test_a_missing_and_an_unknown_grant_type_are_two_errors(scene: Scene) -> None:
    refused(scene.world.token(scene.agent, {"scope": "read"}), "invalid_request")
    for unknown in (
        "password",
        "implicit",
        "CLIENT_CREDENTIALS",
        "client_credentials ",
        "urn:ietf:params:oauth:grant-type:saml2-bearer",
        "x" * 9000,
    ):
        refused(scene.world.token(scene.agent, {"grant_type": unknown}), "unsupported_grant_type")


def test_a_semicolon_separates_nothing(scene: Scene) -> None:
    form = encoded([(n, v) for n, v in honest(scene, "/oauth/token") if n != "grant_type"])
    refused(scene.raw("/oauth/token", b"zz=1;grant_type=client_credentials&" + form), "invalid_request")


def test_plus_and_percent_twenty_are_the_same_space_and_nothing_is_decoded_twice(scene: Scene) -> None:
    def ask(scope: bytes) -> Answer:
        members, _ = scene.world.credentials(scene.agent)
        rest = [("grant_type", EXCHANGE), ("subject_token", scene.handover), ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")]
        body = encoded([*rest, ("resource", scene.api.uri), *members.items()]) + b"&scope=" + scope
        return scene.raw("/oauth/token", body)

    assert ask(b"read+write").ok()["scope"] == "read write"
    assert ask(b"read%20write").ok()["scope"] == "read write"
    refused(ask(b"read%2Bwrite"), "invalid_scope")
    refused(ask(b"read%2520write"), "invalid_scope")


# 2.1.15: sizes


def test_thousands_of_scopes_are_refused_before_they_are_compared(scene: Scene) -> None:
    for scope in (" ".join(f"s{n}" for n in range(5000)), " ".join(["a"] * (MAX_SCOPES + 1)), "a" * (MAX_SCOPE_LENGTH + 1), "read " * 600):
        refused(scene.world.own_token(scene.agent, resource=scene.api.uri, scope=scope), "invalid_scope")


@pytest.mark.parametrize("path", PATHS)
def test_a_huge_body_is_refused(scene: Scene, path: str) -> None:
    headers = credentials(scene, path)
    for size in (MAX_BODY + 1, 300_000, 2_000_000):
        refused(scene.raw(path, encoded(honest(scene, path)) + b"&zz=" + b"0" * size, headers), "invalid_request")
    refused(scene.raw(path, b"&" * 60_000, headers), "invalid_request")
    refused(scene.raw(path, encoded(honest(scene, path)) + b"&z=" * MAX_FIELDS, headers), "invalid_request")
    refused(
        scene.raw(path, encoded(honest(scene, path)) + b"".join(b"&z%d=" % n for n in range(MAX_FIELDS + 1)), headers), "invalid_request"
    )


@pytest.mark.parametrize("path", PATHS)
def test_a_huge_value_of_any_parameter_is_refused(scene: Scene, path: str) -> None:
    for name, _value in honest(scene, path):
        form = [(n, "x" * 60_000 if n == name else v) for n, v in honest(scene, path)]
        answer = send(scene, path, form)
        # A hint and an unknown token are not looked at: RFC 7009 §2.2, RFC 7662 §2.1.
        assert answer.status in ({400, 401} if name not in {"token", "token_type_hint"} else {200, 400, 401}), (name, answer.status)


def test_many_targets_are_more_than_one(scene: Scene) -> None:
    form = [(n, v) for n, v in honest(scene, "/oauth/token")]
    refused(send(scene, "/oauth/token", [*form, *(("resource", f"https://r{n}.example") for n in range(80))]), "invalid_target")
    many = [*honest(scene, "/oauth/par"), *(("resource", f"https://r{n}.example") for n in range(80))]
    refused(send(scene, "/oauth/par", many), "invalid_target")


@pytest.mark.parametrize("header", ["Authorization", "Accept", "User-Agent", "Cookie", "X-Forwarded-For", "Origin", "Referer", "DPoP"])
def test_a_huge_header_is_not_more_than_a_header(scene: Scene, header: str) -> None:
    sent = {header: "Basic " + "QUFB" * 250_000 if header == "Authorization" else "x" * 1_000_000}
    for path in (*PATHS, "/oauth/userinfo", "/login"):
        answer = scene.raw(path, b"a=b", sent)
        assert 400 <= answer.status < 500


@pytest.mark.parametrize("length", ["-1", "abc", "9" * 30, "0x10", "1e3", ""])
def test_a_body_of_a_length_that_is_none_is_not_waited_for(app: Flask, length: str) -> None:
    client = app.test_client()
    overrides = {"CONTENT_LENGTH": length, "wsgi.input": io.BytesIO(b"grant_type=client_credentials")}
    answer = client.open("/oauth/token", method="POST", content_type=FORM, environ_overrides=overrides)
    assert 400 <= answer.status_code < 500


def test_a_body_without_a_length_is_bounded_too(app: Flask) -> None:
    client = app.test_client()
    body = io.BytesIO(b"grant_type=" + b"x" * 5_000_000)
    answer = client.open(
        "/oauth/token", method="POST", content_type=FORM, input_stream=body, environ_overrides={"wsgi.input_terminated": True}
    )
    assert (answer.status_code, answer.json["error"]) == (400, "invalid_request")


def test_a_body_shorter_than_it_says_is_refused(app: Flask) -> None:
    overrides: dict[str, Any] = {"CONTENT_LENGTH": "500", "wsgi.input": io.BytesIO(b"grant_type=client_credentials")}
    answer = app.test_client().open("/oauth/token", method="POST", content_type=FORM, environ_overrides=overrides)
    assert (answer.status_code, answer.json["error"]) == (400, "invalid_request")


# 2.1.17: JSON in a parameter


def details(api_uri: str) -> dict[str, str]:
    one = json.dumps(api_uri)
    return {
        "null": "null",
        "an empty array": "[]",
        "a number": "1",
        "true": "true",
        "a string": '"x"',
        "an object": '{"type":"resource_access"}',
        "nested five thousand deep": "[" * 5000 + "]" * 5000,
        "objects nested deep": '{"a":' * 3000 + "1" + "}" * 3000,
        "a type twice, ours first": f'[{{"type":"resource_access","type":"x","locations":[{one}],"actions":["read"]}}]',
        "a type twice, ours last": f'[{{"type":"x","type":"resource_access","locations":[{one}],"actions":["read"]}}]',
        "locations twice": f'[{{"type":"resource_access","locations":["https://x.example"],"locations":[{one}],"actions":["read"]}}]',
        "actions twice, one by an escape": f'[{{"type":"resource_access","locations":[{one}],"actions":["write"],"action\\u0073":["read"]}}]',
        "a lone surrogate": f'[{{"type":"resource_access","locations":[{one}],"actions":["\\ud800"]}}]',
        "an escaped NUL": f'[{{"type":"resource_access","locations":[{one}],"actions":["read\\u0000"]}}]',
        "NaN": "[NaN]",
        "Infinity": "[Infinity]",
        "a huge number": "[" + "9" * 5000 + "]",
        "trailing garbage": f'[{{"type":"resource_access","locations":[{one}],"actions":["read"]}}] x',
        "a comment": f'[{{"type":"resource_access","locations":[{one}],"actions":["read"]}}] // x',
        "single quotes": f"[{{'type':'resource_access','locations':[{one}],'actions':['read']}}]",
        "a byte order mark": f'\ufeff[{{"type":"resource_access","locations":[{one}],"actions":["read"]}}]',
        "another member": f'[{{"type":"resource_access","locations":[{one}],"actions":["read"],"limit":1}}]',
        "another type": f'[{{"type":"payment_initiation","locations":[{one}],"actions":["read"]}}]',
        "a type beside ours": f'[{{"type":"resource_access","locations":[{one}],"actions":["read"]}},{{"type":"payment_initiation"}}]',
        "a location that is no string": '[{"type":"resource_access","locations":[1],"actions":["read"]}]',
        "an action that is no string": f'[{{"type":"resource_access","locations":[{one}],"actions":[null]}}]',
        "locations as a string": f'[{{"type":"resource_access","locations":{one},"actions":["read"]}}]',
        "no actions": f'[{{"type":"resource_access","locations":[{one}],"actions":[]}}]',
        "an action with a space": f'[{{"type":"resource_access","locations":[{one}],"actions":["read write"]}}]',
        "hundreds of entries": "["
        + ",".join(f'{{"type":"resource_access","locations":[{one}],"actions":["read"]}}' for _ in range(300))
        + "]",
    }


@pytest.mark.rfc("9396", "5")
@pytest.mark.parametrize("case", details("x"))
def test_json_of_another_shape_is_refused_and_never_half_read(scene: Scene, case: str) -> None:
    answer = scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri, authorization_details=details(scene.api.uri)[case])
    refused(answer, "invalid_authorization_details")


# 2.1.18: what the error says


def test_an_error_never_repeats_what_was_sent(scene: Scene) -> None:
    mark = 'zQ7"\\\u00e9<script>'
    ask: list[Callable[[], Answer]] = [
        lambda: scene.world.token(scene.agent, {"grant_type": mark}),
        lambda: scene.world.own_token(scene.agent, scope=mark, resource=scene.api.uri),
        lambda: scene.world.own_token(scene.agent, resource=mark),
        lambda: scene.world.exchange(scene.agent, mark),
        lambda: scene.world.exchange(scene.agent, scene.handover, mark),
        lambda: scene.world.exchange(scene.agent, scene.handover, requested_token_type=mark),
        lambda: scene.world.exchange(scene.agent, scene.handover, task_id=mark),
        lambda: scene.world.exchange(scene.agent, scene.handover, authorization_details=mark),
        lambda: scene.world.redeem(scene.agent, mark, mark),
        lambda: scene.world.token(scene.agent, {"grant_type": "refresh_token", "refresh_token": mark}),
        lambda: scene.world.post("/oauth/token", {"grant_type": "client_credentials", "client_id": mark}),
        lambda: scene.world.post("/oauth/token", {"grant_type": "client_credentials", "client_assertion": mark, "client_assertion_type": mark}),
        lambda: scene.world.post("/oauth/revoke", {"token": "x"}, basic(mark, mark)),
        lambda: scene.raw("/oauth/par", encoded([(n, mark if n == "scope" else v) for n, v in honest(scene, "/oauth/par")])),
    ]  # fmt: skip
    for one in ask:
        answer = one()
        refused(answer, str(answer.error), answer.status)
        assert b"zQ7" not in answer.body
        assert not any("zQ7" in value for value in dict(answer.headers).values())


def test_what_a_restriction_would_have_meant_is_not_dropped(scene: Scene) -> None:
    """Ignoring them would give out more than was asked for (ADR 0008)."""
    members, _ = scene.world.credentials(scene.agent)
    refused(scene.raw("/oauth/token", encoded({"grant_type": "client_credentials", **members}), {"DPoP": "x"}), "invalid_dpop_proof")
    refused(scene.world.own_token(scene.agent, authorization_details="[]"), "invalid_authorization_details")
    for name in ("subject_token", "actor_token"):
        refused(scene.world.own_token(scene.agent, **{name: scene.handover}), "invalid_request")


def test_nothing_of_all_this_did_harm(scene: Scene) -> None:
    scene.alive()
