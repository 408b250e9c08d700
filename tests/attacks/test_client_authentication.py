"""Who is calling: exactly the registered method, once, strictly read (RFC 6749 §2.3)."""

from __future__ import annotations

import base64

import pytest

from app.clients.models import ClientRow
from app.live.things import Kind, Thing
from tests.attacks.scene import Scene, assertion_of, refused
from tests.world import ASSERTION, BY, Answer, Party, basic

CREDENTIALS = {"grant_type": "client_credentials"}


def own(scene: Scene, headers: dict[str, str], **form: str) -> Answer:
    """An own token: agents get one, so what refuses is the authentication."""
    return scene.world.post("/oauth/token", {**CREDENTIALS, **form}, headers)


def b64(octets: bytes) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(octets).decode()}


# 2.2.19 to 2.2.23: Basic, strictly


def test_the_right_secret_is_accepted(scene: Scene) -> None:
    assert own(scene, basic(scene.keyless.client_id, str(scene.keyless.secret))).status == 200


@pytest.mark.rfc("6749", "5.2")
def test_a_wrong_secret_is_401_with_a_challenge(scene: Scene) -> None:
    good = str(scene.keyless.secret)
    for wrong in ("", "x", good[:-1], good + "x", good.upper(), good.swapcase(), " " + good, good + "\n", good + "\x00", "é", "x" * 5000):
        answer = own(scene, basic(scene.keyless.client_id, wrong))
        refused(answer, "invalid_client", 401)
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")


MALFORMED = {
    "not UTF-8": b64(b"\xff\xfe"),
    "an id that is not UTF-8": b64(b"\xff\xfe:secret"),
    "a secret that is not UTF-8": b64(b"client:\xff\xfe"),
    "UTF-16": b64("client:secret".encode("utf-16")),
    "a lone surrogate": b64(b"client:\xed\xa0\x80"),
    "an overlong slash": b64(b"client:\xc0\xaf"),
    "a form-encoded byte that is no UTF-8": b64(b"client:%ff"),
    "a form-encoded surrogate": b64(b"client:%ed%a0%80"),
    "no colon": b64(b"client"),
    "nothing": b64(b""),
    "a colon alone": b64(b":"),
    "no id": b64(b":secret"),
    "NUL": b64(b"cli\x00ent:secret"),
    "junk inside base64": {"Authorization": "Basic YzE6$$czM="},
    "white space inside base64": {"Authorization": "Basic YzE6 czM="},
    "two spaces before base64": {"Authorization": "Basic  YzE6czM="},
    "a tab before base64": {"Authorization": "Basic\tYzE6czM="},
    "base64url": {"Authorization": "Basic YzE6-_M="},
    "no padding": {"Authorization": "Basic YzE6czMx"[:-1]},
    "too much padding": {"Authorization": "Basic YzE6czM=="},
    "stray bits": {"Authorization": "Basic YzE6czN="},
    "a bare scheme": {"Authorization": "Basic"},
    "a bare scheme and a space": {"Authorization": "Basic "},
    "nothing at all": {"Authorization": ""},
    "another scheme": {"Authorization": "Bearer YzE6czM="},
    "digest": {"Authorization": 'Digest username="c"'},
    "negotiate": {"Authorization": "Negotiate YII"},
    "a quoted value": {"Authorization": 'Basic "YzE6czM="'},
    "parameters": {"Authorization": "Basic YzE6czM=; x"},
    "a million letters": {"Authorization": "Basic " + "QUFB" * 300_000},
    "a very long id": b64(b"c" * 100_000 + b":x"),
    "percent signs": b64(b"%" * 50_000 + b":%"),
}


@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/par"])
def test_a_malformed_basic_header_is_401_and_never_500(scene: Scene, path: str, headers: dict[str, str]) -> None:
    refused(scene.world.post(path, {"token": "x", **CREDENTIALS}, headers), "invalid_client", 401)


