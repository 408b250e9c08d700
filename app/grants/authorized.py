"""What the code and the refresh token share: both repeat what a human authorized."""

from __future__ import annotations

from dataclasses import replace

from app.agents.agent import Agent
from app.clients.authenticate import AuthenticatedClient
from app.delegation.authority import Authority
from app.delegation.chain import Actor
from app.delegation.consent import Consent
from app.delegation.task import Task
from app.errors import InvalidGrant, InvalidScope, InvalidTarget
from app.grants.grant import Grant, Seen, epochs_of
from app.live.cache import Held
from app.live.commit import Once
from app.live.things import Kind, Thing
from app.policy.access import AccessRequest, Asked, Lineage, Target, TokenKind
from app.tokens.families import Authorization, Holder
from app.vocabulary import OPENID_SCOPES, Confirmation, ScopeSet


class Replayed(Exception):
    """A code or refresh token came a second time: its family must end (RFC 9700 §2.2.2, §4.5)."""

    def __init__(self, what: str, family: str) -> None:
        super().__init__(what)
        self.what = what
        self.family = family


class AuthorizedGrant(Grant):
    """From an `Authorization` to an `AccessRequest`."""

    at_browser = True

    def access_for(
        self,
        authorization: Authorization,
        caller: AuthenticatedClient,
        agent: Held[Agent] | None,
        *,
        bound: Confirmation | None,
        once: tuple[Once, ...] = (),
        nonce: str | None = None,
    ) -> AccessRequest:
        """The token that repeats an authorization: for one resource, for userinfo, or a hand-over (protocol §3, §5).

        `bound`: what the code or refresh token is bound to.
        """
        self.seen = Seen(human=authorization.human, consent=authorization.consent, family=authorization.family)
        if bound is not None and bound not in caller.proven and any(one.method is bound.method for one in caller.proven):
            raise InvalidGrant("bound to another key or certificate", layer="proof")
        registers, settings = self.registers, self.registers.settings
        asked, openid = self._asked_within(authorization)
        target = self._target_within(authorization, agent, openid)
        consent = registers.consents.find(authorization.consent) if authorization.consent else None
        task = self._task_for(consent, agent)
        authority = Authority(
            pairs=authorization.pairs if target.kind is not TokenKind.USERINFO else frozenset(),
            end=min(authorization.expires_at, consent.value.until) if consent else authorization.expires_at,
            depth=consent.value.depth if consent is not None else 0,
            confirmation=bound,
        )
        if agent is not None:
            authority = authority.acting(Actor(registers.settings.issuer, agent.value.uri))
        epochs = {
            **epochs_of(caller.held, agent, task, target.resource, target.agent),
            **authorization.born,
            **(self.consent_epoch(consent) if consent is not None else {}),
            Thing(Kind.FAMILY, authorization.family): 0,
        }
        by_app = authorization.handover is not None
        return AccessRequest(
            grant_type=self.name,
            client=caller.held,
            agent=agent,
            human=authorization.human,
            authority=authority,
            target=target,
            asked=asked,
            lineage=Lineage(
                registers.live.generation().number,
                epochs,
                # An application's hand-over carries no consent: the agent brings its own (protocol §5.4).
                consent=None if by_app else authorization.consent,
                family=authorization.family,
                session=authorization.session,
            ),
            now=self.now,
            lifetime=settings.handover_lifetime if target.kind is TokenKind.HANDOVER else settings.access_token_lifetime,
            consent=consent,
            task=task,
            signed_in=authorization.signed_in,
            once=(*caller.once, *once),
            openid=openid,
            nonce=nonce,
            refreshable_until=authorization.expires_at if authorization.refreshable else 0,
        )

    def holder(self, access: AccessRequest) -> Holder:
        """In whose hands the refresh token beside it is good."""
        return Holder(access.authority.confirmation, access.instance.value.id if access.instance is not None else None)

    def consent_epoch(self, consent: Held[Consent]) -> dict[Thing, int]:
        """The consent's epoch to hang on: what was born under it, unless the grant knows better."""
        return {}

    def _task_for(self, consent: Held[Consent] | None, agent: Held[Agent] | None) -> Held[Task] | None:
        if agent is None or consent is None or not consent.value.live(self.now):
            return None
        task = self.registers.tasks.default(consent.value)
        if task is None:
            raise InvalidGrant("the task was ended by a person", layer="task")
        return task

    def _target_within(self, authorization: Authorization, agent: Held[Agent] | None, openid: ScopeSet) -> Target:
        issuer = self.registers.settings.issuer
        name, reach = self.named(), {pair.resource for pair in authorization.pairs}
        if authorization.handover is not None:
            if name is not None and name != authorization.handover:
                raise InvalidTarget("not what was authorized")
            return self.target(authorization.handover)
        if name is None and len(reach) > 1:
            if agent is None:
                raise InvalidTarget("several resources: name one")
            return replace(self.target(agent.value.uri), agent=agent)
        userinfo = issuer + "/oauth/userinfo"
        if name == userinfo or (name is None and not reach):
            if "openid" not in openid:
                raise InvalidTarget("openid was not granted")
            return Target(userinfo, TokenKind.USERINFO)
        chosen = name if name is not None else next(iter(reach))
        if chosen not in reach:
            raise InvalidTarget("not what was authorized")
        return self.target(chosen)

    def _asked_within(self, authorization: Authorization) -> tuple[Asked, ScopeSet]:
        """What is asked of a resource, and of the sign-in. Who names scopes gets these and no others (RFC 6749 §6)."""
        asked = self.asked()
        if asked.scope is None:
            return asked, authorization.openid
        signs_in = asked.scope & OPENID_SCOPES
        # A refresh token was given for offline_access, whoever asked for it.
        if signs_in - authorization.openid - ({"offline_access"} if authorization.refreshable else set()):
            raise InvalidScope("not what was authorized")
        return replace(asked, scope=asked.scope - OPENID_SCOPES), authorization.openid & signs_in

    def check_alive(self, access: AccessRequest) -> AccessRequest:
        """Ask Redis whether what the authorization hangs on still lives. Raises InvalidGrant."""
        alive, _ = self.registers.live.still(access.lineage.generation, access.lineage.epochs, ())
        if not alive:
            raise InvalidGrant("revoked")
        return access
