"""`client_credentials`: the agent's own token (RFC 6749 §4.4, protocol §3)."""

from __future__ import annotations

from app.agents.agent import Agent
from app.clients.authenticate import AuthenticatedClient
from app.delegation.authority import Authority
from app.errors import UnauthorizedClient
from app.grants.grant import Grant, epochs_of
from app.live.cache import Held
from app.live.things import DEPLOYMENT
from app.policy.access import AccessRequest, Lineage, Target, TokenKind
from app.vocabulary import GrantType


class ClientCredentials(Grant):
    """`sub` = the agent, no `act`, only scopes registered as its own; without a target it is an `actor_token`."""

    name = GrantType.CLIENT_CREDENTIALS
    for_agents_only = True
    for_confidential_only = True

    def access_request(self, caller: AuthenticatedClient, agent: Held[Agent] | None, *, certain: bool) -> AccessRequest:
        """What the agent may have as itself."""
        if agent is None:
            raise UnauthorizedClient("not an agent")
        self.refuse_parameters("authorization_details", "subject_token", "actor_token")
        registers, name = self.registers, self.named()
        issuer = registers.settings.issuer
        target = Target(issuer, TokenKind.ACTOR) if name is None or name == issuer else self.target(name)
        epochs = epochs_of(caller.held, agent, target.resource)
        epochs[DEPLOYMENT] = registers.deployment_epoch()
        now = self.now
        lifetime = registers.settings.access_token_lifetime
        return AccessRequest(
            grant_type=self.name,
            client=caller.held,
            agent=agent,
            authority=Authority(pairs=agent.value.own if target.kind is TokenKind.ACCESS_TOKEN else frozenset(), end=now + lifetime),
            target=target,
            asked=self.asked(),
            lineage=Lineage(registers.live.generation().number, epochs),
            now=now,
            lifetime=lifetime,
            once=caller.once,
        )
