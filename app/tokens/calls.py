"""Whether one call may be carried out with a token that lives: asked by its resource, answered with an id (protocol §8)."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, NamedTuple

from app import clock
from app.audit import serialize
from app.audit.events import CallConsumed, CallPermitted, CallRefused
from app.clients.authenticate import AuthenticatedClient
from app.delegation.allowance import Allowances
from app.delegation.limits import Amount
from app.delegation.spending import Spend, of_event
from app.delegation.task import Task
from app.errors import AccessDenied
from app.live.cache import Held, versions_of
from app.live.commit import Commit, Live, Once, Touch, UsedTwice
from app.live.deeds import REMEMBER
from app.live.generation import CALLS
from app.live.history import Histories, History
from app.live.things import POLICIES, Thing
from app.policy.access import Denial
from app.policy.call import Call
from app.policy.cedar import Question
from app.policy.decide import decide_call
from app.resources.resource import Resource
from app.tokens.standing import Behind, Standing, who_acts
from app.tokens.verify import VerifiedToken


class Decision(NamedTuple):
    """Whether a call may be carried out, and what is said beside it: the record's id, and of a refusal who refused."""

    allowed: bool
    context: dict[str, Any]

    def answer(self) -> dict[str, Any]:
        """As JSON (AuthZEN Authorization API 1.0 §6.2)."""
        return {"decision": self.allowed, "context": self.context}


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that is asked about, and all it is decided on."""

    token: VerifiedToken
    resource: Held[Resource]
    caller: AuthenticatedClient
    call: Call
    policies: int
    """Version of the policies that Redis says are in force."""
    behind: Behind

    @property
    def versions(self) -> dict[Thing, int]:
        """What was read to decide it: a yes and a no hold only if none of it has moved."""
        return self.caller.versions | self.behind.versions | versions_of(self.resource) | {POLICIES: self.policies}


@dataclass(frozen=True, slots=True)
class Calls:
    """Decides about calls, and records each decision."""

    live: Live
    histories: Histories
    standing: Standing
    allowances: Allowances

    def decide(self, asked: Asked) -> Decision:
        """Our own narrowing, then the limits, then the policies. Raises `Moved` when something changed meanwhile, 503."""
        token, resource, call = asked.token, asked.resource.value, asked.call
        policies = self.standing.policies_of(asked.policies)
        task = asked.behind.task.value if asked.behind.task is not None else None
        history = self.histories.of(task.id, certain=True) if task is not None else History()
        spends, short = self._spends(asked, task)
        question = self.standing.question(token, asked.behind, resource, policies, call, history)
        granted = token.authority.scope & frozenset(resource.scopes)
        denial = decide_call(call, granted, policies, question, short)
        if denial is not None:
            return self.refuse(asked, denial)
        try:
            return self._permit(asked, task, history, spends, question)
        except AccessDenied as spent:
            return self.refuse(asked, Denial(spent))

    def refuse(self, asked: Asked, denial: Denial) -> Decision:
        """Record a refusal and say who refused. Raises `Moved` where it was decided on what is no longer so, 503."""
        token, call, error = asked.token, asked.call, denial.error
        event = CallRefused(
            who=who_acts(token),
            jti=token.jti,
            resource=asked.resource.value.uri,
            action=call.action,
            layer=error.layer,
            reason=error.reason,
            object=call.facts().get("object"),
            amount=call.facts().get("amount"),
            task=token.task,
            consent=token.lineage.consent,
            policies=asked.policies,
            question=denial.question.recorded() if denial.question is not None else None,
            forbidden_by=denial.policies or None,
        )
        identifier, record = serialize(event)
        self.live.commit(Commit(generation=asked.caller.generation, versions=asked.versions, record=record, stream=CALLS))
        return Decision(allowed=False, context={"id": identifier, "layer": error.layer, **error.extra})

    def _spends(self, asked: Asked, task: Task | None) -> tuple[tuple[Spend, ...], AccessDenied | None]:
        """What it would take from the limits of task and consent, and the refusal where they have not enough left."""
        if task is None:
            return (), None
        held = asked.behind.consent
        try:
            spends = of_event(task, held.value if held is not None else None, asked.call.amount, asked.token.authority.amount)
        except AccessDenied as refusal:
            return (), refusal
        return spends, self.allowances.lacking(spends, asked.caller.generation)

    def _permit(self, asked: Asked, task: Task | None, history: History, spends: tuple[Spend, ...], question: Question | None) -> Decision:
        """Everything it was decided on is still so, and the record is on its way; what is done is taken and touched with it."""
        token, call = asked.token, asked.call
        if not call.consume or task is None:
            return self._looked_at(asked, task, history, question)
        until = task.deadline + REMEMBER
        touched = asked.resource.value.touched_by(frozenset({call.scope})) | call.labels
        touch = Touch(task.id, history.size, sorted(touched - history.labels), until)
        once = () if call.reference is None else (once_done(asked.resource.value, task, call.reference, call.amount, touched),)
        identifier, record = serialize(CallConsumed(labels=sorted(touched), **_facts(asked, question)))
        try:
            self.allowances.commit(replace(_unmoved(asked, token), touch=touch, once=once, record=record), spends)
        except UsedTwice:
            # Done before under this reference: it is counted once, and each answer has a record of its own.
            known = self._looked_at(asked, task, history, question)
            return Decision(allowed=True, context={**known.context, "consumed": True, "repeated": True})
        self.histories.grown(touch)
        return Decision(allowed=True, context={"id": identifier, "consumed": True})

    def _looked_at(self, asked: Asked, task: Task | None, history: History, question: Question | None) -> Decision:
        """Permitted, and nothing taken or touched."""
        touch = Touch(task.id, history.size, (), task.deadline + REMEMBER) if task is not None else None
        identifier, record = serialize(CallPermitted(**_facts(asked, question)))
        self.live.commit(replace(_unmoved(asked, asked.token), touch=touch, record=record, stream=CALLS))
        return Decision(allowed=True, context={"id": identifier})


def once_done(resource: Resource, task: Task, reference: str, amount: Amount | None, labels: frozenset[str]) -> Once:
    """The mark under which a resource's own id of what was done counts once, reported or asked about.

    With another amount or other labels it is another deed, whatever it is called: it is counted and touches by itself.
    """
    done = sha256(json.dumps([amount, sorted(labels)]).encode()).hexdigest()
    return Once("event", f"{resource.id} {task.id} {done} {reference}", max(1, task.deadline + REMEMBER - clock.timestamp()))


def _unmoved(asked: Asked, token: VerifiedToken) -> Commit:
    """What every permit compares: the token lives, and all it was decided on is as it was read."""
    return Commit(generation=asked.caller.generation, epochs=token.lineage.epochs, versions=asked.versions, undenied=token.denied_by)


def _facts(asked: Asked, question: Question | None) -> dict[str, Any]:
    token, call = asked.token, asked.call
    return {
        "who": who_acts(token),
        "jti": token.jti,
        "resource": asked.resource.value.uri,
        "action": call.action,
        "object": call.facts().get("object"),
        "amount": call.facts().get("amount"),
        "reference": call.reference,
        "task": token.task,
        "consent": token.lineage.consent,
        "policies": asked.policies,
        "question": question.recorded() if question is not None else None,
    }
