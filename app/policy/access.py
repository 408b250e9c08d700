"""What is asked, and what was decided. A `Permit` cannot be made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from app.agents.agent import Agent
from app.clients.client import Client
from app.delegation.authority import Authority
from app.delegation.consent import Consent
from app.delegation.task import Task
from app.errors import OAuthError
from app.live.cache import Held
from app.live.commit import Once
from app.live.things import Thing
from app.resources.resource import Resource
from app.vocabulary import GrantType, Pairs, ScopeSet


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
    openid: ScopeSet = frozenset()
    nonce: str | None = None
    refreshable_until: int = 0
    """Seconds since 1970 until which a refresh token may repeat it; 0: none is given."""

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


_SEAL = object()


@dataclass(frozen=True, slots=True)
class Permit:
    """A request that every rule let pass, with what they left of its authority."""

    access: AccessRequest
    layers: tuple[Mapping[str, Any], ...]
    """What each rule took away, in order: the ledger keeps it."""
    seal: Any = field(repr=False)

    def __post_init__(self) -> None:
        if self.seal is not _SEAL:
            raise TypeError("only decide() makes a Permit")


def _permit(access: AccessRequest, layers: tuple[Mapping[str, Any], ...]) -> Permit:
    """For `decide` alone."""
    return Permit(access, layers, _SEAL)
