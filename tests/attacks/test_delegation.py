"""Getting more than was given: scope, target, time, depth, identity, by any combination of requests (RFC 8693, protocol §5)."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from sqlalchemy import func, select

from app.agents.models import AgentRow
from app.audit.events import Who
from app.delegation.models import TaskRow
from app.live.things import Kind, Thing
from app.tokens.models import FamilyRow, RefreshTokenRow
from app.vocabulary import Pair
from tests.attacks.scene import ACCESS_TOKEN, ID_TOKEN_TYPE, REFRESH_TYPE, VERIFIER, Scene, assertion_of, refused, resign
from tests.world import BY, CONSENT, EXCHANGE, JWT, Answer, Api, Browser, Party, World, claims_of, hidden


def details(*pairs: tuple[str, str]) -> str:
    return json.dumps([{"type": "resource_access", "locations": [uri], "actions": [action]} for uri, action in pairs])


def actors(token: str) -> list[str]:
    found, act = [], claims_of(token).get("act")
    while act:
        found.append(act["sub"])
        act = act.get("act")
    return found


@pytest.fixture(scope="module")
def browser(scene: Scene) -> Browser:
    return scene.world.signed_in(scene.alice)


@pytest.fixture(scope="module")
def narrow(scene: Scene) -> str:
    return scene.token(scope="read")


# 2.7.103: wider


@pytest.mark.parametrize(
    "scope",
    [
        "write",
        "read write",
        "write read",
        "send",
        "read send",
        "read unknown",
        "openid",
        "offline_access",
        "read offline_access",
        "*",
        "read%20write",
        "READ",
        "read,write",
    ],
)
def test_no_exchange_widens_the_scope_of_a_token(scene: Scene, narrow: str, scope: str) -> None:
    refused(scene.world.exchange(scene.agent, narrow, scope=scope), "invalid_scope")
    refused(scene.world.exchange(scene.agent, narrow, scope=scope, resource=scene.api.uri), "invalid_scope")
    refused(scene.world.exchange(scene.agent, narrow, scope=scope, audience=scene.helper.uri), "invalid_scope")


def test_no_authorization_details_widen_it_either(scene: Scene, narrow: str) -> None:
    for pairs in (
        [(scene.api.uri, "write")],
        [(scene.api.uri, "read"), (scene.api.uri, "write")],
        [(scene.other.uri, "read")],
        [(scene.api.uri + "/", "read")],
        [("*", "read")],
    ):
        refused(scene.world.exchange(scene.agent, narrow, authorization_details=details(*pairs)), "invalid_authorization_details")
    wide = details((scene.api.uri, "read"))
    assert scene.world.exchange(scene.agent, narrow, authorization_details=wide).ok()["scope"] == "read"
    # Both apply: what one leaves out the other does not bring back.
    refused(
        scene.world.exchange(
            scene.agent, scene.handover, resource=scene.api.uri, scope="read", authorization_details=details((scene.api.uri, "write"))
        ),
        "invalid_scope",
    )


@pytest.mark.parametrize("name", ["resource", "audience"])
def test_no_exchange_changes_the_target_of_a_token(scene: Scene, narrow: str, name: str) -> None:
    targets = [
        scene.other.uri,
        scene.world.issuer,
        scene.world.issuer + "/oauth/userinfo",
        scene.agent.client_id,
        scene.alice.id,
        "*",
        "",
        scene.api.uri + "/",
        scene.api.uri + "#x",
        scene.api.uri.upper(),
    ]
    for target in targets:
        if target == "":
            continue
        answer = scene.world.exchange(scene.agent, narrow, **{name: target})
        refused(answer, "invalid_target")
    refused(scene.world.exchange(scene.agent, narrow, resource=scene.api.uri, audience=scene.other.uri), "invalid_target")
    twice = [
        ("grant_type", EXCHANGE),
        ("subject_token", narrow),
        ("subject_token_type", ACCESS_TOKEN),
        (name, scene.api.uri),
        (name, scene.other.uri),
    ]
    refused(scene.world.token(scene.agent, twice), "invalid_target")


def test_going_round_by_a_hand_over_to_oneself_or_another_brings_nothing_back(scene: Scene, narrow: str) -> None:
    handed = scene.world.exchange(scene.agent, narrow, audience=scene.helper.uri).ok()["access_token"]
    for form in ({"scope": "read write"}, {"resource": scene.other.uri}, {"authorization_details": details((scene.api.uri, "write"))}):
        assert scene.world.exchange(scene.helper, handed, **form).status == 400
    final = scene.world.exchange(scene.helper, handed).ok()
    assert final["scope"] == "read"
    assert claims_of(final["access_token"])["aud"] == scene.api.uri
    oneself = scene.world.exchange(scene.agent, narrow, audience=scene.agent.uri)
    assert oneself.status == 400 or claims_of(oneself.json["access_token"])["scope"] == "read"


def test_a_refresh_is_never_wider_than_what_was_authorized(scene: Scene, browser: Browser) -> None:
    given = scene.world.consented(browser, scene.agent, scene.api, scope="read", away=True)
    refresh = given["refresh_token"]
    bad: list[dict[str, str]] = [
        {"scope": "write"}, {"scope": "read write"}, {"scope": "read openid"}, {"resource": scene.other.uri}, {"audience": scene.other.uri}, {"resource": scene.world.issuer + "/oauth/userinfo"},
        {"authorization_details": details((scene.api.uri, "write"))}, {"resource": scene.api.uri, "audience": scene.other.uri}, {"scope": "x" * 3000},
    ]  # fmt: skip
    for form in bad:
        answer = scene.world.token(scene.agent, {"grant_type": "refresh_token", "refresh_token": refresh, **form})
        assert answer.status == 400, form
        assert answer.error in {"invalid_scope", "invalid_target", "invalid_authorization_details"}, form
    # A mistake used nothing up, and the next is still no wider.
    good = scene.world.token(scene.agent, {"grant_type": "refresh_token", "refresh_token": refresh}).ok()
    assert good["scope"] == "read"


def test_a_code_is_never_wider_than_what_was_ticked(scene: Scene, browser: Browser) -> None:
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read write")
    page = browser.authorize(query)
    value = browser.decide(page, untick=[f"{scene.api.uri} write"]).headers["Location"].split("code=")[1].split("&")[0]
    for form in (
        {"scope": "read write"},
        {"scope": "write"},
        {"resource": scene.other.uri},
        {"authorization_details": details((scene.api.uri, "write"))},
    ):
        answer = scene.world.redeem(scene.agent, value, VERIFIER, **form)
        assert answer.error in {"invalid_scope", "invalid_target", "invalid_authorization_details"}
    assert scene.world.redeem(scene.agent, value, VERIFIER).ok()["scope"] == "read"


@pytest.mark.parametrize("scope", ["write", "send", "openid", "profile", "email", "offline_access", "read write"])
def test_an_agents_own_token_has_nothing_that_needs_a_human(scene: Scene, scope: str) -> None:
    """2.7.119."""
    refused(scene.world.own_token(scene.agent, resource=scene.api.uri, scope=scope), "invalid_scope")
    own = scene.world.own_token(scene.agent, resource=scene.api.uri).ok()
    claims = claims_of(own["access_token"])
    assert own["scope"] == "read"
    assert claims["sub"] == scene.agent.uri
    assert not {"act", "auth_time", "txn", "may_act"} & claims.keys()
    for target in (scene.other.uri, scene.helper.uri, scene.agent.uri, scene.world.issuer + "/oauth/userinfo", "https://unknown.example"):
        refused_in = scene.world.own_token(scene.agent, resource=target)
        assert refused_in.status == 400
        assert refused_in.error in {"invalid_target", "invalid_scope", "invalid_request"}


def test_an_actor_token_is_good_for_nothing_but_that(scene: Scene) -> None:
    actor = scene.world.own_token(scene.agent).ok()["access_token"]
    assert claims_of(actor)["aud"] == scene.world.issuer
    assert "scope" not in claims_of(actor)
    assert scene.world.introspect(scene.api, actor) == {"active": False}
    refused(scene.world.exchange(scene.agent, actor, resource=scene.api.uri), "invalid_request")


# 2.7.97, 2.7.98, 2.7.101: who acts


def test_a_bad_actor_token_is_never_overlooked(scene: Scene) -> None:
    others = scene.world.own_token(scene.second).ok()["access_token"]
    bad = [
        {"actor_token": others, "actor_token_type": ACCESS_TOKEN}, {"actor_token": "x", "actor_token_type": ACCESS_TOKEN}, {"actor_token": scene.handover, "actor_token_type": ACCESS_TOKEN},
        {"actor_token": others}, {"actor_token_type": ACCESS_TOKEN}, {"actor_token": scene.token(), "actor_token_type": JWT}, {"actor_token": others, "actor_token_type": ID_TOKEN_TYPE},
    ]  # fmt: skip
    for form in bad:
        refused(scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri, **form), "invalid_request")


def test_subject_and_actor_swapped_are_refused(scene: Scene) -> None:
    own = scene.world.own_token(scene.agent).ok()["access_token"]
    refused(
        scene.world.exchange(scene.agent, own, resource=scene.api.uri, actor_token=scene.handover, actor_token_type=ACCESS_TOKEN),
        "invalid_request",
    )
    refused(
        scene.world.exchange(scene.agent, own, resource=scene.api.uri, actor_token=own, actor_token_type=ACCESS_TOKEN), "invalid_request"
    )
    refused(
        scene.world.exchange(
            scene.agent, scene.handover, resource=scene.api.uri, actor_token=scene.handover, actor_token_type=ACCESS_TOKEN
        ),
        "invalid_request",
    )


def test_no_exchange_leaves_the_actor_out(scene: Scene) -> None:
    """Keycloak #52691: leaving `actor_token` out must not fall back to impersonation."""
    own = scene.world.own_token(scene.agent).ok()["access_token"]
    for form in (
        {},
        {"actor_token": own, "actor_token_type": ACCESS_TOKEN},
        {"requested_token_type": ACCESS_TOKEN},
        {"requested_token_type": JWT},
    ):
        assert actors(scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri, **form).ok()["access_token"]) == [
            scene.agent.uri
        ]
    handed = scene.world.exchange(scene.agent, scene.handover, audience=scene.helper.uri).ok()["access_token"]
    token = scene.world.exchange(scene.helper, handed).ok()["access_token"]
    for _ in range(4):
        assert actors(token) == [scene.helper.uri, scene.agent.uri]
        token = scene.world.exchange(scene.helper, token).ok()["access_token"]
    for kind in (ID_TOKEN_TYPE, REFRESH_TYPE, "urn:ietf:params:oauth:token-type:saml2", "urn:x", ACCESS_TOKEN + " "):
        refused(scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri, requested_token_type=kind), "invalid_request")


