"""What happens between two steps of one request: the live state is lost, or the last step fails."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from app import clock
from app.errors import TemporarilyUnavailable, TooManyRequests
from app.live.commit import Commit, Live
from tests.faults.alone import Alone
from tests.world import ACCESS_TOKEN, ASSERTION, BY, CONSENT, Answer, Api, Browser, Party, claims_of

Act = Callable[[Live, Commit, Callable[[], None]], None]


@contextmanager
def at_commit(
    monkeypatch: pytest.MonkeyPatch, act: Act, *, what: Callable[[Commit], bool] = lambda commit: bool(commit.record)
) -> Iterator[None]:
    """Stand before the next commit of that kind, once; `act` gets the commit as a step it may take or not."""
    original = Live.commit
    acted: list[Commit] = []

    def commit(live: Live, one: Commit) -> None:
        if acted or not what(one):
            return original(live, one)
        acted.append(one)
        return act(live, one, lambda: original(live, one))

    with monkeypatch.context() as patched:
        patched.setattr(Live, "commit", commit)
        yield
    assert acted, "nothing was committed"


class Scene:
    def __init__(self, made: Alone) -> None:
        world = made.world
        alice = world.human()
        self.made, self.world = made, world
        self.api: Api = world.resource("read", "write")
        self.agent: Party = world.agent(alice, ceiling=[(self.api, "read")], auth="client_secret_basic", jwks=None)
        self.keyed: Party = world.agent(alice, own=[(self.api, "read")])
        self.browser: Browser = world.signed_in(alice)

    def given(self) -> dict[str, str]:
        return self.world.consented(self.browser, self.agent, self.api, away=True)

    def refresh(self, token: str):
        return self.world.token(self.agent, {"grant_type": "refresh_token", "refresh_token": token, "resource": self.api.uri})

    def lost(self) -> Act:
        """Redis forgets, a new generation is opened, and this very process has heard of it."""

        def act(live: Live, _one: Commit, step: Callable[[], None]) -> None:
            self.made.forget()
            live.reload_generation()
            step()

        return act


@pytest.fixture
def scene(by_itself: Alone) -> Scene:
    return Scene(by_itself)


def failing(error: Exception, *, applied: bool) -> Act:
    def act(_live: Live, _one: Commit, step: Callable[[], None]) -> None:
        if applied:
            step()
        raise error

    return act


def test_a_code_read_in_one_generation_is_not_redeemed_in_the_next(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = secrets.token_urlsafe(48)
    code = scene.browser.code(scene.world.authorization(scene.agent, verifier, scene.api))
    with at_commit(monkeypatch, scene.lost()):
        answer = scene.world.redeem(scene.agent, code, verifier)
    assert (answer.status, answer.error) == (400, "invalid_grant")


def test_an_assertion_looked_at_in_one_generation_does_not_pass_in_the_next(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assertion = scene.world.assertion(scene.keyed)
    form = {
        "grant_type": "client_credentials",
        "resource": scene.api.uri,
        "client_assertion_type": ASSERTION,
        "client_assertion": assertion,
    }
    scene.world.post("/oauth/token", form).ok()
    with at_commit(monkeypatch, scene.lost()):
        answer = scene.world.post("/oauth/token", form)
    assert answer.status == 503, answer.body
    assert scene.world.post("/oauth/token", form).status == 503


def test_a_token_committed_in_a_new_generation_is_of_that_generation(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    consent = scene.given()["consent_id"]
    with at_commit(monkeypatch, scene.lost()):
        given = scene.world.exchange(scene.agent, consent, kind=CONSENT, resource=scene.api.uri).ok()
    assert claims_of(given["access_token"])["deputy"]["g"] == 2
    assert scene.world.active(scene.api, given["access_token"])


def test_a_token_that_died_with_its_generation_is_not_called_active(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    token = scene.given()["access_token"]
    with at_commit(monkeypatch, scene.lost()):
        assert not scene.world.active(scene.api, token)


@pytest.mark.parametrize("which", ["subject", "actor"])
def test_a_token_revoked_after_it_was_read_is_no_evidence(scene: Scene, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    token = {"subject": scene.given()["access_token"], "actor": scene.world.own_token(scene.agent).ok()["access_token"]}
    claims = claims_of(token[which])

    def revoked(_live: Live, _one: Commit, step: Callable[[], None]) -> None:
        scene.made.server.revocation.token(claims["jti"], claims["exp"], by=BY)
        step()

    form = {"resource": scene.api.uri, "actor_token": token["actor"], "actor_token_type": ACCESS_TOKEN}
    with at_commit(monkeypatch, revoked):
        answer = scene.world.exchange(scene.agent, token["subject"], **form)
    assert (answer.status, answer.error) == (400, "invalid_request")


@pytest.mark.parametrize("applied", [True, False], ids=["applied, unheard", "not applied"])
@pytest.mark.parametrize("error", [TemporarilyUnavailable("redis: TimeoutError"), TooManyRequests("rate")], ids=["503", "429"])
def test_who_is_told_to_come_again_with_a_refresh_token_may(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: Exception, applied: bool
) -> None:
    held = scene.given()["refresh_token"]
    with at_commit(monkeypatch, failing(error, applied=applied)):
        refused = scene.refresh(held)
    assert refused.status in {503, 429}
    assert "Retry-After" in refused.headers
    again = scene.refresh(held).ok()
    assert scene.world.active(scene.api, again["access_token"])
    # And still only once.
    assert scene.refresh(held).error == "invalid_grant"
    assert not scene.world.active(scene.api, again["access_token"])
    assert scene.refresh(again["refresh_token"]).error == "invalid_grant"


def test_an_assertion_is_refused_as_old_only_when_a_right_clock_cannot_have_made_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.made.forget()
    since = scene.made.server.live.reload_generation().since
    skew = clock.SKEW

    def at(now: int, iat: int) -> Answer:
        monkeypatch.setattr(clock, "timestamp", lambda: since + now)
        assertion = scene.world.assertion(scene.keyed, iat=since + iat, exp=since + iat + 60)
        form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION, "client_assertion": assertion}
        return scene.world.post("/oauth/token", form)

    for now, iat in ((0, -20), (0, 0), (skew, skew), (skew + 1, skew), (skew + 2, skew - 3), (2 * skew, skew)):
        answer = at(now, iat)
        assert answer.status == 503, (now, iat, answer.body)
        # Who comes when told comes with one that is good.
        wait = int(answer.headers["Retry-After"])
        assert 1 <= wait <= skew + 1
        if iat > -skew:
            assert at(now + wait, iat + wait).status == 200, (now, iat, wait)
    for now, iat in ((2 * skew + 1, skew), (3 * skew, -20), (60, 0)):
        assert at(now, iat).error == "invalid_client", (now, iat)
    for now, iat in ((skew + 1, skew + 1), (2 * skew + 1, skew + 1)):
        assert at(now, iat).status == 200, (now, iat)
