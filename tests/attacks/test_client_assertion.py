"""`private_key_jwt`: for us alone, from the client, fresh, once (RFC 7523 §3, RFC 8725)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flask import Flask
from joserfc import jwt
from joserfc.jwk import ECKey

from app import clock
from app.keys.jwk import generate_client_key, public_part
from app.keys.signer import import_signing_key
from app.live.commit import Once
from app.live.generation import prefix
from app.vocabulary import SigningAlg
from tests.attacks.scene import Scene, another_app, assertion_of, refused, world_of
from tests.forge import encode, forge, pair
from tests.world import ASSERTION, BY, Answer, Party

CREDENTIALS = {"grant_type": "client_credentials"}


def claims(scene: Scene, party: Party | None = None, **changed: Any) -> dict[str, Any]:
    now = int(time.time())
    party = party or scene.agent
    made = {
        "iss": party.client_id, "sub": party.client_id, "aud": scene.world.issuer,
        "iat": now, "exp": now + 60, "jti": secrets.token_urlsafe(12), **changed,
    }  # fmt: skip
    return {name: value for name, value in made.items() if value is not ...}


def ask(scene: Scene, form: dict[str, str], **more: str) -> Answer:
    return scene.world.post("/oauth/token", {**CREDENTIALS, **form, **more})


def refuse(scene: Scene, form: dict[str, str], **more: str) -> None:
    refused(ask(scene, form, **more), "invalid_client", 401)


def said(made: str) -> dict[str, str]:
    return {"client_assertion": made, "client_assertion_type": ASSERTION}


# 2.3.33, 2.3.34: for us alone


@pytest.mark.rfc("7523", "3")
def test_the_audience_is_the_issuer_and_nobody_else(scene: Scene) -> None:
    issuer = scene.world.issuer
    for good in (issuer, [issuer]):
        assert ask(scene, assertion_of(scene.agent, claims(scene, aud=good))).status == 200
    bad: list[Any] = [
        [issuer, "https://attacker.example"], ["https://attacker.example", issuer], [issuer, issuer], [], [[issuer]], [issuer, 1], [1], [None],
        {"a": issuer}, {issuer: True}, 1, True, None, "", ..., "https://attacker.example", issuer + "/", issuer.upper(), issuer + " ", issuer + "/oauth/token",
        issuer + "/oauth/par", issuer[:-1], issuer.replace("127.0.0.1", "localhost"), [issuer + "/oauth/token", issuer],
    ]  # fmt: skip
    for aud in bad:
        refuse(scene, assertion_of(scene.agent, claims(scene, aud=aud)))


def test_an_older_library_is_allowed_one_other_string_and_never_a_list(scene: Scene) -> None:
    agent = scene.world.agent(scene.alice, own=[(scene.api, "read")], assertion_audience="token-endpoint")
    issuer, endpoint = scene.world.issuer, scene.world.issuer + "/oauth/token"
    assert ask(scene, assertion_of(agent, claims(scene, agent, aud=endpoint))).status == 200
    for aud in (issuer, [endpoint, issuer], [endpoint, "https://attacker.example"], endpoint + "/", issuer + "/oauth/par"):
        refuse(scene, assertion_of(agent, claims(scene, agent, aud=aud)))


# 2.2.21: from the client, about the client


def test_iss_and_sub_are_both_the_client(scene: Scene) -> None:
    mine, another = scene.agent.client_id, scene.second.client_id
    for iss, sub in ((mine, another), (another, mine), (another, another), (mine, ...), (..., mine), (mine, None), (mine, [mine]), ([mine], mine), (mine, {"a": mine}),
                     (mine, ""), ("", mine), (mine, mine + " "), (mine.upper(), mine), (1, 1), (True, True)):  # fmt: skip
        refuse(scene, assertion_of(scene.agent, claims(scene, iss=iss, sub=sub)))
        refuse(scene, assertion_of(scene.agent, claims(scene, iss=iss, sub=sub)), client_id=mine)
        refuse(scene, assertion_of(scene.agent, claims(scene, iss=iss, sub=sub)), client_id=another)


def test_only_the_clients_own_key_speaks_for_it(scene: Scene) -> None:
    """Another client's key, under its own kid, under ours, and under none."""
    assert scene.second.key is not None
    assert scene.agent.key is not None
    ours, theirs = scene.agent.key.thumbprint(), scene.second.key.thumbprint()
    for kid in (theirs, ours, "../../dev/null", "' OR 1=1 --", "", "x" * 9000):
        refuse(scene, assertion_of(scene.second, claims(scene), kid=kid))
    thief, _, jwk = pair(SigningAlg.ES256)
    for header in (
        {},
        {"kid": ours},
        {"jwk": dict(jwk)},
        {"kid": ours, "jwk": dict(jwk)},
        {"jku": "http://127.0.0.1:9/jwks"},
        {"x5u": "http://127.0.0.1:9/"},
    ):
        refuse(scene, said(forge({"alg": "ES256", **header}, claims(scene), thief)))


