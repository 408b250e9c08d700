"""DPoP proofs: for this request, of the key that is in them, lately, once (RFC 9449 §4.3, §11)."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import clock
from app.errors import TemporarilyUnavailable
from app.keys.jwk import generate_client_key, public_part
from app.live.commit import Once
from app.live.generation import Generation, prefix
from app.vocabulary import SigningAlg
from tests.attacks.scene import VERIFIER, Scene, another_app, refused, world_of
from tests.dpop import Holder, ask, exchange, left, own, redeem, refresh
from tests.faults.alone import Alone, alone
from tests.forge import encode, forge
from tests.valkey import valkey
from tests.world import REDIRECT, Answer, basic, claims_of

HOLDER = Holder()


@pytest.fixture
def holder() -> Holder:
    return Holder()


def bad(scene: Scene, proof: str) -> Answer:
    answer = own(scene.world, scene.agent, proof)
    refused(answer, "invalid_dpop_proof")
    return answer


def bound(answer: Answer, holder: Holder) -> str:
    body = answer.ok()
    assert (body["token_type"], claims_of(body["access_token"])["cnf"]) == ("DPoP", {"jkt": holder.jkt})
    return str(body["access_token"])


# For this request


@pytest.mark.rfc("9449", "4.3")
def test_the_method_is_this_one_in_its_letters(scene: Scene, holder: Holder) -> None:
    for htm in ("GET", "post", "Post", "POST ", "", "PUT", None, 1, ["POST"], {"POST": 1}, ...):
        bad(scene, holder.proof(scene.world, htm=htm))


@pytest.mark.rfc("9449", "4.3")
def test_the_address_is_this_endpoint_of_the_issuer_and_no_other(scene: Scene, holder: Holder) -> None:
    issuer = scene.world.issuer
    for htu in (
        "https://attacker.example/oauth/token", issuer + "/oauth/par", issuer, issuer + "/", issuer + "/oauth/token/", issuer + "//oauth/token", issuer + "/oauth/../oauth/token",
        issuer + "/OAuth/token", issuer + "/oauth%2Ftoken", issuer.replace("http:", "https:") + "/oauth/token", issuer.replace("127.0.0.1", "localhost") + "/oauth/token",
        issuer + ".attacker.example/oauth/token", issuer.replace("http://", "http://x@") + "/oauth/token", issuer.replace(":8000", "") + "/oauth/token",
        issuer.replace(":8000", ":0") + "/oauth/token", issuer.replace(":8000", ":99999") + "/oauth/token", issuer.replace(":8000", ":x") + "/oauth/token",
        "/oauth/token", "//127.0.0.1:8000/oauth/token", "http:/oauth/token", "http://[/oauth/token", " " + issuer + "/oauth/token", issuer + "/oauth/token\n", issuer + "/oauth/tok\ten",
        issuer + "/oauth/toke\u0578", issuer + "/oauth/token;x", "", "x" * 3000, None, 7, [issuer + "/oauth/token"], {issuer + "/oauth/token": 1}, ...,
    ):  # fmt: skip
        bad(scene, holder.proof(scene.world, htu=htu))


@pytest.mark.rfc("9449", "4.3")
def test_query_fragment_and_what_means_the_same_do_not_count(scene: Scene, holder: Holder) -> None:
    issuer = scene.world.issuer
    for htu in ("/oauth/token?x=y", "/oauth/token#x", "/oauth/token?x#y", "/oauth/%74oken", "/oauth/tok%65n"):
        bound(own(scene.world, scene.agent, holder.proof(scene.world, htu=issuer + htu)), holder)
    bound(own(scene.world, scene.agent, holder.proof(scene.world, htu="HTTP://127.0.0.1:8000/oauth/token")), holder)


def test_the_host_header_is_not_asked(scene: Scene, holder: Holder) -> None:
    """Whoever reaches us under another name says nothing about what a proof is for."""
    members, _ = scene.world.credentials(scene.agent)
    for headers in ({"Host": "attacker.example"}, {"X-Forwarded-Host": "attacker.example"}, {"Forwarded": "host=attacker.example"}):
        proof = holder.proof(scene.world, htu="http://attacker.example/oauth/token")
        form = {"grant_type": "client_credentials", **members}
        refused(scene.world.post("/oauth/token", form, {**headers, "DPoP": proof}), "invalid_dpop_proof")
        members, _ = scene.world.credentials(scene.agent)
        form = {"grant_type": "client_credentials", **members}
        assert scene.world.post("/oauth/token", form, {**headers, "DPoP": holder.proof(scene.world)}).status == 200
        members, _ = scene.world.credentials(scene.agent)


def test_a_default_port_may_be_written_or_not(scene: Scene, holder: Holder) -> None:
    with another_app(scene.world.server.settings, issuer="https://as.example") as made:
        world = world_of(scene.world.server, made)
        world.issuer = "https://as.example"
        agent = scene.keyless
        for base in ("https://as.example", "https://as.example:443", "HTTPS://AS.Example:443", "https://as.example:"):
            bound(own(world, agent, holder.proof(world, htu=base + "/oauth/token")), holder)
        for base in (
            "https://as.example:80",
            "http://as.example",
            "https://as.example:8443",
            "https://as.example.",
            "https://as.example:443:443",
        ):
            refused(own(world, agent, holder.proof(world, htu=base + "/oauth/token")), "invalid_dpop_proof")


# Lately


@pytest.mark.rfc("9449", "11.1")
def test_a_proof_is_of_now(scene: Scene, holder: Holder) -> None:
    now = int(time.time())
    for iat in (now - 62, now - 3600, 0, -1, now + 10, now + 3600, 2**52, 1e300, str(now), None, True, [now], ...):
        bad(scene, holder.proof(scene.world, iat=iat))
    for iat in (now - 50, now + 2, now - 0.5):
        bound(own(scene.world, scene.agent, holder.proof(scene.world, iat=iat)), holder)


# Of the key that is in it


@pytest.mark.rfc("9449", "4.2")
def test_the_type_is_dpop_and_nothing_else(scene: Scene, holder: Holder) -> None:
    for typ in ("JWT", "at+jwt", "client-authentication+jwt", "dpop", "dpop+jwt ", "", None, 7, ["dpop+jwt"], ...):
        bad(scene, holder.proof(scene.world, header={"typ": typ}))


@pytest.mark.rfc("9449", "4.2")
def test_no_symmetric_signature_and_none_at_all(scene: Scene, holder: Holder) -> None:
    claims = {"htm": "POST", "htu": scene.world.issuer + "/oauth/token", "iat": int(time.time()), "jti": "x"}
    secret = {"kty": "oct", "k": encode(b"s" * 32)}
    for jwk in (secret, dict(holder.jwk)):
        for alg in ("HS256", "HS384", "HS512", "none", "None", "NONE", "", "ES256K", "ES384", "RS1", None, 1, ...):
            header = left({"typ": "dpop+jwt", "alg": alg, "jwk": jwk})
            unsigned = forge(header, {**claims, "jti": secrets.token_hex(4)}).rpartition(".")[0]
            for signature in ("", encode(hmac.new(b"s" * 32, unsigned.encode(), hashlib.sha256).digest())):
                bad(scene, f"{unsigned}.{signature}")


@pytest.mark.rfc("9449", "4.3")
def test_a_private_key_is_refused_even_if_it_signs_rightly(scene: Scene) -> None:
    for alg in (SigningAlg.ES256, SigningAlg.EDDSA, SigningAlg.RS256):
        holder = Holder(alg)
        private = generate_client_key(alg)
        for name in ("d", "p", "q", "dp", "dq", "qi", "k", "oth"):
            bad(scene, holder.proof(scene.world, header={"jwk": {**holder.jwk, name: private.get(name, "AQAB")}}))


def test_the_key_is_public_whole_and_strong(scene: Scene, holder: Holder) -> None:
    other = public_part(generate_client_key(SigningAlg.ES256))
    for jwk in (
        ..., None, "x", [], {}, [dict(holder.jwk)], {"keys": [dict(holder.jwk)]}, other, {**holder.jwk, "x": other["x"]}, {**holder.jwk, "crv": "P-384"},
        {**holder.jwk, "crv": "secp256k1"}, {**holder.jwk, "kty": "oct"}, {**holder.jwk, "use": "enc"}, {**holder.jwk, "alg": "RS256"}, {**holder.jwk, "key_ops": ["sign"]},
        {**holder.jwk, "x": holder.jwk["x"] + "="}, {"kty": "RSA", "n": encode(b"\xff" * 128), "e": "AQAB"}, {"kty": "RSA", "n": encode(b"\xff" * 256), "e": "AQ"},
    ):  # fmt: skip
        bad(scene, holder.proof(scene.world, header={"jwk": jwk}))


def test_no_key_is_taken_from_anywhere_else(scene: Scene, holder: Holder) -> None:
    """Neither from an address, nor the client's own by its `kid`, nor ours."""
    assert scene.agent.key is not None
    for header in (
        {"jku": "http://127.0.0.1:9/jwks"}, {"x5u": "http://127.0.0.1:9/"}, {"x5c": ["AAAA"]}, {"kid": scene.agent.key.thumbprint()},
        {"kid": scene.world.get("/oauth/jwks").json["keys"][0]["kid"]},
    ):  # fmt: skip
        bad(scene, holder.proof(scene.world, header={"jwk": ..., **header}))


