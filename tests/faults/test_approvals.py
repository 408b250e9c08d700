"""Questions to humans and their answers outlast Redis; what hung on the lost generation is asked about anew (live-state.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.faults.alone import Alone
from tests.policies import in_force
from tests.world import CONSENT, Answer, Api, Browser, again, checkboxes, claims_of, hidden

CIBA = "urn:openid:params:grant-type:ciba"


class Scene:
    """Alice's agent, which may send mail once she has seen it."""

    def __init__(self, made: Alone) -> None:
        world = made.world
        alice = world.human()
        self.made, self.world = made, world
        self.browser: Browser = world.signed_in(alice)
        self.mail: Api = world.resource("mail:read", "mail:send")
        pairs = [(self.mail, "mail:read"), (self.mail, "mail:send")]
        # By secret: after a new generation an assertion would have to wait.
        self.agent = world.agent(alice, ceiling=pairs, auth="client_secret_basic", jwks=None)
        made.relay.step()
        self.consent = world.consented(self.browser, self.agent, self.mail, away=True)["consent_id"]

    def asked(self, **form: str) -> str:
        # Nobody else takes what waits for the ledger, and nothing is issued behind it.
        self.made.relay.step()
        answer = self.world.exchange(self.agent, self.consent, CONSENT, scope="mail:send", **form)
        assert answer.error == "authorization_pending", answer.text
        return str(answer.json["auth_req_id"])

    def allow(self) -> None:
        (path,) = re.findall(r'href="(/my/approvals/apr_[^"]+)"', self.browser.get("/my/approvals").text)
        page = self.browser.get(path)
        ticked = [("scope", value) for value in checkboxes(page, "scope")]
        answer = self.browser.post(path, [*hidden(page), *ticked, ("decision", "allow")])
        assert "answered=" in answer.headers["Location"]

    def poll(self, auth_req_id: str) -> Answer:
        """As an agent asks: again, when it is told to come again."""
        self.made.relay.step()
        return again(lambda: self.world.token(self.agent, {"grant_type": CIBA, "auth_req_id": auth_req_id}), 3)


@pytest.fixture
def scene(by_itself: Alone) -> Iterator[Scene]:
    made = Scene(by_itself)
    text = f'@ask("approval") forbid (principal, action, resource == Resource::"{made.mail.uri}") when {{ context.scopes.contains("mail:send") }};'
    with in_force(by_itself.server, text):
        yield made


@pytest.mark.parametrize("when", ["while it waits", "when she has said yes"])
def test_a_question_outlasts_a_flush(scene: Scene, when: str) -> None:
    auth_req_id = scene.asked()
    if when == "while it waits":
        scene.made.forget()
        assert scene.poll(auth_req_id).error == "authorization_pending"
        scene.allow()
    else:
        scene.allow()
        scene.made.forget()
    given = scene.poll(auth_req_id).ok()
    assert scene.world.active(scene.mail, given["access_token"])
    assert scene.poll(auth_req_id).error == "invalid_grant"


def test_an_answer_that_was_used_stays_used(scene: Scene) -> None:
    auth_req_id = scene.asked()
    scene.allow()
    token = scene.poll(auth_req_id).ok()["access_token"]
    scene.made.forget()
    assert scene.poll(auth_req_id).error == "invalid_grant"
    assert not scene.world.active(scene.mail, token)


def test_what_was_asked_for_a_task_of_the_lost_generation_is_over(scene: Scene) -> None:
    own = scene.world.own_token(scene.agent).ok()["access_token"]
    auth_req_id = scene.asked(task_id=scene.world.opened(own, scene.consent))
    scene.allow()
    scene.made.forget()
    assert scene.poll(auth_req_id).error == "invalid_grant"


def test_a_revoked_subject_token_is_remembered_through_a_flush(scene: Scene) -> None:
    subject = scene.world.exchange(scene.agent, scene.consent, CONSENT, scope="mail:read").ok()["access_token"]
    text = f'@ask("approval") forbid (principal, action, resource == Resource::"{scene.mail.uri}");'
    with in_force(scene.made.server, text):
        auth_req_id = scene.world.exchange(scene.agent, subject).json["auth_req_id"]
        scene.allow()
        scene.world.revoke(scene.agent, subject)
        scene.made.forget()
        assert claims_of(subject)["jti"]
        assert scene.poll(auth_req_id).error == "invalid_grant"