def test_without_a_kid_the_only_key_is_meant(scene: Scene) -> None:
    assert scene.agent.key is not None
    made = jwt.encode({"alg": "ES256"}, claims(scene), scene.agent.key)
    assert ask(scene, said(made)).status == 200


def test_a_removed_key_authenticates_nobody_at_once(scene: Scene) -> None:
    agent = scene.world.agent(scene.alice, own=[(scene.api, "read")])
    second = ECKey.generate_key("P-256")
    jwk = second.as_dict(private=False) | {"kid": second.thumbprint(), "use": "sig", "alg": "ES256"}
    registry = scene.world.server.agent_registry
    registry.add_key(agent.id, jwk, by=BY)
    renewed = Party(agent.client_id, key=second, id=agent.id)
    assert scene.world.own_token(agent).status == scene.world.own_token(renewed).status == 200
    assert agent.key is not None
    registry.remove_key(agent.id, agent.key.thumbprint(), by=BY)
    refused(scene.world.own_token(agent), "invalid_client", 401)
    assert scene.world.own_token(renewed).status == 200


# 2.3.41, 2.3.42, 2.4.45, 2.4.46: algorithms


def test_alg_none_in_any_spelling_is_refused(scene: Scene) -> None:
    for alg in ("none", "None", "nOnE", "NONE", "", None, 1, ["ES256"]):
        unsigned = forge({"alg": alg}, claims(scene)).rpartition(".")[0]
        for signature in ("", "x", "c2ln"):
            refuse(scene, said(f"{unsigned}.{signature}"))
    refuse(scene, said(forge({"typ": "JWT"}, claims(scene))))


def test_a_public_key_is_no_hmac_secret(scene: Scene) -> None:
    assert scene.agent.key is not None
    native: Any = scene.agent.key.raw_value.public_key()
    jwk = scene.agent.key.as_dict(private=False)
    for secret in (
        native.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), native.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        native.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), json.dumps(jwk).encode(), b"",
    ):  # fmt: skip
        for alg, digest in (("HS256", hashlib.sha256), ("HS512", hashlib.sha512)):
            unsigned = forge({"alg": alg, "kid": scene.agent.key.thumbprint()}, claims(scene)).rpartition(".")[0]
            refuse(scene, said(f"{unsigned}.{encode(hmac.new(secret, unsigned.encode(), digest).digest())}"))


def test_a_client_secret_is_no_hmac_key_either(scene: Scene) -> None:
    """client_secret_jwt is not offered, so it is not accepted."""
    for party in (scene.keyless, scene.posting):
        unsigned = forge({"alg": "HS256"}, claims(scene, party)).rpartition(".")[0]
        refuse(scene, said(f"{unsigned}.{encode(hmac.new(str(party.secret).encode(), unsigned.encode(), hashlib.sha256).digest())}"))