def test_junk_around_the_right_secret_is_not_looked_past(scene: Scene) -> None:
    good = basic(scene.keyless.client_id, str(scene.keyless.secret))["Authorization"].removeprefix("Basic ")
    for value in (
        f"Basic {good[:8]}${good[8:]}",
        f"Basic {good[:8]} {good[8:]}",
        f"Basic {good}=",
        f"Basic {good}AA",
        f"Basic\t{good}",
        f"Basic  {good}",
    ):
        refused(own(scene, {"Authorization": value}), "invalid_client", 401)
    for value in (f"basic {good}", f"BASIC {good}"):
        assert own(scene, {"Authorization": value}).status == 200


@pytest.mark.rfc("6749", "2.3.1")
def test_both_halves_of_basic_are_form_decoded_once(scene: Scene) -> None:
    spelled = "".join(f"%{ord(letter):02X}" for letter in scene.keyless.client_id)
    assert own(scene, basic(spelled, str(scene.keyless.secret))).status == 200
    twice = spelled.replace("%", "%25")
    refused(own(scene, basic(twice, str(scene.keyless.secret))), "invalid_client", 401)


# 2.2.21, 2.2.25: two of anything


def test_two_authorization_headers_are_refused_in_any_order(scene: Scene) -> None:
    good = basic(scene.keyless.client_id, str(scene.keyless.secret))["Authorization"]
    for value in (f"{good},Bearer x", f"Bearer x,{good}", f"{good}, {good}", f"{good},", f",{good}", f"{good},,"):
        refused(own(scene, {"Authorization": value}), "invalid_request")


@pytest.mark.rfc("7521", "4.2")
def test_a_client_id_that_differs_from_the_proven_one_is_refused(scene: Scene) -> None:
    good = basic(scene.keyless.client_id, str(scene.keyless.secret))
    for other in (scene.agent.client_id, scene.keyless.client_id.upper(), "x", scene.keyless.client_id + " "):
        refused(own(scene, good, client_id=other), "invalid_client", 401)
    assert own(scene, good, client_id=scene.keyless.client_id).status == 200
    made, _ = scene.world.credentials(scene.agent)
    refused(own(scene, {}, client_id=scene.second.client_id, **made), "invalid_client", 401)
    made, _ = scene.world.credentials(scene.agent)
    assert own(scene, {}, client_id=scene.agent.client_id, **made).status == 200


def test_two_methods_at_once_are_refused_even_when_both_are_good(scene: Scene) -> None:
    good = basic(scene.keyless.client_id, str(scene.keyless.secret))
    made, _ = scene.world.credentials(scene.agent)
    for headers, form in (
        (good, {"client_secret": str(scene.keyless.secret)}),
        (good, {"client_id": scene.keyless.client_id, "client_secret": str(scene.keyless.secret)}),
        (good, made),
        ({}, {"client_id": scene.agent.client_id, "client_secret": "x", **made}),
        (good, {"client_assertion": "unsigned.garbage.", "client_assertion_type": ASSERTION}),
        (good, {"client_assertion": "eyJhbGciOiJub25lIn0.e30.", "client_assertion_type": ASSERTION}),
    ):
        refused(own(scene, headers, **form), "invalid_request")


def test_half_an_assertion_beside_a_good_secret_is_not_overlooked(scene: Scene) -> None:
    good = basic(scene.keyless.client_id, str(scene.keyless.secret))
    for form in (
        {"client_assertion": "x"},
        {"client_assertion_type": ASSERTION},
        {"client_assertion_type": "x"},
        {"client_assertion": "x", "client_assertion_type": "x"},
    ):
        answer = own(scene, good, **form)
        assert (answer.status, answer.error) in {(401, "invalid_client"), (400, "invalid_request")}


# 2.2.26, 2.2.27: another method than the registered one


def presented(scene: Scene, party: Party) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Every method's way of naming this client: headers and form."""
    secret = str(party.secret or "x")
    return {
        "client_secret_basic": (basic(party.client_id, secret), {}),
        "client_secret_post": ({}, {"client_id": party.client_id, "client_secret": secret}),
        "none": ({}, {"client_id": party.client_id}),
        "basic without a secret": (basic(party.client_id, ""), {}),
        "an empty client_secret": ({}, {"client_id": party.client_id, "client_secret": ""}),
        "an assertion of somebody's key": ({}, assertion_of(scene.second, claims(scene, party))),
    }