def test_an_act_or_may_act_that_a_caller_writes_himself_is_nothing(scene: Scene) -> None:
    """2.7.102: in its own assertion, and in its own form."""
    now = int(time.time())
    forged = {
        "act": {"sub": scene.second.uri},
        "may_act": {"sub": scene.second.uri},
        "scope": "read write send",
        "azp": "x",
        "authorization_details": [],
    }
    claims = {
        "iss": scene.agent.client_id,
        "sub": scene.agent.client_id,
        "aud": scene.world.issuer,
        "iat": now,
        "exp": now + 60,
        "jti": f"act-{now}",
        **forged,
    }
    form = {
        "grant_type": EXCHANGE,
        "subject_token": scene.handover,
        "subject_token_type": ACCESS_TOKEN,
        "resource": scene.api.uri,
        "scope": "read",
        "act": "x",
        "may_act": "x",
        "sub": scene.bob.id,
        "azp": "x",
    }
    answer = scene.world.post("/oauth/token", {**form, **assertion_of(scene.agent, claims)}).ok()
    assert actors(answer["access_token"]) == [scene.agent.uri]
    assert answer["scope"] == "read"
    assert claims_of(answer["access_token"])["sub"] == scene.alice.id


def test_a_hand_over_is_for_the_agent_it_names_with_and_without_an_actor_token(scene: Scene) -> None:
    handed = scene.world.exchange(scene.agent, scene.handover, audience=scene.helper.uri).ok()["access_token"]
    assert claims_of(handed)["may_act"]["sub"] == scene.helper.uri
    for thief in (scene.agent, scene.second, scene.keyless):
        own = scene.world.own_token(thief).ok()["access_token"]
        for form in ({}, {"actor_token": own, "actor_token_type": ACCESS_TOKEN}):
            refused(scene.world.exchange(thief, handed, resource=scene.api.uri, **form), "invalid_request")
    good = scene.world.exchange(scene.helper, handed).ok()["access_token"]
    assert "may_act" not in claims_of(good)


