"""Agents as SQL has them."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class AgentRow(Base):
    """An AI agent: an identity of its own, an owner, a purpose, a ceiling. `uri` is its `sub`, `act.sub` and `aud`."""

    __tablename__ = "agent"
    __table_args__ = (Index("ix_agent_owner", "owner"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    uri: Mapped[str] = mapped_column(String(300), unique=True)
    client_id: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    owner: Mapped[str] = mapped_column(String(64))
    purpose: Mapped[str] = mapped_column(String(500))
    state: Mapped[str] = mapped_column(String(16), default="active")
    ceiling: Mapped[list[list[str]]] = mapped_column(JSON, default=list)
    """(resource, scope) pairs it may have for a consenting human."""
    own: Mapped[list[list[str]]] = mapped_column(JSON, default=list)
    """(resource, scope) pairs it may have as itself."""
    hands_to: Mapped[list[str]] = mapped_column(JSON, default=list)
    """Ids of the agents it may hand work to; empty means nobody."""
    max_depth: Mapped[int] = mapped_column(Integer, default=4)
    serves: Mapped[str] = mapped_column(String(500), default="")
    """URI of the resource this agent speaks for: a token for that resource may be its subject token."""
    created_at: Mapped[int] = mapped_column(BigInteger)


class EntitlementRow(Base):
    """An operator's word that a caller may exchange tokens meant for an audience into tokens for a target."""

    __tablename__ = "entitlement"

    agent: Mapped[str] = mapped_column(String(64), primary_key=True)
    audience: Mapped[str] = mapped_column(String(500), primary_key=True)
    target: Mapped[str] = mapped_column(String(500), primary_key=True)
