"""The closed catalogue of events. One frozen class each; its fields are what the ledger holds of it.

`who` is always filled as far as it is known: the actor chain outermost first, so that what an agent did stands as done
by the agent, in the name of the human.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from app.vocabulary import Outcome


@dataclass(frozen=True, slots=True)
class Who:
    """Who did it and in whose name. Identifiers only."""

    actors: Sequence[str] = ()
    """Agents, the current one first."""
    human: str | None = None
    """The human in whose name, or who did it when there is no agent."""
    client: str | None = None
    owner: str | None = None
    """The human who answers for the current agent."""
    operator: str | None = None
    """The operator who did it, for deeds of administration; `command line` from the shell of the server."""


@dataclass(frozen=True, slots=True)
class Event:
    """What every event has. `layers`: what each layer of the decision said, in its order."""

    name: ClassVar[str]
    outcome: ClassVar[Outcome] = Outcome.DONE

    who: Who


@dataclass(frozen=True, slots=True)
class TokenIssued(Event):
    """A token was permitted; it is signed after this record is on its way."""

    name: ClassVar[str] = "token.issued"
    outcome: ClassVar[Outcome] = Outcome.PERMIT

    grant_type: str
    token: str
    """`access_token`, `handover` or `userinfo`."""
    jti: str
    audience: str
    scope: Mapping[str, Sequence[str]]
    """Granted scope by resource."""
    asked: Mapping[str, Any]
    expires_at: int
    parent: str | None = None
    consent: str | None = None
    task: str | None = None
    family: str | None = None
    session: str | None = None
    generation: int = 0
    key: str = ""
    layers: Sequence[Mapping[str, Any]] = ()
    """What each layer took away: pairs, or the end or depth it set."""
    issues: Sequence[str] = ()
    """What came with it: `id_token`, `refresh_token`."""


@dataclass(frozen=True, slots=True)
class TokenRefused(Event):
    """An authenticated client was refused at the token endpoint."""

    name: ClassVar[str] = "token.refused"
    outcome: ClassVar[Outcome] = Outcome.DENY

    grant_type: str
    error: str
    layer: str
    reason: str
    asked: Mapping[str, Any]
    parent: str | None = None
    consent: str | None = None
    task: str | None = None
    layers: Sequence[Mapping[str, Any]] = ()
    """What the layers before the one that refused had taken away."""


@dataclass(frozen=True, slots=True)
class TokenNotDelivered(Event):
    """A permitted token could not be signed or sent; it lives nowhere."""

    name: ClassVar[str] = "token.not_delivered"
    outcome: ClassVar[Outcome] = Outcome.DENY

    jti: str
    reason: str


@dataclass(frozen=True, slots=True)
class TokenFirstUsed(Event):
    """A resource saw the token alive for the first time."""

    name: ClassVar[str] = "token.first_used"

    jti: str
    resource: str
    task: str | None = None
    consent: str | None = None


@dataclass(frozen=True, slots=True)
class ReplayDetected(Event):
    """A code or refresh token came a second time; its family is dead."""

    name: ClassVar[str] = "replay.detected"
    outcome: ClassVar[Outcome] = Outcome.DENY

    what: str
    family: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Revoked(Event):
    """Authority ended. `target`: the id of what `kind` names: token, family, task, consent, session, agent, client, human, resource, key, deployment."""

    name: ClassVar[str] = "revoked"

    kind: str
    target: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RevocationIgnored(Event):
    """A client asked to revoke a token that is not its own; nothing happened."""

    name: ClassVar[str] = "revocation.ignored"
    outcome: ClassVar[Outcome] = Outcome.DENY

    reason: str


@dataclass(frozen=True, slots=True)
class AuthorizationRefused(Event):
    """A signed-in human's authorization request ended in an error, or she said no; or a client's pushed request was refused."""

    name: ClassVar[str] = "authorization.refused"
    outcome: ClassVar[Outcome] = Outcome.DENY

    error: str
    reason: str
    asked: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CodeIssued(Event):
    """An authorization code went to a redirect URI."""

    name: ClassVar[str] = "code.issued"
    outcome: ClassVar[Outcome] = Outcome.PERMIT

    family: str
    consent: str | None
    scope: Mapping[str, Sequence[str]]
    redirect_host: str


@dataclass(frozen=True, slots=True)
class ConsentGiven(Event):
    """A human allowed an agent or application something, until a moment. `app`: who asked for a hand-over."""

    name: ClassVar[str] = "consent.given"
    outcome: ClassVar[Outcome] = Outcome.PERMIT

    consent: str
    scope: Mapping[str, Sequence[str]]
    until: int
    away: bool
    depth: int
    shown: str
    """SHA-256 of what was on the page."""
    task: str | None = None
    app: str | None = None


@dataclass(frozen=True, slots=True)
class ConsentNarrowed(Event):
    """A consent became smaller."""

    name: ClassVar[str] = "consent.narrowed"

    consent: str
    scope: Mapping[str, Sequence[str]]
    until: int


@dataclass(frozen=True, slots=True)
class ConsentWithdrawn(Event):
    """A consent ended; everything under it is dead."""

    name: ClassVar[str] = "consent.withdrawn"

    consent: str


@dataclass(frozen=True, slots=True)
class TaskOpened(Event):
    """A task began."""

    name: ClassVar[str] = "task.opened"

    task: str
    consent: str
    cause: str


@dataclass(frozen=True, slots=True)
class SignedIn(Event):
    """A human proved who she is."""

    name: ClassVar[str] = "human.signed_in"

    session: str
    acr: str
    amr: Sequence[str]


@dataclass(frozen=True, slots=True)
class SignInFailed(Event):
    """A known username, a wrong password."""

    name: ClassVar[str] = "human.sign_in_failed"
    outcome: ClassVar[Outcome] = Outcome.DENY

    reason: str


@dataclass(frozen=True, slots=True)
class SignedOut(Event):
    """A sign-in session ended, and what hung on it."""

    name: ClassVar[str] = "human.signed_out"

    session: str


@dataclass(frozen=True, slots=True)
class Registered(Event):
    """A human, agent, application or resource came into the register. `target`: its id."""

    name: ClassVar[str] = "registered"

    kind: str
    target: str
    what: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changed(Event):
    """Something of the register was changed. `target`: its id. `what` names the fields, never a secret."""

    name: ClassVar[str] = "changed"

    kind: str
    target: str
    what: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeyMoved(Event):
    """A signing key was created, rotated, retired or revoked."""

    name: ClassVar[str] = "key.moved"

    move: str
    kid: str
    alg: str


@dataclass(frozen=True, slots=True)
class GenerationOpened(Event):
    """Live state began anew; every token of earlier generations is dead."""

    name: ClassVar[str] = "generation.opened"

    generation: int
    cause: str
    drained: int
    """Records of the generation before that were saved from the stream; what it held beyond them is lost, and dead."""


@dataclass(frozen=True, slots=True)
class RecordUnreadable(Event):
    """The stream held something that no part of the server wrote: somebody else wrote into Redis."""

    name: ClassVar[str] = "record.unreadable"

    sha256: str
    length: int


@dataclass(frozen=True, slots=True)
class NoiseCounted(Event):
    """How many requests of nobody known were refused in a minute, by error."""

    name: ClassVar[str] = "noise.counted"
    outcome: ClassVar[Outcome] = Outcome.DENY

    counts: Mapping[str, int]


NOBODY = Who()

CATALOGUE: tuple[type[Event], ...] = (
    TokenIssued,
    TokenRefused,
    TokenNotDelivered,
    TokenFirstUsed,
    ReplayDetected,
    Revoked,
    RevocationIgnored,
    AuthorizationRefused,
    CodeIssued,
    ConsentGiven,
    ConsentNarrowed,
    ConsentWithdrawn,
    TaskOpened,
    SignedIn,
    SignInFailed,
    SignedOut,
    Registered,
    Changed,
    KeyMoved,
    GenerationOpened,
    RecordUnreadable,
    NoiseCounted,
)