def test_the_keys_registered_alg_is_the_only_one(scene: Scene) -> None:
    private = generate_client_key(SigningAlg.PS256)
    agent = scene.world.agent(scene.alice, own=[(scene.api, "read")], jwks={"keys": [public_part(private)]})
    for alg, status in ((SigningAlg.PS256, 200), (SigningAlg.RS256, 401)):
        key = import_signing_key(private, alg)
        made = forge({"alg": alg.value, "kid": private["kid"]}, claims(scene, Party(agent.client_id)), key)
        assert ask(scene, said(made)).status == status


# 2.3.43, 2.4.51 to 2.4.57: what it is written in


HOSTILE_PAYLOADS = {
    "five thousand nested arrays": b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "deep objects": b'{"a":' * 800 + b"1" + b"}" * 800,
    "an array": b"[]",
    "null": b"null",
    "a number": b"1",
    "nothing": b" ",
    "not UTF-8": b'{"sub":"\xff"}',
    "UTF-16": '{"sub":"x"}'.encode("utf-16"),
    "UTF-8 with a byte order mark": '{"sub":"x"}'.encode("utf-8-sig"),
    "NaN": b'{"exp":NaN}',
    "a huge integer": b'{"exp":' + b"9" * 6000 + b"}",
}


@pytest.mark.parametrize("payload", HOSTILE_PAYLOADS.values(), ids=HOSTILE_PAYLOADS.keys())
def test_hostile_json_is_401_and_never_500(scene: Scene, payload: bytes) -> None:
    assert scene.agent.key is not None
    key = import_signing_key(scene.agent.key.as_dict(private=True), SigningAlg.ES256)
    for header in ({"alg": "ES256", "kid": scene.agent.key.thumbprint()}, payload):
        for form in (said(forge(header, payload, key)), said(forge(header, payload))):
            refuse(scene, form)
            refuse(scene, form, client_id=scene.agent.client_id)


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "jti", "client_id"])
@pytest.mark.parametrize("value", ["\\ud800", "\\u0000", "x\\udfff"])
def test_a_lone_surrogate_or_nul_in_a_claim_is_401(scene: Scene, name: str, value: str) -> None:
    assert scene.agent.key is not None
    key = import_signing_key(scene.agent.key.as_dict(private=True), SigningAlg.ES256)
    members = {n: json.dumps(v) for n, v in claims(scene).items()} | {name: f'"{value}"'}
    payload = "{" + ",".join(f'"{n}":{v}' for n, v in members.items()) + "}"
    for more in ({}, {"client_id": scene.agent.client_id}):
        refuse(scene, said(forge({"alg": "ES256", "kid": scene.agent.key.thumbprint()}, payload.encode(), key)), **more)


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "exp", "iat", "jti"])
def test_a_claim_twice_is_refused_whichever_would_be_good(scene: Scene, name: str) -> None:
    assert scene.agent.key is not None
    key = import_signing_key(scene.agent.key.as_dict(private=True), SigningAlg.ES256)
    header = {"alg": "ES256", "kid": scene.agent.key.thumbprint()}
    good = json.dumps(claims(scene))
    value = json.dumps(json.loads(good)[name])
    for twice in (
        good[:-1] + f',"{name}":{value}}}',
        f'{{"{name}":{value},' + good[1:],
        good[:-1] + f',"{name[:-1]}\\u{ord(name[-1]):04x}":{value}}}',
    ):
        refuse(scene, said(forge(header, twice.encode(), key)))


def test_a_header_member_twice_is_refused(scene: Scene) -> None:
    assert scene.agent.key is not None
    key = import_signing_key(scene.agent.key.as_dict(private=True), SigningAlg.ES256)
    header = f'{{"alg":"none","alg":"ES256","kid":"{scene.agent.key.thumbprint()}"}}'.encode()
    refuse(scene, said(forge(header, claims(scene), key)))


