"""RFC 9449: tokens bound to a key that the caller proves, with each grant, and what becomes of the binding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from app import clock
from app.vocabulary import ConfirmationMethod, SigningAlg
from tests.attacks.scene import another_app, world_of
from tests.dpop import Holder, ask, ath, exchange, own, redeem, refresh
from tests.protocol.answers import code_at, landed, new_verifier, pushed_query, recorded, refused, sent_back
from tests.protocol.conftest import Later
from tests.world import ACCESS_TOKEN, CONSENT, JWT, Answer, Api, Browser, Party, Person, World, claims_of

USERINFO = "/oauth/userinfo"


@dataclass
class Story:
    """Alice, her assistant, a booking agent it may hand work to, two public and confidential applications, two APIs."""

    world: World
    alice: Person
    browser: Browser
    calendar: Api
    strict: Api
    assistant: Party
    booking: Party
    app: Party
    public: Party

    def code(self, client: Party, *resources: Api, scope: str | None = None, away: bool = False, **more: str) -> tuple[str, str]:
        verifier = new_verifier()
        query = self.world.authorization(client, verifier, *resources, scope=scope, away=away, **more)
        return code_at(self.browser, query, client.redirect_uri, away=away), verifier

    def given(self, holder: Holder | None = None) -> dict[str, Any]:
        """What the assistant gets for a code: for both APIs, with a refresh token."""
        code, verifier = self.code(self.assistant, self.calendar, self.strict, scope="read", away=True)
        return redeem(self.world, self.assistant, code, verifier, holder).ok()

    def token(self, holder: Holder | None = None) -> str:
        given = self.given(holder)
        return str(exchange(self.world, self.assistant, given["access_token"], holder, resource=self.calendar.uri).ok()["access_token"])


@pytest.fixture
def story(world: World) -> Story:
    alice = world.human()
    calendar, strict = world.resource("read", "write"), world.resource("read", bound=[ConfirmationMethod.JKT])
    booking = world.agent(alice, ceiling=[(calendar, "read"), (strict, "read")])
    pairs = [(calendar, "read"), (calendar, "write"), (strict, "read")]
    assistant = world.agent(alice, ceiling=pairs, own=[(calendar, "read"), (strict, "read")], hands_to=[booking])
    app = world.app(pairs=[(calendar, "read")])
    public = world.app(pairs=[(calendar, "read")], auth="none")
    return Story(world, alice, world.signed_in(alice), calendar, strict, assistant, booking, app, public)


@pytest.fixture
def holder() -> Holder:
    return Holder()


def bound(answer: Answer, holder: Holder) -> str:
    """The answer's token, which is bound to that key."""
    body = answer.ok()
    # A hand-over passed on by exchange is no access token (RFC 8693 §2.2.1); bound it is all the same.
    assert body["token_type"] == ("N_A" if body.get("issued_token_type") == JWT else "DPoP")
    assert claims_of(body["access_token"])["cnf"] == {"jkt": holder.jkt}
    return str(body["access_token"])


def borne(answer: Answer) -> str:
    """The answer's token, which is a bearer's."""
    body = answer.ok()
    assert body["token_type"] == "Bearer"
    assert "cnf" not in claims_of(body["access_token"])
    return str(body["access_token"])


# Each grant binds


@pytest.mark.rfc("9449", "5")
@pytest.mark.parametrize("alg", list(SigningAlg))
def test_an_agents_own_token_is_bound_to_the_key_it_proves(story: Story, alg: SigningAlg) -> None:
    holder = Holder(alg)
    token = bound(own(story.world, story.assistant, holder, resource=story.calendar.uri), holder)
    told = story.world.introspect(story.calendar, token)
    assert told["active"]
    assert told["token_type"] == "DPoP"
    assert told["cnf"] == {"jkt": holder.jkt}


