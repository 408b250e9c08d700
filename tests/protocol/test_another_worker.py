"""What another worker remembers from before a change is compared when it decides: neither a yes nor a no comes from memory alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from app.agents.change import Change
from app.delegation.limits import Limits
from app.settings import Settings
from tests.policies import in_force
from tests.protocol.test_authzen import evaluated
from tests.protocol.test_consent_limits import limited
from tests.protocol.test_tasks import Story, story
from tests.world import BY, InProcess, World, worker

__all__ = ["story"]


@pytest.fixture(scope="module")
def another(settings: Settings) -> Iterator[Flask]:
    """A second worker, with a memory of its own."""
    with worker(settings) as made:
        yield made


@pytest.fixture
def other(story: Story, another: Flask) -> Story:
    """The same story, told at the other worker."""
    return _at(story, another)


def _at(story: Story, another: Flask) -> Story:
    return replace(story, world=World(story.world.server, InProcess(another)))


def _touched(story: Story, task: str) -> list[str]:
    found: list[str] = story.json("GET", f"/tasks/{task}").ok()["touched"]
    return found


def test_an_api_that_was_switched_on_again_reports(story: Story, other: Story) -> None:
    registry = story.world.server.resource_registry
    task = story.task()
    other.report(story.mail, task, story.token(story.mail, task)).ok()
    registry.change(story.mail.uri, name="The mail", by=BY)
    # Now it has read what the API is called again, and not who introspects for it.
    token = other.token(story.mail, task)
    registry.disable(story.mail.uri, by=BY)
    assert other.report(story.mail, task, token).error in {"unauthorized_client", "invalid_client"}
    registry.enable(story.mail.uri, by=BY)
    assert other.report(story.mail, task, story.token(story.mail, task)).ok()["active"]


def test_a_report_touches_what_the_label_says_now(story: Story, other: Story) -> None:
    task = story.task()
    other.report(story.mail, task, story.token(story.mail, task), action="mail:read").ok()
    story.world.server.resource_registry.change(
        story.mail.uri, scope_labels={"mail:send": ["external-send"], "mail:read": ["personal"]}, by=BY
    )
    assert "personal" not in _touched(story, task)
    other.report(story.mail, task, story.token(story.mail, task, scope="mail:send"), action="mail:read").ok()
    assert "personal" in _touched(story, task)


@pytest.mark.parametrize("how", ["report", "consume"])
def test_a_limit_that_was_lowered_is_the_limit(story: Story, another: Flask, how: str) -> None:
    story = limited(story, {"uses": 200, "counts": "events"})
    other, task = _at(story, another), story.task()

    def done(token: str) -> bool:
        if how == "report":
            return other.report(story.mail, task, token).status == 200
        return bool(evaluated(other, token, "mail:send", consume=True)["decision"])

    assert done(story.token(story.mail, task))
    consent = story.world.server.consents.find(story.consent)
    assert consent is not None
    story.world.server.consents.narrow(
        story.consent, pairs=consent.value.pairs, until=consent.value.until, limits=Limits(uses=1, counts_events=True), by=BY
    )
    task = story.task()
    assert not done(story.token(story.mail, task))


def test_an_agent_that_works_again_opens_tasks(story: Story, other: Story) -> None:
    agents, assistant = story.world.server.agent_registry, story.assistant
    other.task()
    agents.suspend(assistant.id, by=BY)
    assert other.exchange(story.mail).status == 401
    agents.resume(assistant.id, by=BY)
    fresh = story.world.own_token(assistant).ok()["access_token"]
    consent = story.world.consented(story.browser, assistant, story.mail, away=True)["consent_id"]
    replace(other, own=fresh, consent=consent).task()


@pytest.mark.parametrize("before", [True, False])
def test_a_policy_sees_the_owner_of_now(story: Story, other: Story, before: bool) -> None:
    server, bob = story.world.server, story.world.human()
    token = story.token(story.mail, scope="mail:read")
    forbidden = bob if before else story.alice
    text = f'forbid (principal, action == Action::"call", resource == Resource::"{story.mail.uri}") when {{ principal.owner == "{forbidden.id}" }};'

    def permitted() -> tuple[Any, Any]:
        return evaluated(other, token)["decision"], evaluated(story, token)["decision"]

    with in_force(server, text):
        assert permitted() == (before, before)
        server.agent_registry.change(story.assistant.id, Change(owner=bob.id), by=BY)
        token = story.token(story.mail, scope="mail:read")
        assert permitted() == (not before, not before)