def test_a_may_act_of_another_issuer_is_another_actor(scene: Scene) -> None:
    handed = scene.world.exchange(scene.agent, scene.handover, audience=scene.helper.uri).ok()["access_token"]
    server, may_act = scene.world.server, claims_of(handed)["may_act"]
    assert scene.world.exchange(scene.helper, resign(server, handed, "handover+jwt")).status == 200
    for other in (
        {"iss": "https://evil.example"},
        {"sub": scene.helper.client_id},
        {"sub": scene.helper.uri + "/"},
        {"sub": scene.agent.uri},
    ):
        copy = resign(server, handed, "handover+jwt", may_act={**may_act, **other})
        refused(scene.world.exchange(scene.helper, copy), "invalid_request")


# 2.7.105: whose token


def test_a_token_is_no_strangers_also_with_a_consent_of_the_same_human(scene: Scene) -> None:
    stranger = scene.world.agent(scene.bob, ceiling=[(scene.api, "read")])
    scene.world.consented(scene.world.signed_in(scene.alice), stranger, scene.api, scope="read")
    for token in (scene.token(), scene.handover):
        refused(scene.world.exchange(stranger, token, resource=scene.api.uri), "invalid_request")


def test_a_consent_is_its_agents_and_a_task_its_consents(scene: Scene) -> None:
    bobs = scene.world.consented(scene.world.signed_in(scene.bob), scene.agent, scene.api, scope="read", away=True)
    theirs = scene.world.consented(scene.world.signed_in(scene.bob), scene.second, scene.api, scope="read", away=True)
    for thief, consent in (
        (scene.second, bobs["consent_id"]),
        (scene.agent, theirs["consent_id"]),
        (scene.helper, scene.given["consent_id"]),
        (scene.keyless, bobs["consent_id"]),
    ):
        refused(scene.world.exchange(thief, consent, CONSENT, resource=scene.api.uri), "invalid_request")
    for consent, task in (
        (bobs["consent_id"], theirs["task_id"]),
        (bobs["consent_id"], scene.given["task_id"]),
        (scene.given["consent_id"], bobs["task_id"]),
        (bobs["consent_id"], "tsk_none"),
    ):
        refused(scene.world.exchange(scene.agent, consent, CONSENT, resource=scene.api.uri, task_id=task), "invalid_request")
    refused(scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri, task_id=bobs["task_id"]), "invalid_request")
    mine = scene.world.exchange(scene.agent, bobs["consent_id"], CONSENT, resource=scene.api.uri, task_id=bobs["task_id"]).ok()
    assert claims_of(mine["access_token"])["sub"] == scene.bob.id


