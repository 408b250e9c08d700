"""The closed catalogue of events. One frozen class each; its fields are what the ledger holds of it.

`who` is always filled as far as it is known: the actor chain outermost first, so that what an agent did stands as done
by the agent, in the name of the human.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    """Who did it, for deeds of administration: an operator, an owner over what is another's, or `command line`, the server's shell."""
    instance: str | None = None
    """Which running copy of the current agent, where it is told apart."""

    def over(self, human: str) -> Who:
        """The same deed done to what is that human's: it is told to her, and never as her own when another person did it."""
        if self.human in {None, human}:
            return replace(self, human=human)
        if self.actors:
            return self
        return replace(self, human=human, operator=self.operator or self.human)


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
    parents: Sequence[str] = ()
    """`jti`s of all it was derived from, the nearest first."""
    consent: str | None = None
    task: str | None = None
    family: str | None = None
    session: str | None = None
    generation: int = 0
    hangs_on: Mapping[str, int] = field(default_factory=dict)
    """The things it dies with, and the epoch of each it was born under."""
    key: str = ""
    jkt: str | None = None
    """RFC 7638 thumbprint of the key it is bound to."""
    x5t_s256: str | None = None
    """SHA-256 thumbprint of the certificate it is bound to (RFC 8705 §3.1)."""
    layers: Sequence[Mapping[str, Any]] = ()
    """What each layer took away: pairs, or the end or depth it set."""
    policies: int = 0
    """Version of the policy set it was decided under."""
    question: Mapping[str, Any] | None = None
    """What the policies were asked, in full: replay asks it again."""
    evidence: Mapping[str, Any] | None = None
    """What it began with, before the first layer: `scope` by resource, `end`, `depth`, the `actor_token`'s jti."""
    labels: Sequence[str] = ()
    """What its task has touched with it: labels of the resource and of the scopes granted."""
    issues: Sequence[str] = ()
    """What came with it: `id_token`, `refresh_token`."""
    approval: str | None = None
    """The approval that it used up."""
    limits: Mapping[str, Any] | None = None
    """What it is limited to: `amount`, which all amounts of its task may add up to."""


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
    question: Mapping[str, Any] | None = None
    """What the policies were asked, where it came to that."""
    evidence: Mapping[str, Any] | None = None
    """As in `token.issued`; absent when the evidence itself was refused."""
    audience: str | None = None
    """Where it was to be good, once that was known."""
    family: str | None = None
    policies: int | None = None
    """Version of the policy set in force, when the policies refused."""
    forbidden_by: Sequence[str] | None = None
    """Which policies forbade it."""
    approval: str | None = None
    """The approval that the agent asked with."""


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
    """Authority ended. `target`: the id of what `kind` names: token, family, task, consent, session, agent, instance, client, human, resource, key, deployment."""

    name: ClassVar[str] = "revoked"

    kind: str
    target: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RevocationCounted(Event):
    """What a revocation ended, counted after it held and the ledger had everything issued before it."""

    name: ClassVar[str] = "revocation.counted"

    kind: str
    target: str
    tokens: int
    consents: int
    tasks: int
    agents: int
    humans: int
    entry: int
    """The number of the last entry that was counted up to."""
    complete: bool
    """False: not everything issued before had arrived in the ledger, there may have been more."""


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
    session: str | None = None
    """The sign-in session in which it was given, also where it does not hang on it."""
    limits: Mapping[str, Any] | None = None
    """What all tasks under it may use up together."""


@dataclass(frozen=True, slots=True)
class ConsentNarrowed(Event):
    """A consent became smaller."""

    name: ClassVar[str] = "consent.narrowed"

    consent: str
    scope: Mapping[str, Sequence[str]]
    until: int
    limits: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ConsentWithdrawn(Event):
    """A consent ended; everything under it is dead."""

    name: ClassVar[str] = "consent.withdrawn"

    consent: str


@dataclass(frozen=True, slots=True)
class ConsentPaused(Event):
    """A human keeps what she allowed from being used; tokens under it are dead."""

    name: ClassVar[str] = "consent.paused"

    consent: str


