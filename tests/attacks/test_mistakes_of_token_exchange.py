"""What implementations of RFC 8693 get wrong: 27 mistakes, each with a test that fails if this server makes it.

The rules behind them are RFC 8693, the OAuth Actor Profile for Delegation (draft-mcguinness-oauth-actor-profile) and protocol §5.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from app.agents.models import AgentRow
from app.keys.signer import TokenTooLarge, import_signing_key, sign
from app.live.things import Kind, Thing
from app.vocabulary import Pair
from tests import dpop
from tests.attacks.scene import ACCESS_TOKEN, ID_TOKEN_TYPE, REFRESH_TYPE, VERIFIER, Scene, refused, resign
from tests.dpop import Holder
from tests.world import BY, CONSENT, EXCHANGE, JWT, REDIRECT, Answer, Api, Browser, Party, basic, claims_of, header_of, hidden

AGENT = {"sub_profile": "ai_agent"}
PARITY = {"iss", "sub", "act", "may_act", "scope", "authorization_details", "aud", "client_id", "exp", "iat", "jti", "txn", "cnf", "auth_time", "acr"}  # fmt: skip


@pytest.fixture(scope="module")
def browser(scene: Scene) -> Browser:
    return scene.world.signed_in(scene.alice)


def got(answer: Answer) -> str:
    return str(answer.ok()["access_token"])


def handed(scene: Scene, giver: Party, token: str, receiver: Party, **form: str) -> str:
    return got(scene.world.exchange(giver, token, audience=receiver.uri, **form))


def act_of(scene: Scene, *agents: Party) -> dict[str, Any]:
    """The `act` of a chain, the current actor first."""
    nested: dict[str, Any] = {}
    for agent in reversed(agents):
        nested = {"iss": scene.world.issuer, "sub": agent.uri, **AGENT} | ({"act": nested} if nested else {})
    return nested


def agents_in_a_row(scene: Scene, count: int) -> list[Party]:
    made: list[Party] = []
    for _ in range(count):
        made.insert(0, scene.world.agent(scene.alice, ceiling=[(scene.api, "read")], hands_to=made[:1]))
    return made


def scopes_of(scene: Scene, api: Api) -> set[Pair]:
    resource = scene.world.server.issuance.registers.resources.named(api.uri)
    assert resource is not None
    return {Pair(api.uri, scope) for scope in resource.value.scopes}


def details(*pairs: tuple[str, str]) -> str:
    return json.dumps([{"type": "resource_access", "locations": [uri], "actions": [action]} for uri, action in pairs])


def test_mistake_01_the_agent_in_sub_and_the_human_in_act(scene: Scene) -> None:
    deep = handed(scene, scene.agent, scene.handover, scene.helper)
    for token in (scene.handover, scene.token(), deep, got(scene.world.exchange(scene.helper, deep))):
        claims = claims_of(token)
        assert claims["sub"] == scene.alice.id
        assert scene.alice.id not in json.dumps(claims["act"])
    told = scene.world.introspect(scene.api, got(scene.world.exchange(scene.helper, deep)))
    assert (told["sub"], told["act"]["sub"]) == (scene.alice.id, scene.helper.uri)


def test_mistake_02_the_chain_of_the_actor_token_instead_of_the_subject_tokens(scene: Scene) -> None:
    piece = handed(scene, scene.agent, scene.handover, scene.helper)
    own = got(scene.world.own_token(scene.helper))
    with_actor = scene.world.exchange(scene.helper, piece, actor_token=own, actor_token_type=ACCESS_TOKEN)
    assert claims_of(got(with_actor))["act"] == act_of(scene, scene.helper, scene.agent)
    # An actor_token that has an act is refused, be it a delegated token or, which only a bug could sign, an own one.
    delegated = got(scene.world.exchange(scene.helper, piece))
    forged = resign(scene.world.server, own, act=act_of(scene, scene.helper, scene.second))
    for actor in (delegated, forged, piece):
        refused(scene.world.exchange(scene.helper, piece, actor_token=actor, actor_token_type=ACCESS_TOKEN), "invalid_request")


def test_mistake_03_a_chain_is_laundered_by_leaving_things_out(scene: Scene) -> None:
    """Keycloak #52691."""
    piece = handed(scene, scene.agent, scene.handover, scene.helper)
    own = got(scene.world.own_token(scene.helper))
    ways: list[dict[str, str]] = [
        {}, {"requested_token_type": ACCESS_TOKEN}, {"requested_token_type": JWT}, {"resource": scene.api.uri}, {"audience": scene.api.uri},
        {"scope": "read"}, {"actor_token": own, "actor_token_type": JWT},
    ]  # fmt: skip
    for form in ways:
        for said in (ACCESS_TOKEN, JWT):
            token = got(scene.world.exchange(scene.helper, piece, said, **form))
            assert claims_of(token)["act"] == act_of(scene, scene.helper, scene.agent)
    # Also where the evidence has no act: what is asked for by an agent is done by it.
    token = got(scene.world.exchange(scene.agent, scene.given["consent_id"], CONSENT, resource=scene.api.uri))
    assert claims_of(token)["act"] == act_of(scene, scene.agent)


