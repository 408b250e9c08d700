"""What is asked, and what was decided. A `Permit` cannot be made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple

from app.agents.agent import Agent
from app.clients.client import Client
from app.clients.instance import Instance
from app.delegation.authority import Authority
from app.delegation.consent import Consent
from app.delegation.limits import Amount
from app.delegation.task import Task
from app.errors import OAuthError
from app.live.cache import Held
from app.live.commit import Once
from app.live.history import History
from app.live.things import Thing
from app.policy.asks import Approved, Ask
from app.policy.cedar import Question
from app.resources.resource import Resource
from app.vocabulary import Confirmation, GrantType, Pairs, ScopeSet


class TokenKind(StrEnum):
    """What is to be signed. Each is taken by one kind of endpoint."""

    ACCESS_TOKEN = "access_token"
    HANDOVER = "handover"
    USERINFO = "userinfo"
    ACTOR = "actor"
    """An agent's own token for the issuer: `actor_token` and `/tasks`."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the token is to be good: a resource, an agent it is handed to, or the server itself."""

    audience: str
    kind: TokenKind
    resource: Held[Resource] | None = None
    agent: Held[Agent] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller asked for in so many words; None is "whatever is left", never "all"."""

    scope: ScopeSet | None = None
    pairs: Pairs | None = None
    """From authorization_details (RFC 9396), pair by pair."""
    amount: Amount | None = None
    """From there too: what all amounts may add up to."""


@dataclass(frozen=True, slots=True)
class SignedInAs:
    """How the human proved who she is; copied down every chain and never refreshed."""

    auth_time: int
    acr: str
    amr: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a token hangs on: born under these epochs, derived from these tokens, in this generation."""

    generation: int
    epochs: Mapping[Thing, int] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    """`jti`s of the tokens it came from, the nearest first."""
    consent: str | None = None
    family: str | None = None
    session: str | None = None
    policies: int = 0
    """Version of the policy set that a token read back was decided under."""
    approval: str | None = None
    """The approval it was issued on, and it alone: what is derived from it has none."""


class AccessRequest(NamedTuple):
    """A grant's reading of a token request: who asks for what on whose behalf, and what the evidence in hand gives."""

    grant_type: GrantType
    client: Held[Client]
    authority: Authority
    target: Target
    asked: Asked
    lineage: Lineage
    now: int
    lifetime: int
    """Seconds the token may live by default."""
    agent: Held[Agent] | None = None
    human: str | None = None
    consent: Held[Consent] | None = None
    task: Held[Task] | None = None
    signed_in: SignedInAs | None = None
    once: tuple[Once, ...] = ()
    """Marks that may be set once: the code, say."""
    evidence: tuple[str, ...] = ()
    """`jti`s beside the lineage that must not be denied either when it is committed: of the `actor_token`."""
    new_actor: bool = False
    """Whether the actor is another than the evidence's, who brings a key of its own (protocol §5.11)."""
    instance: Held[Instance] | None = None
    """Which running copy of the agent asks; None where it is whoever holds a registered key."""
    openid: ScopeSet = frozenset()
    nonce: str | None = None
    history: History = History()
    """What the task has touched in this generation."""
    others: frozenset[str] = frozenset()
    """What the agent's other open tasks for the same human have touched, where a policy looks at it."""
    policies: int = 0
    """Version of the policy set it is decided under."""
    refreshable_until: int = 0
    """Seconds since 1970 until which a refresh token may repeat it; 0: none is given."""
    approved: Approved | None = None
    """What the human answered when she was asked about exactly this."""

    @property
    def touches(self) -> frozenset[str]:
        """The labels its task touches with what is left of its authority: the resource's and the scopes'."""
        resource = self.target.resource
        return resource.value.touched_by(self.authority.scope) if resource is not None else frozenset()

    @property
    def touched(self) -> frozenset[str]:
        """All that its task has touched before."""
        return self.history.labels | self.task.value.labels if self.task is not None else frozenset()

    def held_with(self, proven: tuple[Confirmation, ...]) -> AccessRequest:
        """The same request bound to what its caller proved, the one place where that is done.

        Raises InvalidDPoPProof, InvalidCertificate.
        """
        authority = self.authority.bound(proven, new_actor=self.new_actor)
        return self if authority is self.authority else self._replace(authority=authority)

    def by(self, instance: Held[Instance] | None) -> AccessRequest:
        """The same request made by one running copy of the agent, the one place where that is said.

        What comes of it hangs on that copy, and its chain names it.
        """
        if instance is None:
            return self
        # What it was born under before outlasts what is so now.
        lineage = replace(self.lineage, epochs={instance.thing: instance.reading.epoch, **self.lineage.epochs})
        return self._replace(instance=instance, authority=self.authority.by_instance(instance.value.id), lineage=lineage)

    def narrowed(self, authority: Authority) -> AccessRequest:
        """The same request with a smaller authority."""
        if authority is self.authority:
            return self
        if not authority.within(self.authority):
            raise AssertionError("a rule may only narrow")
        return self._replace(authority=authority)


@dataclass(frozen=True, slots=True)
class Denial:
    """A rule said no. `error` is what the caller hears."""

    error: OAuthError
    layers: tuple[Mapping[str, Any], ...] = ()
    """What the rules before it had taken away."""
    question: Question | None = None
    """What the policies were asked, when it was they who refused."""
    policies: tuple[str, ...] = ()
    """Which of them refused."""


@dataclass(frozen=True, slots=True)
class NeedsHuman:
    """Every rule let it pass and no policy refuses, but a human must say yes first. Nothing can be minted from it."""

    access: AccessRequest
    """With what the rules left of its authority: that is what she is asked about."""
    policies: tuple[str, ...]
    """Those that want her."""
    asks: tuple[Ask, ...]
    way_out: Mapping[str, str]
    """What the agent could have without her."""
    layers: tuple[Mapping[str, Any], ...]
    question: Question
    evidence: Authority
    """What it began with, before the first rule."""

    @property
    def max_age(self) -> int | None:
        """Seconds since her sign-in at most, when she answers; None: whenever it was."""
        return min((ask.max_age for ask in self.asks if ask.max_age is not None), default=None)

    @property
    def wants_sign_in_only(self) -> bool:
        """Whether a fresh sign-in alone would do."""
        return all(ask.max_age is not None for ask in self.asks)


_SEAL = object()


@dataclass(frozen=True, slots=True)
class Permit:
    """A request that every rule let pass, with what they left of its authority."""

    access: AccessRequest
    layers: tuple[Mapping[str, Any], ...]
    """What each rule took away, in order: the ledger keeps it."""
    question: Question | None
    """What the policies were asked; None where there is no agent to ask about."""
    evidence: Authority
    """What it began with, before the first rule."""
    seal: Any = field(repr=False)

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise TypeError("only decide() makes a Permit")


def _permit(access: AccessRequest, layers: tuple[Mapping[str, Any], ...], question: Question | None, evidence: Authority) -> Permit:
    """For `decide` alone."""
    return Permit(access, layers, question, evidence, _SEAL)