@dataclass(frozen=True, slots=True)
class ConsentResumed(Event):
    """What was paused may be used again. Nothing of before lives again."""

    name: ClassVar[str] = "consent.resumed"

    consent: str


@dataclass(frozen=True, slots=True)
class TaskOpened(Event):
    """A task began."""

    name: ClassVar[str] = "task.opened"

    task: str
    consent: str
    cause: str
    purpose: str = ""
    scope: Mapping[str, Sequence[str]] | None = None
    """What a named task narrows its consent to, by resource."""
    until: int | None = None
    limits: Mapping[str, Any] | None = None
    labels: Sequence[str] | None = None
    """What the task before it had touched, and it therefore has."""


@dataclass(frozen=True, slots=True)
class TaskRefused(Event):
    """An agent asked for a task and did not get it."""

    name: ClassVar[str] = "task.refused"
    outcome: ClassVar[Outcome] = Outcome.DENY

    error: str
    layer: str
    reason: str
    asked: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskReported(Event):
    """A resource says what was done with a token of the task."""

    name: ClassVar[str] = "task.reported"

    task: str
    jti: str
    resource: str
    action: str
    labels: Sequence[str]
    amount: Mapping[str, str] | None = None
    reference: str | None = None
    """The resource's own id of the event."""
    consent: str | None = None


@dataclass(frozen=True, slots=True)
class ApprovalAsked(Event):
    """A human is asked whether one token may be issued. Nothing is issued until she says yes."""

    name: ClassVar[str] = "approval.asked"

    approval: str
    grant_type: str
    """How it was asked for: by a grant that a policy held up, or straight, by CIBA."""
    audience: str
    scope: Mapping[str, Sequence[str]]
    """What would be issued, by resource."""
    consent: str
    task: str
    until: int
    """Seconds since 1970 until when she can answer."""
    parameters: str
    """SHA-256 of exactly what was asked."""
    forbidden_by: Sequence[str] | None = None
    """The policies that forbid it unless she says yes; absent where the agent asks of its own accord."""
    policies: int = 0
    """Version of the policy set it was decided under."""
    max_age: int | None = None
    """Seconds since her sign-in at most when she says yes."""
    layers: Sequence[Mapping[str, Any]] = ()
    question: Mapping[str, Any] | None = None
    """What the policies were asked."""
    evidence: Mapping[str, Any] | None = None
    """As in `token.issued`."""


