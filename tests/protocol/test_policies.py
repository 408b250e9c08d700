"""Policies over HTTP: they refuse, say who refuses and what would pass, and reach tokens that were issued before (protocol §8)."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from app.policy import cedar
from tests.policies import SECOND, WRITER, in_force, text_of
from tests.protocol.conftest import Later
from tests.protocol.test_tasks import Story, story
from tests.world import BY, Answer, basic, claims_of

__all__ = ["story"]

NEVER_BOTH = "confidential-then-external"


@pytest.fixture
def apart(story: Story) -> Iterator[Story]:
    """Alice's assistant, where the confidential calendar and outside mail do not go together."""
    with in_force(story.world.server, text_of(NEVER_BOTH), NEVER_BOTH):
        yield story


def forbidding(story: Story, scope: str = "mail:send") -> str:
    """A policy that concerns this story's mail only."""
    return f'forbid (principal, action, resource == Resource::"{story.mail.uri}") when {{ context.scopes.contains("{scope}") }};'


def refused(answer: Answer, policy: str) -> dict[str, Any]:
    assert (answer.status, answer.error) == (400, "access_denied"), answer.text
    assert (answer.json["layer"], answer.json["policy"]) == ("policy", policy)
    return answer.json


def test_each_alone_and_both_in_different_tasks_but_not_in_one(apart: Story) -> None:
    reading, writing, both = apart.task(), apart.task(), apart.task()
    apart.token(apart.calendar, reading)
    apart.token(apart.mail, writing, scope="mail:send")
    apart.token(apart.calendar, both)
    said = refused(apart.exchange(apart.mail, both, scope="mail:send"), NEVER_BOTH)
    assert "permitted_scope" not in said
    (record,) = apart.world.ledger(id=said["audit_id"])
    assert (record["event"], record["layer"], record["task"]) == ("token.refused", "policy", both)
    assert NEVER_BOTH in record["reason"]
    # And the other way round.
    refused(apart.exchange(apart.calendar, writing), NEVER_BOTH)
    assert apart.world.active(apart.calendar, apart.token(apart.calendar, both))


def test_a_child_token_remembers_for_its_task(apart: Story) -> None:
    task = apart.task()
    reading = apart.token(apart.mail, task, scope="mail:read")
    sending = apart.token(apart.mail, task, scope="mail:send")
    child = apart.world.exchange(apart.assistant, reading).ok()["access_token"]
    apart.report(apart.mail, task, child, action="mail:read", labels=["confidential"]).ok()
    refused(apart.world.exchange(apart.assistant, sending), NEVER_BOTH)


def test_what_a_resource_reports_counts(apart: Story) -> None:
    task = apart.task()
    token = apart.token(apart.mail, task, scope="mail:read")
    assert apart.exchange(apart.mail, task, scope="mail:send").status == 200
    other = apart.task()
    token = apart.token(apart.mail, other, scope="mail:read")
    apart.report(apart.mail, other, token, action="mail:read", labels=["confidential"]).ok()
    refused(apart.exchange(apart.mail, other, scope="mail:send"), NEVER_BOTH)


def test_who_follows_the_hint_succeeds(apart: Story) -> None:
    task = apart.task()
    apart.token(apart.calendar, task)
    said = refused(apart.exchange(apart.mail, task, scope="mail:read mail:send"), NEVER_BOTH)
    assert said["permitted_scope"] == "mail:read"
    assert apart.exchange(apart.mail, task, scope=said["permitted_scope"]).status == 200
    said = refused(apart.exchange(apart.mail, task, scope="mail:send"), NEVER_BOTH)
    assert said["permitted_in"] == "a new task"
    assert apart.exchange(apart.mail, apart.task(), scope="mail:send").status == 200


def test_a_refusal_tells_nothing_of_other_people(apart: Story) -> None:
    task = apart.task()
    apart.token(apart.calendar, task)
    answer = apart.exchange(apart.mail, task, scope="mail:send")
    assert set(answer.json) == {"error", "error_description", "layer", "policy", "permitted_in", "audit_id"}
    assert apart.alice.id not in answer.text


