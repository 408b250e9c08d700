"""The deeds of governance, each behind the duty it takes: pages, API and command line differ only in how they ask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.agents.change import Change
from app.agents.enrolment import Enrolment, Enrolments
from app.agents.models import AgentRow
from app.agents.registry import AgentRegistry
from app.clients.registration import Registered
from app.errors import Refused
from app.humans.accounts import Accounts
from app.oversight.counting import Count
from app.oversight.governance import Duty, NotYours, Officer
from app.oversight.kill import Kill
from app.oversight.target import Target, Targets, What
from app.policy.models import PolicyRow
from app.policy.policies import Policies
from app.resources.registry import ResourceRegistry
from app.vocabulary import ConfirmationMethod, Pairs, Role

ENROL_MINUTES, ENROL_HOURS = 10, 8
"""How long an enrolment code waits, and how long the instance lives that begins with it."""


@dataclass(frozen=True, slots=True)
class Administration:
    """Every method takes who asks first. All raise `NotYours`, `StaleSignIn`, `Refused`, `NotFound`, `NotYetInForce`."""

    agents: AgentRegistry
    enrolments: Enrolments
    resources: ResourceRegistry
    accounts: Accounts
    policies: Policies
    targets: Targets
    kill: Kill

    # Agents

    def agent(self, officer: Officer, reference: str) -> AgentRow:
        """The agent, if she may see it."""
        row = self.agents.get(reference)
        officer.check(Duty.READ, row.owner)
        return row

    def register(
        self,
        officer: Officer,
        name: str,
        *,
        owner: str,
        purpose: str,
        ceiling: Pairs,
        own: Pairs = frozenset(),
        hands_to: Iterable[str] = (),
        max_depth: int | None = None,
        redirect_uris: Sequence[str] = (),
        jwks: Mapping[str, Any] | None = None,
        keyless: bool = False,
        draft: bool,
    ) -> Registered:
        """Register an agent. Whoever does not govern registers a draft of her own, for an operator to look at."""
        officer.check(Duty.DRAFT if draft else Duty.GOVERN)
        if not officer.governs and owner != officer.id:
            raise NotYours
        return self.agents.add(
            name,
            owner=owner,
            purpose=purpose,
            ceiling=ceiling,
            own=own,
            hands_to=hands_to,
            max_depth=max_depth,
            redirect_uris=redirect_uris,
            jwks=jwks,
            keyless=keyless,
            draft=draft,
            by=officer.who,
        )

    def change_agent(self, officer: Officer, reference: str, change: Change) -> bool:
        """Change what is registered. Returns whether that ended what hung on it. An owner may change words, not reach."""
        row = self.agents.get(reference)
        words = Change(name=change.name, purpose=change.purpose)
        officer.check(Duty.DESCRIBE if change == words else Duty.GOVERN, row.owner)
        return self.agents.change(row.id, change, by=officer.who)

    def activate(self, officer: Officer, reference: str) -> None:
        """Let a draft, or a suspended agent, work."""
        officer.check(Duty.GOVERN)
        row = self.agents.get(reference)
        if row.state == "draft":
            self.agents.activate(row.id, by=officer.who)
        else:
            self.agents.resume(row.id, by=officer.who)

    def suspend(self, officer: Officer, reference: str) -> Count:
        """End all that hangs on the agent and keep it out until it is let in again."""
        target = self.targets.find(What.AGENT, reference)
        return self.stop(officer, target, keep_out=True)

    def retire(self, officer: Officer, reference: str) -> None:
        """End all that hangs on the agent, for ever."""
        row = self.agents.get(reference)
        officer.check(Duty.STOP, row.owner)
        self.agents.retire(row.id, by=officer.who)

    def add_key(self, officer: Officer, reference: str, jwk: Mapping[str, Any]) -> None:
        """Add a public key."""
        row = self.agents.get(reference)
        officer.check(Duty.KEYS, row.owner)
        self.agents.add_key(row.id, jwk, by=officer.who)

    def remove_key(self, officer: Officer, reference: str, kid: str) -> None:
        """Remove a public key."""
        row = self.agents.get(reference)
        officer.check(Duty.KEYS, row.owner)
        self.agents.remove_key(row.id, kid, by=officer.who)

    def enrol(self, officer: Officer, reference: str) -> Enrolment:
        """A code with which one running copy of the agent registers a key of its own. Shown once."""
        row = self.agents.get(reference)
        officer.check(Duty.KEYS, row.owner)
        return self.enrolments.give(row.client_id, minutes=ENROL_MINUTES, hours=ENROL_HOURS, by=officer.who)

    # APIs

    def register_resource(
        self,
        officer: Officer,
        uri: str,
        *,
        name: str,
        scopes: Mapping[str, str],
        labels: Iterable[str],
        scope_labels: Mapping[str, Iterable[str]],
        alg: str,
        bound: Iterable[ConfirmationMethod],
    ) -> Registered:
        """Register an API, as `ResourceRegistry.add` takes it."""
        officer.check(Duty.GOVERN)
        return self.resources.add(
            uri, name=name, scopes=scopes, labels=labels, scope_labels=scope_labels, alg=alg, bound=bound, by=officer.who
        )

    def change_resource(
        self,
        officer: Officer,
        reference: str,
        *,
        name: str,
        scopes: Mapping[str, str],
        labels: Iterable[str],
        scope_labels: Mapping[str, Iterable[str]],
    ) -> bool:
        """Change an API, as `ResourceRegistry.change` takes it. Returns whether every token for it has ended."""
        officer.check(Duty.GOVERN)
        change = self.resources.change
        return change(reference, name=name, scopes=scopes, labels=labels, scope_labels=scope_labels, by=officer.who)

    def enable_resource(self, officer: Officer, reference: str) -> None:
        """Open an API again."""
        officer.check(Duty.GOVERN)
        self.resources.enable(reference, by=officer.who)

    def new_resource_secret(self, officer: Officer, reference: str) -> tuple[str, str]:
        """`client_id` and a fresh secret for introspection."""
        officer.check(Duty.GOVERN)
        return self.resources.new_secret(reference, by=officer.who)

    # Policies

    def save_policy(self, officer: Officer, name: str, text: str, *, owner: str, rule: str) -> PolicyRow:
        """Save the next version of a policy."""
        officer.check(Duty.GOVERN)
        return self.policies.add(name, text, owner=owner, rule=rule, by=officer.who)

    def activate_policy(self, officer: Officer, name: str, version: int) -> PolicyRow:
        """Put a version in force."""
        officer.check(Duty.GOVERN)
        return self.policies.activate(name, version, by=officer.who)

    def retire_policy(self, officer: Officer, name: str) -> None:
        """Take a policy out of force."""
        officer.check(Duty.GOVERN)
        self.policies.retire(name, by=officer.who)

    # People

    def set_role(self, officer: Officer, human_id: str, role: Role) -> None:
        """Give a human an office or take it. Nobody takes her own: so that one operator is left."""
        officer.check(Duty.GOVERN)
        if human_id == officer.id:
            raise Refused("somebody else changes your own role")
        self.accounts.set_role(human_id, role, by=officer.who)

    def enable_human(self, officer: Officer, human_id: str) -> None:
        """Let somebody who was kept out sign in again."""
        officer.check(Duty.GOVERN)
        self.accounts.enable(human_id, by=officer.who)

    # The kill switch

    def preview(self, officer: Officer, target: Target) -> Count:
        """What would end."""
        officer.check(Duty.READ, target.owner)
        return self.kill.preview(target)

    def stop(self, officer: Officer, target: Target, *, keep_out: bool = False) -> Count:
        """End it. The owner of an agent may stop that agent and what it holds; everything else an operator stops."""
        officer.check(Duty.STOP if may_own(target) else Duty.GOVERN, target.owner)
        if target.what is What.EVERYTHING and keep_out:
            raise Refused("everything cannot be kept out")
        return self.kill.end(target, keep_out=keep_out, by=officer.who)


def may_own(target: Target) -> bool:
    """Whether it is a thing of one agent, whose owner may stop it.."""
    return target.what in {What.TOKEN, What.FAMILY, What.TASK, What.CONSENT, What.AGENT, What.INSTANCE, What.CLIENT, What.OWNER}