def test_one_humans_token_never_hangs_on_anothers_consent(scene: Scene) -> None:
    """The application hands over Alice's; only Bob ever allowed the agent."""
    agent = scene.world.agent(scene.bob, ceiling=[(scene.api, "read")], serves=scene.other.uri)
    app = scene.world.app(pairs=[(scene.other, "read")])
    scene.world.consented(scene.world.signed_in(scene.bob), agent, scene.api, scope="read", away=True)
    alices = scene.world.consented(scene.world.signed_in(scene.alice), app, scene.other, scope="read")["access_token"]
    refused(scene.world.exchange(agent, alices, resource=scene.other.uri), "invalid_request")
    refused(scene.world.exchange(agent, alices, resource=scene.api.uri), "invalid_request")


def test_presence_is_not_absence(scene: Scene) -> None:
    """2.7.113: what was allowed while she is there ends with her session, and gives no way to come back alone."""
    browser = scene.world.signed_in(scene.alice)
    given = scene.world.consented(browser, scene.agent, scene.api, scope="read")
    assert "refresh_token" not in given
    refused(scene.world.exchange(scene.agent, given["consent_id"], CONSENT, resource=scene.api.uri), "invalid_request")
    child = scene.world.exchange(scene.agent, given["access_token"]).ok()["access_token"]
    browser.post("/logout", hidden(browser.get("/logout")))
    for token in (given["access_token"], child):
        refused(scene.world.exchange(scene.agent, token), "invalid_request")
        assert not scene.world.active(scene.api, token)


