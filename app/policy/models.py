"""Policies as SQL has them: a row for each version, none ever overwritten."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class PolicyRow(Base):
    """One version of a policy."""

    __tablename__ = "policy"
    __table_args__ = (UniqueConstraint("name", "version", name="uq_policy_name_version"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    version: Mapped[int] = mapped_column(Integer)
    text: Mapped[str] = mapped_column(Text)
    owner: Mapped[str] = mapped_column(String(64))
    """The human who answers for it."""
    rule: Mapped[str] = mapped_column(String(300))
    """The law, contract or code of conduct it carries out."""
    state: Mapped[str] = mapped_column(String(10), default="draft")
    made_by: Mapped[str] = mapped_column(String(64))
    made_at: Mapped[int] = mapped_column(BigInteger)
    activated_by: Mapped[str | None] = mapped_column(String(64), default=None)
    activated_at: Mapped[int | None] = mapped_column(BigInteger, default=None)


class PolicySetRow(Base):
    """Which policies one version of the set had: a decision names the version it was made under."""

    __tablename__ = "policy_set"

    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    members: Mapped[list[list[Any]]] = mapped_column(JSON)
    """Name and version of each, in the order of their names."""
