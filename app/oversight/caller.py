"""Who calls the JSON API, and whose things that reaches: the scopes of the token, bounded by the office of the human behind it.

An operator is a scope here: what an agent may as itself, an operator registered. A human's token has no more than the human has,
whatever its scopes say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from sqlalchemy import ColumnElement, Select, or_, select, true

from app import clock
from app.agents.agent import Agent
from app.agents.models import AgentRow
from app.audit.events import Who
from app.delegation.models import ConsentRow, TaskRow
from app.errors import AccessDenied, InsufficientUserAuthentication
from app.humans.accounts import Human
from app.ledger.models import EntryRow
from app.oversight.governance import FRESH, OFFICES, Duty
from app.vocabulary import ScopeSet

PATH = "/api/v1"
"""Under the issuer: the URI of the API, which is the audience of its tokens."""

NAME = "The administration of Deputy"


class Scope(StrEnum):
    """Scopes of the API."""

    OWN_READ = "own:read"
    OWN_WRITE = "own:write"
    ADMIN_READ = "admin:read"
    ADMIN_WRITE = "admin:write"
    KILL = "kill"


WORDS = {
    Scope.OWN_READ: "See your agents, what you allowed and what was done with it",
    Scope.OWN_WRITE: "Withdraw what you allowed, end tasks, stop your own agents",
    Scope.ADMIN_READ: "See all agents, consents, policies and the whole ledger, as far as your office allows",
    Scope.ADMIN_WRITE: "Change agents, consents and policies, as far as your office allows",
    Scope.KILL: "End what agents hold at once, as far as your office allows",
}
"""What each means in plain words; a consent page shows them."""


class NoOffice(AccessDenied):
    """The scope is there, and whoever it was given for holds no office that it could be used in."""

    status_code = 403
    layer = "role"
    default_description = "Whoever this token acts for may not do this."


class SignInAnew(InsufficientUserAuthentication):
    """RFC 9470 §3: her sign-in is too long ago for this."""

    status_code = 401
    layer = "sign-in"


@dataclass(frozen=True, slots=True)
class Whose:
    """Things that may be reached: everybody's (both None), or those of one human or of one agent."""

    human: str | None = None
    """Id: what she allowed, and the agents she answers for with all they hold."""
    agent: Agent | None = None
    """Itself, with all it holds."""

    @property
    def everybody(self) -> bool:
        """Whether nothing is out of reach."""
        return self.human is None and self.agent is None

    def agents(self) -> ColumnElement[bool]:
        """Which agents."""
        if self.agent is not None:
            return AgentRow.id == self.agent.id
        return true() if self.human is None else AgentRow.owner == self.human

    def consents(self) -> ColumnElement[bool]:
        """Which consents."""
        if self.agent is not None:
            return ConsentRow.agent == self.agent.id
        return true() if self.human is None else or_(ConsentRow.human == self.human, ConsentRow.agent.in_(self._owned()))

    def tasks(self) -> ColumnElement[bool]:
        """Which tasks."""
        if self.agent is not None:
            return TaskRow.agent == self.agent.id
        return true() if self.human is None else or_(TaskRow.human == self.human, TaskRow.agent.in_(self._owned()))

    def entries(self) -> ColumnElement[bool]:
        """Which entries of the ledger: where it acts, or is acted for."""
        if self.agent is not None:
            return EntryRow.agent == self.agent.uri
        if self.human is None:
            return true()
        return or_(EntryRow.human == self.human, EntryRow.agent.in_(select(AgentRow.uri).where(AgentRow.owner == self.human)))

    def _owned(self) -> Select[str]:
        return select(AgentRow.id).where(AgentRow.owner == self.human)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever presents a token."""

    scopes: ScopeSet
    acting: Who
    """The chain, the client and the human, as the token says it."""
    human: Human | None = None
    """In whose name; None: an agent as itself."""
    agent: Agent | None = None
    """Which agent, where it acts as itself."""
    auth_time: int = 0
    """Seconds since 1970 when the human had signed in."""
    scheme: str = "Bearer"
    """How the token was presented; a challenge says the same."""

    def may_read(self) -> Whose:
        """Whose things it may see. Raises `NoOffice`."""
        return self._reach(Scope.ADMIN_READ, Scope.OWN_READ, Duty.READ_ALL)

    def may_write(self) -> Whose:
        """Whose things it may change in ways that only narrow. Raises `NoOffice`."""
        return self._reach(Scope.ADMIN_WRITE, Scope.OWN_WRITE, Duty.STOP)

    def governs(self) -> None:
        """Whether it may widen: let an agent in again, move policies. Raises `NoOffice`, `SignInAnew`."""
        if not self._holds(Scope.ADMIN_WRITE, Duty.GOVERN):
            raise NoOffice("no operator")
        self.signed_in_lately()

    def oversees(self) -> None:
        """Whether it may see what is nobody's own: APIs, applications, policies. Raises `NoOffice`."""
        if not self._holds(Scope.ADMIN_READ, Duty.READ_ALL):
            raise NoOffice("neither operator nor auditor")

    def may_stop(self, owner: str | None) -> None:
        """Whether it may end a thing that the human `owner` answers for; None: nobody alone does. Raises `NoOffice`."""
        owns = self.human is not None and owner == self.human.id and Scope.KILL in self.scopes
        if not owns and not self._holds(Scope.KILL, Duty.STOP):
            raise NoOffice("neither operator nor owner")

    def signed_in_lately(self) -> None:
        """Nothing dangerous long after a sign-in, as on the pages. An agent as itself proves itself each time. Raises `SignInAnew`."""
        if self.human is not None and clock.timestamp() - self.auth_time >= FRESH:
            refusal = SignInAnew(f"signed in {clock.timestamp() - self.auth_time} seconds ago")
            refusal.extra["max_age"] = FRESH
            said = f'error="{refusal.error}", max_age="{FRESH}"'
            refusal.headers["WWW-Authenticate"] = f'{self.scheme} realm="Deputy", {said}'
            raise refusal

    def doing(self, whose: str | None = None) -> Who:
        """As the ledger says who did something to a thing of the human `whose`; None: of no human alone.

        An office is named where it is used: then the human whose thing it is stays named in the record, and is told.
        """
        if self.agent is not None:
            own = not self.scopes & {Scope.ADMIN_WRITE, Scope.KILL}
            return self.acting if own else replace(self.acting, operator=self.agent.id)
        if self.human is not None and self.human.id != whose:
            return replace(self.acting, human=None, operator=self.human.id)
        return self.acting

    def _reach(self, everything: Scope, own: Scope, duty: Duty) -> Whose:
        if self._holds(everything, duty):
            return Whose()
        if own not in self.scopes:
            raise NoOffice("the human holds no such office")
        return Whose(human=self.human.id) if self.human is not None else Whose(agent=self.agent)

    def _holds(self, scope: Scope, duty: Duty) -> bool:
        return scope in self.scopes and (self.human is None or self.human.role in OFFICES[duty])