def claims(scene: Scene, party: Party) -> dict[str, object]:
    import secrets
    import time

    now = int(time.time())
    return {
        "iss": party.client_id, "sub": party.client_id, "aud": scene.world.issuer, "iat": now, "exp": now + 60, "jti": secrets.token_hex(8),
    }  # fmt: skip


@pytest.mark.parametrize("who", ["agent", "keyless", "app", "posting"])
def test_no_other_method_than_the_registered_one_is_accepted(scene: Scene, who: str) -> None:
    party: Party = getattr(scene, who)
    registered = {
        "agent": "private_key_jwt",
        "keyless": "client_secret_basic",
        "app": "client_secret_basic",
        "posting": "client_secret_post",
    }[who]
    for method, (headers, form) in presented(scene, party).items():
        if method == registered:
            continue
        for path in ("/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/par"):
            refused(scene.world.post(path, {**CREDENTIALS, "token": "x", **form}, headers), "invalid_client", 401)


def test_a_public_client_gets_no_own_token_and_exchanges_nothing(scene: Scene) -> None:
    named = {"client_id": scene.public.client_id}
    refused(scene.world.post("/oauth/token", {**CREDENTIALS, **named}), "unauthorized_client")
    refused(scene.world.exchange(scene.public, scene.handover), "unauthorized_client")
    for headers, form in (
        (basic(scene.public.client_id, ""), {}),
        (basic(scene.public.client_id, "x"), {}),
        ({}, {**named, "client_secret": "x"}),
    ):
        refused(scene.world.post("/oauth/token", {**CREDENTIALS, **form}, headers), "invalid_client", 401)


def test_what_is_not_an_agent_gets_no_own_token(scene: Scene) -> None:
    refused(scene.world.own_token(scene.app), "unauthorized_client")
    refused(own(scene, {}, **scene.posting_form), "unauthorized_client")
    refused(own(scene, basic(scene.api.client_id, scene.api.client_secret)), "unauthorized_client")


def test_a_client_id_that_is_an_address_is_looked_up_and_nothing_else(scene: Scene) -> None:
    for address in ("https://client.example/meta.json", "http://127.0.0.1:1/", "file:///etc/passwd", "//x", "data:,x"):
        refused(own(scene, {}, client_id=address), "invalid_client", 401)
        refused(own(scene, basic(address.replace(":", "%3A"), "x")), "invalid_client", 401)


# A secret's life


def test_an_expired_secret_authenticates_nobody(scene: Scene) -> None:
    agent = scene.world.agent(scene.bob, own=[(scene.api, "read")], auth="client_secret_post", jwks=None)
    form = {"client_id": agent.client_id, "client_secret": str(agent.secret)}
    assert own(scene, {}, **form).status == 200
    with scene.world.server.deeds.deed() as deed:
        row = deed.session.get_one(ClientRow, agent.client_id)
        assert row.secret_expires_at > 0
        row.secret_expires_at = 1
        deed.change(Thing(Kind.CLIENT, agent.client_id))
    refused(own(scene, {}, **form), "invalid_client", 401)


def test_the_old_secret_dies_with_the_new_one(scene: Scene) -> None:
    client_id, secret = scene.world.server.resource_registry.new_secret(scene.other.uri, by=BY)
    try:
        for old in (scene.other.client_secret,):
            refused(scene.world.post("/oauth/introspect", {"token": "x"}, basic(client_id, old)), "invalid_client", 401)
        assert scene.world.post("/oauth/introspect", {"token": "x"}, basic(client_id, secret)).status == 200
    finally:
        object.__setattr__(scene.other, "client_secret", secret)


def test_a_suspended_and_a_retired_agent_are_nobody_and_a_resumed_one_is_somebody(scene: Scene) -> None:
    registry = scene.world.server.agent_registry
    agent = scene.world.agent(scene.bob, own=[(scene.api, "read")])
    assert scene.world.own_token(agent).status == 200
    registry.suspend(agent.id, by=BY)
    refused(scene.world.own_token(agent), "invalid_client", 401)
    registry.resume(agent.id, by=BY)
    assert scene.world.own_token(agent).status == 200
    registry.retire(agent.id, by=BY)
    refused(scene.world.own_token(agent), "invalid_client", 401)
