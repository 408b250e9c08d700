"""What agents and resources ask of tasks: open, look, end, report (protocol §7)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from app import clock
from app.agents.agent import Agent
from app.audit import record, serialize
from app.audit.events import TaskRefused, TaskReported, Who
from app.clients.authenticate import AuthenticatedClient, Authenticator
from app.clients.request import ProtocolRequest
from app.delegation.allowance import Allowances
from app.delegation.consent import Consent, Consents
from app.delegation.limits import Limits
from app.delegation.models import TaskRow
from app.delegation.spending import counted, of_event
from app.delegation.task import Opening, Task, Tasks
from app.errors import (
    AccessDenied,
    InvalidRequest,
    InvalidScope,
    InvalidTarget,
    NotFound,
    OAuthError,
    TemporarilyUnavailable,
    UnauthorizedClient,
)
from app.keys.verifier import JWTRefused
from app.live.cache import Held, versions_of
from app.live.commit import Commit, Live, Moved, Touch, UsedTwice
from app.live.deeds import REMEMBER
from app.live.history import Histories
from app.live.things import Kind, Thing
from app.policy.call import MAX_ACTION, parse_labels, parse_reference, parse_spent
from app.policy.question import AT
from app.resources.resource import Resource, Resources
from app.tokens.calls import once_done
from app.tokens.presented import PresentedToken, PresentedTokens, who_presents
from app.tokens.standing import who_acts
from app.tokens.verify import TokenReader, VerifiedToken
from app.vocabulary import ClientKind, JWTType, Pairs, by_resource, is_plain

MAX_RUNNING = 100
"""Named tasks of one consent that may run at once."""

MAX_PURPOSE = 200
DEFAULT_LIFETIME = 3600
"""Seconds a task runs when nobody says otherwise."""

ATTEMPTS = 3

OPENING = frozenset({"consent_id", "purpose", "resources", "scopes", "expires_in", "limits"})
REPORTING = frozenset({"token", "action", "effect", "labels", "amount", "reference"})
CREDENTIALS = frozenset({"client_id", "client_secret", "client_assertion", "client_assertion_type"})

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TaskRequests:
    """Tasks as seen from the wire."""

    live: Live
    presented: PresentedTokens
    authenticator: Authenticator
    consents: Consents
    tasks: Tasks
    histories: Histories
    resources: Resources
    tokens: TokenReader
    allowances: Allowances

    def open(self, presented: PresentedToken, body: Body) -> dict[str, Any]:
        """Open a task within a consent of the calling agent. Raises an OAuthError; then there is no task."""
        held, token = self.presented.own_token(presented)
        by = who_presents(held.value, token)
        try:
            return self._open(held.value, by, body)
        except TemporarilyUnavailable:
            raise
        except OAuthError as refusal:
            self._refused(by, refusal, body)
            raise

    def show(self, presented: PresentedToken, task_id: str) -> dict[str, Any]:
        """One task of the calling agent. Raises NotFound."""
        row = self._own(self.presented.agent_of(presented).value, task_id)
        touched = frozenset(row.labels)
        running = self._runs(row)
        if running:
            touched |= self.histories.of(row.id, certain=True).labels
        facts: dict[str, Any] = {
            "task_id": row.id,
            "consent_id": row.consent,
            "purpose": row.purpose,
            "active": running,
            "default": row.default,
            "opened_at": row.opened_at,
            "expires_at": row.deadline,
            "limits": row.limits,
            "touched": sorted(label for label in touched if not label.startswith(AT)),
        }
        if running and (left := self._left(row)):
            facts["left"] = left
        if row.pairs is not None:
            facts["resources"] = {uri: sorted(scope for at, scope in row.pairs if at == uri) for uri, _ in row.pairs}
        return facts

    def end(self, presented: PresentedToken, task_id: str) -> dict[str, Any]:
        """End a task of the calling agent: when this returns, its tokens are dead. Raises NotFound, or 503 until it holds."""
        held, token = self.presented.own_token(presented)
        row = self._own(held.value, task_id)
        self.tasks.end(task_id, by=replace(who_presents(held.value, token), human=row.human))
        return {"task_id": task_id, "active": False}

    def report(self, request: ProtocolRequest, task_id: str, body: Body) -> dict[str, Any]:
        """A resource says what was done, or is about to be done. Raises AccessDenied when a limit has not enough left for it."""
        for attempt in range(ATTEMPTS):
            caller = self.authenticator.authenticate(request)
            if caller.client.kind is not ClientKind.RESOURCE:
                raise UnauthorizedClient("not a resource")
            if attempt == 0:
                self._spend(caller)
            with suppress(Moved):
                return self._reported(caller, task_id, body)
        raise TemporarilyUnavailable("too much is moving", retry_after=0)

    # Opening

    def _open(self, agent: Agent, by: Who, body: Body) -> dict[str, Any]:
        if not body.keys() <= OPENING:
            raise InvalidRequest("a member that is not known")
        consent_id, purpose = body.get("consent_id"), body.get("purpose")
        if not isinstance(consent_id, str) or not isinstance(purpose, str) or not is_plain(purpose, MAX_PURPOSE):
            raise InvalidRequest("consent_id and purpose are required")
        try:
            limits = Limits.parse(body.get("limits", {}))
        except ValueError as error:
            raise InvalidRequest(str(error), layer="limit") from None
        now = clock.timestamp()
        held = self._standing(agent, consent_id, now)
        lifetime = body.get("expires_in", DEFAULT_LIFETIME)
        if type(lifetime) is not int or lifetime < 1:
            raise InvalidRequest("expires_in is a whole number of seconds")
        if len(self.tasks.running(consent_id)) >= MAX_RUNNING:
            raise AccessDenied("too many tasks run under this consent", layer="limit")
        pairs = _narrowed(held.value.pairs, body)
        if (ours := limits.amount) is not None and (theirs := held.value.limits.amount) is not None and ours.currency != theirs.currency:
            raise InvalidRequest("an amount in another currency than the consent's", layer="limit")
        deadline = min(now + lifetime, held.value.until)
        task_id = self.tasks.open(held.value, Opening(purpose, pairs, deadline, limits), by=replace(by, human=held.value.human))
        return {
            "task_id": task_id,
            "expires_at": deadline,
            "expires_in": deadline - now,
            "resources": by_resource(pairs),
            "limits": limits.stored(),
        }

    def _standing(self, agent: Agent, consent_id: str, now: int) -> Held[Consent]:
        """The agent's live consent. It may have been narrowed since this worker read it: then it is read again."""
        for _ in range(2):
            held = self.consents.find(consent_id)
            if held is None or held.value.agent != agent.id or not held.value.live(now):
                raise InvalidRequest("no live consent for this agent", layer="consent")
            alive, _ = self.live.still(self.live.generation().number, {**held.value.born, held.thing: held.reading.epoch}, ())
            if alive:
                return held
            self.live.moved(held.thing)
        raise InvalidRequest("the consent has ended", layer="consent")

    def _refused(self, by: Who, refusal: OAuthError, body: Body) -> None:
        asked = {name: str(body[name])[:500] for name in sorted(OPENING & body.keys())}
        event = TaskRefused(who=by, error=str(refusal.error), layer=refusal.layer, reason=refusal.reason, asked=asked)
        with self.live.database.transaction() as session:
            refusal.extra["audit_id"] = record(session, event)

    def _left(self, row: TaskRow) -> dict[str, Any]:
        """What its limits and its consent's have left."""
        # No commit compares what is only shown.
        for thing in (Thing(Kind.TASK, row.id), Thing(Kind.CONSENT, row.consent)):
            self.live.forget(thing)
        task, consent = self.tasks.find(row.id), self.consents.find(row.consent)
        if task is None:
            return {}
        return self.allowances.left(counted(task.value, consent.value if consent is not None else None), self.live.generation())

    def _own(self, agent: Agent, task_id: str) -> TaskRow:
        row = self.tasks.row(task_id) if "\x00" not in task_id else None
        if row is None or row.agent != agent.id:
            raise NotFound("no such task")
        return row

    def _runs(self, row: TaskRow) -> bool:
        return row.ended_at is None and clock.timestamp() < row.deadline and row.generation == self.live.generation().number

    # Reporting

    def _token_of(self, task_id: str, resource: Resource, body: Body) -> VerifiedToken:
        """The token it was done with, which may have expired since: for this resource, of this task."""
        if not body.keys() <= REPORTING | CREDENTIALS or not isinstance(body.get("token"), str):
            raise InvalidRequest("token is required, and nothing that is not known")
        try:
            token = self.tokens.read(body["token"], JWTType.ACCESS_TOKEN, now=0)
        except JWTRefused as refused:
            raise InvalidRequest(refused.reason) from None
        if token.audience != resource.uri or token.task != task_id:
            raise InvalidRequest("not a token of this task for this resource")
        return token

    def _reported(self, caller: AuthenticatedClient, task_id: str, body: Body) -> dict[str, Any]:
        """One try. Raises `Moved` where it was read before something changed."""
        resource = self.resources.of_client(caller.client.client_id)
        if resource is None:
            raise UnauthorizedClient("not a resource")
        if not resource.value.enabled:
            self.live.commit(Commit(versions=caller.versions | versions_of(resource)))
            raise UnauthorizedClient("the resource is disabled")
        token = self._token_of(task_id, resource.value, body)
        task = self.tasks.find(task_id)
        if task is None:
            raise NotFound("no such task")
        consent = self.consents.find(task.value.consent)
        read = Commit(versions=caller.versions | versions_of(resource, task, consent))
        return self._report(token, task, consent, resource.value, body, read)

    def _report(
        self, token: VerifiedToken, task: Held[Task], consent: Held[Consent] | None, resource: Resource, body: Body, read: Commit
    ) -> dict[str, Any]:
        """`read`: compares what it was read from."""
        action, reference, amount = body.get("action"), parse_reference(body), parse_spent(body)
        if not isinstance(action, str) or not is_plain(action, MAX_ACTION):
            raise InvalidRequest("action is required")
        labels = resource.touched_by(frozenset({action})) | parse_labels(body)
        taken = of_event(task.value, consent.value if consent is not None else None, amount, token.authority.amount)
        event = TaskReported(
            who=who_acts(token),
            task=task.value.id,
            jti=token.jti,
            resource=resource.uri,
            action=action,
            labels=sorted(labels),
            amount=amount.stored() if amount is not None else None,
            reference=reference,
            consent=task.value.consent,
        )
        identifier, written = serialize(event)
        answer: dict[str, Any] = {"event_id": identifier, "task_id": task.value.id}
        now = clock.timestamp()
        alive, _ = self.live.still(token.lineage.generation, token.lineage.epochs, token.denied_by)
        if not alive or not task.value.live(now, token.lineage.generation):
            if taken:
                raise AccessDenied("the task has ended", layer="limit")
            self.live.commit(replace(read, record=written))
            return answer | {"active": False}
        until = task.value.deadline + REMEMBER
        new = sorted(labels - self.histories.of(task.value.id).labels)
        commit = replace(
            read,
            epochs=token.lineage.epochs,
            undenied=token.denied_by,
            once=(once_done(resource, task.value, reference, amount, labels),) if reference is not None else (),
            touch=Touch(task.value.id, None, new, until),
            record=written,
        )
        try:
            self.allowances.commit(commit, taken)
        except UsedTwice:
            return {"task_id": task.value.id, "active": True, "repeated": True}
        if new:
            self.histories.forget(task.thing)
        return answer | {"active": True}

    def _spend(self, caller: AuthenticatedClient) -> None:
        if not caller.once:
            return
        try:
            self.live.commit(Commit(generation=caller.generation, once=caller.once))
        except UsedTwice as used:
            raise caller.replayed(used) from None
        except Moved:
            raise TemporarilyUnavailable("the live state was rebuilt meanwhile", retry_after=0) from None


def _narrowed(pairs: Pairs, body: Body) -> Pairs:
    """The consent's pairs at these resources with these scopes. Raises InvalidTarget, InvalidScope for what it does not have."""
    resources, scopes = body.get("resources"), body.get("scopes")
    for given in (resources, scopes):
        if given is not None and (not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given)):
            raise InvalidRequest("resources and scopes are arrays of strings with something in them")
    if resources is not None:
        if not set(resources) <= {pair.resource for pair in pairs}:
            raise InvalidTarget("a resource that the consent does not have")
        pairs = frozenset(pair for pair in pairs if pair.resource in resources)
    if scopes is not None:
        if not set(scopes) <= {pair.scope for pair in pairs}:
            raise InvalidScope("a scope that the consent does not have there")
        pairs = frozenset(pair for pair in pairs if pair.scope in scopes)
    return pairs
