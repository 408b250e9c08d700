"""`urn:openid:params:grant-type:ciba` by poll: the one token of an approval (OIDC CIBA Core §10, §11, protocol §5)."""

from __future__ import annotations

from app.agents.agent import Agent
from app.audit.events import NOBODY, Who
from app.clients.authenticate import AuthenticatedClient
from app.delegation.authority import Authority
from app.delegation.chain import Actor
from app.delegation.consent import Consent
from app.delegation.task import Task
from app.errors import AccessDenied, AuthorizationPending, ExpiredToken, InvalidGrant, InvalidRequest, UnauthorizedClient
from app.grants.grant import Seen, epochs_of
from app.grants.token_exchange import TokenExchange
from app.live.cache import Held
from app.live.things import DEPLOYMENT
from app.policy.access import AccessRequest, Asked, Lineage, TokenKind
from app.tokens.approvals import ApprovalRequest, State
from app.vocabulary import GrantType

KEPT = (
    "scope", "resource", "audience", "authorization_details", "task_id", "subject_token", "subject_token_type", "requested_token_type",
    "binding_message",
)  # fmt: skip
"""What the human was shown and answered to: it is not sent again, and cannot be changed."""


class CIBA(TokenExchange):
    """The exchange once more, with a human's yes where the subject token was: everything but her answer is read anew."""

    name = GrantType.CIBA
    _found: ApprovalRequest | None = None
    _redeemed = False
    _ended = False
    _by: Who = NOBODY

    def access_request(self, caller: AuthenticatedClient, agent: Held[Agent] | None, *, certain: bool) -> AccessRequest:
        """The kept request, if it is this agent's, was allowed, and was not used."""
        if agent is None:
            raise UnauthorizedClient("not an agent")
        if any(self.request.many(name) for name in KEPT):
            raise InvalidRequest("what was approved is kept, and not sent again")
        value = self.request.one("auth_req_id")
        if value is None:
            raise InvalidRequest("auth_req_id is required")
        found = self.registers.approvals.find(value)
        if found is None or found.parameters.client_id != caller.client.client_id or not found.intact:
            raise InvalidGrant("no such auth_req_id for this client", layer="approval")
        self._found, self.approval = found, found.id
        kept, hangs_on = found.parameters, found.hangs_on
        instance = caller.instance.value.id if caller.instance is not None else None
        self._by = Who((agent.value.uri,), kept.human, kept.client_id, agent.value.owner, instance=instance)
        self.seen = Seen(kept.human, next(iter(hangs_on.parents), None), kept.consent, kept.task, hangs_on.family)
        if kept.chain.actors[0].instance not in {"", instance}:
            raise InvalidGrant("asked by another instance", layer="instance")
        self._check_state(found)
        if certain or self._ended or found.state is State.WAITING:
            self._check_alive(found, certain=certain)
        if found.state is State.WAITING:
            raise AuthorizationPending("no answer yet")
        return self._access(found, caller, agent)

    def before_commit(self, access: AccessRequest) -> None:
        """Use the approval up. A crash between this and the commit burns it, never doubles it."""
        if self._found is None or self._redeemed:
            return
        if not self.registers.approvals.redeem(self._found, self._by):
            raise InvalidGrant("used before", layer="approval")
        self._redeemed = True

    def give_back(self) -> None:
        """Whoever is told to come again, or that a limit is reached, has been given no token."""
        if self._found is not None and self._redeemed:
            self.registers.approvals.give_back(self._found, self._by)

    def _check_state(self, found: ApprovalRequest) -> None:
        if found.state is State.DENIED:
            raise AccessDenied("the human said no", layer="human")
        if found.state is State.REDEEMED and not self._redeemed:
            raise InvalidGrant("used before", layer="approval")
        if found.expired(self.now) and not self._ended:
            self.registers.approvals.expire(found, self._by, "too late")
            raise ExpiredToken("too late")

    def _check_alive(self, found: ApprovalRequest, *, certain: bool) -> None:
        """All it hangs on, but for the time of the subject token (protocol §5)."""
        hangs_on = found.hangs_on
        alive, _ = self.registers.live.still(self.registers.live.generation().number, hangs_on.born, hangs_on.parents)
        if not alive or self._ended:
            if certain:
                self.registers.approvals.expire(found, self._by, "what it hangs on has ended", redeemed=self._redeemed)
                self._ended = True
            raise InvalidGrant("what it hangs on has ended", layer="approval")

    def _access(self, found: ApprovalRequest, caller: AuthenticatedClient, agent: Held[Agent]) -> AccessRequest:
        registers, settings, kept = self.registers, self.registers.settings, found.parameters
        proof = self._actor_token(agent.value, caller.proven)
        if kept.actor_token and proof is None:
            raise InvalidRequest("the actor_token that was shown is shown again", layer="actor_token")
        consent = registers.consents.find(kept.consent)
        task, target = self._kept_task(found, consent), self.target(kept.audience)
        lifetime = settings.access_token_lifetime if kept.kind is TokenKind.ACCESS_TOKEN else settings.handover_lifetime
        end = self.now + lifetime
        end = end if proof is None else min(end, proof.authority.end)
        authority = Authority(found.granted, end, kept.chain, kept.depth, kept.confirmation, kept.amount)
        epochs = {
            DEPLOYMENT: registers.deployment_epoch(),
            **epochs_of(caller.held, agent, consent, task, target.resource, target.agent),
            **found.hangs_on.born,
        }
        return AccessRequest(
            grant_type=self.name,
            client=caller.held,
            agent=agent,
            human=kept.human,
            authority=authority.acting(Actor(settings.issuer, agent.value.uri)),
            target=target,
            # All that she allowed, or nothing: it was shown as one thing.
            asked=Asked(frozenset(pair.scope for pair in found.granted), found.granted, kept.amount),
            lineage=Lineage(
                registers.live.generation().number,
                epochs,
                parents=found.hangs_on.parents,
                consent=kept.consent,
                family=found.hangs_on.family,
                session=found.hangs_on.session,
                approval=found.id,
            ),
            now=self.now,
            lifetime=lifetime,
            consent=consent,
            task=task,
            signed_in=found.signed_in,
            once=caller.once,
            evidence=proof.denied_by if proof is not None else (),
            openid=kept.openid,
            approved=found.approved,
        )

    def _kept_task(self, found: ApprovalRequest, consent: Held[Consent] | None) -> Held[Task] | None:
        """The task it was asked for. A default one that a new generation ended goes on in the next (protocol §7)."""
        kept = found.parameters
        task = self.registers.tasks.find(kept.task)
        runs = task is not None and task.value.live(self.now, self.registers.live.generation().number)
        if runs or not kept.default or consent is None or not consent.value.live(self.now):
            return task
        return self.registers.tasks.default(consent.value)