def test_mistake_04_only_one_level_of_act_is_kept(scene: Scene) -> None:
    row = agents_in_a_row(scene, 3)
    token = scene.world.consented(scene.world.signed_in(scene.alice), row[0], scene.api, scope="read")["access_token"]
    for giver, receiver in zip(row, row[1:], strict=False):
        token = handed(scene, giver, token, receiver)
    token = got(scene.world.exchange(row[2], token))
    assert claims_of(token)["act"] == act_of(scene, row[2], row[1], row[0])
    # By the same actor again it is repeated as it is, not doubled and not flattened.
    for _ in range(3):
        token = got(scene.world.exchange(row[2], token))
        assert claims_of(token)["act"] == act_of(scene, row[2], row[1], row[0])
    assert scene.world.introspect(scene.api, token)["act"] == act_of(scene, row[2], row[1], row[0])


def test_mistake_05_an_actor_without_its_issuer(scene: Scene) -> None:
    token = got(scene.world.exchange(scene.helper, handed(scene, scene.agent, scene.handover, scene.helper)))
    act = claims_of(token)["act"]
    while act is not None:
        assert act.keys() - {"act"} == {"iss", "sub", "sub_profile"}
        assert act["iss"] == scene.world.issuer
        act = act.get("act")
    # The same sub of another issuer is another actor: not taken for the caller, and not merged with it.
    foreign = {"iss": "https://elsewhere.example", "sub": scene.agent.uri, **AGENT}
    again = got(scene.world.exchange(scene.agent, resign(scene.world.server, scene.token(), act=foreign)))
    assert claims_of(again)["act"] == {**act_of(scene, scene.agent), "act": foreign}


def test_mistake_06_inner_actors_authorize(scene: Scene) -> None:
    """RFC 8693 §4.1: they inform. What the first agent may do is nothing to the one that acts now."""
    wide = scene.world.agent(scene.alice, ceiling=[(scene.api, "read"), (scene.api, "write")], hands_to=[scene.helper])
    given = scene.world.consented(scene.world.signed_in(scene.alice), wide, scene.api, scope="read write")
    piece = handed(scene, wide, given["access_token"], scene.helper)
    refused(scene.world.exchange(scene.helper, piece, scope="write"), "invalid_scope")
    token = got(scene.world.exchange(scene.helper, piece))
    assert claims_of(token)["scope"] == "read"
    # Nor is the first agent entitled to the token because its name is inside, nor its list of receivers the helper's.
    refused(scene.world.exchange(wide, token), "invalid_request")
    refused(scene.world.exchange(wide, piece, resource=scene.api.uri), "invalid_request")
    refused(scene.world.exchange(scene.helper, token, audience=scene.helper.uri), "invalid_request")


def test_mistake_06_an_inner_agent_that_is_stopped_ends_what_it_handed_on_by_lineage_and_gives_nothing(scene: Scene) -> None:
    """Not because it is in `act`, but because the token was born under its epoch; starting it again revives nothing."""
    row = agents_in_a_row(scene, 3)
    token = scene.world.consented(scene.world.signed_in(scene.alice), row[0], scene.api, scope="read")["access_token"]
    for giver, receiver in zip(row, row[1:], strict=False):
        token = handed(scene, giver, token, receiver)
    last = got(scene.world.exchange(row[2], token))
    assert scene.world.active(scene.api, last)
    scene.world.server.agent_registry.suspend(row[1].id, by=BY)
    for _ in range(2):
        assert not scene.world.active(scene.api, last)
        refused(scene.world.exchange(row[2], last), "invalid_request")
        refused(scene.world.exchange(row[2], token), "invalid_request")
        scene.world.server.agent_registry.resume(row[1].id, by=BY)


