"""What the consent page says: computed from the registers, frozen, and bound to the answer by its digest."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import orjson
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from app.agents.agent import Agent
from app.agents.models import AgentRow
from app.agents.reach import reach, serving
from app.authorization.request import AuthorizationRequest, redirect_host
from app.database import Database
from app.delegation.limits import in_words
from app.delegation.models import TaskRow
from app.humans.models import HumanRow
from app.humans.sessions import SignIn
from app.settings import Settings

DAY = 86400
LIFETIMES = (
    (3600, "1 hour"),
    (8 * 3600, "8 hours"),
    (DAY, "1 day"),
    (7 * DAY, "7 days"),
    (30 * DAY, "30 days"),
    (90 * DAY, "90 days"),
)
IDENTITY = {
    "openid": "Know that it is you",
    "profile": "See your name and username",
    "email": "See your email address",
}


@dataclass(frozen=True, slots=True)
class OfferedAction:
    """One scope, in plain words."""

    scope: str
    words: str


@dataclass(frozen=True, slots=True)
class OfferedResource:
    """One API and what is asked for there."""

    uri: str
    name: str
    host: str
    labels: tuple[str, ...]
    actions: tuple[OfferedAction, ...]


@dataclass(frozen=True, slots=True)
class Offer:
    """Everything the page shows. Agent-supplied text is in `name` and `purpose` only."""

    kind: str
    """`agent` or `app`."""
    name: str
    identifier: str
    purpose: str
    owner_name: str
    human_name: str
    redirect_host: str
    app_name: str | None
    resources: tuple[OfferedResource, ...]
    identity: tuple[str, ...]
    lifetimes: tuple[tuple[int, str], ...]
    """Seconds and words, the longest last, which is the default."""
    away_asked: bool
    hands_to: tuple[str, ...]
    hands_on_to: tuple[str, ...]
    """All others to whom these may hand on in turn."""
    served_by: tuple[str, ...]
    """Agents that may exchange a token for one of these APIs: they speak for it, or an operator said so."""
    receivers: tuple[str, ...]
    """Ids of all these: nobody else ever acts under the consent."""
    depth: int
    used_before: int
    suspicious_name: bool
    limits: Mapping[str, Any] = field(default_factory=dict)
    """What the agent proposes, as it was sent; the human may lower it."""

    @property
    def limit_words(self) -> tuple[str, ...]:
        """The limits in plain words."""
        return in_words(self.limits)

    @property
    def digest(self) -> str:
        """SHA-256 of what was shown; how often it was used before may change meanwhile."""
        shown = asdict(self)
        del shown["used_before"]
        return sha256(orjson.dumps(shown, option=orjson.OPT_SORT_KEYS)).hexdigest()


class Offers:
    """Makes offers."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def offer(self, request: AuthorizationRequest, signed_in: SignIn) -> Offer:
        """What to show this human of this request."""
        agent = request.agent.value if request.agent is not None else None
        client = request.client.value
        name = agent.name if agent is not None else client.name
        with self._database.reading() as session:
            owner = session.scalar(select(HumanRow.name).where(HumanRow.id == agent.owner)) if agent is not None else None
            hands_to = _names(session, AgentRow.id.in_(sorted(agent.hands_to))) if agent is not None else ()
            uris = {pair.resource for pair in request.pairs}
            serves = serving(session, uris) - {agent.id} if agent is not None else frozenset()
            depth = min(_in_a_row(session, agent, served=bool(serves)), self._settings.max_depth)
            receivers = reach(session, agent, uris, depth) if agent is not None else frozenset()
            onward = receivers - serves - agent.hands_to if agent is not None else frozenset()
            served_by, hands_on_to = (_names(session, AgentRow.id.in_(sorted(ids))) for ids in (serves, onward))
            used = 0
            if agent is not None:
                uses = select(func.coalesce(func.sum(TaskRow.uses), 0))
                used = session.scalar(uses.where(TaskRow.human == signed_in.human.id, TaskRow.agent == agent.id)) or 0
        return Offer(
            kind="agent" if agent is not None else "app",
            name=name,
            identifier=agent.uri if agent is not None else client.client_id,
            purpose=agent.purpose if agent is not None else "",
            owner_name=owner or "",
            human_name=signed_in.human.name,
            redirect_host=redirect_host(request.redirect_uri),
            app_name=client.name if request.handover else None,
            resources=_resources(request),
            identity=tuple(words for scope, words in IDENTITY.items() if scope in request.openid),
            lifetimes=self._lifetimes(),
            away_asked=request.away,
            hands_to=hands_to,
            hands_on_to=hands_on_to,
            served_by=served_by,
            receivers=tuple(sorted(receivers)),
            depth=depth,
            used_before=int(used),
            suspicious_name=mixes_scripts(name),
            limits=request.limits.stored(),
        )

    def _lifetimes(self) -> tuple[tuple[int, str], ...]:
        longest = self._settings.consent_lifetime
        offered = tuple(choice for choice in LIFETIMES if choice[0] <= longest)
        return offered or ((longest, f"{max(1, longest // 60)} minutes"),)


def _in_a_row(session: Session, agent: Agent | None, *, served: bool) -> int:
    """How many agents in a row there can be: one who can pass work to nobody, two when the receivers cannot either."""
    if agent is None:
        return 0
    if served:
        return agent.max_depth
    if not agent.hands_to:
        return 1
    lists = session.scalars(select(AgentRow.hands_to).where(AgentRow.id.in_(sorted(agent.hands_to))))
    return agent.max_depth if any(lists) else min(agent.max_depth, 2)


def _names(session: Session, which: ColumnElement[bool]) -> tuple[str, ...]:
    return tuple(session.scalars(select(AgentRow.name).where(which).order_by(AgentRow.name, AgentRow.id)))


def _resources(request: AuthorizationRequest) -> tuple[OfferedResource, ...]:
    offered = []
    for held in request.resources:
        resource = held.value
        scopes = sorted(pair.scope for pair in request.pairs if pair.resource == resource.uri)
        if scopes:
            actions = tuple(OfferedAction(scope, resource.scopes[scope]) for scope in scopes)
            host = urlsplit(resource.uri).netloc or resource.uri
            offered.append(OfferedResource(resource.uri, resource.name, host, tuple(sorted(resource.labels)), actions))
    return tuple(offered)


def mixes_scripts(name: str) -> bool:
    """Whether letters of more than one script are in it: a name made to look like another."""
    scripts = {unicodedata.name(letter, "?").split(" ")[0] for letter in name if letter.isalpha()}
    return len(scripts - {"MODIFIER", "COMBINING"}) > 1