def test_without_a_proof_it_is_a_bearer_token_as_ever(story: Story) -> None:
    token = borne(own(story.world, story.assistant, resource=story.calendar.uri))
    told = story.world.introspect(story.calendar, token)
    assert told["token_type"] == "Bearer"
    assert "cnf" not in told


@pytest.mark.rfc("9449", "5")
def test_a_code_gives_a_token_and_a_refresh_token_bound_to_the_key(story: Story, holder: Holder) -> None:
    code, verifier = story.code(story.assistant, story.calendar, scope="read", away=True)
    answer = redeem(story.world, story.assistant, code, verifier, holder)
    bound(answer, holder)
    token = answer.json["refresh_token"]
    refused(refresh(story.world, story.assistant, token), "invalid_dpop_proof")
    refused(refresh(story.world, story.assistant, token, Holder()), "invalid_grant")
    again = refresh(story.world, story.assistant, token, holder)
    bound(again, holder)
    refused(refresh(story.world, story.assistant, again.json["refresh_token"]), "invalid_dpop_proof")
    bound(refresh(story.world, story.assistant, again.json["refresh_token"], holder), holder)


@pytest.mark.rfc("9449", "5")
def test_a_public_clients_refresh_token_is_bound_to_its_key(story: Story, holder: Holder) -> None:
    verifier = new_verifier()
    query = story.world.authorization(story.public, verifier, story.calendar, scope="openid read", away=True)
    answer = redeem(story.world, story.public, code_at(story.browser, query, away=True), verifier, holder)
    bound(answer, holder)
    token = answer.json["refresh_token"]
    refused(refresh(story.world, story.public, token), "invalid_dpop_proof")
    refused(refresh(story.world, story.public, token, Holder()), "invalid_grant")
    bound(refresh(story.world, story.public, token, holder), holder)


def test_a_refresh_token_that_was_a_bearers_is_bound_from_the_first_proof_on(story: Story, holder: Holder) -> None:
    token = story.given()["refresh_token"]
    answer = refresh(story.world, story.assistant, token, holder, resource=story.calendar.uri)
    bound(answer, holder)
    refused(refresh(story.world, story.assistant, answer.json["refresh_token"], resource=story.calendar.uri), "invalid_dpop_proof")


def test_a_consent_gives_a_bound_token_while_the_human_is_away(story: Story, holder: Holder) -> None:
    consent = story.given()["consent_id"]
    bound(exchange(story.world, story.assistant, consent, holder, CONSENT, resource=story.calendar.uri), holder)


# Exchange: whose key


@pytest.mark.rfc("9449", "5")
def test_who_goes_on_must_prove_the_key_of_the_token(story: Story, holder: Holder) -> None:
    world, given = story.world, story.given(holder)["access_token"]
    for proof in (None, Holder()):
        refused(exchange(world, story.assistant, given, proof, resource=story.calendar.uri), "invalid_dpop_proof")
    token = bound(exchange(world, story.assistant, given, holder, resource=story.calendar.uri), holder)
    for proof in (None, Holder()):
        refused(exchange(world, story.assistant, token, proof), "invalid_dpop_proof")
    bound(exchange(world, story.assistant, token, holder), holder)


def test_a_bearer_token_may_become_bound_and_never_back(story: Story, holder: Holder) -> None:
    token = bound(exchange(story.world, story.assistant, story.token(), holder), holder)
    refused(exchange(story.world, story.assistant, token), "invalid_dpop_proof")


def test_a_new_actor_brings_a_key_of_its_own_and_must_bring_one(story: Story, holder: Holder) -> None:
    world, another = story.world, Holder()
    given = story.given(holder)["access_token"]
    handed = bound(exchange(world, story.assistant, given, holder, audience=story.booking.uri), holder)
    refused(exchange(world, story.booking, handed, resource=story.calendar.uri), "invalid_dpop_proof")
    token = bound(exchange(world, story.booking, handed, another, resource=story.calendar.uri), another)
    assert [claims_of(token)["act"]["sub"], claims_of(token)["act"]["act"]["sub"]] == [story.booking.uri, story.assistant.uri]
    # It goes on with its own key, not with the one before it.
    refused(exchange(world, story.booking, token, holder), "invalid_dpop_proof")
    bound(exchange(world, story.booking, token, another), another)