def test_where_nothing_would_pass_it_says_where_to_ask(story: Story) -> None:
    """The page is there for who answers for the agent, not for others, and names the policy's rule and its owner."""
    world = story.world
    writer, stranger = world.human(operator=True), world.human()
    name = "test-" + secrets.token_hex(4)
    world.server.policies.add(name, forbidding(story), owner=writer.id, rule="Code of conduct, 4", by=WRITER)
    world.server.policies.activate(name, None, by=SECOND)
    try:
        said = refused(story.exchange(story.mail, scope="mail:send"), name)
    finally:
        world.server.policies.retire(name, by=SECOND)
    assert not said.keys() & {"permitted_scope", "permitted_in"}
    assert said["error_uri"].startswith(world.issuer)
    path = said["error_uri"].removeprefix(world.issuer)
    page = story.browser.get(path)
    assert page.status == 200
    for words in (name, "Code of conduct, 4", f"Ask Name of {writer.username}"):
        assert words in page.text
    assert world.signed_in(stranger).get(path).status == 403
    assert world.browser().get(path).status == 303


def test_a_policy_change_flips_the_next_introspection(story: Story) -> None:
    sends, reads = story.token(story.mail, scope="mail:send"), story.token(story.mail, scope="mail:read")
    assert story.world.active(story.mail, sends)
    with in_force(story.world.server, forbidding(story)):
        assert not story.world.active(story.mail, sends)
        assert story.world.active(story.mail, reads)
        story.world.active(story.mail, sends)
        jti = claims_of(sends)["jti"]
        (record,) = story.world.ledger(event="token.forbidden", jti=jti)
        assert record["who"]["actors"] == [story.assistant.uri]
        assert story.exchange(story.mail, scope="mail:send").error == "access_denied"


def test_a_token_is_judged_by_what_its_task_has_touched_since(story: Story) -> None:
    task = story.task()
    calendar, mail = story.token(story.calendar, task), story.token(story.mail, task, scope="mail:send")
    with in_force(story.world.server, text_of(NEVER_BOTH), NEVER_BOTH):
        assert not story.world.active(story.calendar, calendar)
        assert not story.world.active(story.mail, mail)