def test_what_the_verifier_refuses_is_refused_here(scene: Scene, holder: Holder) -> None:
    headers: tuple[dict[str, Any], ...] = ({"crit": ["b64"], "b64": False}, {"crit": []}, {"zip": "DEF"}, {"kid": 7}, {"kid": "x" * 200})
    for header in headers:
        bad(scene, holder.proof(scene.world, header=header))
    good = holder.proof(scene.world)
    head, payload, signature = good.split(".")
    for proof in (
        "", " ", "x", "..", "a.b.c", head, f"{head}.{payload}", f"{head}.{payload}.", f"{good}.", f".{good}", f"{head}.{payload}.{signature[:-2]}", f"{head}..{signature}",
        f"{head}=.{payload}.{signature}", f"{payload}.{head}.{signature}", good + "=", "Bearer " + good, f'"{good}"', good[:-1] + ("A" if good[-1] != "A" else "B"),
        forge(json.dumps({"typ": "dpop+jwt", "alg": "ES256", "jwk": dict(holder.jwk)}).encode() + b" x", {}, holder.key),
        forge(b'{"typ":"dpop+jwt","typ":"dpop+jwt","alg":"ES256"}', {}, holder.key), json.dumps({"payload": payload, "protected": head, "signature": signature}),
    ):  # fmt: skip
        bad(scene, proof)


