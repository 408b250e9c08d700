"""What the API answers. Each model is also what the OpenAPI document says of the answer."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.agents.models import AgentRow
from app.clients.models import ClientRow, InstanceRow
from app.delegation.models import ConsentRow, TaskRow
from app.ledger.queries import Entry as LedgerEntry
from app.oversight.counting import Count
from app.oversight.target import Target, What
from app.policy.models import PolicyRow
from app.resources.models import ResourceRow
from app.tokens.approvals import ApprovalRequest
from app.vocabulary import AgentState, Pair, by_resource

Scopes = dict[str, list[str]]
"""Scopes by resource."""


class Answer(BaseModel):
    """An answer, or a part of one. Moments are seconds since 1970."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Agent(Answer):
    """An agent as it is registered."""

    id: str
    uri: str = Field(description="Its `sub`, `act.sub` and `aud`.")
    client_id: str
    name: str
    owner: str = Field(description="Id of the human who answers for it.")
    purpose: str
    state: AgentState
    scopes: Scopes = Field(description="What it may have for a human who consents, by resource.")
    own_scopes: Scopes = Field(description="What it may have as itself, by resource.")
    may_hand_to: list[str] = Field(description="Ids of the agents it may hand work to.")
    max_depth: int
    serves: str = Field(description="URI of the API it speaks for; empty for none.")
    created_at: int

    @classmethod
    def of(cls, row: AgentRow) -> Agent:
        """As SQL has it."""
        return cls(
            id=row.id,
            uri=row.uri,
            client_id=row.client_id,
            name=row.name,
            owner=row.owner,
            purpose=row.purpose,
            state=AgentState(row.state),
            scopes=_scopes(row.ceiling),
            own_scopes=_scopes(row.own),
            may_hand_to=row.hands_to,
            max_depth=row.max_depth,
            serves=row.serves,
            created_at=row.created_at,
        )


class Agents(Answer):
    """A page of agents, by id."""

    agents: list[Agent]
    next: str | None = Field(description="`after` of the next page; null at the end.")


class Instance(Answer):
    """A running copy of an agent."""

    id: str
    client_id: str
    jkt: str = Field(description="RFC 7638 thumbprint of its key.")
    via: str
    subject: str = Field(description="Whom its platform says it is; empty for one that was enrolled.")
    registered_at: int
    expires_at: int
    ended_at: int | None

    @classmethod
    def of(cls, row: InstanceRow) -> Instance:
        """As SQL has it."""
        return cls(
            id=row.id,
            client_id=row.client_id,
            jkt=row.jkt,
            via=row.via,
            subject=row.subject,
            registered_at=row.registered_at,
            expires_at=row.expires_at,
            ended_at=row.ended_at,
        )


class Instances(Answer):
    """The instances of an agent, the newest first."""

    instances: list[Instance]


class Consent(Answer):
    """What a human allowed."""

    id: str
    human: str
    client_id: str
    agent: str | None = Field(description="Id of the agent; null where an application was allowed.")
    scopes: Scopes
    away: bool = Field(description="Whether it goes on without her being signed in.")
    depth: int
    given_at: int
    until: int
    paused_at: int | None
    ended_at: int | None
    stands: bool = Field(description="False once it was withdrawn, ran out, or something it hung on was ended.")

    @classmethod
    def of(cls, row: ConsentRow, *, stands: bool) -> Consent:
        """As SQL has it."""
        return cls(
            id=row.id,
            human=row.human,
            client_id=row.client_id,
            agent=row.agent,
            scopes=_scopes(row.pairs),
            away=row.away,
            depth=row.depth,
            given_at=row.given_at,
            until=row.until,
            paused_at=row.paused_at,
            ended_at=row.ended_at,
            stands=stands,
        )


class Consents(Answer):
    """A page of consents that stand, by id."""

    consents: list[Consent]
    next: str | None


class Task(Answer):
    """A piece of work under a consent."""

    id: str
    consent: str
    human: str
    agent: str
    purpose: str
    default: bool = Field(description="Whether it is the one that its consent came with.")
    scopes: Scopes | None = Field(description="What it narrows its consent to; null: the whole consent.")
    limits: dict[str, Any]
    touched: list[str] = Field(description="Labels of what it has touched, as far as the ledger has it.")
    uses: int
    opened_at: int
    deadline: int
    ended_at: int | None

    @classmethod
    def of(cls, row: TaskRow) -> Task:
        """As SQL has it."""
        return cls(
            id=row.id,
            consent=row.consent,
            human=row.human,
            agent=row.agent,
            purpose=row.purpose,
            default=row.default,
            scopes=None if row.pairs is None else _scopes(row.pairs),
            limits=row.limits,
            touched=row.labels,
            uses=row.uses,
            opened_at=row.opened_at,
            deadline=row.deadline,
            ended_at=row.ended_at,
        )


class Tasks(Answer):
    """A page of tasks, by id."""

    tasks: list[Task]
    next: str | None


