"""Asking about a token, and giving one back: told to whom it concerns and to nobody else (RFC 7662 §2, RFC 7009 §2)."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from app.tokens.introspection import MEMBERS
from tests.attacks.scene import VERIFIER, Scene, refused, resign, world_of
from tests.world import BY, Answer, Browser, Party, basic, claims_of, header_of

HINTS = ["access_token", "refresh_token", "id_token", "urn:x", "", "x" * 5000, "\u00e9", "access_token refresh_token"]


@pytest.fixture(scope="module")
def browser(scene: Scene) -> Browser:
    return scene.world.signed_in(scene.alice)


def family(scene: Scene, browser: Browser) -> dict[str, str]:
    """A refresh token, the access token beside it, and a child."""
    given = scene.world.consented(browser, scene.agent, scene.api, scope="read", away=True)
    child = scene.world.exchange(scene.agent, given["access_token"]).ok()["access_token"]
    return {"refresh": given["refresh_token"], "access": given["access_token"], "child": child, "consent": given["consent_id"]}


def refresh(scene: Scene, token: str, client: Party | None = None) -> Answer:
    return scene.world.token(client or scene.agent, {"grant_type": "refresh_token", "refresh_token": token})


# 2.9.130 to 2.9.134


@pytest.mark.rfc("7662", "2.1")
def test_nobody_introspects_without_proving_who_he_is(scene: Scene) -> None:
    token = scene.token()
    own = scene.world.own_token(scene.agent).ok()["access_token"]
    for headers, form in (
        ({}, {}), ({}, {"client_id": scene.api.client_id}), ({}, {"client_id": scene.public.client_id}), (basic(scene.api.client_id, "wrong"), {}), ({"Authorization": f"Bearer {token}"}, {}),
        ({"Authorization": f"Bearer {own}"}, {}), (basic(scene.public.client_id, ""), {}), ({}, {"client_id": scene.api.client_id, "client_secret": scene.api.client_secret}),
    ):  # fmt: skip
        refused(scene.world.post("/oauth/introspect", {"token": token, **form}, headers), "invalid_client", 401)


@pytest.mark.rfc("7662", "2.2")
def test_whom_it_does_not_concern_is_told_that_it_is_inactive_and_nothing_more(scene: Scene, browser: Browser) -> None:
    held = family(scene, browser)
    tokens = [held["access"], held["refresh"], held["child"], scene.handover, held["consent"], "x"]
    for client in (scene.app, scene.keyless):
        for token in tokens:
            assert (
                scene.world.post("/oauth/introspect", {"token": token}, basic(client.client_id, str(client.secret))).body
                == b'{"active":false}'
            )
    for token in tokens:
        members, _ = scene.world.credentials(scene.agent)
        assert scene.world.post("/oauth/introspect", {"token": token, **members}).body == b'{"active":false}'
        assert (
            scene.world.post("/oauth/introspect", {"token": token}, basic(scene.other.client_id, scene.other.client_secret)).body
            == b'{"active":false}'
        )
    assert scene.world.introspect(scene.api, held["refresh"]) == {"active": False}


def test_an_active_answer_says_what_the_token_says_and_no_more(scene: Scene) -> None:
    token = scene.token()
    answer, claims = scene.world.introspect(scene.api, token), claims_of(token)
    assert answer.keys() <= {"active", "token_type", *MEMBERS}
    assert all(claims[name] == value for name, value in answer.items() if name not in {"active", "token_type"})
    for name in ("iss", "sub", "act", "scope", "aud", "client_id", "exp", "iat", "jti", "txn", "auth_time", "acr"):
        assert name in answer
    assert "deputy" not in answer


@pytest.mark.parametrize("state", ["expired", "revoked", "of a disabled API"])
def test_an_inactive_answer_never_says_why(scene: Scene, state: str) -> None:
    api = scene.world.resource("read")
    agent = scene.world.agent(scene.bob, own=[(api, "read")])
    token = scene.world.own_token(agent, resource=api.uri).ok()["access_token"]
    assert scene.world.active(api, token)
    if state == "expired":
        token = resign(scene.world.server, token, exp=int(time.time()) - 1)
    elif state == "revoked":
        assert scene.world.revoke(agent, token).status == 200
    else:
        scene.world.server.resource_registry.disable(api.uri, by=BY)
    assert scene.world.post("/oauth/introspect", {"token": token}, basic(api.client_id, api.client_secret)).body == b'{"active":false}'


def test_an_answer_is_kept_by_nobody_and_the_signed_one_is_no_token(scene: Scene) -> None:
    token, sent = scene.token(), basic(scene.api.client_id, scene.api.client_secret)
    for accept in ("", "application/json", "application/token-introspection+jwt", "*/*", "x" * 9000):
        answer = scene.world.post("/oauth/introspect", {"token": token}, {**sent, "Accept": accept})
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in answer.headers
    signed = scene.world.post("/oauth/introspect", {"token": token}, {**sent, "Accept": "application/token-introspection+jwt"}).text
    assert header_of(signed)["typ"] == "token-introspection+jwt"
    claims = claims_of(signed)
    assert claims.keys() == {"iss", "aud", "iat", "token_introspection"}
    assert (claims["iss"], claims["aud"]) == (scene.world.issuer, scene.api.client_id)
    for dead in ("x", scene.handover):
        answer = scene.world.post("/oauth/introspect", {"token": dead}, {**sent, "Accept": "application/token-introspection+jwt"})
        assert claims_of(answer.text)["token_introspection"] == {"active": False}


@pytest.mark.parametrize("hint", HINTS)
def test_a_hint_changes_nothing(scene: Scene, hint: str) -> None:
    """2.9.135: an unknown hint is ignored, at both endpoints."""
    answer = scene.world.post(
        "/oauth/introspect", {"token": scene.token(), "token_type_hint": hint}, basic(scene.api.client_id, scene.api.client_secret)
    )
    assert answer.ok()["active"] is True
    members, _ = scene.world.credentials(scene.agent)
    token = scene.token()
    assert scene.world.post("/oauth/revoke", {"token": token, "token_type_hint": hint, **members}).status == 200
    assert not scene.world.active(scene.api, token)


# 2.9.135 to 2.9.139


@pytest.mark.rfc("7009", "2.2")
def test_what_was_never_a_token_is_revoked_with_200(scene: Scene) -> None:
    for token in (
        "x",
        "rt_x",
        "rt_" + "A" * 43,
        "a.b.c",
        "..",
        "\u00e9",
        "\u2028",
        "x" * 9000,
        scene.api.uri,
        scene.agent.client_id,
        str(scene.given["consent_id"]),
        "Bearer x",
        "%00",
        "0",
        "null",
    ):
        answer = scene.world.revoke(scene.agent, token)
        assert (answer.status, answer.body) == (200, b"{}")
        assert answer.headers["Cache-Control"] == "no-store"
    scene.alive()


def test_nobody_revokes_without_proving_who_he_is(scene: Scene) -> None:
    token = scene.token()
    for headers, form in (
        ({}, {}),
        ({}, {"client_id": scene.agent.client_id}),
        (basic(scene.agent.client_id, "x"), {}),
        ({"Authorization": f"Bearer {token}"}, {}),
    ):
        refused(scene.world.post("/oauth/revoke", {"token": token, **form}, headers), "invalid_client", 401)
    assert scene.world.active(scene.api, token)


def test_anothers_token_stays_alive_and_the_answer_does_not_tell(scene: Scene, browser: Browser) -> None:
    """django-oauth-toolkit 3.4.1: any client could revoke any token. It is recorded here."""
    held = family(scene, browser)
    for thief in (scene.second, scene.keyless, scene.app, scene.public, scene.helper):
        for token in held.values():
            answer = scene.world.revoke(thief, token)
            assert (answer.status, answer.body) == (200, b"{}")
    members = basic(scene.api.client_id, scene.api.client_secret)
    assert scene.world.post("/oauth/revoke", {"token": held["access"]}, members).status == 200
    assert scene.world.active(scene.api, held["access"])
    assert scene.world.active(scene.api, held["child"])
    assert refresh(scene, held["refresh"]).status == 200
    assert scene.world.ledger(event="revocation.ignored")


def test_a_given_back_refresh_token_takes_its_access_tokens_and_their_children(scene: Scene, browser: Browser) -> None:
    held = family(scene, browser)
    assert scene.world.revoke(scene.agent, held["refresh"]).status == 200
    for token in (held["access"], held["child"]):
        assert not scene.world.active(scene.api, token)
        refused(scene.world.exchange(scene.agent, token), "invalid_request")
    refused(refresh(scene, held["refresh"]), "invalid_grant")


def test_an_old_refresh_token_of_the_line_takes_it_too(scene: Scene, browser: Browser) -> None:
    held = family(scene, browser)
    newer = refresh(scene, held["refresh"]).ok()
    assert scene.world.revoke(scene.agent, held["refresh"]).status == 200
    refused(refresh(scene, newer["refresh_token"]), "invalid_grant")
    assert not scene.world.active(scene.api, newer["access_token"])


def test_twice_and_all_at_once_is_as_good_as_once(scene: Scene, browser: Browser, app: Flask) -> None:
    held = family(scene, browser)
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: world_of(scene.world.server, app).revoke(scene.agent, held["access"]), range(12)))
    assert {answer.status for answer in answers} <= {200, 503}
    assert scene.world.revoke(scene.agent, held["access"]).status == 200
    assert not scene.world.active(scene.api, held["access"])
    assert not scene.world.active(scene.api, held["child"])


def test_a_refresh_token_used_twice_ends_its_line_whoever_was_first(scene: Scene, browser: Browser) -> None:
    held = family(scene, browser)
    first = refresh(scene, held["refresh"]).ok()
    refused(refresh(scene, held["refresh"]), "invalid_grant")
    for token in (held["access"], held["child"], first["access_token"]):
        assert not scene.world.active(scene.api, token)
    refused(refresh(scene, first["refresh_token"]), "invalid_grant")
    assert scene.world.ledger(event="replay.detected", what="refresh_token")
    # The consent stands: she did nothing wrong, and the agent can ask for a new line.
    assert (
        scene.world.exchange(scene.agent, held["consent"], "urn:deputy:params:oauth:token-type:consent", resource=scene.api.uri).status
        == 200
    )


def test_of_many_at_once_one_refresh_succeeds_and_then_none_lives(scene: Scene, browser: Browser, app: Flask) -> None:
    held = family(scene, browser)

    def one(_: int) -> Answer:
        return world_of(scene.world.server, app).token(scene.agent, {"grant_type": "refresh_token", "refresh_token": held["refresh"]})

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(one, range(24)))
    good = [answer for answer in answers if answer.status == 200]
    assert len(good) <= 1
    assert {answer.error for answer in answers if answer.status == 400} == {"invalid_grant"}
    for answer in good:
        assert not scene.world.active(scene.api, answer.json["access_token"])
        refused(refresh(scene, answer.json["refresh_token"]), "invalid_grant")


def test_a_refresh_token_is_its_clients_and_trying_does_not_spend_it(scene: Scene, browser: Browser) -> None:
    held = family(scene, browser)
    for thief in (scene.second, scene.keyless, scene.app, scene.public):
        refused(refresh(scene, held["refresh"], thief), "invalid_grant")
    members = {"grant_type": "refresh_token", "refresh_token": held["refresh"], "client_id": scene.agent.client_id}
    refused(scene.world.post("/oauth/token", members), "invalid_client", 401)
    assert refresh(scene, held["refresh"]).status == 200


@pytest.mark.parametrize("token", ["", "x", "rt_", "rt_x", "RT_x", "\u00e9", "rt_\u00e9", "rt_" + "A" * 43, "rt_" + "x" * 9000])
def test_what_is_no_refresh_token_is_invalid_grant(scene: Scene, token: str) -> None:
    refused(refresh(scene, token), "invalid_request" if token == "" else "invalid_grant")


def test_a_public_clients_refresh_token_rotates_and_dies_by_reuse_too(scene: Scene) -> None:
    browser = scene.world.signed_in(scene.bob)
    query = scene.world.authorization(scene.public, VERIFIER, scene.api, scope="read", away=True)
    first = scene.world.redeem(scene.public, browser.code(query, away=True), VERIFIER).ok()
    second = refresh(scene, first["refresh_token"], scene.public).ok()
    assert second["refresh_token"] != first["refresh_token"]
    refused(refresh(scene, first["refresh_token"], scene.public), "invalid_grant")
    refused(refresh(scene, second["refresh_token"], scene.public), "invalid_grant")
    assert not scene.world.active(scene.api, second["access_token"])