def test_the_size_is_bounded(scene: Scene, holder: Holder) -> None:
    bad(scene, holder.proof(scene.world, padding="x" * 4000))
    bad(scene, "x" * 8000)
    bound(own(scene.world, scene.agent, holder.proof(scene.world, padding="x" * 1000)), holder)


@pytest.mark.rfc("9449", "4.2")
def test_it_has_an_identifier(scene: Scene, holder: Holder) -> None:
    for jti in ("", "x" * 257, None, 7, ["x"], ...):
        bad(scene, holder.proof(scene.world, jti=jti))


@pytest.mark.rfc("9449", "4.3")
def test_two_headers_are_refused(scene: Scene, holder: Holder, app: Flask) -> None:
    same, other = holder.proof(scene.world), Holder().proof(scene.world)
    for proofs in ((same, same), (same, other), (other, same), (same, ""), ("", same)):
        members, _ = scene.world.credentials(scene.agent)
        headers = [("DPoP", proof) for proof in proofs]
        answer = app.test_client().post("/oauth/token", data={"grant_type": "client_credentials", **members}, headers=headers)
        assert (answer.status_code, (answer.json or {})["error"]) == (400, "invalid_dpop_proof")
    bad(scene, f"{same},{other}")
    bad(scene, f"{same}, {same}")


# Once


@pytest.mark.rfc("9449", "11.1")
def test_it_is_good_once(scene: Scene, holder: Holder) -> None:
    proof = holder.proof(scene.world)
    bound(own(scene.world, scene.agent, proof), holder)
    for client in (scene.agent, scene.second, scene.keyless):
        refused(own(scene.world, client, proof), "invalid_dpop_proof")


def test_another_worker_remembers_too(scene: Scene, holder: Holder) -> None:
    with another_app(scene.world.server.settings) as made:
        other, proof = world_of(scene.world.server, made), holder.proof(scene.world)
        bound(own(scene.world, scene.agent, proof), holder)
        refused(own(other, scene.agent, proof), "invalid_dpop_proof")


