"""What an agent's other tasks have touched counts also after Redis was lost, before they are taken up again."""

from __future__ import annotations

from sqlalchemy import select

from app.delegation.models import TaskRow
from tests.faults.alone import Alone
from tests.policies import in_force, text_of
from tests.world import BY, CONSENT, Answer, again


def test_four_eyes_after_the_live_state_was_lost(by_itself: Alone) -> None:
    world = by_itself.world
    alice = world.human()
    bank = world.resource(
        "pay:prepare", "pay:approve", scope_labels={"pay:prepare": ["payment-prepare"], "pay:approve": ["payment-approve"]}
    )
    mail = world.resource("read")
    ceiling = [(bank, "pay:prepare"), (bank, "pay:approve"), (mail, "read")]
    agent = world.agent(alice, ceiling=ceiling, auth="client_secret_basic", jwks=None)
    scope = "pay:prepare pay:approve read"

    def consent() -> str:
        return str(world.consented(world.signed_in(alice), agent, bank, mail, scope=scope, away=True)["consent_id"])

    def approve(consent_id: str) -> Answer:
        return again(lambda: world.exchange(agent, consent_id, CONSENT, resource=bank.uri, scope="pay:approve"))

    with in_force(world.server, text_of("four-eyes"), "four-eyes"):
        before = consent()
        world.exchange(agent, before, CONSENT, resource=bank.uri, scope="pay:prepare").ok()
        by_itself.relay.step()
        by_itself.forget()
        again(lambda: world.own_token(agent))
        # Given since, so it has touched nothing; the task of the first is not taken up again yet.
        after = consent()
        refused = approve(after)
        assert (refused.status, refused.error) == (400, "access_denied"), refused.text
        world.server.consents.withdraw(before, by=BY)
        task = world.server.tasks.find(newest(by_itself, before))
        assert task is not None
        world.server.tasks.end(task.value.id, by=BY)
        approve(after).ok()


def newest(made: Alone, consent: str) -> str:
    """The last default task of a consent."""
    statement = select(TaskRow.id).where(TaskRow.consent == consent).order_by(TaskRow.generation.desc()).limit(1)
    with made.server.database.reading() as session:
        return session.scalars(statement).one()
