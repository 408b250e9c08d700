"""Token exchange (RFC 8693 §2, OAuth Actor Profile, protocol §5): steps 1, 3 to 7; the rest are shared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from app.agents.agent import Agent
from app.clients.authenticate import AuthenticatedClient
from app.delegation.authority import Authority, not_proven
from app.delegation.chain import Actor
from app.delegation.consent import Consent
from app.delegation.task import Task
from app.errors import InvalidRequest, InvalidTarget, InvalidToken, UnauthorizedClient
from app.grants.grant import Grant, Seen, epochs_of
from app.keys.verifier import JWTRefused
from app.live.cache import Held
from app.live.things import DEPLOYMENT, Thing
from app.policy.access import AccessRequest, Lineage, SignedInAs, Target
from app.tokens.verify import VerifiedToken
from app.vocabulary import Confirmation, GrantType, JWTType, Pair, Pairs, TokenTypeURI

TOKEN_TYPES = {TokenTypeURI.ACCESS_TOKEN.value, TokenTypeURI.JWT.value}


@dataclass(frozen=True, slots=True)
class Subject:
    """What the subject token gives, whatever it is: whose authority, under which consent and task, born how."""

    human: str
    authority: Authority
    consent: Held[Consent] | None
    task: Held[Task] | None
    signed_in: SignedInAs
    lineage: Lineage
    client_id: str | None = None
    audience: str | None = None
    may_act: Actor | None = None


class TokenExchange(Grant):
    """The agent exchanges what it holds for a token of minutes, for one API, with just the scopes of the task."""

    name = GrantType.TOKEN_EXCHANGE
    for_agents_only = True
    for_confidential_only = True

    def access_request(self, caller: AuthenticatedClient, agent: Held[Agent] | None, *, certain: bool) -> AccessRequest:
        """Steps 3 to 7 of the protocol, in that order."""
        if agent is None:
            raise UnauthorizedClient("not an agent")
        self._check_types()
        subject = self._subject(agent.value, certain=certain)
        proof = self._actor_token(agent.value, caller.proven)
        actor = Actor(self.registers.settings.issuer, agent.value.uri)
        if subject.may_act is not None and subject.may_act != actor:
            raise InvalidToken("may_act names another actor", layer="may_act")
        target = self._target(subject)
        self._entitled(agent.value, subject, target)
        subject = self._with_consent(subject, agent, target)
        # What something was born under outlasts what is so now: nothing revives when a thing is enabled again.
        epochs = {
            DEPLOYMENT: self.registers.deployment_epoch(),
            **epochs_of(caller.held, agent, subject.consent, subject.task, target.resource, target.agent),
            **(subject.consent.value.born if subject.consent is not None else {}),
            **subject.lineage.epochs,
        }
        settings = self.registers.settings
        return AccessRequest(
            grant_type=self.name,
            client=caller.held,
            agent=agent,
            human=subject.human,
            authority=(subject.authority if proof is None else subject.authority.narrow(end=proof.authority.end)).acting(actor),
            target=target,
            asked=self.asked(),
            lineage=replace(subject.lineage, epochs=epochs),
            now=self.now,
            lifetime=settings.access_token_lifetime if target.resource is not None else settings.handover_lifetime,
            consent=subject.consent,
            task=subject.task,
            signed_in=subject.signed_in,
            once=caller.once,
            evidence=proof.denied_by if proof is not None else (),
            new_actor=subject.authority.chain.current != actor,
        )

    def _check_types(self) -> None:
        """Step 1: what the request calls its tokens."""
        request = self.request
        if not request.has("subject_token") or not request.has("subject_token_type"):
            raise InvalidRequest("subject_token and subject_token_type are required")
        if request.has("actor_token") != request.has("actor_token_type"):
            raise InvalidRequest("actor_token and actor_token_type go together")
        if request.one("requested_token_type") not in {None, *TOKEN_TYPES}:
            raise InvalidRequest("requested_token_type is not supported")

    def _subject(self, agent: Agent, *, certain: bool) -> Subject:
        """Step 3: read the subject token by what it is."""
        kind, value = self.request.one("subject_token_type"), self.request.one("subject_token") or ""
        if kind == TokenTypeURI.CONSENT:
            return self._consent_subject(value, agent, certain=certain)
        if kind not in TOKEN_TYPES:
            raise InvalidToken("subject_token_type is not supported")
        token = self._read(value, JWTType.ACCESS_TOKEN, JWTType.HANDOVER)
        self.seen = Seen(token.subject if token.human else None, token.jti, token.lineage.consent, token.task, token.lineage.family)
        self._lives(token, certain=certain)
        if token.signed_in is None:
            raise InvalidToken("the subject is not a human")
        if token.audience == self.registers.settings.issuer + "/oauth/userinfo":
            raise InvalidToken("a userinfo token is good for userinfo only")
        consent = task = None
        if token.authority.chain.depth:
            consent = self._consent(token.lineage.consent)
            task = self.registers.tasks.find(token.task) if token.task else None
            if task is None:
                raise InvalidToken("no task", layer="task")
        if consent is not None and (named := self.request.one("task_id")) is not None and named != token.task:
            raise InvalidToken("task_id differs from the subject token's task", layer="task")
        return Subject(
            human=token.subject,
            authority=token.authority,
            consent=consent,
            task=task,
            signed_in=token.signed_in,
            lineage=replace(token.lineage, parents=token.denied_by, approval=None),
            client_id=token.client_id,
            audience=token.audience,
            may_act=token.may_act,
        )

    def _consent_subject(self, consent_id: str, agent: Agent, *, certain: bool) -> Subject:
        """The agent comes back alone, while its human is away: the consent's id is no secret and no use to others."""
        held = self._consent(consent_id)
        consent = held.value
        self.seen = Seen(human=consent.human, consent=consent.id)
        if consent.agent != agent.id or not consent.away:
            raise InvalidToken("not this agent's consent, or not for while the human is away", layer="consent")
        if certain:
            self._alive(self.registers.live.generation().number, {**consent.born, held.thing: held.reading.epoch}, ())
        task = self._task_of(held)
        return Subject(
            human=consent.human,
            authority=Authority(pairs=consent.pairs, end=consent.until, depth=consent.depth),
            consent=held,
            task=task,
            signed_in=SignedInAs(consent.auth_time, consent.acr, consent.amr),
            lineage=Lineage(self.registers.live.generation().number, consent=consent.id),
            client_id=consent.client_id,
        )

    def _task_of(self, consent: Held[Consent]) -> Held[Task] | None:
        """The consent's default task; a named one must be the consent's own."""
        named = self.request.one("task_id")
        if not consent.value.live(self.now):
            raise InvalidToken("the consent is paused" if consent.value.paused else "the consent has ended", layer="consent")
        if named is None:
            return self.registers.tasks.default(consent.value)
        task = self.registers.tasks.find(named)
        if task is None or task.value.consent != consent.value.id:
            raise InvalidToken("not a task of this consent", layer="task")
        return task

    def _actor_token(self, agent: Agent, proven: tuple[Confirmation, ...]) -> VerifiedToken | None:
        """Step 6: an `actor_token` is the caller's own token for the issuer, with what it is bound to, or nothing."""
        value = self.request.one("actor_token")
        if value is None:
            if self.request.one("actor_token_type") is not None:
                raise InvalidToken("actor_token_type without actor_token", layer="actor_token")
            return None
        if self.request.one("actor_token_type") not in TOKEN_TYPES:
            raise InvalidToken("actor_token_type is not supported", layer="actor_token")
        token = self._read(value, JWTType.ACCESS_TOKEN)
        self._lives(token, certain=True)
        own = token.subject == agent.uri and token.audience == self.registers.settings.issuer
        if not own or token.signed_in is not None or token.authority.chain.depth:
            raise InvalidToken("not the caller's own token for the issuer", layer="actor_token")
        held = token.authority.confirmation
        if held is not None and held not in proven:
            refusal = not_proven(held, proven)
            refusal.layer = "actor_token"
            raise refusal
        return token

    def _target(self, subject: Subject) -> Target:
        """Step 7: one target; without a name, the only location there is."""
        name = self.named()
        if name is None:
            locations = subject.authority.resources
            if len(locations) != 1:
                raise InvalidTarget("no target named, and more than one location")
            (name,) = locations
        return self.target(name)

    def _entitled(self, agent: Agent, subject: Subject, target: Target) -> None:
        """Step 5: the token is the caller's, or meant for it, or an operator said so."""
        if subject.client_id == agent.client_id or subject.audience == agent.uri:
            return
        if agent.serves and subject.audience == agent.serves:
            return
        if subject.audience is not None and self.registers.agents.entitled(agent.id, subject.audience, target.audience):
            return
        raise InvalidToken("neither the caller's token nor meant for it", layer="entitlement")

    def _with_consent(self, subject: Subject, agent: Held[Agent], target: Target) -> Subject:
        """Step 4 for a token without `act`: the exchanging agent needs its own consent from that human."""
        if subject.consent is not None:
            return subject
        reach = _reach(subject.authority.pairs, target)
        for held in self.registers.consents.standing(subject.human, agent.value.client_id):
            if held.value.pairs & reach:
                depth = held.value.depth
                return replace(
                    subject,
                    consent=held,
                    task=self._task_of(held),
                    authority=replace(subject.authority, depth=depth),
                    lineage=replace(subject.lineage, consent=held.value.id),
                )
        raise InvalidToken("no consent of this human for this agent", layer="consent")

    def _consent(self, consent_id: str | None) -> Held[Consent]:
        held = self.registers.consents.find(consent_id) if consent_id else None
        if held is None:
            raise InvalidToken("no such consent", layer="consent")
        return held

    def _read(self, value: str, *typ: JWTType) -> VerifiedToken:
        try:
            return self.registers.tokens.read(value, *typ, now=self.now)
        except JWTRefused as refused:
            raise InvalidToken(refused.reason) from None

    def _lives(self, token: VerifiedToken, *, certain: bool) -> None:
        if certain:
            self._alive(token.lineage.generation, token.lineage.epochs, token.denied_by)
        elif token.lineage.generation != self.registers.live.generation().number:
            raise InvalidToken("of an earlier generation")

    def _alive(self, generation: int, epochs: Mapping[Thing, int], denied_by: tuple[str, ...]) -> None:
        alive, _ = self.registers.live.still(generation, epochs, denied_by)
        if not alive:
            raise InvalidToken("revoked")


def _reach(pairs: Pairs, target: Target) -> frozenset[Pair]:
    return pairs if target.resource is None else frozenset(pair for pair in pairs if pair.resource == target.audience)
