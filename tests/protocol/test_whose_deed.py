"""What somebody does to what is another's is told to her, and is never told as her own deed."""

from __future__ import annotations

from app.audit.events import Who
from tests.world import CONSENT, World


def test_an_owner_who_ends_anothers_consent_and_task_is_named(world: World) -> None:
    alice, owner = world.human(), world.human()
    api = world.resource("read")
    agent = world.agent(owner, ceiling=[(api, "read")])
    given = world.consented(world.signed_in(alice), agent, api, away=True)
    world.exchange(agent, given["consent_id"], CONSENT, resource=api.uri).ok()
    task = world.opened(world.own_token(agent).ok()["access_token"], given["consent_id"])
    world.server.tasks.end(task, by=Who(human=owner.id))
    world.server.consents.withdraw(given["consent_id"], by=Who(human=owner.id))
    (ended,) = world.ledger(event="revoked", target=task)
    (withdrawn,) = world.ledger(event="consent.withdrawn", consent=given["consent_id"])
    for record in (ended, withdrawn):
        assert record["who"]["human"] == alice.id
        assert record["who"]["operator"] == owner.id


def test_her_own_deed_stays_hers(world: World) -> None:
    alice = world.human()
    api = world.resource("read")
    agent = world.agent(world.human(), ceiling=[(api, "read")])
    given = world.consented(world.signed_in(alice), agent, api, away=True)
    world.server.consents.withdraw(given["consent_id"], by=Who(human=alice.id))
    (withdrawn,) = world.ledger(event="consent.withdrawn", consent=given["consent_id"])
    assert withdrawn["who"]["human"] == alice.id and "operator" not in withdrawn["who"]