def test_mistake_07_the_audience_of_the_subject_token_decides_wrongly(scene: Scene) -> None:
    """It need not be this server; it must tie the token to the caller, or the client_id must."""
    token = scene.token()
    assert claims_of(token)["aud"] == scene.api.uri
    assert scene.world.exchange(scene.agent, token).status == 200
    for stranger in (scene.helper, scene.second, scene.keyless):
        refused(scene.world.exchange(stranger, token), "invalid_request")
    # An ID token is for the application that it names, and is nobody's subject token here.
    code = scene.world.signed_in(scene.alice).code(scene.world.authorization(scene.app, VERIFIER, scope="openid"))
    id_token = scene.world.redeem(scene.app, code, VERIFIER).ok()["id_token"]
    for agent in (scene.agent, scene.second):
        for said in (ID_TOKEN_TYPE, JWT, ACCESS_TOKEN):
            refused(scene.world.exchange(agent, id_token, said, resource=scene.api.uri), "invalid_request")


def test_mistake_08_the_audience_of_the_result_is_another_than_asked(scene: Scene) -> None:
    for name in ("resource", "audience"):
        for api in (scene.api, scene.other):
            assert claims_of(got(scene.world.exchange(scene.agent, scene.handover, **{name: api.uri})))["aud"] == api.uri
    both = [("resource", scene.api.uri), ("audience", scene.other.uri)], [("resource", scene.api.uri), ("resource", scene.other.uri)], [("audience", scene.api.uri), ("audience", scene.other.uri)]  # fmt: skip
    for targets in both:
        form = [("grant_type", EXCHANGE), ("subject_token", scene.handover), ("subject_token_type", ACCESS_TOKEN), *targets]
        refused(scene.world.token(scene.agent, form), "invalid_target")
    refused(scene.world.exchange(scene.agent, scene.handover), "invalid_target")
    for target in (scene.agent.client_id, scene.world.issuer, "urn:unknown"):
        refused(scene.world.exchange(scene.agent, scene.handover, audience=target), "invalid_target")


def test_mistake_09_a_service_further_down_is_out_of_reach_or_free(scene: Scene) -> None:
    """What was handed over may be used where it is for, at whichever API; an operator's word opens no other."""
    world = scene.world
    down = world.resource("store")
    server = world.agent(scene.alice, ceiling=[(scene.api, "read"), (down, "store")], serves=scene.api.uri)
    caller = world.agent(scene.alice, ceiling=[(scene.api, "read"), (down, "store")], hands_to=[server])
    given = world.consented(world.signed_in(scene.alice), caller, scene.api, down, scope="read store")["access_token"]
    piece = handed(scene, caller, given, server)
    assert claims_of(got(world.exchange(server, piece, resource=down.uri)))["scope"] == "store"
    at_api = got(world.exchange(caller, given, resource=scene.api.uri))
    assert world.exchange(server, at_api, resource=scene.api.uri).status == 200
    world.server.agent_registry.entitle(server.id, audience=scene.api.uri, target=down.uri, by=BY)
    refused(world.exchange(server, at_api, resource=down.uri), "invalid_target")


def test_mistake_10_scope_is_checked_against_the_registration_and_not_the_subject_token(scene: Scene) -> None:
    narrow = scene.token(scope="read")
    for scope in ("write", "read write"):
        refused(scene.world.exchange(scene.agent, narrow, scope=scope), "invalid_scope")
    # Left out it is what the token has, though registration and consent have more.
    assert scene.world.exchange(scene.agent, narrow).ok()["scope"] == "read"
    assert claims_of(narrow)["scope"] == "read"
    assert isinstance(claims_of(scene.token())["scope"], str)


def test_mistake_11_authorization_details_are_lost_on_the_way(scene: Scene) -> None:
    """Where scope alone would say the same of both APIs, and where a child leaves them out."""
    only = details((scene.api.uri, "read"))
    piece = got(scene.world.exchange(scene.agent, scene.handover, audience=scene.helper.uri, authorization_details=only))
    assert claims_of(piece)["authorization_details"] == json.loads(only)
    self_made = scene.world.exchange(scene.agent, scene.handover, resource=scene.other.uri, authorization_details=only)
    assert self_made.status == 400
    token = got(scene.world.exchange(scene.helper, piece))
    assert (claims_of(token)["aud"], claims_of(token)["scope"]) == (scene.api.uri, "read")
    refused(scene.world.exchange(scene.helper, piece, resource=scene.other.uri, scope="read"), "invalid_target")
    for unknown in ('[{"type": "payment"}]', '[{"type": "resource_access", "locations": ["%s"], "actions": ["read"], "limit": 1}]' % scene.api.uri):  # fmt: skip
        refused(scene.world.exchange(scene.helper, piece, authorization_details=unknown), "invalid_authorization_details")


