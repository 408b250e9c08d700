"""The inventory of agents: which exist, who owns them, what they can do, why, what they did, how to stop them.

Each answer takes a number of queries that does not depend on how many agents there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, tuple_
from sqlalchemy.orm import Session

from app import clock
from app.agents.models import AgentRow
from app.clients.models import InstanceRow
from app.database import Database
from app.delegation.models import ConsentRow, TaskRow
from app.errors import NotFound
from app.humans.models import HumanRow
from app.ledger.issued import AgentUseRow, LiveTokenRow
from app.live import footing
from app.live.footing import FootingRow, FootingThingRow
from app.live.models import DeploymentRow, read_thing
from app.live.things import Kind, Thing
from app.resources.models import ResourceRow
from app.vocabulary import AgentState, Pair

PAGE = 25
"""Agents on a page."""

LATELY = 30 * 86_400
"""Seconds within which an agent counts as in use."""

LOOKED_AT = 1000
"""Standing consents, the newest, whose scopes are counted for one agent."""

SHOWN = 50
"""Standing consents, and instances, told one by one."""


@dataclass(frozen=True, slots=True)
class Summary:
    """The whole, in numbers."""

    states: Mapping[str, int]
    owners: int
    orphans: int
    """Agents that work although their owner is disabled."""
    in_use: int
    """Agents that got a token lately."""
    resources: int

    @property
    def agents(self) -> int:
        """All that are not retired."""
        return sum(count for state, count in self.states.items() if state != AgentState.RETIRED)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which agents."""

    owner: str | None = None
    """Id of a human."""
    state: str | None = None
    text: str = ""
    """In the name, the purpose or the owner's name, or exactly an identifier or her username."""
    after: tuple[str, str] | None = None
    """Name and id of the last one of the page before."""


@dataclass(frozen=True, slots=True)
class Line:
    """One agent in the list. What it may is counted in (API, scope) pairs."""

    id: str
    uri: str
    name: str
    purpose: str
    state: str
    owner: str
    owner_name: str
    owner_enabled: bool
    may: int
    """Allowed by its registration, for a human or as itself."""
    consents: int
    """Standing."""
    used: int
    """Of what it may, what it ever got a token for."""
    last_used: int | None
    tokens: int
    """Live ones that hang on it."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some agents by name, and where the next page begins."""

    lines: tuple[Line, ...]
    after: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Reach:
    """One scope at one API, as far as an agent is concerned."""

    resource: str
    resource_name: str
    scope: str
    words: str
    labels: tuple[str, ...]
    may: bool
    """For a consenting human."""
    own: bool
    """As itself."""
    consents: int
    """Standing consents that allow it."""
    tokens: int
    """How often it got a token with it."""
    last_used: int | None


@dataclass(frozen=True, slots=True)
class Given:
    """A standing consent."""

    id: str
    human: str
    human_name: str
    given_at: int
    until: int
    away: bool
    uses: int


@dataclass(frozen=True, slots=True)
class Copy:
    """One running copy of an agent that lives."""

    id: str
    via: str
    subject: str
    """Whom its platform says it is."""
    registered_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Detail:
    """Everything about one agent."""

    line: Line
    reach: tuple[Reach, ...]
    given: tuple[Given, ...]
    hands_to: tuple[tuple[str, str], ...]
    """(id, name) of agents it may hand work to."""
    created_at: int
    copies: tuple[Copy, ...] = ()
    """Its instances that live, the newest first."""

    @property
    def counted_all(self) -> bool:
        """Whether every standing consent was looked at for `Reach.consents`."""
        return self.line.consents <= LOOKED_AT


