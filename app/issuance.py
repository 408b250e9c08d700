"""THE LINE. Every token this server gives out comes through `issue`, and no other way.

Authenticate, read, decide, prepare, commit, sign: the grant says only who asks for what on whose behalf; everything
that must hold for every token is here, once. Where a human must say yes first, the line ends in a question to her, and is
run again from the start with her answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from app.agents.agent import Agent
from app.agents.workload import Workloads
from app.audit import record, serialize
from app.audit.events import ReplayDetected, TokenNotDelivered, Who
from app.clients.authenticate import AuthenticatedClient, Authenticator
from app.clients.client import Client
from app.clients.request import ProtocolRequest
from app.delegation.allowance import Allowances
from app.delegation.consent import Consent
from app.delegation.spending import born, of_token
from app.delegation.task import Task
from app.errors import (
    AccessDenied,
    AuthorizationPending,
    InsufficientUserAuthentication,
    InvalidClient,
    InvalidGrant,
    InvalidRequest,
    OAuthError,
    SlowDown,
    TemporarilyUnavailable,
    TooManyRequests,
    UnauthorizedClient,
    UnsupportedGrantType,
    UseDPoPNonce,
)
from app.grants import GRANTS
from app.grants.authorized import Replayed
from app.grants.backchannel import BackchannelAuthentication
from app.grants.grant import Grant, Registers
from app.humans.accounts import Accounts
from app.humans.sessions import ACR_PASSWORD
from app.keys.store import KeyStore
from app.live.cache import Held, versions_of
from app.live.commit import Commit, Moved, Once, Touch, UsedTwice
from app.live.deeds import REMEMBER
from app.live.generation import Generation
from app.live.history import Histories
from app.live.things import KEYS, POLICIES
from app.policy.access import AccessRequest, Denial, NeedsHuman, Permit, TokenKind
from app.policy.decide import decide
from app.policy.policies import Policies
from app.policy.question import at
from app.recorded import Known, evidence_of, issued, refused, who_asks, who_calls
from app.revocation import Revocation
from app.tokens.approvals import INTERVAL, Asking, Pending
from app.tokens.companions import id_token_for
from app.tokens.mint import Prepared, mint, prepare, signing_alg
from app.tokens.response import token_response
from app.vocabulary import ClientKind, GrantType

WAYS_OUT = frozenset({"permitted_scope", "permitted_in"})
"""Members of a refusal that say what would pass instead."""

ATTEMPTS = (False, True, True)
"""Optimistic first; before a refusal, or after something moved, again with certainty."""


@dataclass(frozen=True, slots=True)
class Issuance:
    """The line, with its collaborators."""

    registers: Registers
    authenticator: Authenticator
    workloads: Workloads
    keys: KeyStore
    accounts: Accounts
    revocation: Revocation
    policies: Policies
    histories: Histories
    allowances: Allowances

    def issue(self, request: ProtocolRequest) -> dict[str, Any]:
        """Answer a token request (RFC 6749 §3.2). Raises an OAuthError; whatever is raised, nothing was issued."""
        return self._run(request, self._grant(request))

    def ask(self, request: ProtocolRequest) -> dict[str, Any]:
        """Answer a backchannel authentication request (OIDC CIBA Core §7.3). Raises an OAuthError; then nobody was asked."""
        return self._run(request, BackchannelAuthentication(self.registers, request))

    def _run(self, request: ProtocolRequest, grant: Grant) -> dict[str, Any]:
        try:
            for certain in ATTEMPTS:
                try:
                    return self._attempt(request, grant, certain=certain)
                except Moved:
                    continue
            raise TemporarilyUnavailable("too much is moving", retry_after=0)
        except Exception:
            # With SQL away too it stays used up: burnt, never doubled.
            with suppress(TemporarilyUnavailable):
                grant.give_back()
            raise

    def _attempt(self, request: ProtocolRequest, grant: Grant, *, certain: bool) -> dict[str, Any]:
        caller = self.workloads.authenticate(request) if grant.attested else self.authenticator.authenticate(request)
        agent = self.registers.agents.of_client(caller.client.client_id) if caller.client.kind is ClientKind.AGENT else None
        known = Known(grant, caller, agent)
        try:
            if request.proof is not None:
                caller = self.authenticator.prove(caller, request.proof)
                known = known._replace(caller=caller)
            access = _access_request(grant, caller, agent, certain=certain)
            known = known._replace(access=access)
            access = self._in_force(access.held_with(caller.proven).by(caller.instance or grant.instance), certain=certain)
            verdict = self._decided(access)
            known = known._replace(access=access, layers=verdict.layers, question=verdict.question)
            if not isinstance(verdict, Permit):
                known = known._replace(forbidden_by=verdict.policies)
            verdict = _not_denied(verdict, grant)
            if isinstance(verdict, Permit) and not grant.asks_first:
                return self._make_true(verdict, grant, caller.generation)
        except (TemporarilyUnavailable, TooManyRequests):
            raise
        except OAuthError as refusal:
            if not certain:
                grant.reread()
                raise Moved("a refusal") from None
            raise self._refuse(refusal, known) from None
        except Replayed as replay:
            raise self._end_family(replay.what, replay.family, who_calls(known.caller, agent)) from None
        except UsedTwice:
            raise self._used_twice(known) from None
        if not certain:
            grant.reread()
            raise Moved("a question")
        return self._ask_human(verdict, known)

    def _make_true(self, permit: Permit, grant: Grant, generation: Generation) -> dict[str, Any]:
        keys = self.keys.reading()
        prepared = prepare(permit, self.registers.settings.issuer, self.keys.signing_key(signing_alg(permit)))
        grant.request.check_in_time(self.registers.settings.deadline)
        grant.before_commit(permit.access)
        self._commit(prepared, keys.version, generation, grant)
        return self._deliver(prepared, grant)

    # The steps

    def _grant(self, request: ProtocolRequest) -> Grant:
        named = request.one("grant_type")
        if named is None:
            raise InvalidRequest("grant_type is required")
        try:
            return GRANTS[GrantType(named)](self.registers, request)
        except (ValueError, KeyError):
            raise UnsupportedGrantType("unknown grant_type") from None

    def _in_force(self, access: AccessRequest, *, certain: bool) -> AccessRequest:
        """With what its task has touched and the policies it is decided under; the commit compares both."""
        version = self.policies.current(certain=certain).reading.version
        if access.task is None:
            return access._replace(policies=version)
        return access._replace(policies=version, history=self.histories.of(access.task.value.id, certain=certain))

    def _decided(self, access: AccessRequest) -> Permit | Denial | NeedsHuman:
        """The decision; what the agent's other tasks have touched is read where it can make a difference."""
        policies = self.policies.current().value
        verdict = decide(access, policies)
        if access.task is None or verdict.question is None or policies.beside is None:
            return verdict
        # A refusal says what would pass instead, which may differ in what such a policy looks at.
        if isinstance(verdict, Permit) and not policies.looks_beside(verdict.question):
            return verdict
        return decide(access._replace(others=self.registers.tasks.touched_beside(access.task.value, self.histories)), policies)

    def _commit(self, prepared: Prepared, keys_version: int, generation: Generation, grant: Grant) -> None:
        """Everything that was read is still true, and the record is on its way; or nothing happened."""
        access = prepared.permit.access
        versions = versions_of(
            access.client, access.agent, access.instance, access.consent, access.task, access.target.resource, access.target.agent
        )
        versions[KEYS] = keys_version
        versions[POLICIES] = access.policies
        _, body = serialize(issued(prepared))
        limited = _limited(access)
        commit = Commit(
            generation=generation,
            epochs=prepared.epochs,
            versions=versions,
            undenied=access.lineage.parents + access.evidence,
            once=access.once,
            rate=self._rate(access.client.value),
            touch=_touch(access),
            born=born(*limited, prepared.jti, access.authority.end) if limited is not None else (),
            record=body,
        )
        spends = of_token(*limited) if limited is not None else ()
        self.allowances.commit(commit, spends, lambda: self._together(prepared, grant))
        if commit.touch is not None and commit.touch.labels:
            self.histories.grown(commit.touch)

    @contextmanager
    def _together(self, prepared: Prepared, grant: Grant) -> Iterator[None]:
        """Around one try of the commit: what SQL has with it. Where SQL fails after it passed, nothing is delivered."""
        passed = False
        try:
            with grant.together(prepared.permit.access):
                yield
                passed = True
        except TemporarilyUnavailable as trouble:
            if passed:
                self._not_delivered(prepared, trouble.reason)
            raise

    def _deliver(self, prepared: Prepared, grant: Grant) -> dict[str, Any]:
        access = prepared.permit.access
        try:
            token = mint(prepared)
            body = token_response(prepared, token)
            if "openid" in access.openid:
                body["id_token"] = id_token_for(access, token, self.keys, self.accounts, self.registers.settings.issuer)
            if grant.refresh_token is not None:
                body["refresh_token"] = grant.refresh_token
            body |= grant.beside(access)
        except Exception as error:
            self._not_delivered(prepared, type(error).__name__)
            raise TemporarilyUnavailable("permitted, but not delivered") from error
        return body

    def _rate(self, client: Client) -> tuple[tuple[str, int], ...]:
        return ((client.client_id, self.registers.settings.rate_client),)

    def _ask_human(self, verdict: Permit | NeedsHuman, known: Known) -> dict[str, Any]:
        """Put the question to her. That uses up the assertion and the proof; an answer of CIBA, or `authorization_pending`."""
        grant, access, wish = known.grant, verdict.access, known.grant.wish()
        try:
            self._burn(known, b"")
        except UsedTwice as used:
            raise self._replayed(used, known) from None
        needed = verdict if isinstance(verdict, NeedsHuman) else None
        asking = Asking(
            lifetime=wish.lifetime or self.registers.settings.approval_lifetime,
            policies=needed.policies if needed is not None else (),
            max_age=needed.max_age if needed is not None else None,
            layers=verdict.layers,
            question=known.question.recorded() if known.question is not None else None,
            evidence=evidence_of(access, verdict.evidence),
            binding_message=wish.binding_message,
            wanted_max_age=wish.max_age,
        )
        try:
            pending = self.registers.approvals.ask(access, asking, who_asks(access))
        except AccessDenied as refusal:
            identifier, body = serialize(refused(refusal, known))
            self.registers.live.commit(Commit(record=body))
            self._say_where(refusal, identifier)
            raise
        if grant.asks_first or needed is None:
            return dict(pending.answer())
        raise _pending(pending, needed)

    # What goes wrong

    def _refuse(self, refusal: OAuthError, known: Known) -> OAuthError:
        """A refusal commits too: it uses up the assertion and the proof, and it is recorded. Returns what to answer."""
        if isinstance(refusal, UseDPoPNonce) and known.grant.attested:
            # The word of a platform cannot be had anew for each request, and nobody knows a nonce before the first answer.
            return refusal
        if isinstance(refusal, AuthorizationPending):
            return self._still_waiting(refusal, known)
        identifier, body = serialize(refused(refusal, known))
        try:
            self._burn(known, body)
        except UsedTwice as used:
            return self._replayed(used, known)
        self._say_where(refusal, identifier)
        return refusal

    def _say_where(self, refusal: OAuthError, identifier: str) -> None:
        """Its id in the ledger; where nothing would pass instead, the page (RFC 6749 §5.2) that says why, and whom to ask."""
        refusal.extra["audit_id"] = identifier
        if isinstance(refusal, AccessDenied) and not refusal.extra.keys() & WAYS_OUT:
            refusal.extra["error_uri"] = f"{self.registers.settings.issuer}/admin/explain?ref={identifier}"

    def _still_waiting(self, pending: OAuthError, known: Known) -> OAuthError:
        """Waiting is no refusal, and the question has its record; but the assertion is used up. Returns what to answer."""
        polled = Once("poll", known.grant.approval or "", INTERVAL - 1)
        try:
            self._burn(known, b"", polled)
        except UsedTwice as used:
            if not used.within(polled.namespace):
                return self._replayed(used, known)
            pending = SlowDown("asked again too soon")
            try:
                self._burn(known, b"")
            except UsedTwice as again:
                return self._replayed(again, known)
        return pending

    def _replayed(self, used: UsedTwice, known: Known) -> OAuthError:
        """The answer to an assertion or a proof that was used before."""
        replay = known.caller.replayed(used)
        if isinstance(replay, InvalidClient):
            return replay
        # The assertion beside a replayed proof was fresh; now it is used.
        return self._refuse(replay, known._replace(caller=known.caller.without_proof()))

    def _burn(self, known: Known, body: bytes, *beside: Once) -> None:
        caller = known.caller
        versions = {**caller.versions, **versions_of(known.agent)}
        rate = self._rate(caller.client)
        once = (*caller.once, *beside)
        self.registers.live.commit(Commit(generation=caller.generation, versions=versions, once=once, rate=rate, record=body))

    def _used_twice(self, known: Known) -> OAuthError:
        """Something was used twice. Burning the assertion and the proof alone tells whether it was one of them, or the code."""
        try:
            self._burn(known, b"")
        except UsedTwice as used:
            return self._replayed(used, known)
        family = known.grant.replayed()
        return self._end_family("code", family, who_calls(known.caller, known.agent)) if family is not None else InvalidGrant("used before")

    def _end_family(self, what: str, family: str, who: Who) -> OAuthError:
        with self.registers.live.database.transaction() as session:
            record(session, ReplayDetected(who=who, what=what, family=family))
        self.revocation.family(family, by=who)
        return InvalidGrant("used before")

    def _not_delivered(self, prepared: Prepared, reason: str) -> None:
        _, body = serialize(TokenNotDelivered(who=issued(prepared).who, jti=prepared.jti, reason=reason))
        self.registers.live.commit(Commit(record=body))