def test_mistake_12_every_exchange_starts_the_clock_anew(scene: Scene) -> None:
    """Keycloak CVE-2026-96460; also the actor's credential bounds it."""
    end, server = int(time.time()) + 40, scene.world.server
    token = resign(server, scene.token(), exp=end)
    for _ in range(5):
        token = got(scene.world.exchange(scene.agent, token))
        assert claims_of(token)["exp"] == end
    assert claims_of(handed(scene, scene.agent, token, scene.helper))["exp"] <= end
    actor = resign(server, got(scene.world.own_token(scene.agent)), exp=end - 20)
    answer = scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri, actor_token=actor, actor_token_type=ACCESS_TOKEN)
    assert claims_of(got(answer))["exp"] == end - 20
    assert answer.json["expires_in"] <= 20


def test_mistake_13_a_revoked_subject_token_is_good_because_its_signature_is(scene: Scene, browser: Browser) -> None:
    world = scene.world

    def fresh() -> tuple[dict[str, Any], str]:
        given = world.consented(browser, scene.agent, scene.api, scope="read", away=True)
        return given, got(world.exchange(scene.agent, given["access_token"]))

    given, token = fresh()
    world.revoke(scene.agent, token)
    refused(world.exchange(scene.agent, token), "invalid_request")
    given, token = fresh()
    world.server.consents.withdraw(given["consent_id"], by=BY)
    refused(world.exchange(scene.agent, token), "invalid_request")
    given, token = fresh()
    world.server.tasks.end(given["task_id"], by=BY)
    refused(world.exchange(scene.agent, token), "invalid_request")
    given, token = fresh()
    world.revoke(scene.agent, given["refresh_token"])
    refused(world.exchange(scene.agent, token), "invalid_request")
    # By an actor_token as well.
    actor = got(world.own_token(scene.agent))
    world.revoke(scene.agent, actor)
    refused(world.exchange(scene.agent, scene.token(), actor_token=actor, actor_token_type=ACCESS_TOKEN), "invalid_request")


def test_mistake_14_children_do_not_know_their_parents(scene: Scene) -> None:
    """The end of the first reaches the last, though nothing in between was ever revoked; the ledger has each parent."""
    parents = [scene.token()]
    for _ in range(2):
        parents.append(got(scene.world.exchange(scene.agent, parents[-1])))
    piece = handed(scene, scene.agent, parents[-1], scene.helper)
    last = got(scene.world.exchange(scene.helper, piece))
    line = [scene.handover, *parents, piece, last]
    for parent, child in zip(line, line[1:], strict=False):
        (record,) = scene.world.ledger(event="token.issued", jti=claims_of(child)["jti"])
        assert record["parent"] == claims_of(parent)["jti"]
    assert scene.world.active(scene.api, last)
    scene.world.revoke(scene.agent, parents[0])
    for token in (*parents, last):
        assert not scene.world.active(scene.api, token)
    assert scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri).status == 200


def test_mistake_15_the_confused_deputy(scene: Scene) -> None:
    """What passes through an agent's hands is not its own; what an API was sent is good for what its sender may do there."""
    world = scene.world
    meant_for_helper = handed(scene, scene.agent, scene.handover, scene.helper)
    for other in (scene.agent, scene.second):
        refused(world.exchange(other, meant_for_helper, resource=scene.api.uri), "invalid_request")
    api = world.resource("read", "write")
    server = world.agent(scene.alice, ceiling=[(api, "read"), (api, "write"), (scene.other, "read")], serves=api.uri)
    caller = world.agent(scene.alice, ceiling=[(api, "read"), (api, "write")])
    world.consented(world.signed_in(scene.alice), server, api, scene.other, scope="read write", away=True)
    sent = world.consented(world.signed_in(scene.alice), caller, api, scope="read")["access_token"]
    refused(world.exchange(server, sent, scope="write"), "invalid_scope")
    answer = world.exchange(server, sent, resource=scene.other.uri)
    refused(answer, "invalid_target")
    (record,) = world.ledger(id=answer.json["audit_id"])
    assert record["who"]["client"] == server.client_id
    # Nobody else who sees it passes it on, also with a consent of the same human.
    refused(world.exchange(scene.agent, sent), "invalid_request")


