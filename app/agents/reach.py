"""Who may come to act where an agent begins: those it may hand to, those who serve what it may use, and so on."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.agents.agent import Agent
from app.agents.models import AgentRow, EntitlementRow


def serving(session: Session, uris: Iterable[str]) -> frozenset[str]:
    """Ids of the agents that may exchange a token for one of these resources: they speak for it, or an operator said so."""
    asked = sorted(set(uris))
    speakers = session.scalars(select(AgentRow.id).where(AgentRow.serves.in_(asked)))
    entitled = session.scalars(select(EntitlementRow.agent).where(EntitlementRow.audience.in_(asked)))
    return frozenset([*speakers, *entitled])


def reach(session: Session, agent: Agent, uris: Iterable[str], depth: int) -> frozenset[str]:
    """Ids of all others that may act in a chain of at most `depth` agents that begins with this one and ends at these resources."""
    reached: set[str] = set()
    edge = {*agent.hands_to, *serving(session, uris)} if depth > 1 else set()
    for left in range(depth - 2, -1, -1):
        reached |= edge
        if left and edge:
            lists = session.scalars(select(AgentRow.hands_to).where(AgentRow.id.in_(sorted(edge))))
            edge = {receiver for listed in lists for receiver in listed} - reached
    return frozenset(reached - {agent.id})
