"""The delegation graph around some agents: who lets them act, whom they hand work to, which APIs they reach, and what of it was used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import ColumnElement, String, cast, func, or_, select
from sqlalchemy.orm import Session

from app import clock
from app.agents.models import AgentRow
from app.database import Database
from app.delegation.models import ConsentRow, TaskRow
from app.humans.models import HumanRow
from app.ledger.issued import AgentUseRow
from app.oversight.inventory import LATELY, consents_of, standing
from app.resources.models import ResourceRow
from app.vocabulary import AgentState

MOST = 8
"""Nodes in one column; more are counted."""

CONSENTS = 300
"""Standing consents looked at, the newest."""


class Column(StrEnum):
    """Where a node stands, from the left."""

    HUMANS = "People"
    AGENTS = "Agents"
    RECEIVERS = "Agents they hand work to"
    RESOURCES = "APIs"


@dataclass(frozen=True, slots=True)
class Node:
    """A person, an agent or an API."""

    id: str
    """A human's id, an agent's URI or an API's URI."""
    column: Column
    name: str
    path_id: str
    """Its id in the register."""
    note: str = ""


@dataclass(slots=True)
class Edge:
    """Work may go this way, and perhaps did."""

    source: str
    target: str
    used: bool = False
    scopes: set[str] = field(default_factory=set)
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes by column, in the order to be shown, and what connects them."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    left_out: int
    """Nodes that did not fit."""

    def in_column(self, column: Column) -> list[Node]:
        """The nodes of a column."""
        return [node for node in self.nodes if node.column is column]

    def name(self, identifier: str) -> str:
        """What a node is called."""
        return next(node.name for node in self.nodes if node.id == identifier)


class Graphs:
    """Draws them up; a fixed number of queries each."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def around_agent(self, agent_id: str) -> Graph:
        """One agent, those who hand to it, those it hands to."""
        with self._database.reading() as session:
            row = session.get_one(AgentRow, agent_id)
            naming = cast(AgentRow.hands_to, String).contains(f'"{row.id}"', autoescape=True)
            before = session.scalars(
                select(AgentRow).where(naming, AgentRow.state != AgentState.RETIRED).order_by(AgentRow.name).limit(MOST)
            )
            return _draw(session, [row, *before])

    def around_human(self, human_id: str) -> Graph:
        """The agents that a human lets act."""
        with self._database.reading() as session:
            allowed = select(ConsentRow.agent).where(ConsentRow.human == human_id, standing())
            return _draw(session, _some(session, AgentRow.id.in_(allowed)), human=human_id)

    def around_resource(self, resource_id: str) -> Graph:
        """The agents that may reach an API, or did."""
        with self._database.reading() as session:
            uri = session.get_one(ResourceRow, resource_id).uri
            named = or_(*(cast(column, String).contains(f'"{uri}"', autoescape=True) for column in (AgentRow.ceiling, AgentRow.own)))
            return _draw(session, _some(session, named), resource=uri)

    def most_used(self, owner: str | None = None) -> Graph:
        """The agents most used lately, or those of one owner."""
        since = clock.timestamp() - LATELY
        used = select(AgentUseRow.agent).where(AgentUseRow.last_at >= since).group_by(AgentUseRow.agent)
        used = used.order_by(func.sum(AgentUseRow.tokens).desc()).limit(MOST)
        with self._database.reading() as session:
            if owner is not None:
                return _draw(session, _some(session, AgentRow.owner == owner))
            return _draw(session, list(session.scalars(select(AgentRow).where(AgentRow.uri.in_(used)).order_by(AgentRow.name))))


def _some(session: Session, which: ColumnElement[bool]) -> list[AgentRow]:
    statement = select(AgentRow).where(which, AgentRow.state != AgentState.RETIRED)
    return list(session.scalars(statement.order_by(AgentRow.name, AgentRow.id).limit(MOST)))


class _Drawing:
    """Collects nodes and edges, a bounded number."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], Edge] = {}
        self.left_out: set[str] = set()

    def add(self, node: Node) -> None:
        if node.id in self.nodes:
            return
        if sum(one.column is node.column for one in self.nodes.values()) >= MOST:
            self.left_out.add(node.id)
        else:
            self.nodes[node.id] = node

    def connect(self, source: str, target: str, *, used: bool = False, scope: str = "", tokens: int = 0) -> None:
        if source not in self.nodes or target not in self.nodes or source == target:
            return
        edge = self.edges.setdefault((source, target), Edge(source, target))
        edge.used = edge.used or used
        edge.tokens += tokens
        if scope:
            edge.scopes.add(scope)