class Stopped(Answer):
    """What hangs on a target, or hung on it until it was ended, counted at an entry of the ledger."""

    what: What
    id: str
    preview: bool
    tokens: int
    consents: int
    tasks: int
    agents: int
    humans: int
    agent_names: list[str] = Field(description="Some of them, by name.")
    human_names: list[str]
    entry: int = Field(description="Number of the last entry of the ledger that was counted up to.")
    complete: bool = Field(description="False: the ledger lagged, and there may be more.")

    @classmethod
    def of(cls, target: Target, count: Count, *, preview: bool) -> Stopped:
        """A count as it was made."""
        return cls(
            what=target.what,
            id=target.id,
            preview=preview,
            tokens=count.tokens,
            consents=count.consents,
            tasks=count.tasks,
            agents=count.agents,
            humans=count.humans,
            agent_names=list(count.agent_names),
            human_names=list(count.human_names),
            entry=count.entry,
            complete=count.complete,
        )


class Entry(Answer):
    """An entry of the ledger."""

    seq: int
    hash: str
    record: dict[str, Any] = Field(description="As docs/ledger.md has it.")

    @classmethod
    def of(cls, entry: LedgerEntry) -> Entry:
        """As the ledger has it."""
        return cls(seq=entry.seq, hash=entry.hash, record=entry.record)


class Ledger(Answer):
    """A page of the ledger, the newest first."""

    entries: list[Entry]
    next: int | None = Field(description="`before` of the next page; null at the end.")


class Recorded(Answer):
    """A record; `seq` is null while it is on its way to the ledger."""

    seq: int | None
    record: dict[str, Any]


class Layer(Answer):
    """A layer of the decision, and what it took away."""

    name: str
    pairs: list[str] = Field(description="`resource scope` each.")
    seconds: int
    depth: int
    refused: bool


class Explanation(Answer):
    """One decision, from the sign-in to the end."""

    decision: Recorded
    state: str = Field(description="`alive`, `expired`, `ended`, `refused`, `asked` or `done`.")
    ended_by: Recorded | None
    layers: list[Layer]
    missing: dict[str, str] = Field(description="Scopes that were not to be had: which layer took each away.")
    policies: dict[str, Any] | None
    limits: dict[str, Any] | None
    approval: list[Recorded]
    custody: list[Recorded]
    seen: list[Recorded]
    derived: list[Recorded]
    endings: list[Recorded]
    names: dict[str, str]
    complete: bool


class Resource(Answer):
    """An API as it is registered."""

    id: str
    uri: str
    name: str
    scopes: dict[str, str] = Field(description="Each in plain words.")
    labels: list[str]
    scope_labels: Scopes
    alg: str
    bound: list[str]
    enabled: bool
    created_at: int

    @classmethod
    def of(cls, row: ResourceRow) -> Resource:
        """As SQL has it."""
        return cls(
            id=row.id,
            uri=row.uri,
            name=row.name,
            scopes=row.scopes,
            labels=row.labels,
            scope_labels=row.scope_labels,
            alg=row.alg,
            bound=row.bound,
            enabled=row.enabled,
            created_at=row.created_at,
        )


class Resources(Answer):
    """Every API, by URI."""

    resources: list[Resource]


class Application(Answer):
    """An application as it is registered."""

    client_id: str
    name: str
    auth: str
    redirect_uris: list[str]
    scopes: Scopes = Field(description="What it may ask a human for, by resource.")
    enabled: bool

    @classmethod
    def of(cls, row: ClientRow) -> Application:
        """As SQL has it."""
        return cls(
            client_id=row.client_id,
            name=row.name,
            auth=row.auth_method,
            redirect_uris=row.redirect_uris,
            scopes=_scopes(row.pairs),
            enabled=row.enabled,
        )


class Applications(Answer):
    """Every application, by name."""

    applications: list[Application]


class Policy(Answer):
    """One version of a policy."""

    name: str
    version: int
    state: str = Field(description="`draft`, `active` or `retired`.")
    rule: str = Field(description="The law, contract or rule of conduct it carries out.")
    text: str = Field(description="In Cedar.")
    owner: str
    made_at: int
    activated_at: int | None

    @classmethod
    def of(cls, row: PolicyRow) -> Policy:
        """As SQL has it."""
        return cls(
            name=row.name,
            version=row.version,
            state=row.state,
            rule=row.rule,
            text=row.text,
            owner=row.owner,
            made_at=row.made_at,
            activated_at=row.activated_at,
        )


class Policies(Answer):
    """Every version of every policy, by name, the newest first."""

    policies: list[Policy]


class Approval(Answer):
    """A question that waits for a human."""

    id: str
    human: str
    agent: str = Field(description="URI of the agent that asks.")
    audience: str
    scopes: Scopes
    policies: list[str] = Field(description="The policies that want her to be asked.")
    asked_at: int
    expires_at: int

    @classmethod
    def of(cls, request: ApprovalRequest) -> Approval:
        """As it was asked."""
        asked = request.parameters
        return cls(
            id=request.id,
            human=asked.human,
            agent=asked.chain.actors[0].sub,
            audience=asked.audience,
            scopes=dict(by_resource(asked.pairs)),
            policies=list(request.policies),
            asked_at=request.asked_at,
            expires_at=request.expires_at,
        )


class Approvals(Answer):
    """What waits for an answer, the oldest first."""

    approvals: list[Approval]


class Denied(Answer):
    """A question that was answered with no."""

    id: str
    denied: bool = True


class Problem(BaseModel):
    """Why not, in the shape of RFC 6749 §5.2 (docs/errors.md)."""

    error: str
    error_description: str


def _scopes(pairs: list[list[str]]) -> Scopes:
    return dict(by_resource(frozenset(Pair(*pair) for pair in pairs)))
