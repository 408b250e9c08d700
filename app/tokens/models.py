"""Families and their refresh tokens as SQL has them. Access tokens are not stored."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class FamilyRow(Base):
    """All tokens of one authorization (RFC 7009 §2.1): what the code was given for, and what a refresh may repeat."""

    __tablename__ = "family"
    __table_args__ = (Index("ix_family_consent", "consent"), Index("ix_family_session", "session"))

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    client_id: Mapped[str] = mapped_column(String(64))
    human: Mapped[str] = mapped_column(String(64))
    consent: Mapped[str | None] = mapped_column(String(64), default=None)
    session: Mapped[str | None] = mapped_column(String(64), default=None)
    """The sign-in session it hangs on; None when it may go on while the human is away."""
    authorization: Mapped[dict[str, Any]] = mapped_column(JSON)
    """What was authorized: pairs, OIDC scope, hand-over target, auth_time, acr, amr."""
    created_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)


class RefreshTokenRow(Base):
    """One refresh token, by its hash. `used_at` is set by one conditional UPDATE; a second use kills the family."""

    __tablename__ = "refresh_token"
    __table_args__ = (Index("ix_refresh_token_family", "family"),)

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    family: Mapped[str] = mapped_column(ForeignKey("family.id"))
    generation: Mapped[int] = mapped_column(Integer)
    issued_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
