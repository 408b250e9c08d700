"""Agents as SQL has them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class AgentRow(Base):
    """An AI agent: an identity of its own, an owner, a purpose, a ceiling. `uri` is its `sub`, `act.sub` and `aud`."""

    __tablename__ = "agent"
    __table_args__ = (Index("ix_agent_owner", "owner"), Index("ix_agent_name", "name", "id"))

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


class EnrolmentRow(Base):
    """A one-time code with which one running copy of an agent may register its key. `used_at` is set by one conditional UPDATE."""

    __tablename__ = "enrolment"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    code_hash: Mapped[str] = mapped_column(String(64), unique=True)
    client_id: Mapped[str] = mapped_column(String(64))
    born: Mapped[int] = mapped_column(Integer)
    """Epoch of the client when it was made: what ends the agent ends it."""
    hours: Mapped[int] = mapped_column(Integer)
    """How long the copy may live."""
    made_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[int | None] = mapped_column(BigInteger, default=None)


class TrustRow(Base):
    """An issuer whose word about a workload with these claims is taken for one agent."""

    __tablename__ = "trust"
    __table_args__ = (Index("ix_trust_issuer", "issuer"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    issuer: Mapped[str] = mapped_column(String(500))
    client_id: Mapped[str] = mapped_column(String(64))
    """Of the agent it is taken for."""
    jwks: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    """The issuer's public keys, where they are not fetched."""
    jwks_uri: Mapped[str] = mapped_column(String(2000), default="")
    audience: Mapped[str] = mapped_column(String(500))
    algorithms: Mapped[list[str]] = mapped_column(JSON)
    claims: Mapped[dict[str, str]] = mapped_column(JSON)
    """Each must be there with exactly this value; a name that begins with "/" is a JSON Pointer (RFC 6901)."""
    max_age: Mapped[int] = mapped_column(Integer)
    """Seconds after `iat`."""
    hours: Mapped[int] = mapped_column(Integer)
    """How long an instance lives that is born of it."""
    enabled: Mapped[bool] = mapped_column(Boolean, default=True)
    made_at: Mapped[int] = mapped_column(BigInteger)
