"""An agent as the token path sees it: a frozen snapshot, cached with its version."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.agents.models import AgentRow, EntitlementRow
from app.live.cache import Cache, Held, beside
from app.live.commit import Live
from app.live.models import ThingRow, reading_of
from app.live.things import Kind, Thing
from app.vocabulary import AgentState, Pair, Pairs


@dataclass(frozen=True, slots=True)
class Agent:
    """An AI agent: who it is, who answers for it, what it may do at most."""

    id: str
    uri: str
    client_id: str
    name: str
    owner: str
    purpose: str
    state: AgentState
    ceiling: Pairs
    own: Pairs
    hands_to: frozenset[str]
    max_depth: int
    serves: str

    @property
    def active(self) -> bool:
        """Whether it may do anything at all."""
        return self.state is AgentState.ACTIVE


class Agents:
    """Agents by `client_id` and by their URI."""

    def __init__(self, live: Live) -> None:
        self._database = live.database
        self._by_client = Cache(live, lambda session, key: load_agent(session, AgentRow.client_id == key))
        self._by_uri = Cache(live, lambda session, key: load_agent(session, AgentRow.uri == key))

    def of_client(self, client_id: str) -> Held[Agent] | None:
        """The agent behind a `client_id`."""
        return self._by_client.find(client_id)

    def named(self, uri: str) -> Held[Agent] | None:
        """The agent with that identifier."""
        return self._by_uri.find(uri)

    def reread(self, name: str) -> None:
        """Ask SQL next time about the agent of that URI or `client_id`."""
        self._by_uri.drop(name)
        self._by_client.drop(name)

    def entitled(self, agent: str, audience: str, target: str) -> bool:
        """Whether an operator registered that this agent may exchange tokens for `audience` into ones for `target`."""
        with self._database.reading() as session:
            return session.get(EntitlementRow, (agent, audience, target)) is not None


def load_agent(session: Session, which: ColumnElement[bool]) -> Held[Agent] | None:
    """Row and version in one statement."""
    statement = select(AgentRow, ThingRow.epoch, ThingRow.version).outerjoin(ThingRow, beside(Kind.AGENT, AgentRow.id)).where(which)
    found = session.execute(statement).one_or_none()
    if found is None:
        return None
    row: AgentRow = found[0]
    agent = Agent(
        id=row.id,
        uri=row.uri,
        client_id=row.client_id,
        name=row.name,
        owner=row.owner,
        purpose=row.purpose,
        state=AgentState(row.state),
        ceiling=frozenset(Pair(*pair) for pair in row.ceiling),
        own=frozenset(Pair(*pair) for pair in row.own),
        hands_to=frozenset(row.hands_to),
        max_depth=row.max_depth,
        serves=row.serves,
    )
    return Held(agent, Thing(Kind.AGENT, row.id), reading_of(found[1], found[2]))