def test_while_away_is_only_given_where_it_was_ticked(scene: Scene, browser: Browser) -> None:
    query = scene.world.authorization(scene.agent, VERIFIER, scene.api, scope="read", away=True)
    given = scene.world.redeem(scene.agent, browser.code(query, away=False), VERIFIER).ok()
    assert "refresh_token" not in given
    refused(scene.world.exchange(scene.agent, given["consent_id"], CONSENT, resource=scene.api.uri), "invalid_request")


# 2.7.106: longer


def test_no_child_outlives_its_parent(scene: Scene) -> None:
    parent = scene.token()
    server, now = scene.world.server, int(time.time())
    for left in (2, 30):
        short = resign(server, parent, exp=now + left)
        for form in ({}, {"expires_in": "9999"}, {"requested_expires_in": "9999"}, {"lifetime": "9999"}, {"exp": "9999999999"}):
            child = scene.world.exchange(scene.agent, short, resource=scene.api.uri, **form)
            if child.status == 200:
                assert claims_of(child.json["access_token"])["exp"] <= now + left
                assert child.json["expires_in"] <= left
        handed = scene.world.exchange(scene.agent, short, audience=scene.helper.uri)
        if handed.status == 200:
            assert claims_of(handed.json["access_token"])["exp"] <= now + left


def test_a_parent_past_its_time_by_less_than_any_skew_gives_nothing(scene: Scene) -> None:
    for past in (0, 1, 4):
        refused(
            scene.world.exchange(scene.agent, resign(scene.world.server, scene.token(), exp=int(time.time()) - past)), "invalid_request"
        )


def test_an_exchange_gives_no_refresh_token_and_no_id_token(scene: Scene) -> None:
    for form in ({}, {"scope": "read"}, {"audience": scene.helper.uri}):
        target = {} if "audience" in form else {"resource": scene.api.uri}
        answer = scene.world.exchange(scene.agent, scene.handover, **form, **target).ok()
        assert not {"refresh_token", "id_token"} & answer.keys()
        assert answer["token_type"] == ("N_A" if "audience" in form else "Bearer")
    refused(scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri, scope="read offline_access"), "invalid_scope")
    refused(scene.world.exchange(scene.agent, scene.handover, resource=scene.api.uri, scope="read openid"), "invalid_scope")


# 2.7.107: deeper


def chain(world: World, api: Api, owner: Any, length: int, **first: Any) -> list[Party]:
    made: list[Party] = []
    for position in range(length):
        more = first if position == length - 1 else {}
        made.insert(0, world.agent(owner, ceiling=[(api, "read")], hands_to=made[:1], **more))
    return made


def test_a_chain_too_deep_is_refused_and_never_cut(scene: Scene) -> None:
    agents = chain(scene.world, scene.api, scene.alice, 6)
    token = scene.world.consented(scene.world.signed_in(scene.alice), agents[0], scene.api, scope="read")["access_token"]
    reached = 1
    for giver, receiver in zip(agents, agents[1:], strict=False):
        handed = scene.world.exchange(giver, token, audience=receiver.uri)
        answer = scene.world.exchange(receiver, handed.json["access_token"], resource=scene.api.uri) if handed.status == 200 else handed
        if answer.status != 200:
            refused(answer, "invalid_request")
            break
        reached += 1
        token = answer.ok()["access_token"]
        assert actors(token) == [agent.uri for agent in reversed(agents[:reached])]
    assert reached == scene.world.server.settings.max_depth


def test_the_agents_own_depth_bounds_it(scene: Scene) -> None:
    agents = chain(scene.world, scene.api, scene.alice, 3, max_depth=1)
    token = scene.world.consented(scene.world.signed_in(scene.alice), agents[0], scene.api, scope="read")["access_token"]
    handed = scene.world.exchange(agents[0], token, audience=agents[1].uri)
    answer = scene.world.exchange(agents[1], handed.json["access_token"]) if handed.status == 200 else handed
    refused(answer, "invalid_request")