def test_of_thirty_at_once_one_is_let_in(scene: Scene, holder: Holder, app: Flask) -> None:
    proof = holder.proof(scene.world)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: own(world_of(scene.world.server, app), scene.agent, proof), range(30)))
    statuses = [answer.status for answer in answers]
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 400, 503}
    assert all(answer.error == "invalid_dpop_proof" for answer in answers if answer.status == 400)


def test_a_refused_request_has_used_the_proof_up(scene: Scene, holder: Holder) -> None:
    proof = holder.proof(scene.world)
    refused(own(scene.world, scene.agent, proof, scope="nonsense"), "invalid_scope")
    bad(scene, proof)
    proof = holder.proof(scene.world)
    refused(exchange(scene.world, scene.agent, "x", proof), "invalid_request")
    bad(scene, proof)


def test_a_replayed_proof_uses_the_assertion_beside_it_up_and_is_recorded(scene: Scene, holder: Holder) -> None:
    world, proof = scene.world, holder.proof(scene.world)
    bound(own(world, scene.agent, proof), holder)
    for form in ({}, {"scope": "nonsense"}):
        members, _ = world.credentials(scene.agent)
        sent = {"grant_type": "client_credentials", **members, **form}
        answer = world.post("/oauth/token", sent, {"DPoP": proof})
        refused(answer, "invalid_dpop_proof")
        (found,) = world.ledger(id=answer.json["audit_id"])
        assert (found["event"], found["error"], found["reason"]) == ("token.refused", "invalid_dpop_proof", "proof used before")
        refused(world.post("/oauth/token", sent), "invalid_client", 401)


def test_at_a_pushed_request_too(scene: Scene, holder: Holder) -> None:
    world, proof = scene.world, holder.proof(scene.world, "/oauth/par")
    query = world.authorization(scene.agent, VERIFIER, scene.api, scope="read")
    assert ask(world, scene.agent, query, proof, "/oauth/par").status == 201
    for wrong in ([], [("prompt", "nonsense")]):
        members, _ = world.credentials(scene.agent)
        sent = [*query, *wrong, *members.items()]
        answer = world.post("/oauth/par", sent, {"DPoP": proof})
        refused(answer, "invalid_dpop_proof")
        (found,) = world.ledger(id=answer.json["audit_id"])
        assert (found["event"], found["error"], found["reason"]) == ("authorization.refused", "invalid_dpop_proof", "proof used before")
        refused(world.post("/oauth/par", sent), "invalid_client", 401)


def test_a_replayed_assertion_is_told_as_such_and_leaves_the_proof_good(scene: Scene, holder: Holder) -> None:
    world, proof = scene.world, holder.proof(scene.world)
    members, _ = world.credentials(scene.agent)
    sent = {"grant_type": "client_credentials", **members}
    assert world.post("/oauth/token", sent).status == 200
    refused(world.post("/oauth/token", sent, {"DPoP": proof}), "invalid_client", 401)
    bound(own(world, scene.agent, proof), holder)


def test_the_same_identifier_of_another_key_is_another_proof(scene: Scene, holder: Holder) -> None:
    another, jti = Holder(), secrets.token_urlsafe(12)
    bound(own(scene.world, scene.agent, holder.proof(scene.world, jti=jti)), holder)
    bound(own(scene.world, scene.agent, another.proof(scene.world, jti=jti)), another)
    bad(scene, holder.proof(scene.world, jti=jti))
    # One string: neither part can be stretched into the other.
    for similar in (jti + " ", " " + jti, f"{holder.jkt} {jti}", jti.swapcase()):
        bound(own(scene.world, scene.agent, holder.proof(scene.world, jti=similar)), holder)


def test_a_proof_nobody_signed_marks_nothing(scene: Scene, holder: Holder) -> None:
    """Otherwise anybody could use up the identifiers of another."""
    jti = secrets.token_urlsafe(12)
    bad(scene, Holder().proof(scene.world, jti=jti, header={"jwk": dict(holder.jwk)}))
    bound(own(scene.world, scene.agent, holder.proof(scene.world, jti=jti)), holder)