def test_only_the_compact_form_and_only_canonical_base64url(scene: Scene) -> None:
    made = assertion_of(scene.agent, claims(scene))["client_assertion"]
    head, body, signature = made.split(".")
    for other in (
        f"{made}=", f" {made}", f"{made}\n", f"{head}.{body}.", f"{head}.{body}", f".{made}", f"{made}.", f"{head}=.{body}.{signature}",
        f"{head}.{body}.{signature[:-1]}" + chr(ord(signature[-1]) + 1), json.dumps({"payload": body, "protected": head, "signature": signature}),
        json.dumps({"payload": body, "signatures": []}), f"{head}..{signature}", f"{head}.{body}.{encode(b'0' * 64)}", f"{head}.{body}.{encode(bytes(64))}",
        f"{head}.{body}.{encode(base64.urlsafe_b64decode(signature + '==')[:-1])}",
    ):  # fmt: skip
        refuse(scene, said(other))
    for header in ({"crit": ["exp"]}, {"b64": False, "crit": ["b64"]}, {"zip": "DEF"}, {"crit": []}):
        assert scene.agent.key is not None
        refuse(scene, said(forge({"alg": "ES256", "kid": scene.agent.key.thumbprint(), **header}, claims(scene))))
    assert ask(scene, said(made)).status == 200


def test_another_kind_of_jwt_is_no_assertion(scene: Scene) -> None:
    for typ in ("at+jwt", "handover+jwt", "dpop+jwt", "token-introspection+jwt", "logout+jwt", "oauth-authz-req+jwt", "JWS"):
        refuse(scene, assertion_of(scene.agent, claims(scene), typ=typ))
    for typ in ("JWT", "jwt", "client-authentication+jwt"):
        assert ask(scene, assertion_of(scene.agent, claims(scene), typ=typ)).status == 200
    own = scene.world.own_token(scene.agent).ok()["access_token"]
    for token in (own, scene.handover, scene.token()):
        refuse(scene, said(token))
        refuse(scene, said(token), client_id=scene.agent.client_id)


def test_the_assertion_type_is_exactly_the_registered_one(scene: Scene) -> None:
    for kind in (
        "",
        "x",
        ASSERTION.upper(),
        ASSERTION + " ",
        "urn:ietf:params:oauth:client-assertion-type:saml2-bearer",
        "urn:ietf:params:oauth:grant-type:jwt-bearer",
    ):
        form = assertion_of(scene.agent, claims(scene)) | {"client_assertion_type": kind}
        refuse(scene, form)
        refuse(scene, form, client_id=scene.agent.client_id)


# Time


def test_it_is_short_lived_and_neither_past_nor_future(scene: Scene) -> None:
    now = int(time.time())
    for changed in (
        {"exp": now - 60}, {"exp": now - clock.SKEW - 1}, {"exp": ...}, {"exp": "never"}, {"exp": None}, {"exp": True}, {"exp": [now + 60]}, {"exp": -1},
        {"iat": ...}, {"iat": now + 120, "exp": now + 180}, {"iat": "x"}, {"iat": True}, {"iat": -1}, {"nbf": now + 60}, {"nbf": "x"},
        {"exp": now + 301, "iat": now}, {"exp": now + 86400}, {"exp": 2**53 - 1}, {"exp": 1e300}, {"exp": now + 400, "iat": now + 4}, {"iat": now - 3600},
    ):  # fmt: skip
        refuse(scene, assertion_of(scene.agent, claims(scene, **changed)))
    assert ask(scene, assertion_of(scene.agent, claims(scene, iat=now, exp=now + 300))).status == 200
    assert ask(scene, assertion_of(scene.agent, claims(scene, nbf=now - 1))).status == 200


# 2.3.35, 2.3.37: once


def test_it_has_an_identifier_of_sensible_length(scene: Scene) -> None:
    for jti in (..., "", None, 1, ["x"], {"a": 1}, "x" * 257, True):
        refuse(scene, assertion_of(scene.agent, claims(scene, jti=jti)))


PLACES = ("/oauth/token", "/oauth/par", "/oauth/introspect", "/oauth/revoke")


def at(scene: Scene, path: str, form: dict[str, str]) -> Answer:
    honest = {
        "/oauth/token": list(CREDENTIALS.items()),
        "/oauth/par": scene.world.authorization(scene.agent, "v" * 64, scene.api, scope="read"),
        "/oauth/introspect": [("token", "x")],
        "/oauth/revoke": [("token", "x")],
    }[path]
    return scene.world.post(path, [*honest, *form.items()])


