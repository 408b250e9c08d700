"""What every grant is given, and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from app import clock
from app.agents.agent import Agent, Agents
from app.agents.trust import Trusts
from app.clients.authenticate import AuthenticatedClient
from app.clients.instance import Instance, Instances
from app.clients.request import ProtocolRequest
from app.delegation.consent import Consents
from app.delegation.task import Tasks
from app.errors import InvalidAuthorizationDetails, InvalidRequest, InvalidScope, InvalidTarget
from app.keys.strict import json_value
from app.live.cache import Cache, Held
from app.live.commit import Live
from app.live.deeds import Deeds
from app.live.models import read_thing
from app.live.things import DEPLOYMENT, Kind, Reading, Thing
from app.policy.access import AccessRequest, Asked, Target, TokenKind
from app.resources.resource import Resources
from app.settings import Settings
from app.tokens.approvals import Approvals
from app.tokens.authorization_details import Access, parse_resource_access
from app.tokens.families import Families
from app.tokens.hints import Hints
from app.tokens.verify import TokenReader
from app.vocabulary import GrantType, parse_scope


@dataclass(frozen=True, slots=True)
class Registers:
    """The registers and readers that grants look things up in."""

    settings: Settings
    live: Live
    deeds: Deeds
    agents: Agents
    resources: Resources
    consents: Consents
    tasks: Tasks
    families: Families
    tokens: TokenReader
    hints: Hints
    instances: Instances
    trusts: Trusts
    approvals: Approvals
    deployment: Cache[None]

    def deployment_epoch(self) -> int:
        """The epoch of everything."""
        held = self.deployment.find(DEPLOYMENT.id)
        return held.reading.epoch if held is not None else 0


def deployment_cache(live: Live) -> Cache[None]:
    """The deployment's epoch as SQL has it, compared with Redis at every commit."""
    return Cache(live, lambda session, _key: Held(None, DEPLOYMENT, Reading(*read_thing(session, DEPLOYMENT))))


class Seen(NamedTuple):
    """What was read of the evidence, good or not: the record of a refusal names it. Only what our own signature or SQL says."""

    human: str | None = None
    parent: str | None = None
    """`jti` of the subject token."""
    consent: str | None = None
    task: str | None = None
    family: str | None = None


class Wish(NamedTuple):
    """How an agent would like its human to be asked (OIDC CIBA Core §7.1)."""

    binding_message: str = ""
    max_age: int | None = None
    """Seconds since her sign-in at most (RFC 9470 §4)."""
    lifetime: int | None = None
    """Seconds it would wait for an answer."""


class Grant(ABC):
    """One token request of one grant_type. Made anew for each request."""

    name: ClassVar[GrantType]
    for_agents_only: ClassVar[bool] = False
    for_confidential_only: ClassVar[bool] = False
    at_browser: ClassVar[bool] = False
    """Whether the human was just now, or can be again, at a browser that the client sent her with."""
    asks_first: ClassVar[bool] = False
    """Whether a human is asked also when no policy wants her to be."""
    attested: ClassVar[bool] = False
    """Whether the caller comes with the word of its platform, and with no client authentication beside it."""
    instance: Held[Instance] | None = None
    """The running copy of the agent that asks, where the grant and not the authentication knows it."""
    approval: str | None = None
    """The approval that the request comes with, once it was read."""

    def __init__(self, registers: Registers, request: ProtocolRequest) -> None:
        self.registers = registers
        self.request = request
        self.seen = Seen()
        self._targets: set[str] = set()
        self.refresh_token: str | None = None
        """The refresh token to deliver, once `before_commit` made one."""

    @abstractmethod
    def access_request(self, caller: AuthenticatedClient, agent: Held[Agent] | None, *, certain: bool) -> AccessRequest:
        """What is asked, and what the evidence gives. Raises an OAuthError.

        `certain`: ask Redis whether the evidence is alive before anything else is said about it. Without it the
        commit finds out, which spares a round trip.
        """

    def wish(self) -> Wish:
        """How the human should be asked, if she must be. Raises an OAuthError when that is malformed."""
        return Wish()

    def before_commit(self, access: AccessRequest) -> None:
        """Use up what SQL counts once, and make the next. Takes effect once, also when the commit is tried again."""

    @contextmanager
    def together(self, access: AccessRequest) -> Iterator[None]:
        """Around the commit: what SQL then has if and only if the commit passes."""
        yield

    def beside(self, access: AccessRequest) -> dict[str, Any]:
        """Members of the answer that are this grant's alone."""
        return {}

    def give_back(self) -> None:
        """Undo what `before_commit` or `together` used up: nothing was delivered."""

    def replayed(self) -> str | None:
        """The family to end when this request's evidence was used before."""
        return None

    def reread(self) -> None:
        """Drop what is cached of the things this request names or rests on: a refusal is never told from memory."""
        for name in {*self.request.many("resource"), *self.request.many("audience"), *self._targets}:
            self.registers.resources.reread(name)
            self.registers.agents.reread(name)
        for kind, identifier in ((Kind.CONSENT, self.seen.consent), (Kind.TASK, self.seen.task)):
            if identifier is not None:
                self.registers.live.forget(Thing(kind, identifier))

    # What requests have in common

    def asked(self) -> Asked:
        """`scope` and `authorization_details` as they were asked for."""
        scope_text, details = self.request.one("scope"), self.request.one("authorization_details")
        try:
            scope = parse_scope(scope_text) if scope_text is not None else None
        except ValueError as error:
            raise InvalidScope(str(error)) from None
        if details is None:
            return Asked(scope)
        access = _parse_details(details)
        return Asked(scope, access.pairs, access.amount)

    def named(self) -> str | None:
        """What `resource` and `audience` name: one register, and naming the same twice is one target (protocol §5.7)."""
        names = {*self.request.many("resource"), *self.request.many("audience")}
        if len(names) > 1:
            raise InvalidTarget("more than one target")
        return names.pop() if names else None

    def target(self, name: str) -> Target:
        """The resource or agent of that name. Raises InvalidTarget when there is none."""
        self._targets.add(name)
        if (resource := self.registers.resources.named(name)) is not None:
            return Target(name, TokenKind.ACCESS_TOKEN, resource=resource)
        if (agent := self.registers.agents.named(name)) is not None:
            return Target(name, TokenKind.HANDOVER, agent=agent)
        raise InvalidTarget("unknown target")

    def refuse_parameters(self, *names: str) -> None:
        """A parameter that this grant does not support, and that ignoring would widen the result."""
        if "authorization_details" in names and self.request.has("authorization_details"):
            raise InvalidAuthorizationDetails("not supported with this grant")
        for name in names:
            if self.request.has(name):
                raise InvalidRequest(f"{name} is not supported with this grant")

    @property
    def now(self) -> int:
        """The moment, in seconds since 1970."""
        return clock.timestamp()


def _parse_details(text: str) -> Access:
    try:
        return parse_resource_access(json_value(text.encode()))
    except ValueError:
        raise InvalidAuthorizationDetails("malformed authorization_details") from None


def epochs_of(*held: Held[Any] | None) -> dict[Thing, int]:
    """The epochs of things as they were read."""
    return {one.thing: one.reading.epoch for one in held if one is not None}