def test_mistake_16_an_actor_token_is_believed_without_proof(scene: Scene, browser: Browser) -> None:
    world, holder = scene.world, Holder()
    query = world.authorization(scene.app, VERIFIER, scope="openid")
    signed_in = world.redeem(scene.app, browser.code(query), VERIFIER).ok()
    for kind in (ACCESS_TOKEN, JWT):
        for wrong in (
            got(world.own_token(scene.second)), got(world.own_token(scene.agent, resource=scene.api.uri)), signed_in["id_token"], signed_in["access_token"],
            world.assertion(scene.agent), scene.token(), scene.handover, scene.given["refresh_token"], scene.given["consent_id"],
        ):  # fmt: skip
            form = {"resource": scene.api.uri, "actor_token": wrong, "actor_token_type": kind}
            refused(world.exchange(scene.agent, scene.handover, **form), "invalid_request")
    for kind in (ID_TOKEN_TYPE, REFRESH_TYPE, CONSENT, "urn:ietf:params:oauth:token-type:saml2"):
        form = {"resource": scene.api.uri, "actor_token": got(world.own_token(scene.agent)), "actor_token_type": kind}
        refused(world.exchange(scene.agent, scene.handover, **form), "invalid_request")
    actor = {"actor_token": got(dpop.own(world, scene.agent, holder)), "actor_token_type": ACCESS_TOKEN}
    for proof in (None, Holder()):
        refused(dpop.exchange(world, scene.agent, scene.handover, proof, resource=scene.api.uri, **actor), "invalid_dpop_proof")
    assert dpop.exchange(world, scene.agent, scene.handover, holder, resource=scene.api.uri, **actor).status == 200


def test_mistake_17_may_act_is_misread(scene: Scene) -> None:
    world, server = scene.world, scene.world.server
    piece = handed(scene, scene.agent, scene.handover, scene.helper)
    named = claims_of(piece)["may_act"]
    assert named == {"iss": world.issuer, "sub": scene.helper.uri, **AGENT}
    # It is no proof of who comes: without a client's own proof, or as another, it opens nothing.
    form = {"grant_type": EXCHANGE, "subject_token": piece, "subject_token_type": ACCESS_TOKEN}
    refused(world.post("/oauth/token", {**form, "client_id": scene.helper.client_id}), "invalid_client", 401)
    for thief in (scene.agent, scene.second):
        for more in ({}, {"actor_token": got(world.own_token(thief)), "actor_token_type": ACCESS_TOKEN}):
            refused(world.exchange(thief, piece, resource=scene.api.uri, **more), "invalid_request")
    # By issuer and subject, in this one shape.
    for other in (
        {**named, "iss": "https://elsewhere.example"}, {"sub": scene.helper.uri}, {"iss": world.issuer}, {}, [], [named], "*", {**named, "sub": "*"},
        {**named, "sub": [scene.helper.uri]}, scene.helper.uri, 0, False,
    ):  # fmt: skip
        refused(world.exchange(scene.helper, resign(server, piece, "handover+jwt", may_act=other)), "invalid_request")
    assert world.exchange(scene.helper, resign(server, piece, "handover+jwt")).status == 200
    # The right to act does not spread.
    token = got(world.exchange(scene.helper, piece))
    assert "may_act" not in json.dumps(claims_of(token))
    assert "may_act" not in world.introspect(scene.api, token)


def test_mistake_18_the_client_does_not_matter(scene: Scene) -> None:
    world = scene.world
    refused(world.exchange(scene.public, scene.handover, resource=scene.api.uri), "unauthorized_client")
    refused(world.exchange(scene.second, scene.token()), "invalid_request")
    for said in (REFRESH_TYPE, ACCESS_TOKEN, JWT):
        refused(world.exchange(scene.agent, scene.given["refresh_token"], said, resource=scene.api.uri), "invalid_request")
    # Keycloak CVE-2026-9704: without a subject_token it is no other grant. The refresh token above was not used up either.
    for form in ({"grant_type": EXCHANGE, "resource": scene.api.uri}, {"grant_type": EXCHANGE, "subject_token": "", "subject_token_type": ACCESS_TOKEN}):  # fmt: skip
        refused(world.token(scene.agent, {**form, "refresh_token": scene.given["refresh_token"]}), "invalid_request")
    refresh = {"grant_type": "refresh_token", "refresh_token": scene.given["refresh_token"], "resource": scene.api.uri}
    renewed = world.token(scene.agent, refresh).ok()
    # It brings the chain along, unchanged.
    assert claims_of(renewed["access_token"])["act"] == act_of(scene, scene.agent)
    scene.given["refresh_token"] = renewed["refresh_token"]