def _access_request(grant: Grant, caller: AuthenticatedClient, agent: Held[Agent] | None, *, certain: bool) -> AccessRequest:
    """Step 2: who may use the grant at all, then the grant's own reading."""
    if grant.for_agents_only and agent is None:
        raise UnauthorizedClient("not an agent")
    if grant.for_confidential_only and not caller.client.confidential:
        raise UnauthorizedClient("a public client")
    if caller.client.kind is ClientKind.RESOURCE:
        raise UnauthorizedClient("a resource gets no tokens")
    return grant.access_request(caller, agent, certain=certain)


def _not_denied(verdict: Permit | Denial | NeedsHuman, grant: Grant) -> Permit | NeedsHuman:
    """What goes on: a permit, or what a human can be asked about here and now. Raises what is answered otherwise."""
    match verdict:
        case Denial():
            raise verdict.error
        case NeedsHuman() if (refusal := _instead_of_asking(verdict, grant)) is not None:
            refusal.extra |= {"layer": refusal.layer, "policy": " ".join(verdict.policies), **verdict.way_out}
            raise refusal
        case _:
            return verdict


def _instead_of_asking(needed: NeedsHuman, grant: Grant) -> OAuthError | None:
    wanted = "wanted by " + ", ".join(needed.policies)
    if grant.approval is not None:
        return AccessDenied(wanted + ", of which she was not told", layer="approval")
    if grant.at_browser and needed.wants_sign_in_only:
        refusal = InsufficientUserAuthentication(wanted)
        refusal.extra |= {"max_age": needed.max_age or 0, "acr_values": ACR_PASSWORD}
        return refusal
    if grant.at_browser and needed.access.target.kind is TokenKind.HANDOVER:
        # What an agent passes to itself goes nowhere yet: it names the resource, and is asked about that.
        return AccessDenied(wanted + ", for a hand-over to itself", layer="approval")
    return None


def _pending(pending: Pending, needed: NeedsHuman) -> AuthorizationPending:
    """The answer that holds a grant up until a human has said yes."""
    error = AuthorizationPending("asked")
    error.extra |= {**pending.answer(), "policy": " ".join(needed.policies), **needed.way_out}
    if needed.max_age is not None:
        error.extra |= {"max_age": needed.max_age, "acr_values": ACR_PASSWORD}
    if pending.audit_id is not None:
        error.extra["audit_id"] = pending.audit_id
    return error


def _touch(access: AccessRequest) -> Touch | None:
    """A delegated token for a resource leaves its labels with the task, and where it has been."""
    if access.task is None:
        return None
    new: list[str] = []
    if access.target.resource is not None:
        new = sorted((access.touches | {at(access.target.audience)}) - access.history.labels)
    return Touch(access.task.value.id, access.history.size, new, access.task.value.deadline + REMEMBER)


def _limited(access: AccessRequest) -> tuple[Task, Consent | None] | None:
    """Whose limits a token counts against: an API's, of a task and the consent it runs under."""
    if access.task is None or access.target.resource is None:
        return None
    return access.task.value, access.consent.value if access.consent is not None else None
