"""The ledger as SQL has it: entries in a chain, checkpoints, and the relay's lease and position."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class EntryRow(Base):
    """One record in the chain. The columns beside `record` are copies for searching; the hash covers `record`."""

    __tablename__ = "ledger"
    __table_args__ = (
        Index("ix_ledger_human_seq", "human", "seq"),
        Index("ix_ledger_agent_seq", "agent", "seq"),
        Index("ix_ledger_task_seq", "task", "seq"),
        Index("ix_ledger_jti_seq", "jti", "seq"),
        Index("ix_ledger_consent_seq", "consent", "seq"),
        Index("ix_ledger_event_seq", "event", "seq"),
        Index("ix_ledger_outcome_seq", "outcome", "seq"),
    )

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(String(36), unique=True)
    at: Mapped[int] = mapped_column(BigInteger)
    """Milliseconds since 1970."""
    event: Mapped[str] = mapped_column(String(40))
    outcome: Mapped[str] = mapped_column(String(8))
    human: Mapped[str | None] = mapped_column(String(64))
    agent: Mapped[str | None] = mapped_column(String(300))
    client_id: Mapped[str | None] = mapped_column(String(64))
    consent: Mapped[str | None] = mapped_column(String(64))
    task: Mapped[str | None] = mapped_column(String(64))
    jti: Mapped[str | None] = mapped_column(String(64))
    record: Mapped[bytes] = mapped_column(LargeBinary)
    """Canonical JSON (RFC 8785)."""
    hash: Mapped[str] = mapped_column(String(64))
    """Hex SHA-256 over the hash before it, the number and the record."""


class CheckpointRow(Base):
    """A signed statement of where the chain stood."""

    __tablename__ = "checkpoint"
    __table_args__ = (Index("ix_checkpoint_at", "at", "seq"),)

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[int] = mapped_column(BigInteger)
    jws: Mapped[str] = mapped_column(Text)


class RelayRow(Base):
    """The relay's one row: who holds the lease until when (ms), and the head of the chain, moved by compare-and-set."""

    __tablename__ = "relay"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    holder: Mapped[str] = mapped_column(String(64), default="")
    until: Mapped[int] = mapped_column(BigInteger, default=0)
    seq: Mapped[int] = mapped_column(BigInteger, default=0)
    hash: Mapped[str] = mapped_column(String(64), default="0" * 64)
