"""What docs/bound-tokens.md tells an API to do, done by examples/bound.py with tokens of this server (RFC 9449 §7.1, RFC 8705 §3)."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from examples.bound import Call, Holders
from examples.introspecting import Refused
from tests.certificates import Authority
from tests.dpop import Holder, ath, left, own
from tests.forge import forge
from tests.world import Api, World


@dataclass
class Story:
    world: World
    api: Api
    holder: Holder
    token: str
    claims: dict[str, Any]
    """As introspection tells them."""

    @property
    def url(self) -> str:
        return self.api.uri + "/events"

    def proof(self, header: dict[str, Any] | None = None, **changed: Any) -> str:
        head = {"typ": "dpop+jwt", "alg": "ES256", "jwk": dict(self.holder.jwk), **(header or {})}
        claims = {
            "htm": "GET",
            "htu": self.url,
            "iat": int(time.time()),
            "jti": secrets.token_urlsafe(8),
            "ath": ath(self.token),
            **changed,
        }
        return forge(left(head), left(claims), self.holder.key)

    def call(self, *proofs: str) -> Call:
        return Call("GET", self.url, "DPoP", self.token, proofs)


@pytest.fixture
def story(world: World) -> Story:
    api, holder = world.resource("read"), Holder()
    agent = world.agent(world.human(), own=[(api, "read")])
    token = own(world, agent, holder, resource=api.uri).ok()["access_token"]
    return Story(world, api, holder, token, world.introspect(api, token))


def refused(claims: dict[str, Any], call: Call, error: str, holders: Holders | None = None) -> None:
    with pytest.raises(Refused) as refusal:
        (holders or Holders()).check(claims, call)
    assert (refusal.value.status, refusal.value.error) == (401, error)
    challenge = refusal.value.headers["WWW-Authenticate"]
    assert challenge.startswith("DPoP " if call.scheme == "DPoP" else "Bearer ")
    assert f'error="{error}"' in challenge


@pytest.mark.rfc("9449", "7.1")
def test_a_call_with_a_proof_of_the_tokens_key_is_let_in_once(story: Story) -> None:
    holders, call = Holders(), story.call(story.proof())
    holders.check(story.claims, call)
    refused(story.claims, call, "invalid_dpop_proof", holders)
    holders.check(story.claims, story.call(story.proof()))


def test_a_call_without_the_right_proof_is_not(story: Story) -> None:
    now, thief = int(time.time()), Holder()
    stolen = {"alg": "ES256", "typ": "dpop+jwt", "jwk": dict(thief.jwk)}
    claims = {"htm": "GET", "htu": story.url, "iat": now, "jti": "x", "ath": ath(story.token)}
    for proofs in (
        (), ("",), ("x",), ("a.b.c",), (story.proof(), story.proof()),
        (forge(stolen, claims, thief.key),), (forge({**stolen, "jwk": dict(story.holder.jwk)}, claims, thief.key),),
        (story.proof(htm="POST"),), (story.proof(htu=story.api.uri),), (story.proof(iat=now - 70),), (story.proof(iat=now + 60),), (story.proof(iat="now"),),
        (story.proof(ath=ath("another token")),), (story.proof(ath=...),), (story.proof(jti=...),), (story.proof({"typ": "JWT"}),), (story.proof({"jwk": ...}),),
        (story.proof({"jwk": {**story.holder.jwk, "d": "x" * 43}}),), (story.proof({"jwk": dict(thief.jwk)}),), (story.proof({"alg": "none"}),),
    ):  # fmt: skip
        refused(story.claims, story.call(*proofs), "invalid_dpop_proof")
    refused({**story.claims, "cnf": {"jkt": thief.jkt}}, story.call(story.proof()), "invalid_dpop_proof")


@pytest.mark.rfc("9449", "7.2")
def test_a_token_bound_to_a_key_is_no_bearer_token(story: Story) -> None:
    for proofs in ((), (story.proof(),)):
        refused(story.claims, replace(story.call(*proofs), scheme="Bearer"), "invalid_token")


@pytest.mark.rfc("8705", "3")
def test_a_token_bound_to_a_certificate_needs_a_connection_with_it(story: Story, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    mine, another = authority.client("mine"), authority.client("another")
    claims = {**story.claims, "token_type": "Bearer", "cnf": {"x5t#S256": mine.x5t}}
    call = Call("GET", story.url, "Bearer", story.token, certificate=mine.der)
    Holders().check(claims, call)
    for certificate in (None, another.der, mine.pem.encode()):
        refused(claims, replace(call, certificate=certificate), "invalid_token")
    refused(claims, replace(call, scheme="DPoP", proofs=(story.proof(),)), "invalid_token")


def test_what_is_bound_in_a_way_that_nobody_here_knows_is_refused_and_a_bearers_token_let_in(story: Story) -> None:
    call = Call("GET", story.url, "Bearer", story.token)
    refused({**story.claims, "cnf": {"kid": "x"}}, call, "invalid_token")
    bearers = {name: value for name, value in story.claims.items() if name != "cnf"}
    Holders().check(bearers, call)
    refused(bearers, replace(call, scheme="DPoP", proofs=(story.proof(),)), "invalid_token")