@dataclass(frozen=True, slots=True)
class ApprovalAllowed(Event):
    """She said yes, to all or to less."""

    name: ClassVar[str] = "approval.allowed"
    outcome: ClassVar[Outcome] = Outcome.PERMIT

    approval: str
    scope: Mapping[str, Sequence[str]]
    """What she allowed, by resource."""
    shown: str
    """SHA-256 of what was on the page."""
    parameters: str
    session: str
    auth_time: int
    """When she had signed in, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class ApprovalDenied(Event):
    """She said no, or an operator did."""

    name: ClassVar[str] = "approval.denied"
    outcome: ClassVar[Outcome] = Outcome.DENY

    approval: str


@dataclass(frozen=True, slots=True)
class ApprovalExpired(Event):
    """The agent came back after the time to answer, or to use the answer, was over; or what it hung on had ended."""

    name: ClassVar[str] = "approval.expired"
    outcome: ClassVar[Outcome] = Outcome.DENY

    approval: str
    reason: str


@dataclass(frozen=True, slots=True)
class ApprovalRedeemed(Event):
    """The agent used it up. `token.issued` has its one token."""

    name: ClassVar[str] = "approval.redeemed"

    approval: str


@dataclass(frozen=True, slots=True)
class ApprovalReturned(Event):
    """It was used up, and no token came of it: the agent was told so and may come again in time."""

    name: ClassVar[str] = "approval.returned"

    approval: str


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
class InstanceRegistered(Event):
    """A running copy of an agent registered a key of its own."""

    name: ClassVar[str] = "instance.registered"
    outcome: ClassVar[Outcome] = Outcome.PERMIT

    instance: str
    via: str
    under: str
    jkt: str
    expires_at: int
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class InstanceRefused(Event):
    """Somebody with a real enrolment code was refused; no instance was registered."""

    name: ClassVar[str] = "instance.refused"
    outcome: ClassVar[Outcome] = Outcome.DENY

    under: str
    error: str
    layer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Changed(Event):
    """Something of the register was changed. `target`: its id. `what` names the fields, never a secret."""

    name: ClassVar[str] = "changed"

    kind: str
    target: str
    what: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PolicyMoved(Event):
    """A version of a policy was added, activated or retired. `rule`: the law, contract or code it carries out."""

    name: ClassVar[str] = "policy.moved"

    policy: str
    version: int
    move: str
    rule: str
    policies: int | None = None
    """Version of the policy set that this made; decisions name it."""


@dataclass(frozen=True, slots=True)
class TokenForbidden(Event):
    """A policy changed after the token was issued, and forbids it now."""

    name: ClassVar[str] = "token.forbidden"
    outcome: ClassVar[Outcome] = Outcome.DENY

    jti: str
    resource: str
    reason: str
    policies: int
    """Version of the policy set that forbids it."""
    task: str | None = None
    consent: str | None = None
    question: Mapping[str, Any] | None = None
    forbidden_by: Sequence[str] = ()
    """Which policies."""


@dataclass(frozen=True, slots=True)
class CallPermitted(Event):
    """A resource asked whether it may carry out one call with a token, and was told yes. Nothing was taken or touched by it."""

    name: ClassVar[str] = "call.permitted"
    outcome: ClassVar[Outcome] = Outcome.PERMIT

    jti: str
    resource: str
    action: str
    object: Mapping[str, str] | None = None
    """`type` and `id` of what it is done to, in the resource's own ids."""
    amount: Mapping[str, str] | None = None
    reference: str | None = None
    task: str | None = None
    consent: str | None = None
    policies: int = 0
    question: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class CallConsumed(Event):
    """The same, and it counts as done: its labels are touched, and a use and its amount are taken."""

    name: ClassVar[str] = "call.consumed"
    outcome: ClassVar[Outcome] = Outcome.PERMIT

    jti: str
    resource: str
    action: str
    object: Mapping[str, str] | None = None
    amount: Mapping[str, str] | None = None
    labels: Sequence[str] = ()
    """What the task has touched with it."""
    reference: str | None = None
    task: str | None = None
    consent: str | None = None
    policies: int = 0
    question: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class CallRefused(Event):
    """A resource asked whether it may carry out one call with a live token, and was told no."""

    name: ClassVar[str] = "call.refused"
    outcome: ClassVar[Outcome] = Outcome.DENY

    jti: str
    resource: str
    action: str
    layer: str
    reason: str
    object: Mapping[str, str] | None = None
    amount: Mapping[str, str] | None = None
    task: str | None = None
    consent: str | None = None
    policies: int = 0
    question: Mapping[str, Any] | None = None
    forbidden_by: Sequence[str] | None = None
    """Which policies forbade it."""


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
    RevocationCounted,
    RevocationIgnored,
    AuthorizationRefused,
    CodeIssued,
    ConsentGiven,
    ConsentNarrowed,
    ConsentWithdrawn,
    ConsentPaused,
    ConsentResumed,
    TaskOpened,
    TaskRefused,
    TaskReported,
    ApprovalAsked,
    ApprovalAllowed,
    ApprovalDenied,
    ApprovalExpired,
    ApprovalRedeemed,
    ApprovalReturned,
    SignedIn,
    SignInFailed,
    SignedOut,
    Registered,
    InstanceRegistered,
    InstanceRefused,
    Changed,
    PolicyMoved,
    TokenForbidden,
    CallPermitted,
    CallConsumed,
    CallRefused,
    KeyMoved,
    GenerationOpened,
    RecordUnreadable,
    NoiseCounted,
)
