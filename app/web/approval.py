"""What the page of an approval says: computed from the registers, frozen, and bound to the answer by its digest."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import sha256
from urllib.parse import urlsplit

import orjson
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.agents.models import AgentRow
from app.authorization.offer import IDENTITY, OfferedAction, OfferedResource, mixes_scripts
from app.database import Database
from app.delegation.limits import in_words
from app.delegation.models import TaskRow
from app.humans.models import HumanRow
from app.policy.access import TokenKind
from app.policy.policies import Policies
from app.resources.models import ResourceRow
from app.tokens.approvals import ApprovalRequest
from app.vocabulary import Pairs, by_resource


@dataclass(frozen=True, slots=True)
class Named:
    """An agent, by the name it gives itself and the identifier it cannot choose."""

    name: str
    uri: str


@dataclass(frozen=True, slots=True)
class Reason:
    """A policy that wants her to be asked, and the law, contract or rule of conduct it carries out."""

    policy: str
    rule: str


@dataclass(frozen=True, slots=True)
class Shown:
    """Everything the page shows. Agent-supplied text is in the names, `purpose`, `task_purpose` and `message` only."""

    id: str
    parameters: str
    """SHA-256 of what is kept and will be issued."""
    agent: Named
    purpose: str
    owner_name: str
    human_name: str
    behind: tuple[Named, ...]
    """The agents that passed the work on to it, the nearest first."""
    receiver: Named | None
    """The agent that the work is to be handed to."""
    resources: tuple[OfferedResource, ...]
    identity: tuple[str, ...]
    task_purpose: str
    """Empty for the default task."""
    message: str
    reasons: tuple[Reason, ...]
    limits: tuple[str, ...]
    """What it would be limited to, in words."""
    max_age: int | None
    asked_at: int
    expires_at: int
    suspicious_name: bool

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return sha256(orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)).hexdigest()

    @property
    def target_names(self) -> tuple[str, ...]:
        """The APIs, in words."""
        return tuple(resource.name for resource in self.resources)


class ShownApprovals:
    """Makes them."""

    def __init__(self, database: Database, policies: Policies) -> None:
        self._database = database
        self._policies = policies

    def of(self, request: ApprovalRequest) -> Shown:
        """What to show of this question."""
        asked = request.parameters
        current, *behind = [actor.sub for actor in asked.chain.actors]
        with self._database.reading() as session:
            agent = session.get_one(AgentRow, asked.agent)
            owner = session.scalar(select(HumanRow.name).where(HumanRow.id == agent.owner))
            human = session.scalar(select(HumanRow.name).where(HumanRow.id == asked.human))
            task = session.get(TaskRow, asked.task)
            named = _named(session, [*behind, asked.audience])
            resources = _resources(session, asked.pairs)
        receiver = named.get(asked.audience) if asked.kind is TokenKind.HANDOVER else None
        names = (agent.name, *(one.name for one in named.values()))
        return Shown(
            id=request.id,
            parameters=asked.digest,
            agent=Named(agent.name, current),
            purpose=agent.purpose,
            owner_name=owner or "",
            human_name=human or "",
            behind=tuple(named.get(uri, Named(uri, uri)) for uri in behind),
            receiver=receiver,
            resources=resources,
            identity=tuple(words for scope, words in IDENTITY.items() if scope in asked.openid),
            task_purpose=task.purpose if task is not None and not asked.default else "",
            message=asked.binding_message,
            reasons=tuple(Reason(policy, rule) for policy, rule in self._policies.rules(request.policies)),
            limits=in_words({"amount": asked.amount.stored("max")}) if asked.amount is not None else (),
            max_age=request.max_age,
            asked_at=request.asked_at,
            expires_at=request.expires_at,
            suspicious_name=any(map(mixes_scripts, names)),
        )


def _named(session: Session, uris: list[str]) -> dict[str, Named]:
    rows = session.execute(select(AgentRow.uri, AgentRow.name).where(AgentRow.uri.in_(uris)))
    return {row.uri: Named(row.name, row.uri) for row in rows}


def _resources(session: Session, pairs: Pairs) -> tuple[OfferedResource, ...]:
    offered = []
    for uri, scopes in by_resource(pairs).items():
        row = session.scalar(select(ResourceRow).where(ResourceRow.uri == uri))
        words = row.scopes if row is not None else {}
        labels = row.labels if row is not None else []
        actions = tuple(OfferedAction(scope, words.get(scope, scope)) for scope in scopes)
        name = row.name if row is not None else uri
        offered.append(OfferedResource(uri, name, urlsplit(uri).netloc or uri, tuple(sorted(labels)), actions))
    return tuple(offered)