def test_two_agents_that_hand_back_and_forth_reach_the_same_end(scene: Scene) -> None:
    one, other = (
        scene.world.agent(scene.alice, ceiling=[(scene.api, "read")]),
        scene.world.agent(scene.alice, ceiling=[(scene.api, "read")]),
    )
    with scene.world.server.deeds.deed() as deed:
        for agent, receiver in ((one, other), (other, one)):
            deed.session.get_one(AgentRow, agent.id).hands_to = [receiver.id]
            deed.change(Thing(Kind.AGENT, agent.id))
    token = scene.world.consented(scene.world.signed_in(scene.alice), one, scene.api, scope="read")["access_token"]
    giver, receiver, hops = one, other, 0
    while hops < 20:
        handed = scene.world.exchange(giver, token, audience=receiver.uri)
        if handed.status != 200:
            break
        token, giver, receiver, hops = handed.json["access_token"], receiver, giver, hops + 1
    assert len(actors(token)) == scene.world.server.settings.max_depth
    assert hops == scene.world.server.settings.max_depth
    refused(handed, "invalid_request")


def test_a_loop_of_exchanges_leaves_no_rows_behind(scene: Scene) -> None:
    def rows() -> list[int]:
        with scene.world.server.database.reading() as session:
            return [session.scalar(select(func.count()).select_from(table)) or 0 for table in (TaskRow, FamilyRow, RefreshTokenRow)]

    before, token = rows(), scene.token()
    for _ in range(7):
        token = scene.world.exchange(scene.agent, token).ok()["access_token"]
    refusal: Answer = scene.world.exchange(scene.agent, token)
    while refusal.status == 200:
        refusal = scene.world.exchange(scene.agent, refusal.json["access_token"])
    refused(refusal, "invalid_request")
    assert rows() == before


# 2.7.99, 2.7.111, 2.7.115: what it hangs on


def deep(scene: Scene) -> tuple[Browser, dict[str, Any], list[str]]:
    """A consent of its own, and a line of four tokens under it."""
    browser = scene.world.signed_in(scene.alice)
    given = scene.world.consented(browser, scene.agent, scene.api, scope="read", away=True)
    own = scene.world.exchange(scene.agent, given["access_token"]).ok()["access_token"]
    handed = scene.world.exchange(scene.agent, own, audience=scene.helper.uri).ok()["access_token"]
    last = scene.world.exchange(scene.helper, handed).ok()["access_token"]
    return browser, given, [given["access_token"], own, handed, last]


def dead(scene: Scene, line: list[str]) -> None:
    """Nothing comes of any of them any more, and no API sees one alive."""
    for token, agent in zip(line, (scene.agent, scene.agent, scene.helper, scene.helper), strict=True):
        assert not scene.world.active(scene.api, token)
        refused(scene.world.exchange(agent, token, resource=scene.api.uri), "invalid_request")


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_revoked_ancestor_takes_all_below_it(scene: Scene, which: int) -> None:
    _, _, line = deep(scene)
    owner = scene.agent
    assert scene.world.revoke(owner, line[which]).status == 200
    for token in line[which:]:
        assert not scene.world.active(scene.api, token)
    refused(scene.world.exchange(scene.helper, line[3], resource=scene.api.uri), "invalid_request")
    for token in line[:which]:
        assert scene.world.exchange(scene.agent, token, resource=scene.api.uri).status == 200


def test_a_withdrawn_consent_takes_everything_and_the_refresh_token(scene: Scene) -> None:
    browser, given, line = deep(scene)
    path = f"/my/agents/{given['consent_id']}/withdraw"
    assert browser.post(path, hidden(browser.get(path))).status == 303
    dead(scene, line)
    refused(scene.world.exchange(scene.agent, given["consent_id"], CONSENT, resource=scene.api.uri), "invalid_request")
    refused(scene.world.token(scene.agent, {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}), "invalid_grant")


def test_an_ended_task_takes_everything_and_is_not_opened_again(scene: Scene) -> None:
    _, given, line = deep(scene)
    scene.world.server.tasks.end(given["task_id"], by=BY)
    dead(scene, line)
    refused(scene.world.exchange(scene.agent, given["consent_id"], CONSENT, resource=scene.api.uri), "invalid_request")
    refused(scene.world.token(scene.agent, {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}), "invalid_grant")


