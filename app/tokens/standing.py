"""Whether an issued token still stands, under the policies of now and what its task has touched since (protocol §8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from app import clock
from app.agents.agent import Agent, Agents
from app.audit.events import TokenForbidden, Who
from app.clients.instance import Instance, Instances
from app.delegation.consent import Consent, Consents
from app.delegation.task import Task, Tasks
from app.live.cache import Held, versions_of
from app.live.commit import Live, Moved
from app.live.history import Histories, History
from app.live.things import POLICIES, Thing
from app.policy.call import Call
from app.policy.cedar import PolicySet, Question
from app.policy.policies import Policies
from app.policy.question import ask_about, beside
from app.resources.resource import Resource
from app.tokens.approvals import Approvals
from app.tokens.verify import VerifiedToken


class Behind(NamedTuple):
    """Who and what is behind a token, as this worker remembers it."""

    agent: Held[Agent] | None
    instance: Held[Instance] | None
    consent: Held[Consent] | None
    task: Held[Task] | None

    @property
    def versions(self) -> dict[Thing, int]:
        """What must not have moved for that to be true: whoever decides on it has a commit compare them."""
        return versions_of(*self)


@dataclass(frozen=True, slots=True)
class Standing:
    """Asks the policies about tokens that were issued before."""

    live: Live
    agents: Agents
    instances: Instances
    consents: Consents
    tasks: Tasks
    histories: Histories
    policies: Policies
    approvals: Approvals

    def behind(self, token: VerifiedToken) -> Behind:
        """What stands behind it, from memory or SQL."""
        return Behind(
            agent=self.agents.of_client(token.client_id),
            instance=self.instances.find(token.instance) if token.instance is not None else None,
            consent=self.consents.find(token.lineage.consent) if token.lineage.consent else None,
            task=self.tasks.find(token.task) if token.task else None,
        )

    def forbidden(self, token: VerifiedToken, behind: Behind, resource: Resource, version: int) -> TokenForbidden | None:
        """Why the policies of that version forbid the token now; None when they do not. Raises `Moved` until it has them."""
        current = self.policies_of(version)
        question = self.question(token, behind, resource, current)
        if question is None or (said := current.ask(question)).allowed:
            return None
        return TokenForbidden(
            who=who_acts(token),
            jti=token.jti,
            resource=resource.uri,
            reason="forbidden by " + ", ".join(said.policies),
            policies=version,
            task=token.task,
            consent=token.lineage.consent,
            question=question.recorded(),
            forbidden_by=said.policies,
        )

    def policies_of(self, version: int) -> PolicySet:
        """The set of that version, which Redis says is in force. Raises `Moved` when this worker has another."""
        held = self.policies.current()
        if held.reading.version != version:
            self.live.moved(POLICIES)
            raise Moved("policies")
        return held.value

    def question(
        self,
        token: VerifiedToken,
        behind: Behind,
        resource: Resource,
        policies: PolicySet,
        call: Call | None = None,
        history: History | None = None,
    ) -> Question | None:
        """What is asked about a token for that resource, or about one call with it. None when no agent is behind it.

        `history`: the task's, for who compares its size at a commit; without it, as it is now.
        """
        agent, instance, consent, task = behind
        if agent is None:
            return None
        touched: frozenset[str] = frozenset()
        if task is not None:
            touched = task.value.labels | (history or self.histories.of(task.value.id, certain=True)).labels
        scope = token.authority.scope if call is None else frozenset({call.scope})
        question = ask_about(
            action="issue" if call is None else "call",
            agent=agent.value,
            target=resource.uri,
            target_labels=resource.labels,
            human=token.subject if token.human else None,
            away=consent is not None and consent.value.away,
            signed_in=token.signed_in,
            chain=token.authority.chain,
            task=task.value if task is not None else None,
            scopes=scope,
            labels=resource.touched_by(scope) | (call.labels if call is not None else frozenset()),
            touched=touched,
            now=clock.timestamp(),
            call=call,
            # What its human said to the policies that asked, she said of this token.
            approved=self.approvals.answered(token.lineage.approval) if token.lineage.approval else None,
            instance=instance.value if instance is not None else None,
        )
        if task is None or not policies.looks_beside(question):
            return question
        return beside(question, self.tasks.touched_beside(task.value, self.histories))


def who_acts(token: VerifiedToken) -> Who:
    """The chain and the human of a token, as the ledger says it."""
    return Who(
        actors=tuple(actor.sub for actor in token.authority.chain.actors),
        human=token.subject if token.human else None,
        client=token.client_id,
        instance=token.instance,
    )
