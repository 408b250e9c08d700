"""A backchannel authentication request (OIDC CIBA Core §7.1): an agent asks a human for one token, of its own accord."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from app.agents.agent import Agent
from app.clients.authenticate import AuthenticatedClient
from app.delegation.authority import Authority
from app.delegation.chain import Actor
from app.delegation.consent import CONSENT_PREFIX, Consent
from app.errors import (
    ExpiredLoginHintToken,
    InvalidBindingMessage,
    InvalidRequest,
    InvalidScope,
    InvalidTarget,
    UnauthorizedClient,
    UnknownUserId,
    UnmetAuthenticationRequirements,
)
from app.grants.grant import Seen, Wish, epochs_of
from app.grants.token_exchange import TokenExchange
from app.humans.sessions import ACR_PASSWORD
from app.keys.verifier import JWTRefused
from app.live.cache import Held
from app.live.things import DEPLOYMENT
from app.policy.access import AccessRequest, Asked, Lineage, SignedInAs
from app.vocabulary import GrantType, JWTType, ScopeSet, is_plain

HINTS = ("login_hint", "login_hint_token", "id_token_hint")
UNSUPPORTED = ("request", "subject_token", "actor_token", "client_notification_token", "user_code", "requested_token_type")
OPENID = frozenset({"openid"})
MAX_MESSAGE = 200
MAX_DIGITS = 9
MAX_EXPIRY = 86_400
"""Seconds a question may wait at most."""


class BackchannelAuthentication(TokenExchange):
    """Reads the request. What comes of it is a question, whatever the policies say."""

    name = GrantType.CIBA
    asks_first: ClassVar[bool] = True

    def access_request(self, caller: AuthenticatedClient, agent: Held[Agent] | None, *, certain: bool) -> AccessRequest:
        """What would be issued if she says yes: within the consent she has given this agent."""
        if agent is None:
            raise UnauthorizedClient("not an agent")
        self.refuse_parameters(*UNSUPPORTED)
        self._check_acr()
        self.wish()
        registers, settings = self.registers, self.registers.settings
        asked, openid = self._asked_of_human()
        consent = self._hinted(agent.value)
        if certain:
            self._check_alive(consent)
        task = self._task_of(consent)
        target = self.target(self._named_within(consent.value))
        lifetime = settings.access_token_lifetime if target.resource is not None else settings.handover_lifetime
        given = consent.value
        self.seen = Seen(human=given.human, consent=given.id)
        return AccessRequest(
            grant_type=self.name,
            client=caller.held,
            agent=agent,
            human=given.human,
            authority=Authority(given.pairs, given.until, depth=given.depth).acting(Actor(settings.issuer, agent.value.uri)),
            target=target,
            asked=asked,
            lineage=Lineage(
                registers.live.generation().number,
                {
                    DEPLOYMENT: registers.deployment_epoch(),
                    **epochs_of(caller.held, agent, consent, task, target.resource, target.agent),
                    **given.born,
                },
                consent=given.id,
                session=given.session,
            ),
            now=self.now,
            lifetime=lifetime,
            consent=consent,
            task=task,
            signed_in=SignedInAs(given.auth_time, given.acr, given.amr),
            once=caller.once,
            new_actor=True,
            openid=openid,
        )

    def wish(self) -> Wish:
        """The words to show, how fresh her sign-in must be, and how long the agent wants to wait."""
        message = self.request.one("binding_message") or ""
        if message and not is_plain(message, MAX_MESSAGE):
            raise InvalidBindingMessage("binding_message is too long, or not one line of plain text")
        expiry = self._seconds("requested_expiry")
        if expiry == 0:
            raise InvalidRequest("requested_expiry is a positive number of seconds")
        return Wish(message, self._seconds("max_age"), min(expiry, MAX_EXPIRY) if expiry is not None else None)

    def _check_acr(self) -> None:
        """`acr_values` names a way of signing in that there is, or what it demands cannot be met (RFC 9470 §5)."""
        wanted = self.request.one("acr_values")
        if wanted is not None and ACR_PASSWORD not in wanted.split(" "):
            raise UnmetAuthenticationRequirements("no such acr")

    def _seconds(self, name: str) -> int | None:
        value = self.request.one(name)
        if value is None:
            return None
        if not value.isascii() or not value.isdigit() or len(value) > MAX_DIGITS:
            raise InvalidRequest(f"{name} is a number of seconds")
        return int(value)

    def _asked_of_human(self) -> tuple[Asked, ScopeSet]:
        """`scope` and `authorization_details`, and apart from them `openid`, which every CIBA request may carry (CIBA Core §7.1)."""
        asked = self.asked()
        if asked.scope is None:
            return asked, frozenset()
        rest = asked.scope - OPENID
        if not rest and asked.pairs is None:
            raise InvalidScope("nothing but openid")
        return replace(asked, scope=rest or None), asked.scope & OPENID

    def _named_within(self, consent: Consent) -> str:
        """The target; without a name, the only location there is."""
        name = self.named()
        if name is not None:
            return name
        locations = sorted({pair.resource for pair in consent.pairs})
        if len(locations) != 1:
            raise InvalidTarget("no target named, and more than one location")
        return locations[0]

    def _hinted(self, agent: Agent) -> Held[Consent]:
        """The live consent for this agent of whom the one hint names. To the caller there is no difference to nobody."""
        given = [name for name in HINTS if self.request.has(name)]
        if len(given) != 1:
            raise InvalidRequest("exactly one of login_hint, login_hint_token and id_token_hint")
        value = self.request.one(given[0]) or ""
        if given[0] == "login_hint" and value.startswith(CONSENT_PREFIX):
            held = self.registers.consents.find(value)
            if held is None or held.value.agent != agent.id or not held.value.live(self.now):
                raise UnknownUserId("not a live consent for this agent")
            return held
        human = value if given[0] == "login_hint" else self._human_of(given[0], value, agent)
        name = self.named()
        reaches = None if name is None or self.registers.resources.named(name) is None else name
        for held in self.registers.consents.standing(human, agent.client_id):
            if reaches is None or any(pair.resource == reaches for pair in held.value.pairs):
                return held
        raise UnknownUserId("nobody with a live consent for this agent that reaches there")

    def _human_of(self, hint: str, value: str, agent: Agent) -> str:
        """Whom a token of ours that this agent holds is about, expired or not. It says who is meant, and proves nothing."""
        try:
            if hint == "id_token_hint":
                told = self.registers.hints.read(value)
                if told.client_id != agent.client_id:
                    raise UnknownUserId("another client's ID token")
                return told.subject
            token = self.registers.tokens.read(value, JWTType.ACCESS_TOKEN, JWTType.HANDOVER, now=0)
        except JWTRefused as refused:
            raise InvalidRequest(refused.reason) from None
        if not token.human or (token.client_id != agent.client_id and token.audience != agent.uri):
            raise UnknownUserId("neither this agent's token nor meant for it, or nobody's")
        if token.authority.end <= self.now:
            raise ExpiredLoginHintToken("expired")
        return token.subject

    def _check_alive(self, consent: Held[Consent]) -> None:
        generation = self.registers.live.generation().number
        alive, _ = self.registers.live.still(generation, {**consent.value.born, consent.thing: consent.reading.epoch}, ())
        if not alive:
            self.registers.live.moved(consent.thing)
            raise UnknownUserId("the consent has ended or was narrowed")
