"""`deputy revoke`: what it would end, what it ended, and what it says when nobody relays."""

from __future__ import annotations

import json
from typing import Any

from tests.cli.conftest import Deployment
from tests.world import CONSENT, World

SIZES = ("tokens", "consents", "tasks", "agents", "humans")


def said(deployment: Deployment, *words: str) -> dict[str, Any]:
    result = deployment.deputy("revoke", *words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def sizes(answer: dict[str, Any]) -> list[int]:
    return [answer[name] for name in SIZES]


def busy(world: World, agents: int) -> list[str]:
    """Tokens of that many agents of one person, two each."""
    alice, api = world.human(), world.resource("read")
    browser, tokens = world.signed_in(alice), []
    for _ in range(agents):
        agent = world.agent(alice, ceiling=[(api, "read")])
        given = world.consented(browser, agent, api, away=True)
        tokens += [given["access_token"], world.exchange(agent, given["consent_id"], CONSENT, resource=api.uri).ok()["access_token"]]
    return tokens


def test_everything_is_previewed_then_ended_with_the_same_numbers(deployment: Deployment) -> None:
    with deployment.running() as world:
        busy(world, 3)
        preview = said(deployment, "everything", "--preview")
        assert sizes(preview) == [6, 3, 3, 3, 1]
        assert (preview["revoked"], preview["preview"], preview["complete"]) == ("everything", True, True)
        done = said(deployment, "everything", "--yes")
        assert sizes(done) == sizes(preview)
        assert done["entry"] > preview["entry"]
        assert sizes(said(deployment, "everything", "--preview")) == [0] * 5


def test_a_person_reads_what_would_end(deployment: Deployment) -> None:
    with deployment.running() as world:
        alice = world.human()
        agent = world.agent(alice, name="Planner")
        result = deployment.deputy("revoke", "agent", "Planner", "--preview")
        assert result.exit_code == 0, result.output
        assert f"would revoke  {agent.uri}" in result.stdout
        kept = deployment.deputy("revoke", "agent", "Planner", "--keep-out")
        assert kept.exit_code == 0, kept.output
        assert world.own_token(agent).status == 401
        assert deployment.deputy("revoke", "task", "tsk_none", "--preview").exit_code == 1
        assert deployment.deputy("revoke", "token", "tok_short", "--preview").exit_code == 1


def test_beside_a_stopped_server_nobody_waits_for_the_ledger(deployment: Deployment) -> None:
    with deployment.running() as world:
        busy(world, 1)
    # Nothing is on its way, so the count is whole; the deed's own record waits for the relay.
    assert sizes(said(deployment, "everything", "--preview")) == [2, 1, 1, 1, 1]
    done = said(deployment, "everything", "--yes")
    assert sizes(done) == [2, 1, 1, 1, 1]
    with deployment.running() as world:
        (counted,) = world.ledger(event="revocation.counted", kind="everything")
        assert [counted[name] for name in SIZES] == [2, 1, 1, 1, 1]