def test_an_applications_bound_handover_is_the_agents_with_a_key_only(story: Story, holder: Holder) -> None:
    world, another = story.world, Holder()
    code, verifier = story.code(story.app, scope="read", resource=story.assistant.uri)
    handed = bound(redeem(world, story.app, code, verifier, holder), holder)
    story.given()
    refused(exchange(world, story.assistant, handed, resource=story.calendar.uri), "invalid_dpop_proof")
    bound(exchange(world, story.assistant, handed, another, resource=story.calendar.uri), another)


def test_a_bound_actor_token_is_good_with_its_key_only(story: Story, holder: Holder) -> None:
    world, given = story.world, story.given()["access_token"]
    actor = {"actor_token": bound(own(world, story.assistant, holder), holder), "actor_token_type": ACCESS_TOKEN}
    for proof in (None, Holder()):
        refused(exchange(world, story.assistant, given, proof, resource=story.calendar.uri, **actor), "invalid_dpop_proof")
    bound(exchange(world, story.assistant, given, holder, resource=story.calendar.uri, **actor), holder)


def test_an_actor_tokens_key_is_not_the_subject_tokens(story: Story, holder: Holder) -> None:
    """One proof proves one key: what is bound to two is out of reach."""
    world, another = story.world, Holder()
    given = story.given(holder)["access_token"]
    actor = {"actor_token": bound(own(world, story.assistant, another), another), "actor_token_type": ACCESS_TOKEN}
    for proof in (holder, another):
        refused(exchange(world, story.assistant, given, proof, resource=story.calendar.uri, **actor), "invalid_dpop_proof")


# A resource that takes no bearer token


def test_for_a_resource_that_demands_it_no_bearer_token_is_issued(story: Story, holder: Holder) -> None:
    world, api = story.world, story.strict
    given = story.given()
    refused(own(world, story.assistant, resource=api.uri), "invalid_dpop_proof")
    bound(own(world, story.assistant, holder, resource=api.uri), holder)
    refused(exchange(world, story.assistant, given["access_token"], resource=api.uri), "invalid_dpop_proof")
    bound(exchange(world, story.assistant, given["access_token"], holder, resource=api.uri), holder)
    refused(refresh(world, story.assistant, given["refresh_token"], resource=api.uri), "invalid_dpop_proof")
    bound(refresh(world, story.assistant, given["refresh_token"], holder, resource=api.uri), holder)
    code, verifier = story.code(story.assistant, api, scope="read")
    refused(redeem(world, story.assistant, code, verifier), "invalid_dpop_proof")
    bound(redeem(world, story.assistant, code, verifier, holder), holder)


@pytest.mark.rfc("9449", "5.2")
def test_a_client_registered_so_gets_no_bearer_token_whatever_the_grant(story: Story, holder: Holder) -> None:
    world, api = story.world, story.calendar
    agent = world.agent(story.alice, ceiling=[(api, "read")], own=[(api, "read")], bound=[ConfirmationMethod.JKT])
    for form in ({"resource": api.uri}, {}):
        refused(own(world, agent, **form), "invalid_dpop_proof")
        bound(own(world, agent, holder, **form), holder)
    code, verifier = story.code(agent, api, scope="read", away=True)
    refused(redeem(world, agent, code, verifier), "invalid_dpop_proof")
    given = redeem(world, agent, code, verifier, holder)
    bound(given, holder)
    consent = given.json["consent_id"]
    refused(exchange(world, agent, consent, None, CONSENT, resource=api.uri), "invalid_dpop_proof")
    bound(exchange(world, agent, consent, holder, CONSENT, resource=api.uri), holder)
    app = world.app(auth="none", bound=[ConfirmationMethod.JKT])
    code, verifier = story.code(app, scope="openid")
    refused(redeem(world, app, code, verifier), "invalid_dpop_proof")
    bound(redeem(world, app, code, verifier, holder), holder)