def test_a_stopped_agent_stops_what_it_handed_on_and_resuming_revives_nothing(scene: Scene) -> None:
    helper = scene.world.agent(scene.alice, ceiling=[(scene.api, "read")])
    agent = scene.world.agent(scene.alice, ceiling=[(scene.api, "read")], hands_to=[helper])
    given = scene.world.consented(scene.world.signed_in(scene.alice), agent, scene.api, scope="read", away=True)
    handed = scene.world.exchange(agent, given["access_token"], audience=helper.uri).ok()["access_token"]
    last = scene.world.exchange(helper, handed).ok()["access_token"]
    registry = scene.world.server.agent_registry
    registry.suspend(agent.id, by=BY)
    assert not scene.world.active(scene.api, last)
    refused(scene.world.exchange(helper, last), "invalid_request")
    refused(scene.world.exchange(helper, handed), "invalid_request")
    registry.resume(agent.id, by=BY)
    assert not scene.world.active(scene.api, last)
    refused(scene.world.exchange(helper, handed), "invalid_request")
    refused(scene.world.exchange(agent, given["access_token"]), "invalid_request")
    refused(scene.world.exchange(agent, given["consent_id"], CONSENT, resource=scene.api.uri), "invalid_request")
    refused(scene.world.token(agent, {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}), "invalid_grant")


def test_the_receiving_agent_stopped_alone_leaves_the_giver(scene: Scene) -> None:
    helper = scene.world.agent(scene.alice, ceiling=[(scene.api, "read")])
    agent = scene.world.agent(scene.alice, ceiling=[(scene.api, "read")], hands_to=[helper])
    given = scene.world.consented(scene.world.signed_in(scene.alice), agent, scene.api, scope="read")
    handed = scene.world.exchange(agent, given["access_token"], audience=helper.uri).ok()["access_token"]
    last = scene.world.exchange(helper, handed).ok()["access_token"]
    scene.world.server.agent_registry.suspend(helper.id, by=BY)
    assert not scene.world.active(scene.api, last)
    refused(scene.world.exchange(agent, given["access_token"], audience=helper.uri), "invalid_request")
    assert scene.world.active(scene.api, given["access_token"])


def test_a_disabled_human_ends_all_that_acts_for_her(scene: Scene) -> None:
    human = scene.world.human()
    given = scene.world.consented(scene.world.signed_in(human), scene.agent, scene.api, scope="read", away=True)
    scene.world.server.accounts.disable(human.id, by=BY)
    assert not scene.world.active(scene.api, given["access_token"])
    refused(scene.world.exchange(scene.agent, given["access_token"]), "invalid_request")
    refused(scene.world.exchange(scene.agent, given["consent_id"], CONSENT, resource=scene.api.uri), "invalid_request")
    refused(scene.world.token(scene.agent, {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}), "invalid_grant")
    scene.world.server.accounts.enable(human.id, by=BY)
    refused(scene.world.exchange(scene.agent, given["consent_id"], CONSENT, resource=scene.api.uri), "invalid_request")


def test_a_narrowed_consent_is_narrow_from_the_next_request_on(scene: Scene) -> None:
    """2.6.91."""
    given = scene.world.consented(scene.world.signed_in(scene.alice), scene.agent, scene.api, scope="read write", away=True)
    token = given["access_token"]
    end = int(time.time()) + 600
    scene.world.server.consents.narrow(
        given["consent_id"], pairs=frozenset({Pair(scene.api.uri, "read")}), until=end, by=Who(human=scene.alice.id)
    )
    assert not scene.world.active(scene.api, token)
    refused(scene.world.exchange(scene.agent, token), "invalid_request")
    refused(scene.world.exchange(scene.agent, given["consent_id"], CONSENT, resource=scene.api.uri, scope="write"), "invalid_scope")
    again = scene.world.exchange(scene.agent, given["consent_id"], CONSENT, resource=scene.api.uri).ok()
    assert again["scope"] == "read"
    refreshed = scene.world.token(scene.agent, {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}).ok()
    assert refreshed["scope"] == "read"


def test_a_client_that_is_no_agent_takes_part_in_no_delegation(scene: Scene) -> None:
    for client in (scene.app, scene.public):
        for kind in (ACCESS_TOKEN, JWT, CONSENT):
            refused(scene.world.exchange(client, scene.handover, kind, resource=scene.api.uri), "unauthorized_client")
    resource = Party(scene.api.client_id, secret=scene.api.client_secret)
    refused(scene.world.exchange(resource, scene.token(), resource=scene.other.uri), "unauthorized_client")
    for grant in ("authorization_code", "refresh_token", "client_credentials"):
        refused(scene.world.token(resource, {"grant_type": grant, "code": "x", "refresh_token": "x"}), "unauthorized_client")