def test_mistake_19_the_binding_to_a_key_is_dropped(scene: Scene) -> None:
    world, mine, theirs, stolen = scene.world, Holder(), Holder(), Holder()
    bound = got(dpop.exchange(world, scene.agent, scene.token(), mine))
    # Who goes on proves the key of the token, gets no second act, and no other key and no bearer token.
    for proof in (None, stolen):
        refused(dpop.exchange(world, scene.agent, bound, proof), "invalid_dpop_proof")
    again = got(dpop.exchange(world, scene.agent, bound, mine))
    assert (claims_of(again)["cnf"], claims_of(again)["act"]) == ({"jkt": mine.jkt}, act_of(scene, scene.agent))
    # A new actor proves its own, and needs nobody else's.
    piece = got(dpop.exchange(world, scene.agent, bound, mine, audience=scene.helper.uri))
    refused(dpop.exchange(world, scene.helper, piece), "invalid_dpop_proof")
    rebound = got(dpop.exchange(world, scene.helper, piece, theirs))
    assert claims_of(rebound)["cnf"] == {"jkt": theirs.jkt}
    assert "cnf" not in json.dumps(claims_of(rebound)["act"])
    for proof in (None, mine):
        refused(dpop.exchange(world, scene.helper, rebound, proof), "invalid_dpop_proof")


def test_mistake_20_wrong_codes_and_answers_that_tell(scene: Scene, browser: Browser) -> None:
    """RFC 8693 §2.2.2: `invalid_request`, and the same words for unknown, expired, revoked, foreign and somebody else's."""
    world, token = scene.world, scene.token()
    gone = scene.token()
    world.revoke(scene.agent, gone)
    withdrawn = world.consented(browser, scene.agent, scene.api, scope="read")
    world.server.consents.withdraw(withdrawn["consent_id"], by=BY)
    others = world.consented(world.signed_in(scene.bob), scene.second, scene.api, scope="read")["access_token"]
    said = set()
    for bad in (
        "x", "a.b.c", token[:-6] + "AAAAAA", gone, withdrawn["access_token"], others, resign(world.server, token, exp=int(time.time()) - 1),
        resign(world.server, token, iss="https://elsewhere.example"), got(world.own_token(scene.agent)), scene.given["refresh_token"],
    ):  # fmt: skip
        answer = world.exchange(scene.agent, bad, resource=scene.api.uri)
        refused(answer, "invalid_request")
        said.add((answer.status, json.dumps({name: value for name, value in answer.json.items() if name != "audit_id"})))
    assert len(said) == 1


def test_mistake_21_the_answer_calls_the_token_what_was_asked_for(scene: Scene) -> None:
    """RFC 8693 §2.2.1: what was issued; and `N_A` for what no API takes."""
    for asked in ({}, {"requested_token_type": ACCESS_TOKEN}, {"requested_token_type": JWT}):
        token = scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri, **asked).ok()
        assert header_of(token["access_token"])["typ"] == "at+jwt"
        assert (token["issued_token_type"], token["token_type"]) == (ACCESS_TOKEN, "Bearer")
        piece = scene.world.exchange(scene.agent, scene.handover, audience=scene.helper.uri, **asked).ok()
        assert header_of(piece["access_token"])["typ"] == "handover+jwt"
        assert (piece["issued_token_type"], piece["token_type"]) == (JWT, "N_A")
    bound = dpop.exchange(scene.world, scene.agent, scene.handover, Holder(), resource=scene.api.uri).ok()
    assert bound["token_type"] == "DPoP"
    for kind in (
        ID_TOKEN_TYPE,
        REFRESH_TYPE,
        CONSENT,
        "urn:ietf:params:oauth:token-type:id-jag",
        "urn:ietf:params:oauth:token-type:txn_token",
    ):
        refused(scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri, requested_token_type=kind), "invalid_request")


def test_mistake_22_a_refresh_token_from_an_exchange(scene: Scene) -> None:
    for subject, kind in ((scene.handover, ACCESS_TOKEN), (scene.given["consent_id"], CONSENT)):
        answer = scene.world.exchange(scene.agent, subject, kind, resource=scene.api.uri, scope="read").ok()
        assert not {"refresh_token", "id_token"} & answer.keys()
        refused(scene.world.exchange(scene.agent, subject, kind, resource=scene.api.uri, scope="read offline_access"), "invalid_scope")
        refused(
            scene.world.exchange(scene.agent, subject, kind, resource=scene.api.uri, requested_token_type=REFRESH_TYPE), "invalid_request"
        )


