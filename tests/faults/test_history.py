"""What a task has touched outlives Redis: after a flush, or in the middle of one, a forbidden pair is still never both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.alone import Alone
from tests.policies import in_force, text_of
from tests.world import CONSENT, Answer, Api, again, claims_of

POLICY = "confidential-then-external"


class Scene:
    """Files that are confidential and mail that goes outside, one agent for both."""

    def __init__(self, made: Alone) -> None:
        world = made.world
        alice = world.human()
        self.made, self.world = made, world
        self.files: Api = world.resource("files:read", labels=["confidential"])
        self.mail: Api = world.resource("mail:read", "mail:send", scope_labels={"mail:send": ["external-send"]})
        pairs = [(self.files, "files:read"), (self.mail, "mail:read"), (self.mail, "mail:send")]
        self.agent = world.agent(alice, ceiling=pairs, auth="client_secret_basic", jwks=None)
        self.consent = world.consented(world.signed_in(alice), self.agent, self.files, self.mail, away=True)["consent_id"]

    def exchange(self, api: Api, scope: str, **form: str) -> Answer:
        """As an agent asks: again, when it is told to come again."""
        return again(lambda: self.world.exchange(self.agent, self.consent, CONSENT, resource=api.uri, scope=scope, **form), 3)

    def task(self) -> str:
        return self.world.opened(self.world.own_token(self.agent).ok()["access_token"], self.consent)


@pytest.fixture
def scene(by_itself: Alone) -> Iterator[Scene]:
    with in_force(by_itself.server, text_of(POLICY), POLICY):
        yield Scene(by_itself)


@pytest.mark.parametrize("recorded", [True, False], ids=["after the relay took it", "before the relay took it"])
def test_after_a_flush_the_default_task_has_not_forgotten(scene: Scene, *, recorded: bool) -> None:
    before = claims_of(scene.exchange(scene.files, "files:read").ok()["access_token"])["txn"]
    if recorded:
        scene.made.relay.step()
    scene.made.forget()
    answer = scene.exchange(scene.mail, "mail:send")
    assert (answer.error, answer.json["policy"]) == ("access_denied", POLICY)
    given = scene.exchange(scene.mail, "mail:read").ok()
    assert given["task_id"] != before


def test_a_named_task_does_not_live_through_a_flush(scene: Scene) -> None:
    task = scene.task()
    scene.exchange(scene.files, "files:read", task_id=task).ok()
    scene.made.forget()
    assert scene.exchange(scene.mail, "mail:send", task_id=task).error == "invalid_request"
    assert scene.exchange(scene.mail, "mail:send", task_id=scene.task()).status == 200


def test_two_flushes_forget_no_more_than_one(scene: Scene) -> None:
    scene.exchange(scene.files, "files:read").ok()
    scene.made.forget()
    scene.exchange(scene.mail, "mail:read").ok()
    scene.made.forget()
    assert scene.exchange(scene.mail, "mail:send").error == "access_denied"
