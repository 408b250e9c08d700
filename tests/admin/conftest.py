"""A company at the administrator's desk: an operator, an auditor, two owners, and somebody with nothing to do there."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.protocol.conftest import later as later  # noqa: PLC0414
from tests.world import CONSENT, Answer, Api, Browser, Party, Person, World, claims_of, hidden


@dataclass
class Desk:
    """Alice owns the assistant, Dora owns another agent; Olga operates, Aude audits, Max has no office."""

    world: World
    alice: Person
    api: Api
    assistant: Party
    stranger: Party
    consent: str
    task: str
    token: str
    operator: Browser
    auditor: Browser
    owner: Browser
    nobody: Browser
    operator_id: str

    @property
    def jti(self) -> str:
        return str(claims_of(self.token)["jti"])

    def state(self, agent: Party) -> str:
        return self.world.server.agent_registry.get(agent.id).state


def send(browser: Browser, page: str, action: str = "", **form: str) -> Answer:
    """Fill in the form of a page that goes to `action`, with its own hidden fields and these."""
    shown = browser.get(page)
    assert shown.status == 200, (page, shown.status, shown.headers.get("Location"), shown.text[-1500:])
    target = action or page.partition("?")[0]
    piece = next((part for part in shown.text.split("<form")[1:] if f'action="{target}"' in part or 'method="post">' in part[:80]), None)
    assert piece is not None, (page, action)
    answer = Answer(200, {}, ("<main " + piece.partition("</form>")[0]).encode())
    fields = {**dict(hidden(answer)), **form}
    return browser.post(target, fields)


@pytest.fixture(scope="module")
def desk(server: object, app: object) -> Desk:
    from tests.world import InProcess

    world = World(server, InProcess(app))  # type: ignore[arg-type]
    alice, dora, operator, auditor, nobody = (
        world.human(),
        world.human(),
        world.human(operator=True),
        world.human(auditor=True),
        world.human(),
    )
    api = world.resource("read", "write", name="0 Calendar", labels=["confidential"])
    assistant = world.agent(alice, ceiling=[(api, "read"), (api, "write")], name="Assistant of " + alice.username)
    stranger = world.agent(dora, ceiling=[(api, "read")], name="Agent of " + dora.username)
    given = world.consented(world.signed_in(nobody), assistant, api, scope="read", away=True)
    token = world.exchange(assistant, given["consent_id"], CONSENT, resource=api.uri).ok()["access_token"]
    return Desk(
        world, alice, api, assistant, stranger, given["consent_id"], given["task_id"], token,
        operator=world.signed_in(operator), auditor=world.signed_in(auditor), owner=world.signed_in(alice), nobody=world.signed_in(nobody),
        operator_id=operator.id,
    )  # fmt: skip