def test_an_engine_that_fails_issues_nothing_and_calls_nothing_active(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    token = story.token(story.mail)

    def fails(*_: Any) -> Any:
        raise ValueError("engine")

    with in_force(story.world.server, 'forbid (principal, action, resource) when { context.operation == "never" };'):
        monkeypatch.setattr(cedar.cedarpy, "is_authorized", fails)
        assert not story.world.active(story.mail, token)
        refused(story.exchange(story.mail), cedar.ERROR)
        monkeypatch.undo()
        assert story.world.active(story.mail, token)


def test_a_policy_that_cannot_be_read_any_more_stops_everything_until_it_is_mended(story: Story) -> None:
    from sqlalchemy import update

    from app.live.things import POLICIES
    from app.policy.models import PolicyRow

    token, server = story.token(story.mail), story.world.server
    with in_force(server, forbidding(story)) as name:
        assert story.world.active(story.mail, story.token(story.mail, scope="mail:read"))
        with server.database.transaction() as session:
            session.execute(update(PolicyRow).where(PolicyRow.name == name).values(text="forbid ("))
        with server.deeds.deed() as deed:
            deed.change(POLICIES)
        assert story.exchange(story.mail, scope="mail:read").status == 503
        credential = basic(story.mail.client_id, story.mail.client_secret)
        answer = story.world.post("/oauth/introspect", {"token": token}, credential)
        assert answer.status == 503
        assert "Retry-After" in answer.headers
        with server.database.transaction() as session:
            session.execute(update(PolicyRow).where(PolicyRow.name == name).values(text=forbidding(story)))
        assert story.exchange(story.mail, scope="mail:read").status == 200


def test_risk_a_resource_for_the_first_time(story: Story) -> None:
    text = f'forbid (principal, action, resource == Resource::"{story.mail.uri}") when {{ context.first_time && context.scopes.contains("mail:send") }};'
    with in_force(story.world.server, text) as name:
        task = story.task()
        said = refused(story.exchange(story.mail, task, scope="mail:read mail:send"), name)
        assert said["permitted_scope"] == "mail:read"
        story.token(story.mail, task, scope=said["permitted_scope"])
        assert story.exchange(story.mail, task, scope="mail:send").status == 200


def test_risk_the_age_of_her_sign_in(story: Story, later: Later) -> None:
    text = f'forbid (principal, action, resource == Resource::"{story.mail.uri}") when {{ context.sign_in_age > 60 }};'
    with in_force(story.world.server, text) as name:
        assert story.exchange(story.mail).status == 200
        later(120)
        refused(story.exchange(story.mail), name)


def test_hand_over_asks_too(story: Story) -> None:
    world = story.world
    booking = world.agent(story.alice, ceiling=[(story.mail, "mail:read")])
    first = world.agent(story.alice, ceiling=[(story.mail, "mail:read")], hands_to=[booking])
    consent = world.consented(story.browser, first, story.mail, scope="mail:read", away=True)["access_token"]
    text = f'forbid (principal, action == Action::"hand_over", resource == Agent::"{booking.uri}");'
    with in_force(world.server, text) as name:
        refused(world.exchange(first, consent, audience=booking.uri, scope="mail:read"), name)
    world.exchange(first, consent, audience=booking.uri, scope="mail:read").ok()


def test_four_eyes_look_beside(story: Story) -> None:
    world = story.world
    bank = world.resource(
        "pay:prepare", "pay:approve", scope_labels={"pay:prepare": ["payment-prepare"], "pay:approve": ["payment-approve"]}
    )
    agent = world.agent(story.alice, ceiling=[(bank, "pay:prepare"), (bank, "pay:approve"), (story.mail, "mail:read")])
    # For two APIs a code gives no token for one of them, so nothing is touched yet.
    given = world.consented(story.browser, agent, bank, story.mail, scope="pay:prepare pay:approve mail:read", away=True)
    own = world.own_token(agent).ok()["access_token"]
    clerk = Story(world, story.alice, story.browser, bank, story.calendar, agent, given["consent_id"], own)
    with in_force(world.server, text_of("four-eyes"), "four-eyes"):
        first, second = clerk.task(), clerk.task()
        clerk.token(bank, first, scope="pay:prepare")
        refused(clerk.exchange(bank, first, scope="pay:approve"), "four-eyes/approve")
        refused(clerk.exchange(bank, second, scope="pay:approve"), "four-eyes/approve")
        clerk.end(first)
        clerk.token(bank, second, scope="pay:approve")


def test_a_hint_knows_what_other_tasks_touched_where_the_refusal_did_not_ask(story: Story) -> None:
    here = f'resource == Resource::"{story.mail.uri}"'
    reading, sending = 'context.scopes.contains("mail:read")', 'context.scopes.contains("mail:send")'
    text = f"""@id("both") forbid (principal, action, {here}) when {{ {reading} && {sending} }};
        @id("reads") forbid (principal, action, {here}) when {{ {reading} && !{sending} && context.other_tasks.contains("confidential") }};"""
    with in_force(story.world.server, text) as name:
        task = story.task()
        alone = refused(story.exchange(story.mail, task, scope="mail:read mail:send"), f"{name}/both")
        assert alone["permitted_scope"] == "mail:read"
        story.token(story.calendar, story.task())
        beside = refused(story.exchange(story.mail, task, scope="mail:read mail:send"), f"{name}/both")
        assert beside["permitted_scope"] == "mail:send"
        story.token(story.mail, task, scope=beside["permitted_scope"])


def test_a_refusal_that_a_worker_remembers_is_asked_again_with_all_it_rests_on(story: Story) -> None:
    """What was retired and narrowed elsewhere: neither the old policy nor the consent as it was says no."""
    server = story.world.server
    with in_force(server, forbidding(story)) as policy:
        refused(story.exchange(story.mail, scope="mail:send"), policy)
    held = server.consents.find(story.consent)
    assert held is not None
    server.consents.narrow(story.consent, pairs=held.value.pairs, until=held.value.until - 60, by=BY)
    given = story.exchange(story.mail, scope="mail:send").ok()
    assert story.world.active(story.mail, given["access_token"])


def test_twenty_pairs_at_the_same_instant_are_never_both(apart: Story) -> None:
    for _ in range(20):
        task, answers, gate = apart.task(), [], threading.Barrier(2)

        def ask(api: Any, scope: str, task: str = task, gate: threading.Barrier = gate, answers: list[Answer] = answers) -> None:
            gate.wait(10)
            answers.append(apart.exchange(api, task, scope=scope))

        threads = [threading.Thread(target=ask, args=pair) for pair in ((apart.calendar, "calendar:read"), (apart.mail, "mail:send"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(answer.status for answer in answers) == [200, 400], [answer.text for answer in answers]
