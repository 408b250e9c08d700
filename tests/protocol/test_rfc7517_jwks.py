"""RFC 7517: the keys that others verify with, and how they change without one failed verification."""

from __future__ import annotations

import json

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from app.vocabulary import KeyState, KeyUse, SigningAlg
from tests.world import Api, World, header_of


def own_token(world: World) -> tuple[str, Api]:
    alice, api = world.human(), world.resource("read")
    agent = world.agent(alice, own=[(api, "read")])
    return world.own_token(agent, resource=api.uri).ok()["access_token"], api


def published(world: World) -> dict[str, dict[str, str]]:
    return {key["kid"]: key for key in world.get("/oauth/jwks").ok()["keys"]}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker holds its keys for a second; here it asks each time."""
    from app.keys import store

    monkeypatch.setattr(store, "FRESH", 0.0)


@pytest.mark.rfc("7517", "8.5.2")
def test_the_set_is_public_cacheable_and_open_to_browsers(world: World) -> None:
    answer = world.get("/oauth/jwks")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/jwk-set+json"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "max-age" in answer.headers["Cache-Control"]


@pytest.mark.rfc("7517", "4")
def test_every_key_is_public_named_and_for_signatures(world: World) -> None:
    keys = world.get("/oauth/jwks").ok()["keys"]
    assert len({key["kid"] for key in keys}) == len(keys) >= 4
    for key in keys:
        assert key["use"] == "sig"
        assert key["alg"] in set(SigningAlg)
        assert key["kty"] in {"EC", "RSA", "OKP"}
        assert not {"d", "p", "q", "dp", "dq", "qi", "oth", "k"} & key.keys()
    KeySet.import_key_set({"keys": keys})


def test_it_holds_the_active_and_the_next_key_and_none_of_the_ledgers(world: World) -> None:
    infos = world.server.keys.list()
    kids = published(world).keys()
    for info in infos:
        if info.use == KeyUse.LEDGER:
            assert info.kid not in kids
        elif info.state != KeyState.REVOKED:
            assert info.kid in kids
    for alg in ("ES256", "RS256"):
        states = {info.state for info in infos if info.use == KeyUse.TOKEN and info.alg == alg}
        assert {KeyState.ACTIVE, KeyState.NEXT} <= states


def test_a_token_verifies_with_the_set_by_its_kid(world: World) -> None:
    token, _ = own_token(world)
    keys = KeySet.import_key_set(world.get("/oauth/jwks").ok())
    assert jwt.decode(token, keys, algorithms=["ES256"]).claims["iss"] == world.issuer
    assert header_of(token)["kid"] in published(world)


def test_rotation_goes_to_a_key_that_was_published_before_and_the_old_one_stays(world: World) -> None:
    before = published(world)
    token, api = own_token(world)
    kid = world.server.keys.rotate(SigningAlg.ES256)
    assert kid in before
    after = published(world)
    assert header_of(token)["kid"] in after
    assert len(set(after) - set(before)) == 1
    assert world.active(api, token)
    newer, newer_api = own_token(world)
    assert header_of(newer)["kid"] == kid
    assert world.active(newer_api, newer)
    assert world.active(api, token)


def test_a_revoked_key_is_gone_and_so_is_what_it_signed(world: World) -> None:
    token, api = own_token(world)
    kid = header_of(token)["kid"]
    assert world.active(api, token)
    world.server.keys.revoke(kid)
    assert kid not in published(world)
    assert not world.active(api, token)
    newer, newer_api = own_token(world)
    assert header_of(newer)["kid"] != kid
    assert world.active(newer_api, newer)


def test_an_algorithm_somebody_registers_for_is_published_before_it_signs(world: World) -> None:
    world.server.keys.ensure_alg(SigningAlg.PS256)
    assert sum(key["alg"] == "PS256" for key in published(world).values()) >= 2


def test_nothing_in_it_changes_from_one_answer_to_the_next(world: World) -> None:
    one, two = (json.dumps(world.get("/oauth/jwks").ok()) for _ in range(2))
    assert one == two