class Inventory:
    """Reads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def summary(self, owner: str | None = None) -> Summary:
        """The whole in numbers, or what one owner has of it."""
        mine = () if owner is None else (AgentRow.owner == owner,)
        with self._database.reading() as session:
            states = dict(session.execute(select(AgentRow.state, func.count()).where(*mine).group_by(AgentRow.state)).all())
            owners = session.scalar(select(func.count(AgentRow.owner.distinct())).where(*mine, AgentRow.state != AgentState.RETIRED)) or 0
            orphaned = and_(HumanRow.id == AgentRow.owner, HumanRow.enabled.is_(False))
            orphans = select(func.count()).select_from(AgentRow).join(HumanRow, orphaned).where(*mine, AgentRow.state == AgentState.ACTIVE)
            since = clock.timestamp() - LATELY
            used = select(AgentUseRow.agent).where(AgentUseRow.last_at >= since)
            in_use = select(func.count()).select_from(AgentRow).where(*mine, AgentRow.uri.in_(used))
            return Summary(
                states=states,
                owners=owners,
                orphans=session.scalar(orphans) or 0,
                in_use=session.scalar(in_use) or 0,
                resources=session.scalar(select(func.count()).select_from(ResourceRow)) or 0,
            )

    def page(self, wanted: Wanted, size: int = PAGE) -> Page:
        """A page of agents, by name."""
        statement = select(AgentRow).where(*_which(wanted)).order_by(AgentRow.name, AgentRow.id).limit(size + 1)
        if wanted.after is not None:
            statement = statement.where(tuple_(AgentRow.name, AgentRow.id) > tuple_(*wanted.after))
        with self._database.reading() as session:
            rows = list(session.scalars(statement))
            lines = _lines(session, rows[:size])
        return Page(lines, (rows[size - 1].name, rows[size - 1].id) if len(rows) > size else None)

    def owners(self, owner: str | None = None) -> list[tuple[str, str]]:
        """(id, name) of the people who own agents, by name."""
        owning = select(AgentRow.owner).distinct()
        statement = select(HumanRow.id, HumanRow.name).where(HumanRow.id.in_(owning)).order_by(HumanRow.name, HumanRow.id)
        if owner is not None:
            statement = statement.where(HumanRow.id == owner)
        with self._database.reading() as session:
            return list(session.execute(statement.limit(LOOKED_AT)))

    def detail(self, agent_id: str) -> Detail:
        """All about one agent. Raises `NotFound`."""
        with self._database.reading() as session:
            row = session.get(AgentRow, agent_id)
            if row is None:
                raise NotFound(f"no agent {agent_id}")
            (line,) = _lines(session, [row])
            consents = list(session.execute(consents_of([agent_id], LOOKED_AT)))
            receivers = select(AgentRow.id, AgentRow.name).where(AgentRow.id.in_(row.hands_to)).order_by(AgentRow.name)
            return Detail(
                line=line,
                reach=_reach(session, row, consents),
                given=_given(session, consents[:SHOWN]),
                hands_to=tuple(session.execute(receivers)),
                created_at=row.created_at,
                copies=_copies(session, row.client_id),
            )


def standing() -> ColumnElement[bool]:
    """Consents that are neither ended nor over, and that no deed has felled."""
    return and_(ConsentRow.ended_at.is_(None), ConsentRow.until > clock.timestamp(), ~footing.fallen(ConsentRow.footing))


def _which(wanted: Wanted) -> Iterable[ColumnElement[bool]]:
    if wanted.owner is not None:
        yield AgentRow.owner == wanted.owner
    if wanted.state:
        yield AgentRow.state == wanted.state
    if wanted.text:
        exact = (AgentRow.id == wanted.text, AgentRow.uri == wanted.text, AgentRow.client_id == wanted.text)
        within = (column.icontains(wanted.text, autoescape=True) for column in (AgentRow.name, AgentRow.purpose))
        named = or_(HumanRow.username == wanted.text, HumanRow.name.icontains(wanted.text, autoescape=True))
        yield or_(*exact, *within, AgentRow.owner.in_(select(HumanRow.id).where(named)))


def _lines(session: Session, rows: list[AgentRow]) -> tuple[Line, ...]:
    ids, uris = [row.id for row in rows], [row.uri for row in rows]
    owners = {row.id: row for row in session.scalars(select(HumanRow).where(HumanRow.id.in_({row.owner for row in rows})))}
    given = select(ConsentRow.agent, func.count()).where(ConsentRow.agent.in_(ids), standing()).group_by(ConsentRow.agent)
    consents: dict[str | None, int] = dict(session.execute(given).all())
    used: dict[str, set[Pair]] = {}
    last: dict[str, int] = {}
    for use in session.execute(select(AgentUseRow).where(AgentUseRow.agent.in_(uris))).scalars():
        used.setdefault(use.agent, set()).add(Pair(use.resource, use.scope))
        last[use.agent] = max(last.get(use.agent, 0), use.last_at)
    tokens = live_tokens(session, ids)
    return tuple(
        Line(
            id=row.id,
            uri=row.uri,
            name=row.name,
            purpose=row.purpose,
            state=row.state,
            owner=row.owner,
            owner_name=owners[row.owner].name if row.owner in owners else "",
            owner_enabled=row.owner in owners and owners[row.owner].enabled,
            may=len(_pairs(row)),
            consents=consents.get(row.id, 0),
            used=len(_pairs(row) & used.get(row.uri, set())),
            last_used=last.get(row.uri),
            tokens=tokens.get(row.id, 0),
        )
        for row in rows
    )


def live_tokens(session: Session, agents: Iterable[str]) -> dict[str, int]:
    """How many live tokens hang on each of these agents, up to those denied one by one."""
    generation = session.scalar(select(DeploymentRow.generation)) or 0
    held = (
        select(FootingThingRow.id, func.count())
        .join(FootingRow, FootingRow.id == FootingThingRow.footing)
        .join(LiveTokenRow, LiveTokenRow.footing == FootingRow.id)
        .where(FootingThingRow.kind == Kind.AGENT.value, FootingThingRow.id.in_(list(agents)))
        .where(FootingRow.generation == generation, LiveTokenRow.expires_at > clock.timestamp(), ~footing.fallen(FootingRow.id))
        .group_by(FootingThingRow.id)
    )
    return dict(session.execute(held).all())


def _pairs(row: AgentRow) -> frozenset[Pair]:
    return frozenset(Pair(*pair) for pair in (*row.ceiling, *row.own))


def consents_of(agents: Iterable[str], most: int) -> Select[*tuple[Any, ...]]:
    """The newest standing consents of some agents."""
    ids = list(agents)
    return (
        select(ConsentRow.id, ConsentRow.human, ConsentRow.agent, ConsentRow.pairs, ConsentRow.given_at, ConsentRow.until, ConsentRow.away)
        .where(ConsentRow.agent.in_(ids), standing())
        .order_by(ConsentRow.given_at.desc(), ConsentRow.id)
        .limit(most)
    )


def _reach(session: Session, row: AgentRow, consents: Iterable[Any]) -> tuple[Reach, ...]:
    may, own = (frozenset(Pair(*pair) for pair in held) for held in (row.ceiling, row.own))
    consented: dict[Pair, int] = {}
    for consent in consents:
        for pair in consent.pairs:
            consented[Pair(*pair)] = consented.get(Pair(*pair), 0) + 1
    used: dict[Pair, tuple[int, int]] = {}
    for use in session.scalars(select(AgentUseRow).where(AgentUseRow.agent == row.uri)):
        tokens, last = used.get(Pair(use.resource, use.scope), (0, 0))
        used[Pair(use.resource, use.scope)] = tokens + use.tokens, max(last, use.last_at)
    every = sorted(may | own | consented.keys() | used.keys())
    known = {one.uri: one for one in session.scalars(select(ResourceRow).where(ResourceRow.uri.in_({pair.resource for pair in every})))}
    found = []
    for pair in every:
        resource = known.get(pair.resource)
        tokens, last = used.get(pair, (0, 0))
        found.append(
            Reach(
                resource=pair.resource,
                resource_name=resource.name if resource is not None else pair.resource,
                scope=pair.scope,
                words=resource.scopes.get(pair.scope, "") if resource is not None else "",
                labels=tuple(resource.labels) + tuple(resource.scope_labels.get(pair.scope, ())) if resource is not None else (),
                may=pair in may,
                own=pair in own,
                consents=consented.get(pair, 0),
                tokens=tokens,
                last_used=last or None,
            )
        )
    return tuple(found)


def _copies(session: Session, client_id: str) -> tuple[Copy, ...]:
    now, epoch = clock.timestamp(), read_thing(session, Thing(Kind.CLIENT, client_id)).epoch
    living = (InstanceRow.client_id == client_id, InstanceRow.ended_at.is_(None), InstanceRow.expires_at > now, InstanceRow.born == epoch)
    rows = session.scalars(select(InstanceRow).where(*living).order_by(InstanceRow.registered_at.desc(), InstanceRow.id).limit(SHOWN))
    return tuple(Copy(row.id, row.via, row.subject, row.registered_at, row.expires_at) for row in rows)


def _given(session: Session, consents: list[Any]) -> tuple[Given, ...]:
    people = {row.id: row.name for row in session.scalars(select(HumanRow).where(HumanRow.id.in_({one.human for one in consents})))}
    counted = (
        select(TaskRow.consent, func.sum(TaskRow.uses)).where(TaskRow.consent.in_([one.id for one in consents])).group_by(TaskRow.consent)
    )
    uses = dict(session.execute(counted).all())
    return tuple(
        Given(one.id, one.human, people.get(one.human, ""), one.given_at, one.until, one.away, int(uses.get(one.id) or 0))
        for one in consents
    )
