"""What every grant is given, and what it answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from app import clock
from app.agents.agent import Agent, Agents
from app.clients.authenticate import AuthenticatedClient
from app.clients.request import ProtocolRequest
from app.delegation.consent import Consents
from app.delegation.task import Tasks
from app.errors import InvalidAuthorizationDetails, InvalidRequest, InvalidScope, InvalidTarget
from app.keys.strict import json_value
from app.live.cache import Cache, Held
from app.live.commit import Live
from app.live.deeds import Deeds
from app.live.models import read_thing
from app.live.things import DEPLOYMENT, Reading, Thing
from app.policy.access import AccessRequest, Asked, Target, TokenKind
from app.resources.resource import Resources
from app.settings import Settings
from app.tokens.authorization_details import parse_resource_access
from app.tokens.families import Families
from app.tokens.verify import TokenReader
from app.vocabulary import GrantType, Pairs, parse_scope


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
    deployment: Cache[None]

    def deployment_epoch(self) -> int:
        """The epoch of everything."""
        held = self.deployment.find(DEPLOYMENT.id)
        return held.reading.epoch if held is not None else 0


def deployment_cache(live: Live) -> Cache[None]:
    """The deployment's epoch as SQL has it, compared with Redis at every commit."""
    return Cache(live, lambda session, _key: Held(None, DEPLOYMENT, Reading(*read_thing(session, DEPLOYMENT))))


class Grant(ABC):
    """One token request of one grant_type. Made anew for each request."""

    name: ClassVar[GrantType]
    for_agents_only: ClassVar[bool] = False
    for_confidential_only: ClassVar[bool] = False

    def __init__(self, registers: Registers, request: ProtocolRequest) -> None:
        self.registers = registers
        self.request = request
        self.refresh_token: str | None = None
        """The refresh token to deliver, once `before_commit` made one."""

    @abstractmethod
    def access_request(self, caller: AuthenticatedClient, agent: Held[Agent] | None, *, certain: bool) -> AccessRequest:
        """What is asked, and what the evidence gives. Raises an OAuthError.

        `certain`: ask Redis whether the evidence is alive before anything else is said about it. Without it the
        commit finds out, which spares a round trip.
        """

    def before_commit(self, access: AccessRequest) -> None:
        """Use up what SQL counts once, and make the next. Takes effect once, also when the commit is tried again."""

    def give_back(self) -> None:
        """Undo `before_commit`: nothing was delivered."""

    def replayed(self) -> str | None:
        """The family to end when this request's evidence was used before."""
        return None

    def reread(self) -> None:
        """Drop what is cached of the things this request names: a refusal is never told from memory."""
        for name in (*self.request.many("resource"), *self.request.many("audience")):
            self.registers.resources.reread(name)
            self.registers.agents.reread(name)

    # What requests have in common

    def asked(self) -> Asked:
        """`scope` and `authorization_details` as they were asked for."""
        scope_text, details = self.request.one("scope"), self.request.one("authorization_details")
        try:
            scope = parse_scope(scope_text) if scope_text is not None else None
        except ValueError as error:
            raise InvalidScope(str(error)) from None
        return Asked(scope, _parse_details(details) if details is not None else None)

    def named(self) -> str | None:
        """What `resource` and `audience` name: one register, and naming the same twice is one target (protocol §5.7)."""
        names = {*self.request.many("resource"), *self.request.many("audience")}
        if len(names) > 1:
            raise InvalidTarget("more than one target")
        return names.pop() if names else None

    def target(self, name: str) -> Target:
        """The resource or agent of that name. Raises InvalidTarget when there is none."""
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


def _parse_details(text: str) -> Pairs:
    try:
        return parse_resource_access(json_value(text.encode()))
    except ValueError:
        raise InvalidAuthorizationDetails("malformed authorization_details") from None


def epochs_of(*held: Held[Any] | None) -> dict[Thing, int]:
    """The epochs of things as they were read."""
    return {one.thing: one.reading.epoch for one in held if one is not None}