def _draw(session: Session, core: list[AgentRow], *, human: str | None = None, resource: str | None = None) -> Graph:
    drawing = _Drawing()
    agents = {row.id: row for row in core}
    for row in core:
        drawing.add(Node(row.uri, Column.AGENTS, row.name, row.id, "" if row.state == AgentState.ACTIVE else row.state))
    handed = {receiver for row in core for receiver in row.hands_to} - agents.keys()
    receivers = {row.id: row for row in session.scalars(select(AgentRow).where(AgentRow.id.in_(handed)).order_by(AgentRow.name))}
    for row in receivers.values():
        drawing.add(Node(row.uri, Column.RECEIVERS, row.name, row.id, "" if row.state == AgentState.ACTIVE else row.state))
    every = agents | receivers
    for row in core:
        for receiver in row.hands_to:
            if receiver in every:
                drawing.connect(row.uri, every[receiver].uri)
    _add_people(session, drawing, agents, human)
    _add_resources(session, drawing, every.values(), agents, resource)
    order = list(Column)
    nodes = sorted(drawing.nodes.values(), key=lambda node: order.index(node.column))
    return Graph(tuple(nodes), tuple(drawing.edges.values()), len(drawing.left_out))


def _add_people(session: Session, drawing: _Drawing, agents: dict[str, AgentRow], human: str | None) -> None:
    statement = consents_of(agents, CONSENTS)
    if human is not None:
        statement = statement.where(ConsentRow.human == human)
    consents = list(session.execute(statement))
    counted = (
        select(TaskRow.consent, func.sum(TaskRow.uses)).where(TaskRow.consent.in_([one.id for one in consents])).group_by(TaskRow.consent)
    )
    uses = {consent: int(total or 0) for consent, total in session.execute(counted)}
    people = {row.id: row for row in session.scalars(select(HumanRow).where(HumanRow.id.in_({one.human for one in consents})))}
    for one in sorted(consents, key=lambda one: -uses.get(one.id, 0)):
        if one.human in people:
            drawing.add(Node(one.human, Column.HUMANS, people[one.human].name, one.human))
            used = uses.get(one.id, 0)
            drawing.connect(one.human, agents[one.agent].uri, used=bool(used), tokens=used)


def _add_resources(session: Session, drawing: _Drawing, every: Iterable[AgentRow], core: dict[str, AgentRow], resource: str | None) -> None:
    rows = list(every)
    uris = {row.uri for row in rows}
    uses = list(session.scalars(select(AgentUseRow).where(AgentUseRow.agent.in_(uris)).order_by(AgentUseRow.last_at.desc())))
    core_uris = {row.uri for row in core.values()}
    # Of an agent that only receives work here, what it did for others is not part of this picture.
    uses = [use for use in uses if use.agent in core_uris or use.via in core_uris]
    allowed = [(row.uri, *pair) for row in core.values() for pair in (*row.ceiling, *row.own)]
    wanted = {use.resource for use in uses} | {uri for _, uri, _ in allowed}
    if resource is not None:
        wanted &= {resource}
    known = {row.uri: row for row in session.scalars(select(ResourceRow).where(ResourceRow.uri.in_(wanted)).order_by(ResourceRow.name))}
    ranked = [use.resource for use in uses] + [uri for _, uri, _ in allowed]
    for uri in dict.fromkeys(ranked):
        if uri in known:
            row = known[uri]
            drawing.add(Node(uri, Column.RESOURCES, row.name, row.id, "" if row.enabled else "disabled"))
    for agent, uri, scope in allowed:
        drawing.connect(agent, uri, scope=scope)
    for use in uses:
        drawing.connect(use.agent, use.resource, used=True, scope=use.scope, tokens=use.tokens)
        if use.via:
            drawing.connect(use.via, use.agent, used=True, tokens=use.tokens)
