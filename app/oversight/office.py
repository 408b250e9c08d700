"""What the JSON API does: each read and deed behind what its caller may, on the registers that pages and command line use too.

What is out of the caller's reach is not found, as if it were not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import InstrumentedAttribute

from app import clock
from app.agents.models import AgentRow
from app.agents.registry import AgentRegistry
from app.clients.instance import Instances
from app.clients.models import ClientRow, InstanceRow
from app.clients.registry import AppRegistry
from app.database import Base, Database
from app.delegation.consent import Consents
from app.delegation.models import ConsentRow, TaskRow
from app.delegation.task import Tasks
from app.errors import NotFound
from app.ledger.models import EntryRow
from app.ledger.queries import Entry, read_entry
from app.live import footing
from app.oversight.caller import Caller, Whose
from app.oversight.counting import Count
from app.oversight.explain import Explain
from app.oversight.facts import facts
from app.oversight.kill import Kill
from app.oversight.target import Target, Targets, What
from app.policy.models import PolicyRow
from app.policy.policies import Policies
from app.resources.models import ResourceRow
from app.resources.registry import ResourceRegistry
from app.tokens.approvals import ApprovalRequest, Approvals

Row = TypeVar("Row", bound=Base)


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and whether more follow."""

    rows: Sequence[Any]
    more: bool