@pytest.mark.parametrize("first", PLACES)
def test_once_is_once_at_all_endpoints_together(scene: Scene, first: str) -> None:
    for then in PLACES:
        form = assertion_of(scene.agent, claims(scene))
        assert at(scene, first, form).status in {200, 201}
        refused(at(scene, then, form), "invalid_client", 401)


@pytest.mark.parametrize("then", PLACES)
def test_a_refused_request_has_used_the_assertion_up(scene: Scene, then: str) -> None:
    """What was refused was seen: whoever saw it too must not be able to use it (protocol §5.2)."""
    broken = {
        "/oauth/token": {"grant_type": "client_credentials", "scope": "nonsense"},
        "/oauth/par": {"response_type": "nonsense"},
        "/oauth/introspect": {"zz": "1"},
        "/oauth/revoke": {"zz": "1"},
    }
    for path, wrong in broken.items():
        form = assertion_of(scene.agent, claims(scene))
        answer = scene.world.post(path, {**wrong, **form})
        assert answer.status == 400, (path, answer.body)
        refused(at(scene, then, form), "invalid_client", 401)


def test_another_worker_remembers_too(scene: Scene, app: Flask) -> None:
    with another_app(scene.world.server.settings) as made:
        other = world_of(scene.world.server, made)
        form = assertion_of(scene.agent, claims(scene))
        assert ask(scene, form).status == 200
        refused(other.post("/oauth/token", {**CREDENTIALS, **form}), "invalid_client", 401)


def test_of_fifty_at_once_one_is_let_in(scene: Scene, app: Flask) -> None:
    form = assertion_of(scene.agent, claims(scene))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: world_of(scene.world.server, app).post("/oauth/token", {**CREDENTIALS, **form}), range(50)))
    statuses = [answer.status for answer in answers]
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 401, 503}
    assert all(answer.error == "invalid_client" for answer in answers if answer.status == 401)


def test_the_same_identifier_of_another_client_is_another_assertion(scene: Scene) -> None:
    jti = secrets.token_urlsafe(12)
    assert ask(scene, assertion_of(scene.agent, claims(scene, jti=jti))).status == 200
    assert ask(scene, assertion_of(scene.second, claims(scene, scene.second, jti=jti))).status == 200
    refuse(scene, assertion_of(scene.agent, claims(scene, jti=jti)))


def test_no_identifier_is_another_under_a_different_name(scene: Scene) -> None:
    """`client jti` is one string: neither part can be stretched into the other."""
    jti = secrets.token_urlsafe(12)
    assert ask(scene, assertion_of(scene.agent, claims(scene, jti=jti))).status == 200
    for similar in (jti + " ", " " + jti, jti + "\t", f"{scene.agent.client_id} {jti}", jti.swapcase()):
        assert ask(scene, assertion_of(scene.agent, claims(scene, jti=similar))).status == 200


def test_it_is_remembered_for_as_long_as_it_could_be_accepted(scene: Scene) -> None:
    live, now = scene.world.server.live, int(time.time())
    for lifetime in (1, 60, 300):
        made = claims(scene, iat=now, exp=now + lifetime)
        assert ask(scene, assertion_of(scene.agent, made)).status == 200
        mark = Once("assertion", f"{scene.agent.client_id} {made['jti']}", 0)
        left = live.redis.call("TTL", prefix(live.generation().number) + mark.name)
        assert left >= made["exp"] + clock.SKEW - int(time.time())


def test_an_assertion_within_the_leeway_is_remembered_too(scene: Scene) -> None:
    now = int(time.time())
    form = assertion_of(scene.agent, claims(scene, iat=now - 60, exp=now - 1))
    assert ask(scene, form).status == 200
    refuse(scene, form)


def test_an_assertion_refused_for_its_signature_marks_nothing(scene: Scene) -> None:
    """Otherwise anybody could use up the identifiers of another."""
    good = claims(scene)
    refuse(scene, assertion_of(scene.second, good))
    assert ask(scene, assertion_of(scene.agent, good)).status == 200