def test_it_is_remembered_for_as_long_as_it_could_be_accepted(scene: Scene, holder: Holder) -> None:
    live, now = scene.world.server.live, int(time.time())
    for iat in (now + 4, now, now - 55):
        jti = secrets.token_urlsafe(12)
        bound(own(scene.world, scene.agent, holder.proof(scene.world, jti=jti, iat=iat)), holder)
        left_for = live.redis.call("TTL", prefix(live.generation().number) + Once("dpop", f"{holder.jkt} {jti}", 0).name)
        assert left_for >= iat + 60 + clock.SKEW - int(time.time())


def test_it_is_used_up_at_pushed_requests_and_the_token_endpoint_apart_and_never_twice(scene: Scene, holder: Holder) -> None:
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read")
    proof = holder.proof(scene.world, "/oauth/par")
    assert ask(scene.world, scene.agent, query, proof, "/oauth/par").status == 201
    refused(ask(scene.world, scene.agent, query, proof, "/oauth/par"), "invalid_dpop_proof")
    bad(scene, holder.proof(scene.world, "/oauth/par"))


def test_an_unknown_client_learns_nothing_about_its_proof(scene: Scene, holder: Holder) -> None:
    for proof in (holder.proof(scene.world), "x"):
        form = {"grant_type": "client_credentials", "client_id": "agc_unknown", "client_secret": "x"}
        refused(scene.world.post("/oauth/token", form, {"DPoP": proof}), "invalid_client", 401)


# After Redis lost its memory


@pytest.fixture(scope="module")
def spare_redis() -> Iterator[str]:
    with valkey() as url:
        yield url


@pytest.fixture
def by_itself(spare_redis: str, tmp_path: Path) -> Iterator[Alone]:
    with alone(spare_redis, tmp_path) as made:
        yield made


def test_a_proof_of_before_the_rebuild_is_refused_after_it(by_itself: Alone, monkeypatch: pytest.MonkeyPatch, holder: Holder) -> None:
    world = by_itself.world
    alice = world.human()
    agent = world.agent(alice, auth="client_secret_basic", jwks=None)
    proof = holder.proof(world)
    bound(own(world, agent, proof), holder)
    by_itself.forget()
    for _ in range(2):
        answer = own(world, agent, proof)
        assert answer.status == 503, answer.body
        assert int(answer.headers["Retry-After"]) > 0
    since = by_itself.server.live.reload_generation().since
    end = since + 2 * clock.SKEW + 1
    monkeypatch.setattr(clock, "timestamp", lambda: end)
    refused(own(world, agent, proof), "invalid_dpop_proof")
    for iat in (since - 1, since, since + clock.SKEW):
        refused(own(world, agent, holder.proof(world, iat=iat)), "invalid_dpop_proof")
    bound(own(world, agent, holder.proof(world, iat=since + clock.SKEW + 1)), holder)


def test_a_generation_remembers_what_was_made_after_it_began() -> None:
    assert Generation(1, 0).remembers(0, 100)
    second = Generation(2, 1000)
    first = 1000 + clock.SKEW + 1
    assert second.remembers(first, first)
    assert not second.remembers(first - 1, first + clock.SKEW)
    with pytest.raises(TemporarilyUnavailable):
        second.remembers(first - 1, first + clock.SKEW - 1)


# What a thief has


