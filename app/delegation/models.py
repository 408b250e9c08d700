"""Consents and tasks as SQL has them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class ConsentRow(Base):
    """What a human allowed an agent (or an application) to do, until when."""

    __tablename__ = "consent"
    __table_args__ = (
        Index("ix_consent_human_client_id", "human", "client_id"),
        Index("ix_consent_agent", "agent"),
        Index("ix_consent_footing", "footing"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    human: Mapped[str] = mapped_column(String(64))
    client_id: Mapped[str] = mapped_column(String(64))
    agent: Mapped[str | None] = mapped_column(String(64), default=None)
    """The agent's id; None when an application was allowed."""
    pairs: Mapped[list[list[str]]] = mapped_column(JSON)
    depth: Mapped[int] = mapped_column(Integer)
    """`act` objects a token under it may nest: 1 is the agent alone."""
    receivers: Mapped[list[str]] = mapped_column(JSON, default=list, server_default="[]")
    """Ids of the agents that could come to act beside it when it was given: no other ever does."""
    away: Mapped[bool] = mapped_column(Boolean)
    session: Mapped[str | None] = mapped_column(String(64), default=None)
    """The sign-in session it hangs on; None with `away`."""
    app: Mapped[str | None] = mapped_column(String(64), default=None)
    """The application that asked for a hand-over, when one did."""
    given_at: Mapped[int] = mapped_column(BigInteger)
    until: Mapped[int] = mapped_column(BigInteger)
    ended_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
    paused_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
    """Since when its human keeps it from being used; None while it may be."""
    auth_time: Mapped[int] = mapped_column(BigInteger)
    acr: Mapped[str] = mapped_column(String(64))
    amr: Mapped[list[str]] = mapped_column(JSON)
    redirect_uri: Mapped[str] = mapped_column(String(2000))
    shown: Mapped[str] = mapped_column(String(64))
    """SHA-256 of what the page showed."""
    limits: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default="{}")
    """What all tasks under it may use up together."""
    born: Mapped[dict[str, int]] = mapped_column(JSON)
    """Epochs of the human, client, agent, session and deployment it was given under: it is dead once one has moved."""
    footing: Mapped[str | None] = mapped_column(String(32), default=None)
    """The same for SQL to compare."""


class AllowanceRow(Base):
    """A limit of a consent, by kind: how much there is in all, and how much of it was set aside for Redis to take from.

    All that was set aside before the generation counts as taken: Redis may have forgotten what really was.
    """

    __tablename__ = "allowance"

    consent: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    generation: Mapped[int] = mapped_column(Integer)
    """In which something was last set aside."""
    base: Mapped[int] = mapped_column(BigInteger, default=0)
    """How much was set aside before that generation."""
    reserved: Mapped[int] = mapped_column(BigInteger, default=0)
    """How much was set aside up to now; it only grows."""
    most: Mapped[int] = mapped_column(BigInteger)
    """The limit, in uses or in units of its currency."""


class TaskRow(Base):
    """One piece of work under a consent. The relay keeps `uses`, `last_used_at` and `labels`."""

    __tablename__ = "task"
    __table_args__ = (Index("ix_task_consent", "consent"), Index("ix_task_human_agent", "human", "agent"))

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    consent: Mapped[str] = mapped_column(String(64))
    human: Mapped[str] = mapped_column(String(64))
    agent: Mapped[str] = mapped_column(String(64))
    purpose: Mapped[str] = mapped_column(String(500), default="")
    default: Mapped[bool] = mapped_column(Boolean, default=True)
    generation: Mapped[int] = mapped_column(Integer)
    """The generation of live state it runs in; with the generation it ends."""
    opened_at: Mapped[int] = mapped_column(BigInteger)
    deadline: Mapped[int] = mapped_column(BigInteger)
    ended_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
    ended_by: Mapped[str | None] = mapped_column(String(64), default=None)
    pairs: Mapped[list[list[str]] | None] = mapped_column(JSON, default=None)
    """What it narrows the consent to; None is the whole consent."""
    limits: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict, server_default="{}")
    labels: Mapped[list[str]] = mapped_column(JSON, default=list, server_default="[]")
    """What it has touched, as far as the ledger knows; the relay adds to it."""
    uses: Mapped[int] = mapped_column(Integer, default=0)
    last_used_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
