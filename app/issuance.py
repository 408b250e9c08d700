"""THE LINE. Every token this server gives out comes through `issue`, and no other way.

Authenticate, read, decide, prepare, commit, sign: the grant says only who asks for what on whose behalf; everything
that must hold for every token is here, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from app.agents.agent import Agent
from app.audit import record, serialize
from app.audit.events import ReplayDetected, TokenIssued, TokenNotDelivered, TokenRefused, Who
from app.clients.authenticate import AuthenticatedClient, Authenticator
from app.clients.client import Client
from app.clients.request import ProtocolRequest
from app.delegation.consent import by_resource
from app.errors import (
    InvalidClient,
    InvalidGrant,
    InvalidRequest,
    OAuthError,
    TemporarilyUnavailable,
    TooManyRequests,
    UnauthorizedClient,
    UnsupportedGrantType,
)
from app.grants import GRANTS
from app.grants.authorized import Replayed
from app.grants.grant import Grant, Registers
from app.humans.accounts import Accounts
from app.keys.store import KeyStore
from app.live.cache import Held
from app.live.commit import Commit, Moved, UsedTwice
from app.live.generation import Generation
from app.live.things import KEYS, Thing
from app.policy.access import AccessRequest, Denial, Permit
from app.policy.decide import decide
from app.revocation import Revocation
from app.tokens.companions import id_token_for
from app.tokens.mint import Prepared, mint, prepare, signing_alg
from app.tokens.response import token_response
from app.vocabulary import ClientKind, GrantType

Layers = tuple[Mapping[str, Any], ...]

ATTEMPTS = (False, True, True)
"""Optimistic first; before a refusal, or after something moved, again with certainty."""


@dataclass(frozen=True, slots=True)
class Issuance:
    """The line, with its collaborators."""

    registers: Registers
    authenticator: Authenticator
    keys: KeyStore
    accounts: Accounts
    revocation: Revocation

    def issue(self, request: ProtocolRequest) -> dict[str, Any]:
        """Answer a token request (RFC 6749 §3.2). Raises an OAuthError; whatever is raised, nothing was issued."""
        grant = self._grant(request)
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
        caller = self.authenticator.authenticate(request)
        agent = self.registers.agents.of_client(caller.client.client_id) if caller.client.kind is ClientKind.AGENT else None
        access: AccessRequest | None = None
        layers: Layers = ()
        try:
            access = _access_request(grant, caller, agent, certain=certain)
            match decide(access):
                case Denial(error, layers):
                    raise error
                case Permit() as permit:
                    return self._make_true(permit, grant, caller.generation)
        except (TemporarilyUnavailable, TooManyRequests):
            raise
        except OAuthError as refusal:
            if not certain:
                grant.reread()
                raise Moved("a refusal") from None
            self._refuse(refusal, _refused(refusal, grant, caller, agent, access, layers), caller, agent)
            raise
        except Replayed as replay:
            raise self._end_family(replay.what, replay.family, caller, agent) from None
        except UsedTwice:
            raise self._used_twice(grant, caller, agent) from None

    def _make_true(self, permit: Permit, grant: Grant, generation: Generation) -> dict[str, Any]:
        keys = self.keys.reading()
        prepared = prepare(permit, self.registers.settings.issuer, self.keys.signing_key(signing_alg(permit)))
        grant.request.check_in_time(self.registers.settings.deadline)
        grant.before_commit(permit.access)
        self._commit(prepared, keys.version, generation)
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

    def _commit(self, prepared: Prepared, keys_version: int, generation: Generation) -> None:
        """Everything that was read is still true, and the record is on its way; or nothing happened."""
        access = prepared.permit.access
        versions = _versions(access.client, access.agent, access.consent, access.task, access.target.resource, access.target.agent)
        versions[KEYS] = keys_version
        _, body = serialize(_issued(prepared))
        self.registers.live.commit(
            Commit(
                generation=generation,
                epochs=prepared.epochs,
                versions=versions,
                undenied=access.lineage.parents + access.evidence,
                once=access.once,
                rate=self._rate(access.client.value),
                record=body,
            )
        )

    def _deliver(self, prepared: Prepared, grant: Grant) -> dict[str, Any]:
        access = prepared.permit.access
        try:
            token = mint(prepared)
            body = token_response(prepared, token)
            if "openid" in access.openid:
                body["id_token"] = id_token_for(access, token, self.keys, self.accounts, self.registers.settings.issuer)
            if grant.refresh_token is not None:
                body["refresh_token"] = grant.refresh_token
        except Exception as error:
            self._not_delivered(prepared, type(error).__name__)
            raise TemporarilyUnavailable("permitted, but not delivered") from error
        return body

    def _rate(self, client: Client) -> tuple[tuple[str, int], ...]:
        return ((client.client_id, self.registers.settings.rate_client),)

    # What goes wrong

    def _refuse(self, refusal: OAuthError, event: TokenRefused, caller: AuthenticatedClient, agent: Held[Agent] | None) -> None:
        """A refusal commits too: it uses up the assertion, and it is recorded."""
        identifier, body = serialize(event)
        refusal.extra["audit_id"] = identifier
        try:
            self._burn(caller, agent, body)
        except UsedTwice:
            raise InvalidClient("assertion used before") from None

    def _burn(self, caller: AuthenticatedClient, agent: Held[Agent] | None, body: bytes) -> None:
        versions = _versions(caller.held, agent)
        rate = self._rate(caller.client)
        self.registers.live.commit(Commit(generation=caller.generation, versions=versions, once=caller.once, rate=rate, record=body))

    def _used_twice(self, grant: Grant, caller: AuthenticatedClient, agent: Held[Agent] | None) -> OAuthError:
        """Something was used twice. Burning the assertion alone tells whether it was that, or the code."""
        try:
            self._burn(caller, agent, b"")
        except UsedTwice:
            return InvalidClient("assertion used before")
        family = grant.replayed()
        return self._end_family("code", family, caller, agent) if family is not None else InvalidGrant("used before")

    def _end_family(self, what: str, family: str, caller: AuthenticatedClient, agent: Held[Agent] | None) -> OAuthError:
        who = _who(caller, agent)
        with self.registers.live.database.transaction() as session:
            record(session, ReplayDetected(who=who, what=what, family=family))
        self.revocation.family(family, by=who)
        return InvalidGrant("used before")

    def _not_delivered(self, prepared: Prepared, reason: str) -> None:
        _, body = serialize(TokenNotDelivered(who=_issued(prepared).who, jti=prepared.jti, reason=reason))
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


def _versions(*held: Held[Any] | None) -> dict[Thing, int]:
    return {one.thing: one.reading.version for one in held if one is not None}


def _who(caller: AuthenticatedClient, agent: Held[Agent] | None) -> Who:
    if agent is None:
        return Who(client=caller.client.client_id)
    return Who(actors=(agent.value.uri,), client=caller.client.client_id, owner=agent.value.owner)


def _refused(
    refusal: OAuthError,
    grant: Grant,
    caller: AuthenticatedClient,
    agent: Held[Agent] | None,
    access: AccessRequest | None,
    layers: Layers,
) -> TokenRefused:
    """What is known when it is refused: before the grant has read its evidence, only who asks for what."""
    who, asked = _who(caller, agent), _asked(grant.request)
    if access is not None:
        who = replace(who, human=access.human, actors=tuple(actor.sub for actor in access.authority.chain.actors) or who.actors)
    return TokenRefused(
        who=who,
        grant_type=grant.name.value,
        error=str(refusal.error),
        layer=refusal.layer,
        reason=refusal.reason,
        asked=asked,
        parent=access.lineage.parents[0] if access is not None and access.lineage.parents else None,
        consent=access.lineage.consent if access is not None else None,
        task=access.task.value.id if access is not None and access.task is not None else None,
        layers=layers,
    )


def _asked(request: ProtocolRequest) -> dict[str, Any]:
    """What was asked for, in the caller's words, cut to a length; never a token, code or secret."""
    words = {name: request.one(name) for name in ("scope", "requested_token_type", "subject_token_type", "task_id")}
    asked: dict[str, Any] = {name: value[:500] for name, value in words.items() if value is not None}
    targets = [target[:500] for target in (*request.many("resource"), *request.many("audience"))][:16]
    if targets:
        asked["target"] = targets
    return asked


