"""Consents and tasks as SQL has them."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class ConsentRow(Base):
    """What a human allowed an agent (or an application) to do, until when."""

    __tablename__ = "consent"
    __table_args__ = (Index("ix_consent_human_client_id", "human", "client_id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    human: Mapped[str] = mapped_column(String(64))
    client_id: Mapped[str] = mapped_column(String(64))
    agent: Mapped[str | None] = mapped_column(String(64), default=None)
    """The agent's id; None when an application was allowed."""
    pairs: Mapped[list[list[str]]] = mapped_column(JSON)
    depth: Mapped[int] = mapped_column(Integer)
    """`act` objects a token under it may nest: 1 is the agent alone."""
    away: Mapped[bool] = mapped_column(Boolean)
    session: Mapped[str | None] = mapped_column(String(64), default=None)
    """The sign-in session it hangs on; None with `away`."""
    app: Mapped[str | None] = mapped_column(String(64), default=None)
    """The application that asked for a hand-over, when one did."""
    given_at: Mapped[int] = mapped_column(BigInteger)
    until: Mapped[int] = mapped_column(BigInteger)
    ended_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
    auth_time: Mapped[int] = mapped_column(BigInteger)
    acr: Mapped[str] = mapped_column(String(64))
    amr: Mapped[list[str]] = mapped_column(JSON)
    redirect_uri: Mapped[str] = mapped_column(String(2000))
    shown: Mapped[str] = mapped_column(String(64))
    """SHA-256 of what the page showed."""
    born: Mapped[dict[str, int]] = mapped_column(JSON)
    """Epochs of the human, client, agent, session and deployment it was given under: it is dead once one has moved."""


class TaskRow(Base):
    """One piece of work under a consent. The relay keeps `uses` and `last_used_at`."""

    __tablename__ = "task"
    __table_args__ = (Index("ix_task_consent", "consent"),)

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
    uses: Mapped[int] = mapped_column(Integer, default=0)
    last_used_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