def test_mistake_23_introspection_and_token_disagree(scene: Scene, browser: Browser) -> None:
    """Of every kind of token that an API may be sent."""
    world, holder = scene.world, Holder()
    given = world.consented(browser, scene.agent, scene.api, scope="read", away=True)
    piece = handed(scene, scene.agent, scene.handover, scene.helper)
    bound_piece = got(dpop.exchange(world, scene.agent, scene.handover, holder, audience=scene.helper.uri))
    kinds = {
        "of a code": given["access_token"],
        "of a refresh token": got(dpop.refresh(world, scene.agent, given["refresh_token"])),
        "of a consent": got(world.exchange(scene.agent, given["consent_id"], CONSENT, resource=scene.api.uri)),
        "of an exchange": scene.token(),
        "of two agents": got(world.exchange(scene.helper, piece)),
        "of two agents, bound": got(dpop.exchange(world, scene.helper, bound_piece, holder)),
        "an agent's own": got(world.own_token(scene.agent, resource=scene.api.uri)),
        "an agent's own, bound": got(dpop.own(world, scene.agent, holder, resource=scene.api.uri)),
        "an application's": world.consented(browser, scene.app, scene.api, scope="read")["access_token"],
    }
    for kind, token in kinds.items():
        told, claims = world.introspect(scene.api, token), claims_of(token)
        said = {name: value for name, value in claims.items() if name in PARITY}
        assert told == {"active": True, "token_type": "DPoP" if "cnf" in claims else "Bearer", **said}, kind
        signed = world.post(
            "/oauth/introspect",
            {"token": token},
            {**basic(scene.api.client_id, scene.api.client_secret), "Accept": "application/token-introspection+jwt"},
        )
        assert claims_of(signed.text)["token_introspection"] == told, kind
        assert ("act" in claims) is (kind not in {"an agent's own", "an agent's own, bound", "an application's"})


def test_mistake_24_the_sign_in_looks_fresh_after_an_exchange(scene: Scene) -> None:
    """Not by exchange, hand-over, refresh, consent, or an actor that has just proven itself."""
    world, server = scene.world, scene.world.server
    given = world.consented(world.signed_in(scene.alice), scene.agent, scene.api, scope="read", away=True)
    claims = claims_of(given["access_token"])
    signed_in = {name: claims[name] for name in ("auth_time", "acr", "amr")}
    long_ago = {**signed_in, "auth_time": signed_in["auth_time"] - 7200}
    old = resign(server, given["access_token"], auth_time=long_ago["auth_time"])
    own = got(world.own_token(scene.agent))
    piece = handed(scene, scene.agent, old, scene.helper)
    for token in (
        got(world.exchange(scene.agent, old)), got(world.exchange(scene.agent, old, actor_token=own, actor_token_type=ACCESS_TOKEN)), piece,
        got(world.exchange(scene.helper, piece)),
    ):  # fmt: skip
        assert {name: claims_of(token)[name] for name in long_ago} == long_ago
    for token in (
        got(dpop.refresh(world, scene.agent, given["refresh_token"])),
        got(world.exchange(scene.agent, given["consent_id"], CONSENT, resource=scene.api.uri)),
    ):
        assert {name: claims_of(token)[name] for name in signed_in} == signed_in


def test_mistake_25_depth_is_counted_before_the_actor_is_added_and_circles_have_no_end(scene: Scene) -> None:
    one, other = agents_in_a_row(scene, 2)
    with scene.world.server.deeds.deed() as deed:
        deed.session.get_one(AgentRow, other.id).hands_to = [one.id]
        deed.change(Thing(Kind.AGENT, other.id))
    token = scene.world.consented(scene.world.signed_in(scene.alice), one, scene.api, scope="read")["access_token"]
    most = scene.world.server.settings.max_depth
    path: list[Party] = [one]
    for _ in range(most - 1):
        path.insert(0, other if path[0] is one else one)
        token = got(scene.world.exchange(path[1], token, audience=path[0].uri))
        # A -> B -> A is told as it was: the third entry is no "same actor again".
        assert claims_of(got(scene.world.exchange(path[0], token)))["act"] == act_of(scene, *path)
    assert len(path) == most
    # The result would have one more than allowed: refused, and not cut. Without the one more it is good.
    following = one if path[0] is other else other
    piece = scene.world.exchange(path[0], token, audience=following.uri)
    refused(piece if piece.status != 200 else scene.world.exchange(following, got(piece)), "invalid_request")
    assert scene.world.exchange(path[0], token).status == 200


