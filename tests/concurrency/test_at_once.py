"""Fifty at the same instant, over HTTP, on several workers."""

from __future__ import annotations

import itertools
import re
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import requests
from sqlalchemy import select

from app.delegation.models import ConsentRow, TaskRow
from app.tokens.models import ApprovalRow
from tests import dpop
from tests.dpop import Holder
from tests.faults.afterwards import caught_up, recorded, verdict
from tests.faults.node import HANG, Node
from tests.world import ASSERTION, CONSENT, Answer, Api, Browser, OverHttp, Party, World, checkboxes, claims_of, hidden

pytestmark = pytest.mark.served

CIBA = "urn:openid:params:grant-type:ciba"
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


def test_one_proof_beside_as_many_assertions(scene: Scene) -> None:
    """RFC 9449 §11.1."""
    holder = Holder()
    proof = holder.proof(scene.world)
    answers = scene.at_once(lambda world: dpop.own(world, scene.agent, proof, resource=scene.api.uri))
    given = the_one(answers, (400, "invalid_dpop_proof"))
    assert claims_of(given["access_token"])["cnf"] == {"jkt": holder.jkt}


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


def asked(scene: Scene, consent: str, world: World | None = None, **form: str) -> Answer:
    """The agent asks its human for a token of its own accord."""
    members, headers = scene.world.credentials(scene.agent)
    form = {"login_hint": consent, "scope": "read", "resource": scene.api.uri, **form, **members}
    return (world or scene.world).post("/oauth/bc-authorize", form, headers)


def answering(scene: Scene) -> tuple[str, list[tuple[str, str]], dict[str, str]]:
    """The page of the one question that waits: where its form goes, what is in it, and the headers of her browser."""
    (path,) = re.findall(r'href="(/my/approvals/apr_[^"]+)"', scene.browser.get("/my/approvals").text)
    page = scene.browser.get(path)
    cookie = scene.browser.http._session.cookies.get_dict()  # type: ignore[attr-defined]
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": "; ".join(f"{k}={v}" for k, v in cookie.items())}
    return path, [*hidden(page), *(("scope", scope) for scope in checkboxes(page, "scope"))], headers


def test_one_approval(scene: Scene) -> None:
    auth_req_id = asked(scene, scene.given()["consent_id"]).ok()["auth_req_id"]
    path, form, headers = answering(scene)
    # Twelve yeses at the same instant are one.
    answers = scene.at_once(lambda world: world.post(path, [*form, ("decision", "allow")], headers), 12)
    told = Counter("answered=" in answer.headers.get("Location", "") for answer in answers)
    assert told[True] == 1, [answer.status for answer in answers]
    redeem = {"grant_type": CIBA, "auth_req_id": auth_req_id}
    given = the_one(scene.at_once(lambda world: world.token(scene.agent, redeem)), (400, "invalid_grant"))
    assert scene.world.active(scene.api, given["access_token"])


def test_yes_and_no_at_the_same_instant_are_one_of_them(scene: Scene) -> None:
    consent = scene.given()["consent_id"]
    for turn in range(3):
        auth_req_id = asked(scene, consent, binding_message=f"Turn {turn}").ok()["auth_req_id"]
        path, form, headers = answering(scene)
        words = iter(["allow", "deny"] * 4)
        answers = scene.at_once(lambda world, words=words: world.post(path, [*form, ("decision", next(words))], headers), 8)  # type: ignore[misc]
        assert sum("answered=" in answer.headers.get("Location", "") for answer in answers) == 1
        answer = scene.world.token(scene.agent, {"grant_type": CIBA, "auth_req_id": auth_req_id})
        assert answer.status == 200 or answer.error == "access_denied"


def test_fifty_questions_at_once_are_twenty_and_the_same_is_one(scene: Scene) -> None:
    consent = scene.given()["consent_id"]
    numbers = itertools.count()
    answers = scene.at_once(lambda world: asked(scene, consent, world, binding_message=f"Number {next(numbers)}"))
    told = Counter((answer.status, answer.error) for answer in answers)
    assert told[200, None] <= 20, told
    assert set(told) <= {(200, None), (403, "access_denied"), (503, "temporarily_unavailable")}, told
    with scene.world.server.database.reading() as session:
        waiting = session.scalars(select(ApprovalRow.id).where(ApprovalRow.human == scene.alice.id)).all()
    assert len(waiting) == told[200, None]
    # Room is made by an answer, and the same asked many times over is one question.
    other = Scene(scene.node)
    consent = other.given()["consent_id"]
    answers = other.at_once(lambda world: asked(other, consent, world))
    assert {answer.status for answer in answers} <= {200, 503}
    assert len({answer.json["auth_req_id"] for answer in answers if answer.status == 200}) == 1


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
