"""What the policies are asked about a request: everything they may look at, put into plain values."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from app.agents.agent import Agent
from app.clients.instance import Instance
from app.delegation.chain import ActorChain
from app.delegation.task import Task
from app.policy.access import AccessRequest, SignedInAs, TokenKind
from app.policy.asks import Approved
from app.policy.call import Call
from app.policy.cedar import NO_INSTANCE, OTHERS, Question


def question_of(access: AccessRequest) -> Question | None:
    """The question of a token request. None without an agent, and for what only this server reads."""
    agent, target = access.agent, access.target
    if agent is None or target.kind not in {TokenKind.ACCESS_TOKEN, TokenKind.HANDOVER}:
        return None
    receiver, resource = target.agent, target.resource
    return ask_about(
        action="hand_over" if receiver is not None else "issue",
        agent=agent.value,
        target=target.audience,
        target_owner=receiver.value.owner if receiver is not None else "",
        target_labels=resource.value.labels if resource is not None else (),
        human=access.human,
        away=access.consent is not None and access.consent.value.away,
        signed_in=access.signed_in,
        chain=access.authority.chain,
        task=access.task.value if access.task is not None else None,
        scopes=access.authority.scope,
        labels=access.touches,
        touched=access.touched,
        others=access.others,
        now=access.now,
        approved=access.approved,
        instance=access.instance.value if access.instance is not None else None,
    )


def ask_about(
    *,
    action: str,
    agent: Agent,
    target: str,
    target_labels: Iterable[str],
    human: str | None,
    away: bool,
    signed_in: SignedInAs | None,
    chain: ActorChain,
    task: Task | None,
    scopes: Iterable[str],
    labels: frozenset[str],
    touched: frozenset[str],
    now: int,
    others: frozenset[str] = frozenset(),
    call: Call | None = None,
    target_owner: str = "",
    approved: Approved | None = None,
    instance: Instance | None = None,
) -> Question:
    """The question, from the facts. `now` in seconds since 1970. Entries that are no labels tell where the task has been."""
    moment = datetime.fromtimestamp(now, UTC)
    actors = [actor.sub for actor in chain.actors] or [agent.uri]
    known = frozenset(label for label in touched if not label.startswith(AT))
    context: dict[str, Any] = {
        "human": human or "",
        "away": away,
        "sign_in_age": max(0, now - signed_in.auth_time) if signed_in is not None else 0,
        "acr": signed_in.acr if signed_in is not None else "",
        "actors": sorted(set(actors)),
        "first_actor": actors[-1],
        "depth": len(actors),
        "task": {
            "id": task.id if task is not None else "",
            "default": task is not None and task.default,
            "age": max(0, now - task.opened_at) if task is not None else 0,
        },
        "scopes": sorted(scopes),
        "labels": sorted(labels),
        "touched": sorted(known),
        "combined": sorted(known | labels),
        OTHERS: _labels(others),
        "first_time": at(target) not in touched,
        "now": now,
        "hour": moment.hour,
        "weekday": moment.isoweekday(),
        "operation": call.action if call is not None else "",
        "instance_age": max(0, now - instance.registered_at) if instance is not None else NO_INSTANCE,
    }
    if call is not None:
        context |= call.facts()
    return Question(action, agent.uri, agent.owner, target, target_owner, tuple(sorted(target_labels)), context, approved)


def beside(question: Question, others: frozenset[str]) -> Question:
    """The same question with what the agent's other tasks have touched."""
    return question.asking(**{OTHERS: _labels(others)})


def _labels(entries: frozenset[str]) -> list[str]:
    return sorted(label for label in entries if not label.startswith(AT))


AT = "@"
"""No label begins with it."""


def at(target: str) -> str:
    """The entry of a history that says the task has been there."""
    return AT + target