def test_mistake_25_a_token_that_would_be_too_large_is_refused_and_not_cut(scene: Scene) -> None:
    world = scene.world
    apis = [world.resource(*(f"{name}:{number:02}-" + "x" * 70 for number in range(30))) for name in ("here", "there")]
    pairs = [(api, pair.scope) for api in apis for pair in sorted(scopes_of(scene, api))]
    agent = world.agent(scene.alice, ceiling=pairs)
    code = world.signed_in(scene.alice).code(world.authorization(agent, VERIFIER, *apis))
    # For both it does not fit; the code is not used up by that, and for one nothing is missing.
    refused(world.redeem(agent, code, VERIFIER), "invalid_request")
    whole = world.redeem(agent, code, VERIFIER, resource=apis[0].uri).ok()
    assert whole["scope"].split() == sorted(scope for api, scope in pairs if api is apis[0])
    # A chain whose names alone fill a token: nothing of it is left out to make it fit.
    answer = world.exchange(scene.agent, filled(scene))
    refused(answer, "invalid_request")
    assert [one["reason"] for one in world.ledger(id=answer.json["audit_id"])] == ["the token would be too large"]


def filled(scene: Scene) -> str:
    """A token with an actor whose name is as long as a token of ours can hold."""
    token = scene.token()
    for length in range(6000, 3000, -40):
        with suppress(TokenTooLarge):
            return resign(scene.world.server, token, act={"iss": "https://elsewhere.example/" + "x" * length, "sub": "x", **AGENT})
    raise AssertionError("nothing fits")


def test_mistake_26_a_valid_jwt_of_anybody_is_a_subject_token(scene: Scene) -> None:
    world, token = scene.world, scene.token()
    foreign = ECKey.import_key(ec.generate_private_key(ec.SECP256R1())).as_dict(private=True)
    for kid in (header_of(token)["kid"], "theirs"):
        key = import_signing_key({**foreign, "kid": kid, "alg": "ES256"})
        for issuer in (world.issuer, "https://elsewhere.example"):
            refused(world.exchange(scene.agent, sign({**claims_of(token), "iss": issuer}, "at+jwt", key)), "invalid_request")
    # Ours, but of another issuer or another kind.
    refused(world.exchange(scene.agent, resign(world.server, token, iss="https://elsewhere.example")), "invalid_request")
    for typ in ("JWT", "jwt", "oauth-id-jag+jwt", "txntoken+jwt", "token-introspection+jwt", "client-authentication+jwt", "dpop+jwt", "logout+jwt"):  # fmt: skip
        refused(world.exchange(scene.agent, resign(world.server, token, typ)), "invalid_request")
    for mine in (world.assertion(scene.agent), Holder().proof(world)):
        for said in (JWT, ACCESS_TOKEN):
            refused(world.exchange(scene.agent, mine, said, resource=scene.api.uri), "invalid_request")
    # A subject that is no human of ours acts through nobody.
    refused(world.exchange(scene.agent, got(world.own_token(scene.agent, resource=scene.api.uri))), "invalid_request")


def test_mistake_27_a_consent_given_to_one_covers_another(scene: Scene, browser: Browser) -> None:
    """To an application no agent, to an agent no other of the same owner, purpose and redirect URI."""
    world = scene.world
    api = world.resource("read")
    app = world.app(pairs=[(api, "read")])
    mine = world.consented(browser, app, api, scope="read")["access_token"]
    new = world.agent(scene.alice, ceiling=[(api, "read")], serves=api.uri)
    twin = world.agent(scene.alice, ceiling=[(api, "read")])
    assert new.redirect_uri == twin.redirect_uri == REDIRECT
    refused(world.exchange(new, mine), "invalid_request")
    given = world.consented(browser, twin, api, scope="read", away=True)
    refused(world.exchange(new, mine), "invalid_request")
    refused(world.exchange(new, given["consent_id"], CONSENT, resource=api.uri), "invalid_request")
    # Its page is shown, whatever the human allowed the others; and once she allowed it this one, it works.
    query = world.authorization(new, VERIFIER, api, scope="read")
    page = browser.authorize(query)
    assert page.status == 200
    assert hidden(page)
    silent = browser.authorize([*query, ("prompt", "none")])
    assert "error=consent_required" in silent.headers["Location"]
    world.consented(browser, new, api, scope="read")
    assert claims_of(got(world.exchange(new, mine)))["act"] == act_of(scene, new)
    assert Pair(api.uri, "read") in world.server.consents.standing(scene.alice.id, new.client_id)[0].value.pairs