@dataclass(frozen=True, slots=True)
class Office:
    """Every method takes who asks first. All raise `NoOffice`, `NotFound`, `Refused`, `TemporarilyUnavailable`."""

    database: Database
    agents: AgentRegistry
    instances: Instances
    apps: AppRegistry
    resources: ResourceRegistry
    consents: Consents
    tasks: Tasks
    policies: Policies
    approvals: Approvals
    targets: Targets
    kill: Kill
    explain: Explain

    # Agents and their instances

    def inventory(self, caller: Caller, *, state: str | None, owner: str | None, after: str | None, size: int) -> Page:
        """Agents, by id."""
        which = [caller.may_read().agents()]
        which += [AgentRow.state == state] if state else []
        which += [AgentRow.owner == owner] if owner else []
        return self._page(AgentRow.id, which, after, size)

    def agent(self, caller: Caller, reference: str) -> AgentRow:
        """One agent."""
        return self._agent(caller.may_read(), reference)

    def suspend(self, caller: Caller, reference: str) -> AgentRow:
        """End all that hangs on it and keep it out until it is resumed."""
        row = self._governed(caller, reference)
        self.agents.suspend(row.id, by=caller.doing(row.owner))
        return self.agents.get(row.id)

    def retire(self, caller: Caller, reference: str) -> AgentRow:
        """End all that hangs on it, for ever."""
        row = self._governed(caller, reference)
        self.agents.retire(row.id, by=caller.doing(row.owner))
        return self.agents.get(row.id)

    def resume(self, caller: Caller, reference: str) -> AgentRow:
        """Let a suspended agent work again."""
        caller.governs()
        row = self._agent(Whose(), reference)
        self.agents.resume(row.id, by=caller.doing())
        return self.agents.get(row.id)

    def copies(self, caller: Caller, reference: str) -> list[InstanceRow]:
        """The instances of an agent, the newest first."""
        return self.instances.of_client(self._agent(caller.may_read(), reference).client_id)

    def end_copy(self, caller: Caller, instance: str) -> InstanceRow:
        """End one instance and all it got."""
        whose = caller.may_write()
        mine = select(AgentRow.client_id).where(whose.agents())
        row = self._one(InstanceRow, InstanceRow.id == instance, InstanceRow.client_id.in_(mine))
        self.instances.end(row.id, by=caller.doing(self._agent(whose, row.client_id).owner))
        return self._one(InstanceRow, InstanceRow.id == instance)

    # What people allowed

    def allowed(self, caller: Caller, *, human: str | None, agent: str | None, after: str | None, size: int) -> Page:
        """Consents that stand, by id."""
        which = [caller.may_read().consents(), *_standing()]
        which += [ConsentRow.human == human] if human else []
        which += [ConsentRow.agent == agent] if agent else []
        return self._page(ConsentRow.id, which, after, size)

    def consent(self, caller: Caller, consent: str) -> tuple[ConsentRow, bool]:
        """One consent, and whether it stands."""
        return self._consent(caller.may_read(), consent)

    def withdraw(self, caller: Caller, consent: str) -> tuple[ConsentRow, bool]:
        """End a consent and everything under it."""
        row, _ = self._consent(caller.may_write(), consent)
        self.consents.withdraw(row.id, by=caller.doing(row.human))
        return self._consent(Whose(), consent)

    def work(self, caller: Caller, *, human: str | None, agent: str | None, consent: str | None, after: str | None, size: int) -> Page:
        """Tasks, by id."""
        which = [caller.may_read().tasks()]
        which += [
            column == value for column, value in ((TaskRow.human, human), (TaskRow.agent, agent), (TaskRow.consent, consent)) if value
        ]
        return self._page(TaskRow.id, which, after, size)

    def task(self, caller: Caller, task: str) -> TaskRow:
        """One task."""
        return self._one(TaskRow, TaskRow.id == task, caller.may_read().tasks())

    def end_task(self, caller: Caller, task: str) -> TaskRow:
        """End a task for good."""
        row = self._one(TaskRow, TaskRow.id == task, caller.may_write().tasks())
        self.tasks.end(row.id, by=caller.doing(row.human))
        return self._one(TaskRow, TaskRow.id == task)

    # The kill switch

    def preview(self, caller: Caller, what: What, reference: str) -> tuple[Target, Count]:
        """What would end."""
        target = self._target(caller, what, reference)
        return target, self.kill.preview(target)

    def stop(self, caller: Caller, what: What, reference: str, *, keep_out: bool) -> tuple[Target, Count]:
        """End it, and say what that was."""
        target = self._target(caller, what, reference)
        caller.signed_in_lately()
        return target, self.kill.end(target, keep_out=keep_out, by=caller.doing(target.owner))

    # The ledger

    def ledger(self, caller: Caller, which: Mapping[str, str], *, before: int | None, size: int) -> Page:
        """Entries whose columns have these values, the newest first, numbered below `before`."""
        statement = select(EntryRow).where(caller.may_read().entries())
        statement = statement.where(*(getattr(EntryRow, name) == value for name, value in which.items()))
        if before is not None:
            statement = statement.where(EntryRow.seq < before)
        with self.database.reading() as session:
            rows = [read_entry(row) for row in session.scalars(statement.order_by(EntryRow.seq.desc()).limit(size + 1))]
        return Page(rows[:size], len(rows) > size)

    def explanation(self, caller: Caller, reference: str) -> dict[str, Any]:
        """One decision explained, by a token's jti or a record's id."""
        whose = caller.may_read()
        made = self.explain.of(reference)
        if not self._may_be_told(whose, made.entry):
            raise NotFound(f"neither the ledger nor what is on its way to it knows {reference}")
        return facts(made)

    # What is nobody's own

    def apis(self, caller: Caller) -> list[ResourceRow]:
        """Every API, by URI."""
        caller.oversees()
        return self.resources.list()

    def api(self, caller: Caller, resource: str) -> ResourceRow:
        """One API, by id."""
        caller.oversees()
        return self.resources.get(resource)

    def applications(self, caller: Caller) -> list[ClientRow]:
        """Every application, by name."""
        caller.oversees()
        return self.apps.list()

    def application(self, caller: Caller, client_id: str) -> ClientRow:
        """One application."""
        caller.oversees()
        return self.apps.get(client_id)

    def rules(self, caller: Caller) -> list[PolicyRow]:
        """Every version of every policy, by name, the newest first."""
        caller.oversees()
        return self.policies.list()

    def rule(self, caller: Caller, name: str, version: int | None) -> PolicyRow:
        """A version of a policy, or the newest."""
        caller.oversees()
        return self.policies.get(name, version)

    def add_rule(self, caller: Caller, name: str, text: str, rule: str) -> PolicyRow:
        """Save the next version of a policy. Whoever stands behind the caller answers for it."""
        caller.governs()
        owner = caller.human.id if caller.human is not None else caller.acting.owner or ""
        return self.policies.add(name, text, owner=owner, rule=rule, by=caller.doing())

    def activate_rule(self, caller: Caller, name: str, version: int) -> PolicyRow:
        """Put a version in force."""
        caller.governs()
        return self.policies.activate(name, version, by=caller.doing())

    def retire_rule(self, caller: Caller, name: str) -> PolicyRow:
        """Take a policy out of force. Returns the version that was."""
        caller.governs()
        version = next((row.version for row in self.policies.list() if row.name == name and row.state == "active"), None)
        self.policies.retire(name, by=caller.doing())
        return self.policies.get(name, version)

    # What agents ask people

    def questions(self, caller: Caller) -> list[ApprovalRequest]:
        """What waits for an answer, the oldest first."""
        whose = caller.may_read()
        waiting = self.approvals.waiting(whose.human)
        return [one for one in waiting if whose.agent is None or one.parameters.client_id == whose.agent.client_id]

    def say_no(self, caller: Caller, approval: str) -> None:
        """Say no to a question that waits. Only the human herself says yes, on her page."""
        whose = caller.may_write()
        asked = next((one for one in self.questions_of(whose) if one.id == approval), None)
        if asked is None:
            raise NotFound(f"no approval {approval} waits")
        self.approvals.deny(approval, by=caller.doing(asked.parameters.human))

    def questions_of(self, whose: Whose) -> list[ApprovalRequest]:
        """What waits for an answer of these people. An agent does not answer what it asked itself."""
        return [] if whose.agent is not None else self.approvals.waiting(whose.human)

    # How things are found

    def _agent(self, whose: Whose, reference: str) -> AgentRow:
        exact = (AgentRow.id == reference) | (AgentRow.client_id == reference)
        return self._one(AgentRow, exact, whose.agents())

    def _governed(self, caller: Caller, reference: str) -> AgentRow:
        """An agent that is to be stopped. No agent stops or retires itself: that is for who answers for it."""
        whose = caller.may_write()
        row = self._agent(whose, reference)
        if whose.agent is not None:
            raise NotFound(f"no agent {reference} to answer for")
        caller.signed_in_lately()
        return row

    def _consent(self, whose: Whose, consent: str) -> tuple[ConsentRow, bool]:
        row = self._one(ConsentRow, ConsentRow.id == consent, whose.consents())
        with self.database.reading() as session:
            return row, session.scalar(select(ConsentRow.id).where(ConsentRow.id == consent, *_standing())) is not None

    def _target(self, caller: Caller, what: What, reference: str) -> Target:
        """The target. Whoever may stop only what she answers for is not told of anything else."""
        try:
            target = self.targets.find(what, reference)
        except NotFound:
            caller.may_stop(None)
            raise
        caller.may_stop(target.owner)
        return target

    def _may_be_told(self, whose: Whose, entry: Entry) -> bool:
        who = entry.record["who"]
        actor = next(iter(who.get("actors", ())), None)
        if whose.everybody:
            return True
        if whose.agent is not None:
            return bool(whose.agent.uri == actor or whose.agent.client_id == who.get("client"))
        if who.get("human") == whose.human or who.get("owner") == whose.human:
            return True
        with self.database.reading() as session:
            return session.scalar(select(AgentRow.id).where(AgentRow.uri == actor, whose.agents())) is not None

    def _one(self, kind: type[Row], *which: ColumnElement[bool]) -> Row:
        with self.database.reading() as session:
            row = session.scalar(select(kind).where(*which))
        if row is None:
            raise NotFound("not there, or not yours")
        return row

    def _page(self, key: InstrumentedAttribute[str], which: Sequence[ColumnElement[bool]], after: str | None, size: int) -> Page:
        statement = select(key.class_).where(*which).order_by(key).limit(size + 1)
        if after is not None:
            statement = statement.where(key > after)
        with self.database.reading() as session:
            rows = list(session.scalars(statement))
        return Page(rows[:size], len(rows) > size)


def _standing() -> tuple[ColumnElement[bool], ...]:
    """Consents that are neither ended nor over, and that no deed has felled."""
    return ConsentRow.ended_at.is_(None), ConsentRow.until > clock.timestamp(), ~footing.fallen(ConsentRow.footing)