# dpop_jkt


@pytest.mark.rfc("9449", "10")
def test_a_code_for_a_key_is_redeemed_with_that_key_only(story: Story, holder: Holder) -> None:
    code, verifier = story.code(story.assistant, story.calendar, scope="read", dpop_jkt=holder.jkt)
    refused(redeem(story.world, story.assistant, code, verifier), "invalid_dpop_proof")
    refused(redeem(story.world, story.assistant, code, verifier, Holder()), "invalid_grant")
    bound(redeem(story.world, story.assistant, code, verifier, holder), holder)


@pytest.mark.rfc("9449", "10")
@pytest.mark.parametrize("jkt", ["x", "x" * 42, "x" * 44, "=" * 43, "é" * 43, "x" * 42 + " "])
def test_a_dpop_jkt_that_is_no_thumbprint_is_refused(story: Story, jkt: str) -> None:
    query = story.world.authorization(story.assistant, new_verifier(), story.calendar, scope="read", dpop_jkt=jkt)
    sent_back(story.browser.authorize(query), "invalid_request", story.world.issuer)
    refused(ask(story.world, story.assistant, query, path="/oauth/par"), "invalid_request")


@pytest.mark.rfc("9449", "10.1")
@pytest.mark.parametrize("said", ["header", "parameter", "both"])
def test_a_pushed_request_binds_the_code_by_header_or_parameter(story: Story, holder: Holder, said: str) -> None:
    world, verifier = story.world, new_verifier()
    more: dict[str, Any] = {} if said == "header" else {"dpop_jkt": holder.jkt}
    query = world.authorization(story.assistant, verifier, story.calendar, scope="read", **more)
    pushed = ask(world, story.assistant, query, None if said == "parameter" else holder, path="/oauth/par")
    assert pushed.status == 201, pushed.body
    page = story.browser.authorize(pushed_query(story.assistant, pushed.json["request_uri"]))
    code = landed(story.browser.decide(page))["code"]
    refused(redeem(world, story.assistant, code, verifier), "invalid_dpop_proof")
    refused(redeem(world, story.assistant, code, verifier, Holder()), "invalid_grant")
    bound(redeem(world, story.assistant, code, verifier, holder), holder)


@pytest.mark.rfc("9449", "10.1")
def test_a_pushed_request_whose_header_and_parameter_differ_is_refused_and_recorded(story: Story, holder: Holder) -> None:
    world = story.world
    query = world.authorization(story.assistant, new_verifier(), story.calendar, scope="read", dpop_jkt=Holder().jkt)
    proof = holder.proof(world, "/oauth/par")
    answer = ask(world, story.assistant, query, proof, path="/oauth/par")
    audit = refused(answer, "invalid_dpop_proof")["audit_id"]
    assert [one["id"] for one in recorded(world, "authorization.refused", story.assistant)] == [audit]
    # It has used the proof up.
    plain = world.authorization(story.assistant, new_verifier(), story.calendar, scope="read")
    refused(ask(world, story.assistant, plain, proof, path="/oauth/par"), "invalid_dpop_proof")


# Userinfo


def signed_in(story: Story, holder: Holder | None) -> str:
    code, verifier = story.code(story.public, scope="openid email")
    return str(redeem(story.world, story.public, code, verifier, holder).ok()["access_token"])


def userinfo(story: Story, scheme: str, token: str, proof: str | None = None, method: str = "GET") -> Answer:
    headers = {"Authorization": f"{scheme} {token}"} | ({"DPoP": proof} if proof is not None else {})
    return story.world.http.send(method, USERINFO, None, headers)


