"""Who may do what in governing agents. An operator administers, an auditor reads all, an owner looks after his own agents."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from sqlalchemy import exists, select

from app import clock
from app.agents.models import AgentRow
from app.audit.events import Who
from app.database import Database
from app.humans.sessions import SignIn
from app.vocabulary import Role

FRESH = 300
"""Seconds since a sign-in after which a dangerous deed asks for another."""


class Duty(Enum):
    """What somebody may be about to do. Of those that name an agent, its owner may do some."""

    READ_ALL = auto()
    READ = auto()
    DRAFT = auto()
    """Register an agent that does nothing yet."""
    DESCRIBE = auto()
    """Change what an agent is called and for."""
    KEYS = auto()
    STOP = auto()
    """End what hangs on an agent, suspend it, retire it."""
    GOVERN = auto()
    """Everything that widens: ceilings, owners, activation, APIs, policies, and stopping what is not one's own."""


OPERATOR, READERS = frozenset({Role.OPERATOR}), frozenset({Role.OPERATOR, Role.AUDITOR})

OFFICES = {
    Duty.READ_ALL: READERS, Duty.READ: READERS,
    Duty.DRAFT: frozenset({Role.OPERATOR, Role.MEMBER}),
    Duty.DESCRIBE: OPERATOR, Duty.KEYS: OPERATOR, Duty.STOP: OPERATOR, Duty.GOVERN: OPERATOR,
}  # fmt: skip
"""Who has each duty by office, towards whatever it is."""

OWNERS = frozenset({Duty.READ, Duty.DESCRIBE, Duty.KEYS, Duty.STOP})
"""Duties that the owner of an agent has towards it."""

DANGEROUS = frozenset({Duty.KEYS, Duty.STOP, Duty.GOVERN})
"""Duties that ask for a fresh sign-in."""


class NotYours(Exception):
    """Whoever asks has no office for this. Says nothing of what is there."""


class StaleSignIn(Exception):
    """The sign-in is too old for a dangerous deed: sign in again."""


@dataclass(frozen=True, slots=True)
class Officer:
    """Somebody with an office, or with agents of her own."""

    id: str
    """Of the human."""
    name: str
    role: Role
    auth_time: int
    """Seconds since 1970 when she last proved who she is."""

    @property
    def sees_all(self) -> bool:
        """Whether everything may be read."""
        return self.may(Duty.READ_ALL)

    @property
    def governs(self) -> bool:
        """Whether she administers."""
        return self.may(Duty.GOVERN)

    @property
    def sees_only(self) -> str | None:
        """Id of the only owner whose agents may be read; None: all of them."""
        return None if self.sees_all else self.id

    def may(self, duty: Duty, owner: str | None = None) -> bool:
        """Whether she has that duty, towards an agent of that owner where it names one."""
        return self.role in OFFICES[duty] or (duty in OWNERS and owner is not None and owner == self.id)

    def check(self, duty: Duty, owner: str | None = None) -> None:
        """Raises `NotYours`, and `StaleSignIn` for a dangerous duty long after the sign-in."""
        if not self.may(duty, owner):
            raise NotYours
        if duty in DANGEROUS and not self.is_fresh:
            raise StaleSignIn

    @property
    def is_fresh(self) -> bool:
        """Whether she has just proved who she is."""
        return clock.timestamp() - self.auth_time < FRESH

    @property
    def who(self) -> Who:
        """As the ledger says it: an operator by her office, an owner as the human she is."""
        return Who(operator=self.id) if self.governs else Who(human=self.id)


class Officers:
    """Finds who has an office."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, signed_in: SignIn) -> Officer | None:
        """The officer who is signed in; None for somebody who neither holds an office nor owns an agent."""
        human = signed_in.human
        if human.role is Role.MEMBER and not self._owns(human.id):
            return None
        return Officer(human.id, human.name, human.role, signed_in.auth_time)

    def _owns(self, human: str) -> bool:
        with self._database.reading() as session:
            return bool(session.scalar(select(exists().where(AgentRow.owner == human))))
