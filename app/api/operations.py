"""Every operation of the API, in one visible tuple. The routes, the checks and the OpenAPI document are made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.api import answers, asked
from app.oversight.caller import Caller, Scope
from app.oversight.office import Office, Page


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be done."""

    method: str
    path: str
    """Under the API's own; members of what is asked in braces."""
    scopes: tuple[Scope, ...]
    """One of these is needed."""
    takes: type[asked.Asked]
    gives: type[answers.Answer]
    act: Callable[[Office, Caller, Any], answers.Answer]
    """Calls the deed and shapes its answer; decides nothing."""

    @property
    def name(self) -> str:
        """`operationId`."""
        return self.act.__name__

    @property
    def summary(self) -> str:
        """In a sentence."""
        return (self.act.__doc__ or "").strip()


def list_agents(office: Office, caller: Caller, which: asked.WhichAgents) -> answers.Agents:
    """The agents, by id."""
    page = office.inventory(caller, state=which.state, owner=which.owner, after=which.after, size=which.limit)
    return answers.Agents(agents=[answers.Agent.of(row) for row in page.rows], next=_next(page))


def show_agent(office: Office, caller: Caller, one: asked.OneAgent) -> answers.Agent:
    """One agent."""
    return answers.Agent.of(office.agent(caller, one.agent))


def suspend_agent(office: Office, caller: Caller, one: asked.OneAgent) -> answers.Agent:
    """End all that hangs on an agent, and keep it out until it is resumed."""
    return answers.Agent.of(office.suspend(caller, one.agent))


def resume_agent(office: Office, caller: Caller, one: asked.OneAgent) -> answers.Agent:
    """Let a suspended agent work again. What ended stays ended."""
    return answers.Agent.of(office.resume(caller, one.agent))


def retire_agent(office: Office, caller: Caller, one: asked.OneAgent) -> answers.Agent:
    """End all that hangs on an agent, for ever."""
    return answers.Agent.of(office.retire(caller, one.agent))


def list_instances(office: Office, caller: Caller, one: asked.OneAgent) -> answers.Instances:
    """The running copies of an agent, the newest first; those that ended too, for thirty days."""
    return answers.Instances(instances=[answers.Instance.of(row) for row in office.copies(caller, one.agent)])


def revoke_instance(office: Office, caller: Caller, one: asked.OneInstance) -> answers.Instance:
    """End one running copy of an agent and all it got. Its siblings go on."""
    return answers.Instance.of(office.end_copy(caller, one.instance))


def list_consents(office: Office, caller: Caller, which: asked.WhichConsents) -> answers.Consents:
    """The consents that stand, by id."""
    page = office.allowed(caller, human=which.human, agent=which.agent, after=which.after, size=which.limit)
    return answers.Consents(consents=[answers.Consent.of(row, stands=True) for row in page.rows], next=_next(page))


def show_consent(office: Office, caller: Caller, one: asked.OneConsent) -> answers.Consent:
    """One consent."""
    row, stands = office.consent(caller, one.consent)
    return answers.Consent.of(row, stands=stands)


def withdraw_consent(office: Office, caller: Caller, one: asked.OneConsent) -> answers.Consent:
    """End a consent and everything under it."""
    row, stands = office.withdraw(caller, one.consent)
    return answers.Consent.of(row, stands=stands)


def list_tasks(office: Office, caller: Caller, which: asked.WhichTasks) -> answers.Tasks:
    """The tasks, by id."""
    page = office.work(caller, human=which.human, agent=which.agent, consent=which.consent, after=which.after, size=which.limit)
    return answers.Tasks(tasks=[answers.Task.of(row) for row in page.rows], next=_next(page))


def show_task(office: Office, caller: Caller, one: asked.OneTask) -> answers.Task:
    """One task."""
    return answers.Task.of(office.task(caller, one.task))


def end_task(office: Office, caller: Caller, one: asked.OneTask) -> answers.Task:
    """End a task for good; its tokens are dead."""
    return answers.Task.of(office.end_task(caller, one.task))


def preview_kill(office: Office, caller: Caller, stop: asked.ToStop) -> answers.Stopped:
    """What a kill would end. Changes nothing."""
    target, count = office.preview(caller, stop.what, stop.reference)
    return answers.Stopped.of(target, count, preview=True)


def kill(office: Office, caller: Caller, stop: asked.ToKill) -> answers.Stopped:
    """End all that hangs on a thing, at once and for good, and say how much that was."""
    target, count = office.stop(caller, stop.what, stop.reference, keep_out=stop.keep_out)
    return answers.Stopped.of(target, count, preview=False)


def query_ledger(office: Office, caller: Caller, which: asked.WhichEntries) -> answers.Ledger:
    """Entries of the ledger, the newest first."""
    wanted = which.model_dump(exclude={"before", "limit"}, exclude_none=True)
    page = office.ledger(caller, wanted, before=which.before, size=which.limit)
    return answers.Ledger(entries=[answers.Entry.of(entry) for entry in page.rows], next=page.rows[-1].seq if page.more else None)


def explain(office: Office, caller: Caller, one: asked.OneDecision) -> answers.Explanation:
    """One decision explained: what each layer took away, how it came to be, and what became of it."""
    return answers.Explanation.model_validate(office.explanation(caller, one.reference))


def list_resources(office: Office, caller: Caller, _: asked.Nothing) -> answers.Resources:
    """Every API, by URI."""
    return answers.Resources(resources=[answers.Resource.of(row) for row in office.apis(caller)])


def show_resource(office: Office, caller: Caller, one: asked.OneResource) -> answers.Resource:
    """One API."""
    return answers.Resource.of(office.api(caller, one.resource))