def _issued(prepared: Prepared) -> TokenIssued:
    access = prepared.permit.access
    agent = access.agent.value if access.agent is not None else None
    actors = tuple(actor.sub for actor in access.authority.chain.actors) or ((agent.uri,) if agent is not None else ())
    issues = [name for name, given in (("id_token", "openid" in access.openid), ("refresh_token", access.refreshable_until)) if given]
    asked: dict[str, Any] = {}
    if access.asked.scope is not None:
        asked["scope"] = sorted(access.asked.scope)
    if access.asked.pairs is not None:
        asked["pairs"] = by_resource(access.asked.pairs)
    return TokenIssued(
        who=Who(
            actors=actors,
            human=access.human,
            client=access.client.value.client_id,
            owner=agent.owner if agent is not None else None,
        ),
        grant_type=access.grant_type.value,
        token=access.target.kind.value,
        jti=prepared.jti,
        audience=access.target.audience,
        scope=by_resource(access.authority.pairs),
        asked=asked,
        expires_at=access.authority.end,
        parent=access.lineage.parents[0] if access.lineage.parents else None,
        consent=access.lineage.consent,
        task=access.task.value.id if access.task is not None else None,
        family=access.lineage.family,
        session=access.lineage.session,
        generation=access.lineage.generation,
        key=prepared.key.kid,
        layers=prepared.permit.layers,
        issues=issues,
    )