def test_a_stolen_token_is_exchanged_by_nobody_without_the_key(scene: Scene, holder: Holder) -> None:
    world = scene.world
    token = bound(exchange(world, scene.agent, scene.handover, holder, resource=scene.api.uri), holder)
    for proof in (None, Holder(), holder.proof(world, iat=int(time.time()) - 100)):
        refused(exchange(world, scene.agent, token, proof), "invalid_dpop_proof")
    # Handing over to itself, another target, less: the binding stays.
    for form in (
        {"audience": scene.agent.uri},
        {"audience": scene.helper.uri},
        {"scope": "read"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:jwt"},
    ):
        assert exchange(world, scene.agent, token, None, **form).status == 400
    bound(exchange(world, scene.agent, token, holder), holder)


def test_a_stolen_code_is_worth_nothing_without_the_key_and_stays_good_for_its_owner(scene: Scene, holder: Holder) -> None:
    world = scene.world
    browser = world.signed_in(scene.alice)
    code = browser.code(world.authorization(scene.public, VERIFIER, scene.api, scope="read", dpop_jkt=holder.jkt))
    refused(redeem(world, scene.public, code, VERIFIER), "invalid_dpop_proof")
    refused(redeem(world, scene.public, code, VERIFIER, Holder()), "invalid_grant")
    answer = redeem(world, scene.public, code, VERIFIER, holder)
    token = bound(answer, holder)
    assert scene.world.active(scene.api, token)


def test_a_stolen_refresh_token_is_worth_nothing_without_the_key_and_stays_good_for_its_owner(scene: Scene, holder: Holder) -> None:
    world = scene.world
    browser = world.signed_in(scene.alice)
    code = browser.code(world.authorization(scene.public, VERIFIER, scene.api, scope="openid read", away=True), away=True)
    token = str(redeem(world, scene.public, code, VERIFIER, holder).ok()["refresh_token"])
    for _ in range(2):
        refused(refresh(world, scene.public, token), "invalid_dpop_proof")
        refused(refresh(world, scene.public, token, Holder()), "invalid_grant")
    used = holder.proof(world)
    bound(own(world, scene.agent, used), holder)
    refused(refresh(world, scene.public, token, used), "invalid_dpop_proof")
    bound(refresh(world, scene.public, token, holder), holder)


def test_dpop_jkt_twice_or_of_nobody_is_refused(scene: Scene, holder: Holder) -> None:
    browser = scene.world.signed_in(scene.alice)
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", dpop_jkt=holder.jkt)
    answer = browser.authorize([*query, ("dpop_jkt", holder.jkt)])
    assert answer.headers["Location"].startswith(f"{REDIRECT}?error=invalid_request")
    refused(ask(scene.world, scene.agent, [*query, ("dpop_jkt", holder.jkt)], path="/oauth/par"), "invalid_request")


def test_where_nothing_is_given_the_header_changes_nothing(scene: Scene, holder: Holder) -> None:
    token = bound(own(scene.world, scene.agent, holder, resource=scene.api.uri), holder)
    headers = {"DPoP": "x"}
    told = scene.world.post("/oauth/introspect", {"token": token}, {**basic(scene.api.client_id, scene.api.client_secret), **headers})
    assert told.ok()["active"]
    members, more = scene.world.credentials(scene.agent)
    assert scene.world.post("/oauth/revoke", {"token": token, **members}, {**more, **headers}).status == 200
    assert not scene.world.active(scene.api, token)


def test_no_proof_and_no_key_material_is_said_back(scene: Scene, holder: Holder) -> None:
    mark = "zQ7" + secrets.token_hex(8)
    answers: list[Any] = [
        bad(scene, mark),
        bad(scene, holder.proof(scene.world, htu=mark)),
        bad(scene, holder.proof(scene.world, header={"typ": mark})),
    ]
    for answer in answers:
        assert b"zQ7" not in answer.body
        assert not any("zQ7" in value for value in dict(answer.headers).values())


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=60)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=6
)
MEMBERS = ("kty", "crv", "x", "y", "n", "e", "kid", "use", "key_ops", "alg", "d")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_in_it_is_refused_and_nothing_falls_over(scene: Scene, data: st.DataObject) -> None:
    holder, altered = HOLDER, data.draw(st.sampled_from(("jwk", "member", "header", "claim")))
    if altered == "jwk":
        proof = holder.proof(scene.world, header={"jwk": data.draw(VALUES)})
    elif altered == "member":
        proof = holder.proof(scene.world, header={"jwk": {**holder.jwk, data.draw(st.sampled_from(MEMBERS)): data.draw(VALUES)}})
    elif altered == "header":
        proof = holder.proof(scene.world, header={data.draw(st.sampled_from(("typ", "alg", "kid", "crit", "b64"))): data.draw(VALUES)})
    else:
        claim: dict[str, Any] = {data.draw(st.sampled_from(("htm", "htu", "iat", "jti", "nonce"))): data.draw(VALUES)}
        proof = holder.proof(scene.world, **claim)
    answer = own(scene.world, scene.keyless, proof)
    if answer.status == 200:
        assert claims_of(answer.json["access_token"])["cnf"] == {"jkt": holder.jkt}
    else:
        assert (answer.status, answer.error) in {(400, "invalid_dpop_proof"), (400, "use_dpop_nonce")}, answer.body


def test_nothing_of_all_this_did_harm(scene: Scene) -> None:
    scene.alive()