@pytest.mark.rfc("9449", "7.1")
@pytest.mark.parametrize("scheme", ["DPoP", "dpop", "DPOP"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_userinfo_takes_a_bound_token_with_a_proof(story: Story, holder: Holder, scheme: str, method: str) -> None:
    token = signed_in(story, holder)
    proof = holder.proof(story.world, USERINFO, htm=method, ath=ath(token))
    assert userinfo(story, scheme, token, proof, method).ok()["sub"] == story.alice.id
    again = userinfo(story, scheme, token, proof, method)
    assert refused(again, "invalid_dpop_proof", 401)
    assert again.headers["WWW-Authenticate"].startswith("DPoP ")


@pytest.mark.rfc("9449", "7.1")
def test_userinfo_takes_no_bound_token_without_the_right_proof(story: Story, holder: Holder) -> None:
    world, token = story.world, signed_in(story, holder)
    good: dict[str, Any] = {"htm": "GET", "ath": ath(token)}
    for proof in (
        None, "", "x", Holder().proof(world, USERINFO, **good), holder.proof(world, USERINFO, htm="GET"), holder.proof(world, USERINFO, **good, header={"typ": "JWT"}),
        holder.proof(world, USERINFO, htm="GET", ath=ath(token + "x")), holder.proof(world, USERINFO, htm="GET", ath=7), holder.proof(world, **good),
        holder.proof(world, USERINFO, htm="POST", ath=ath(token)),
    ):  # fmt: skip
        answer = userinfo(story, "DPoP", token, proof)
        refused(answer, "invalid_dpop_proof", 401)
        challenge = answer.headers["WWW-Authenticate"]
        assert challenge.startswith("DPoP ")
        assert 'error="invalid_dpop_proof"' in challenge
        assert 'algs="ES256 ' in challenge


@pytest.mark.rfc("9449", "7.2")
def test_userinfo_takes_a_bound_token_as_no_bearers_and_a_bearers_as_no_bound_one(story: Story, holder: Holder) -> None:
    world, token = story.world, signed_in(story, holder)
    for proof in (None, holder.proof(world, USERINFO, htm="GET", ath=ath(token))):
        answer = userinfo(story, "Bearer", token, proof)
        refused(answer, "invalid_token", 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    plain = signed_in(story, None)
    assert userinfo(story, "Bearer", plain).status == 200
    answer = userinfo(story, "DPoP", plain, holder.proof(world, USERINFO, htm="GET", ath=ath(plain)))
    refused(answer, "invalid_token", 401)
    assert answer.headers["WWW-Authenticate"].startswith("DPoP ")


@pytest.mark.rfc("9449", "7.1")
def test_without_a_token_both_ways_are_named(story: Story) -> None:
    challenge = story.world.get(USERINFO).headers["WWW-Authenticate"]
    assert challenge.startswith("Bearer ")
    assert "DPoP " in challenge
    assert "error" not in challenge


# Metadata, CORS


@pytest.mark.rfc("9449", "5.1")
def test_metadata_names_the_algorithms_of_proofs(story: Story) -> None:
    for path in ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"):
        assert story.world.get(path).ok()["dpop_signing_alg_values_supported"] == [alg.value for alg in SigningAlg]


def test_a_page_of_a_browser_may_send_proofs_and_read_nonces(story: Story, holder: Holder) -> None:
    preflight = story.world.http.send("OPTIONS", "/oauth/token", None, {"Origin": "https://spa.example"})
    assert "DPoP" in preflight.headers["Access-Control-Allow-Headers"].split(", ")
    answer = own(story.world, story.assistant, holder)
    assert answer.headers["Access-Control-Expose-Headers"] == "DPoP-Nonce"


# Nonces


@pytest.fixture
def demanding(story: Story) -> Iterator[Story]:
    """The same, at a server that demands nonces."""
    with another_app(story.world.server.settings, dpop_nonce=True) as made:
        world = world_of(story.world.server, made)
        yield Story(
            world, story.alice, world.signed_in(story.alice), story.calendar, story.strict, story.assistant, story.booking, story.app, story.public
        )  # fmt: skip


def demanded(answer: Answer, status: int = 400) -> str:
    """The nonce that a refusal for its lack brings."""
    refused(answer, "use_dpop_nonce", status)
    return str(answer.headers["DPoP-Nonce"])


@pytest.mark.rfc("9449", "8")
def test_a_nonce_is_demanded_given_and_rolled(demanding: Story, holder: Holder) -> None:
    world, agent = demanding.world, demanding.assistant
    first = own(world, agent, holder)
    nonce = demanded(first)
    assert first.headers["Access-Control-Expose-Headers"] == "DPoP-Nonce"
    for wrong in ("", "x", nonce[:-1], nonce + "x", nonce.swapcase(), None, 7, [nonce]):
        assert demanded(own(world, agent, holder.proof(world, nonce=wrong)))
    answer = own(world, agent, holder.proof(world, nonce=nonce))
    bound(answer, holder)
    bound(own(world, agent, holder.proof(world, nonce=answer.headers["DPoP-Nonce"])), holder)
    # Who asks for a bearer token needs none.
    plain = own(world, agent)
    borne(plain)
    assert "DPoP-Nonce" not in plain.headers


@pytest.mark.rfc("9449", "8")
def test_a_nonce_is_demanded_of_a_pushed_request_and_at_userinfo_too(demanding: Story, holder: Holder) -> None:
    world = demanding.world
    query = world.authorization(demanding.assistant, new_verifier(), demanding.calendar, scope="read")
    nonce = demanded(ask(world, demanding.assistant, query, holder, path="/oauth/par"))
    pushed = ask(world, demanding.assistant, query, holder.proof(world, "/oauth/par", nonce=nonce), path="/oauth/par")
    assert pushed.status == 201
    code, verifier = demanding.code(demanding.public, scope="openid")
    # The code is not used up by what was missing.
    nonce = demanded(redeem(world, demanding.public, code, verifier, holder))
    answer = redeem(world, demanding.public, code, verifier, holder.proof(world, nonce=pushed.headers["DPoP-Nonce"]))
    token = bound(answer, holder)
    refusal = userinfo(demanding, "DPoP", token, holder.proof(world, USERINFO, htm="GET", ath=ath(token)))
    nonce = demanded(refusal, 401)
    assert 'DPoP realm="Deputy", error="use_dpop_nonce"' in refusal.headers["WWW-Authenticate"]
    told = userinfo(demanding, "DPoP", token, holder.proof(world, USERINFO, htm="GET", ath=ath(token), nonce=nonce))
    assert told.status == 200
    assert told.headers["DPoP-Nonce"]


@pytest.mark.rfc("9449", "8")
def test_a_nonce_is_good_for_two_slots_at_most(demanding: Story, holder: Holder, later: Later) -> None:
    world, agent = demanding.world, demanding.assistant
    nonce = demanded(own(world, agent, holder))
    later(55)
    bound(own(world, agent, holder.proof(world, nonce=nonce, iat=clock.timestamp())), holder)
    later(125)
    assert demanded(own(world, agent, holder.proof(world, nonce=nonce, iat=clock.timestamp()))) != nonce


@pytest.mark.rfc("9449", "8")
def test_a_nonce_that_nobody_asked_for_must_be_good_all_the_same(story: Story, demanding: Story, holder: Holder) -> None:
    world = story.world
    nonce = demanded(own(world, story.assistant, holder.proof(world, nonce="x")))
    answer = own(world, story.assistant, holder.proof(world, nonce=nonce))
    bound(answer, holder)
    assert "DPoP-Nonce" not in answer.headers


def test_a_refusal_for_lack_of_a_nonce_is_recorded(demanding: Story, holder: Holder) -> None:
    answer = own(demanding.world, demanding.assistant, holder)
    (found,) = recorded(demanding.world, "token.refused", demanding.assistant)
    assert found["id"] == answer.json["audit_id"]
    assert (found["error"], found["layer"]) == ("use_dpop_nonce", "proof")