def list_applications(office: Office, caller: Caller, _: asked.Nothing) -> answers.Applications:
    """Every application, by name."""
    return answers.Applications(applications=[answers.Application.of(row) for row in office.applications(caller)])


def show_application(office: Office, caller: Caller, one: asked.OneApplication) -> answers.Application:
    """One application."""
    return answers.Application.of(office.application(caller, one.client_id))


def list_policies(office: Office, caller: Caller, _: asked.Nothing) -> answers.Policies:
    """Every version of every policy, by name, the newest first."""
    return answers.Policies(policies=[answers.Policy.of(row) for row in office.rules(caller)])


def show_policy(office: Office, caller: Caller, one: asked.OnePolicyVersion) -> answers.Policy:
    """A version of a policy, or the newest."""
    return answers.Policy.of(office.rule(caller, one.policy, one.version))


def add_policy(office: Office, caller: Caller, new: asked.NewPolicy) -> answers.Policy:
    """Save the next version of a policy; it is in force once it is activated."""
    return answers.Policy.of(office.add_rule(caller, new.policy, new.text, new.rule))


def activate_policy(office: Office, caller: Caller, one: asked.PolicyToActivate) -> answers.Policy:
    """Put a version in force, in place of the one before."""
    return answers.Policy.of(office.activate_rule(caller, one.policy, one.version))


def retire_policy(office: Office, caller: Caller, one: asked.OnePolicy) -> answers.Policy:
    """Take a policy out of force."""
    return answers.Policy.of(office.retire_rule(caller, one.policy))


def list_approvals(office: Office, caller: Caller, _: asked.Nothing) -> answers.Approvals:
    """What agents wait for a human to approve, the oldest first."""
    return answers.Approvals(approvals=[answers.Approval.of(one) for one in office.questions(caller)])


def deny_approval(office: Office, caller: Caller, one: asked.OneApproval) -> answers.Denied:
    """Say no to a question that waits. Only the human herself says yes, on her page."""
    office.say_no(caller, one.approval)
    return answers.Denied(id=one.approval)


def _next(page: Page) -> str | None:
    return str(page.rows[-1].id) if page.more else None


READ = (Scope.OWN_READ, Scope.ADMIN_READ)
WRITE = (Scope.OWN_WRITE, Scope.ADMIN_WRITE)
OVERSEE = (Scope.ADMIN_READ,)
GOVERN = (Scope.ADMIN_WRITE,)
STOP = (Scope.KILL,)

OPERATIONS = (
    Operation("GET", "/agents", READ, asked.WhichAgents, answers.Agents, list_agents),
    Operation("GET", "/agents/{agent}", READ, asked.OneAgent, answers.Agent, show_agent),
    Operation("POST", "/agents/{agent}/suspend", WRITE, asked.OneAgent, answers.Agent, suspend_agent),
    Operation("POST", "/agents/{agent}/resume", GOVERN, asked.OneAgent, answers.Agent, resume_agent),
    Operation("POST", "/agents/{agent}/retire", WRITE, asked.OneAgent, answers.Agent, retire_agent),
    Operation("GET", "/agents/{agent}/instances", READ, asked.OneAgent, answers.Instances, list_instances),
    Operation("POST", "/instances/{instance}/revoke", WRITE, asked.OneInstance, answers.Instance, revoke_instance),
    Operation("GET", "/consents", READ, asked.WhichConsents, answers.Consents, list_consents),
    Operation("GET", "/consents/{consent}", READ, asked.OneConsent, answers.Consent, show_consent),
    Operation("POST", "/consents/{consent}/withdraw", WRITE, asked.OneConsent, answers.Consent, withdraw_consent),
    Operation("GET", "/tasks", READ, asked.WhichTasks, answers.Tasks, list_tasks),
    Operation("GET", "/tasks/{task}", READ, asked.OneTask, answers.Task, show_task),
    Operation("POST", "/tasks/{task}/end", WRITE, asked.OneTask, answers.Task, end_task),
    Operation("POST", "/kill/preview", STOP, asked.ToStop, answers.Stopped, preview_kill),
    Operation("POST", "/kill", STOP, asked.ToKill, answers.Stopped, kill),
    Operation("GET", "/ledger", READ, asked.WhichEntries, answers.Ledger, query_ledger),
    Operation("GET", "/explain/{reference}", READ, asked.OneDecision, answers.Explanation, explain),
    Operation("GET", "/resources", OVERSEE, asked.Nothing, answers.Resources, list_resources),
    Operation("GET", "/resources/{resource}", OVERSEE, asked.OneResource, answers.Resource, show_resource),
    Operation("GET", "/applications", OVERSEE, asked.Nothing, answers.Applications, list_applications),
    Operation("GET", "/applications/{client_id}", OVERSEE, asked.OneApplication, answers.Application, show_application),
    Operation("GET", "/policies", OVERSEE, asked.Nothing, answers.Policies, list_policies),
    Operation("GET", "/policies/{policy}", OVERSEE, asked.OnePolicyVersion, answers.Policy, show_policy),
    Operation("POST", "/policies/{policy}", GOVERN, asked.NewPolicy, answers.Policy, add_policy),
    Operation("POST", "/policies/{policy}/activate", GOVERN, asked.PolicyToActivate, answers.Policy, activate_policy),
    Operation("POST", "/policies/{policy}/retire", GOVERN, asked.OnePolicy, answers.Policy, retire_policy),
    Operation("GET", "/approvals", READ, asked.Nothing, answers.Approvals, list_approvals),
    Operation("POST", "/approvals/{approval}/deny", WRITE, asked.OneApproval, answers.Denied, deny_approval),
)
