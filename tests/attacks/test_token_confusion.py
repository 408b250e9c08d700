"""One kind of token is never taken for another, nor another's for ours (RFC 8725 §2.1, §3.11; RFC 9068 §4)."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import import_key

from app.keys.jwk import generate_client_key
from app.keys.signer import import_signing_key, sign
from app.vocabulary import SigningAlg
from tests.attacks.scene import ACCESS_TOKEN, ID_TOKEN_TYPE, REFRESH_TYPE, VERIFIER, Scene, refused, resign
from tests.forge import encode, forge, pair
from tests.world import CONSENT, EXCHANGE, JWT, Answer, Browser, claims_of, header_of

SAML = "urn:ietf:params:oauth:token-type:saml2"


@dataclass(frozen=True)
class Tokens:
    """One of every kind that this server gives out, and what it can be mistaken for."""

    by_kind: dict[str, str]

    def __getitem__(self, kind: str) -> str:
        return self.by_kind[kind]


KINDS = [
    "access token", "another API's", "agent's own for the API", "actor token", "hand-over to the agent", "hand-over to another", "ID token", "userinfo token", "application's", "refresh token",
    "code", "consent", "task", "signed introspection", "client assertion", "checkpoint", "nothing",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser(scene: Scene) -> Browser:
    return scene.world.signed_in(scene.alice)


@pytest.fixture(scope="module")
def tokens(scene: Scene, browser: Browser) -> Tokens:
    world = scene.world
    away = world.consented(browser, scene.agent, scene.api, scope="read", away=True)
    signs_in = world.redeem(scene.app, browser.code(world.authorization(scene.app, VERIFIER, scope="openid profile email")), VERIFIER).ok()
    for_api = world.consented(browser, scene.app, scene.api, scope="read")
    access = scene.token()
    signed = world.post(
        "/oauth/introspect",
        {"token": access},
        {**_basic(scene), "Accept": "application/token-introspection+jwt"},
    )
    assert signed.headers["Content-Type"] == "application/token-introspection+jwt"
    key = world.server.keys.signing_key(SigningAlg.ES256)
    return Tokens({
        "access token": access,
        "another API's": world.exchange(scene.agent, scene.handover, resource=scene.other.uri).ok()["access_token"],
        "agent's own for the API": world.own_token(scene.agent, resource=scene.api.uri).ok()["access_token"],
        "actor token": world.own_token(scene.agent).ok()["access_token"],
        "hand-over to the agent": scene.handover,
        "hand-over to another": world.exchange(scene.agent, scene.handover, audience=scene.helper.uri).ok()["access_token"],
        "ID token": signs_in["id_token"],
        "userinfo token": signs_in["access_token"],
        "application's": for_api["access_token"],
        "refresh token": away["refresh_token"],
        "code": browser.code(world.authorization(scene.agent, VERIFIER, scene.api, scope="read")),
        "consent": away["consent_id"],
        "task": away["task_id"],
        "signed introspection": signed.text,
        "client assertion": world.assertion(scene.agent),
        "checkpoint": sign({"iss": world.issuer, "seq": 1, "hash": "0" * 64, "iat": int(time.time())}, "checkpoint+jwt", key),
        "nothing": secrets.token_urlsafe(32),
    })  # fmt: skip


def _basic(scene: Scene) -> dict[str, str]:
    from tests.world import basic

    return basic(scene.api.client_id, scene.api.client_secret)


def test_every_kind_is_there(tokens: Tokens) -> None:
    assert list(tokens.by_kind) == KINDS


# 2.4.58: each kind at each door


@pytest.mark.parametrize("kind", KINDS)
def test_at_introspection_only_a_token_for_the_api_is_alive(scene: Scene, tokens: Tokens, kind: str) -> None:
    good = {"access token", "agent's own for the API", "application's"}
    for hint in ("", "access_token", "refresh_token", "id_token", "nonsense"):
        answer = scene.world.post("/oauth/introspect", {"token": tokens[kind], "token_type_hint": hint}, _basic(scene)).ok()
        assert answer["active"] is (kind in good), kind
        if kind not in good:
            assert answer == {"active": False}


@pytest.mark.parametrize("kind", KINDS)
def test_at_userinfo_only_a_userinfo_token_is_good(scene: Scene, tokens: Tokens, kind: str) -> None:
    for method in ("GET", "POST"):
        answer = scene.world.http.send(method, "/oauth/userinfo", None, {"Authorization": "Bearer " + tokens[kind]})
        if kind == "userinfo token":
            assert answer.ok()["sub"] == scene.alice.id
        else:
            refused(answer, "invalid_token", 401)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("said", [ACCESS_TOKEN, JWT, ID_TOKEN_TYPE, REFRESH_TYPE, SAML, CONSENT, "access_token", "x"])
def test_as_a_subject_only_what_it_is_and_is_said_to_be(scene: Scene, tokens: Tokens, kind: str, said: str) -> None:
    good = {
        ("access token", ACCESS_TOKEN),
        ("access token", JWT),
        ("hand-over to the agent", ACCESS_TOKEN),
        ("hand-over to the agent", JWT),
        ("consent", CONSENT),
    }
    answer = scene.world.exchange(scene.agent, tokens[kind], said, resource=scene.api.uri)
    if (kind, said) in good:
        assert answer.ok()["scope"] in {"read", "read write"}
    elif (kind, said) in {("another API's", ACCESS_TOKEN), ("another API's", JWT)}:
        refused(answer, "invalid_target")
    else:
        refused(answer, "invalid_request")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("said", [ACCESS_TOKEN, JWT, ID_TOKEN_TYPE, "x"])
def test_as_an_actor_only_the_agents_own(scene: Scene, tokens: Tokens, kind: str, said: str) -> None:
    answer = scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri, actor_token=tokens[kind], actor_token_type=said)
    if kind == "actor token" and said in {ACCESS_TOKEN, JWT}:
        assert claims_of(answer.ok()["access_token"])["act"]["sub"] == scene.agent.uri
    else:
        refused(answer, "invalid_request")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "client assertion"])
def test_nothing_else_authenticates_a_client(scene: Scene, tokens: Tokens, kind: str) -> None:
    from tests.world import ASSERTION, basic

    form = {"grant_type": "client_credentials"}
    for sent in (
        {"client_assertion": tokens[kind], "client_assertion_type": ASSERTION},
        {"client_assertion": tokens[kind], "client_assertion_type": ASSERTION, "client_id": scene.agent.client_id},
    ):
        refused(scene.world.post("/oauth/token", {**form, **sent}), "invalid_client", 401)
    for client in (scene.keyless, scene.app):
        refused(scene.world.post("/oauth/token", form, basic(client.client_id, tokens[kind])), "invalid_client", 401)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_else_is_a_hint_about_a_human(scene: Scene, browser: Browser, tokens: Tokens, kind: str) -> None:
    query = scene.world.authorization(scene.app, VERIFIER, scope="openid", id_token_hint=tokens[kind])
    location = browser.authorize(query).headers["Location"]
    assert ("error=invalid_request" in location) is (kind != "ID token")


def test_a_token_is_nothing_in_the_body_or_the_address_of_userinfo(scene: Scene, tokens: Tokens) -> None:
    good = tokens["userinfo token"]
    refused(scene.raw("/oauth/userinfo", f"access_token={good}".encode()), "invalid_token", 401)
    refused(scene.world.get(f"/oauth/userinfo?access_token={good}"), "invalid_request")
    for value in (
        "",
        "Bearer",
        "Bearer ",
        f"Basic {good}",
        good,
        f"Bearer {good},x",
        f"Bearer {good} {good}",
        f"Bearer\t{good}",
        f"DPoP {good}",
        f"Bearer  {good}x",
    ):
        refused(scene.world.get("/oauth/userinfo", {"Authorization": value}), "invalid_token", 401)


# 2.4.45, 2.4.46, 2.4.59: not signed by us, or not by us for here


def everywhere(scene: Scene, forged: str, *, kind: str = "access token") -> None:
    """Refused at every door that takes this kind of token."""
    doors: list[Answer] = []
    if kind == "access token":
        assert scene.world.introspect(scene.api, forged) == {"active": False}
        doors = [scene.world.exchange(scene.agent, forged, resource=scene.api.uri)]
    elif kind == "actor token":
        doors = [
            scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri, actor_token=forged, actor_token_type=ACCESS_TOKEN)
        ]
    else:
        refused(scene.world.get("/oauth/userinfo", {"Authorization": f"Bearer {forged}"}), "invalid_token", 401)
    for answer in doors:
        refused(answer, "invalid_request")


OURS = ["access token", "actor token", "userinfo token"]


@pytest.mark.parametrize("kind", OURS)
def test_a_truly_signed_copy_is_good_so_that_what_follows_means_something(scene: Scene, tokens: Tokens, kind: str) -> None:
    copy = resign(scene.world.server, tokens[kind])
    if kind == "access token":
        assert scene.world.active(scene.api, copy)
        assert scene.world.exchange(scene.agent, copy, resource=scene.api.uri).status == 200
    elif kind == "actor token":
        assert (
            scene.world.exchange(
                scene.agent, scene.handover, resource=scene.api.uri, actor_token=copy, actor_token_type=ACCESS_TOKEN
            ).status
            == 200
        )
    else:
        assert scene.world.get("/oauth/userinfo", {"Authorization": f"Bearer {copy}"}).status == 200


@pytest.mark.parametrize("kind", OURS)
def test_unsigned_and_symmetric_copies_are_refused(scene: Scene, tokens: Tokens, kind: str) -> None:
    claims, header = claims_of(tokens[kind]), header_of(tokens[kind])
    for alg in ("none", "None", "nOnE", "NONE", ""):
        unsigned = forge(header | {"alg": alg}, claims).rpartition(".")[0]
        for signature in ("", "x", tokens[kind].rpartition(".")[2]):
            everywhere(scene, f"{unsigned}.{signature}", kind=kind)
    jwks = scene.world.get("/oauth/jwks").json["keys"]
    for jwk in jwks:
        native: Any = import_key(jwk).raw_value
        octets = [
            native.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            native.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            json.dumps(jwk).encode(),
        ]
        for secret in octets:
            unsigned = forge(header | {"alg": "HS256", "kid": jwk["kid"]}, claims).rpartition(".")[0]
            mac = hmac.new(secret, unsigned.encode(), hashlib.sha256).digest()
            everywhere(scene, f"{unsigned}.{encode(mac)}", kind=kind)


@pytest.mark.parametrize("kind", OURS)
def test_another_key_under_our_name_is_refused(scene: Scene, tokens: Tokens, kind: str) -> None:
    claims, header = claims_of(tokens[kind]), header_of(tokens[kind])
    thief, _, jwk = pair(SigningAlg.ES256)
    for more in ({}, {"jwk": dict(jwk)}, {"jku": "http://127.0.0.1:9/x"}, {"kid": thief.kid, "jwk": dict(jwk)}, {"kid": thief.kid}):
        everywhere(scene, forge(header | more, claims, thief), kind=kind)
    missing = {name: value for name, value in header.items() if name != "kid"}
    everywhere(scene, forge(missing, claims, thief), kind=kind)
    everywhere(scene, forge(missing, claims, scene.world.server.keys.signing_key(SigningAlg.ES256)), kind=kind)


@pytest.mark.parametrize("kind", OURS)
def test_the_issuer_is_exactly_ours(scene: Scene, tokens: Tokens, kind: str) -> None:
    ours = scene.world.issuer
    for iss in (ours + "/", ours.upper(), ours + ".evil.example", ours[:-1], "https://evil.example", ours.replace("http", "https"), "", [ours], {"a": ours}, 1, None, ours.replace("127.0.0.1", "localhost"),
                ours + "\u200b", " " + ours):  # fmt: skip
        everywhere(scene, resign(scene.world.server, tokens[kind], iss=iss), kind=kind)


@pytest.mark.parametrize("kind", OURS)
def test_the_audience_is_exactly_this(scene: Scene, tokens: Tokens, kind: str) -> None:
    good = claims_of(tokens[kind])["aud"]
    for aud in (
        good + "/",
        good.upper(),
        [good],
        [good, "https://evil.example"],
        ["https://evil.example", good],
        "https://evil.example",
        "",
        None,
        good[:-1],
        {"a": good},
    ):
        copy = resign(scene.world.server, tokens[kind], aud=aud)
        if kind == "access token":
            assert scene.world.introspect(scene.api, copy) == {"active": False}
        else:
            everywhere(scene, copy, kind=kind)


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize(
    "typ",
    [
        "JWT",
        "handover+jwt",
        "client-authentication+jwt",
        "token-introspection+jwt",
        "checkpoint+jwt",
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "",
        "at",
    ],
)
def test_the_type_in_the_header_decides(scene: Scene, tokens: Tokens, kind: str, typ: str) -> None:
    copy = resign(scene.world.server, tokens[kind], typ=typ)
    if kind == "access token" and typ == "handover+jwt":
        # Read as a hand-over it lacks what a hand-over says.
        assert scene.world.introspect(scene.api, copy) == {"active": False}
        refused(scene.world.exchange(scene.agent, copy, resource=scene.api.uri), "invalid_request")
        return
    everywhere(scene, copy, kind=kind)


@pytest.mark.parametrize("kind", OURS)
def test_it_is_over_when_its_time_is(scene: Scene, tokens: Tokens, kind: str) -> None:
    now = int(time.time())
    for exp in (now - 1, now, 0, 1):
        everywhere(scene, resign(scene.world.server, tokens[kind], exp=exp), kind=kind)


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("name", ["iss", "aud", "sub", "client_id", "exp", "jti", "deputy"])
def test_a_token_that_lacks_something_is_none(scene: Scene, tokens: Tokens, kind: str, name: str) -> None:
    everywhere(scene, resign(scene.world.server, tokens[kind], **{name: None}), kind=kind)


def test_of_an_earlier_or_later_generation_or_born_otherwise_it_is_dead(scene: Scene, tokens: Tokens) -> None:
    server = scene.world.server
    claim = claims_of(tokens["access token"])["deputy"]
    number = claim["g"]
    for changed in (
        {**claim, "g": number - 1},
        {**claim, "g": number + 1},
        {**claim, "e": {**claim["e"], f"human:{scene.alice.id}": 1}},
        {**claim, "p": ["tok_x"] * 20},
    ):
        copy = resign(server, tokens["access token"], deputy=changed)
        if "p" not in changed or changed["p"] == claim.get("p"):
            assert scene.world.introspect(scene.api, copy) == {"active": False}
            refused(scene.world.exchange(scene.agent, copy, resource=scene.api.uri), "invalid_request")


def test_damage_anywhere_is_death(scene: Scene, tokens: Tokens) -> None:
    good = tokens["access token"]
    head, body, signature = good.split(".")
    for bad in (good[:-1], good + "A", good + "=", f"{head}.{body}.{signature[::-1]}", f"{body}.{head}.{signature}", f"{head}.{body}", f"{head}..{signature}", good.replace(".", "%2E"), good.upper(), good * 2,
                f"{head}.{encode(json.dumps(claims_of(good) | {'scope': 'read write send'}).encode())}.{signature}"):  # fmt: skip
        assert scene.world.introspect(scene.api, bad) == {"active": False}
        refused(scene.world.exchange(scene.agent, bad, resource=scene.api.uri), "invalid_request")


def test_a_remembered_signature_is_no_way_around(scene: Scene, tokens: Tokens) -> None:
    """First seen good at one door, then shown at the others."""
    for kind in KINDS:
        for _ in range(2):
            scene.world.introspect(scene.api, tokens[kind])
    refused(scene.world.exchange(scene.agent, tokens["ID token"], resource=scene.api.uri), "invalid_request")
    refused(scene.world.get("/oauth/userinfo", {"Authorization": "Bearer " + tokens["access token"]}), "invalid_token", 401)
    assert scene.world.introspect(scene.api, tokens["userinfo token"]) == {"active": False}


def test_the_signing_keys_of_tokens_and_of_clients_do_not_mix(scene: Scene) -> None:
    """An agent signs its own access token with its own registered key."""
    assert scene.agent.key is not None
    key = import_signing_key(scene.agent.key.as_dict(private=True), SigningAlg.ES256)
    copy = sign(claims_of(scene.token()), "at+jwt", key)
    everywhere(scene, copy)
    other = import_signing_key(generate_client_key(SigningAlg.ES256), SigningAlg.ES256)
    everywhere(scene, sign(claims_of(scene.token()), "at+jwt", other))


def test_an_exchange_answers_every_bad_subject_in_one_wording(scene: Scene, tokens: Tokens) -> None:
    members = {"grant_type": EXCHANGE, "resource": scene.api.uri, "subject_token_type": ACCESS_TOKEN}
    wordings = set()
    for kind in (
        "ID token",
        "userinfo token",
        "refresh token",
        "code",
        "nothing",
        "signed introspection",
        "actor token",
        "hand-over to another",
    ):
        answer = scene.world.token(scene.agent, {**members, "subject_token": tokens[kind]})
        refused(answer, "invalid_request")
        wordings.add(answer.json["error_description"])
    assert len(wordings) == 1
