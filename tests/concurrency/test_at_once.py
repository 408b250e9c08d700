"""Fifty at the same instant, over HTTP, on several workers."""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import requests
from sqlalchemy import select

from app.delegation.models import ConsentRow, TaskRow
from tests.faults.afterwards import caught_up, recorded, verdict
from tests.faults.node import HANG, Node
from tests.world import ASSERTION, CONSENT, Answer, Api, Browser, OverHttp, Party, World, checkboxes, claims_of, hidden

pytestmark = pytest.mark.served

MANY = 50


class Scene:
    """An API, an agent that may act there for its human and as itself, and the human at her browser."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.world = node.world()
        self.alice = self.world.human()
        self.api: Api = self.world.resource("read", "write")
        pairs = [(self.api, "read"), (self.api, "write")]
        self.agent: Party = self.world.agent(self.alice, ceiling=pairs, own=pairs)
        self.browser: Browser = self.world.signed_in(self.alice)

    def given(self) -> dict[str, Any]:
        return self.world.consented(self.browser, self.agent, self.api, away=True)

    def at_once(self, ask: Callable[[World], Answer], many: int = MANY) -> list[Answer]:
        """The answers of as many callers, each with a connection that is open already, who begin together."""
        together = threading.Barrier(many)
        answers: list[Answer] = []
        trouble: list[BaseException] = []

        def call() -> None:
            try:
                world = World(self.world.server, OverHttp(self.node.url))
                world.get("/healthz").ok()
                together.wait(HANG)
                answers.append(ask(world))
            except (requests.RequestException, threading.BrokenBarrierError, AssertionError) as error:
                trouble.append(error)
                together.abort()

        threads = [threading.Thread(target=call, daemon=True) for _ in range(many)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG)
        assert not trouble, trouble[0]
        assert len(answers) == many
        return answers


@pytest.fixture
def scene(node_of_two_workers: Node) -> Scene:
    return Scene(node_of_two_workers)


def the_one(answers: Sequence[Answer], refusal: tuple[int, str]) -> dict[str, Any]:
    """Exactly one success; everybody else heard the refusal, or was asked to come again."""
    told = Counter((answer.status, answer.error) for answer in answers)
    assert told[200, None] == 1, told
    assert set(told) <= {(200, None), refusal, (503, "temporarily_unavailable")}, told
    assert told[refusal] > MANY // 2, told
    return next(answer.json for answer in answers if answer.status == 200)


def test_one_code(scene: Scene) -> None:
    verifier = secrets.token_urlsafe(48)
    query = scene.world.authorization(scene.agent, verifier, scene.api, away=True)
    code = scene.browser.code(query, away=True)
    given = the_one(scene.at_once(lambda world: world.redeem(scene.agent, code, verifier)), (400, "invalid_grant"))
    family_is_dead(scene, given)


def test_one_refresh_token(scene: Scene) -> None:
    held = scene.given()
    form = {"grant_type": "refresh_token", "refresh_token": held["refresh_token"], "resource": scene.api.uri}
    given = the_one(scene.at_once(lambda world: world.token(scene.agent, form)), (400, "invalid_grant"))
    family_is_dead(scene, held)
    family_is_dead(scene, given)


def family_is_dead(scene: Scene, given: dict[str, Any]) -> None:
    assert not scene.world.active(scene.api, given["access_token"])
    form = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"], "resource": scene.api.uri}
    assert scene.world.token(scene.agent, form).error == "invalid_grant"
    assert scene.world.exchange(scene.agent, given["access_token"], resource=scene.api.uri).error == "invalid_request"
    # The consent is not: only what came of that code or refresh token.
    assert scene.world.exchange(scene.agent, given["consent_id"], kind=CONSENT, resource=scene.api.uri).status == 200


def test_one_assertion(scene: Scene) -> None:
    form = {
        "grant_type": "client_credentials",
        "resource": scene.api.uri,
        "client_assertion_type": ASSERTION,
        "client_assertion": scene.world.assertion(scene.agent),
    }
    given = the_one(scene.at_once(lambda world: world.post("/oauth/token", form)), (401, "invalid_client"))
    assert scene.world.active(scene.api, given["access_token"])


def test_one_consent_page(scene: Scene) -> None:
    verifier = secrets.token_urlsafe(48)
    page = scene.browser.authorize(scene.world.authorization(scene.agent, verifier, scene.api, away=True))
    form = [*hidden(page), *(("scope", scope) for scope in checkboxes(page, "scope")), ("decision", "allow")]
    cookie = scene.browser.http._session.cookies.get_dict()  # type: ignore[attr-defined]
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": "; ".join(f"{k}={v}" for k, v in cookie.items())}
    answers = scene.at_once(lambda world: world.post("/consent", form, headers), 12)
    codes = [answer for answer in answers if answer.status == 303 and "code=" in answer.headers["Location"]]
    assert len(codes) == 1, Counter(answer.status for answer in answers)
    assert {answer.status for answer in answers} <= {303, 400, 503}
    with scene.world.server.database.reading() as session:
        assert len(session.scalars(select(ConsentRow.id).where(ConsentRow.human == scene.alice.id)).all()) == 1


def test_fifty_permitted_exchanges_in_one_task(scene: Scene) -> None:
    consent = scene.given()["consent_id"]
    before = _uses(scene, consent)
    answers = scene.at_once(lambda world: world.exchange(scene.agent, consent, kind=CONSENT, resource=scene.api.uri))
    tokens = [answer.ok()["access_token"] for answer in answers]
    claims = [claims_of(token) for token in tokens]
    (task,) = {claim["txn"] for claim in claims}
    assert len({claim["jti"] for claim in claims}) == MANY
    assert all(scene.world.active(scene.api, token) for token in tokens)
    # And from a token of that task, all at once again.
    answers = scene.at_once(lambda world: world.exchange(scene.agent, tokens[0], resource=scene.api.uri, scope="read"))
    claims += [claims_of(answer.ok()["access_token"]) for answer in answers]
    assert {claim["txn"] for claim in claims} == {task}
    caught_up(scene.node)
    records = recorded(scene.node)
    assert {records[claim["jti"]] for claim in claims} == {1}
    assert _uses(scene, consent) == before + 2 * MANY
    assert verdict(scene.node).bad is None


def _uses(scene: Scene, consent: str) -> int:
    caught_up(scene.node)
    with scene.world.server.database.reading() as session:
        return sum(session.scalars(select(TaskRow.uses).where(TaskRow.consent == consent)))
