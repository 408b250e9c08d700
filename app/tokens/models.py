"""Families, their refresh tokens, and approvals as SQL has them. Access tokens are not stored."""

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
    jkt: Mapped[str | None] = mapped_column(String(43), default=None)
    """RFC 7638 thumbprint of the key it is bound to (RFC 9449 §5)."""
    x5t_s256: Mapped[str | None] = mapped_column(String(43), default=None)
    """SHA-256 thumbprint of the certificate it is bound to instead (RFC 8705 §3)."""
    instance: Mapped[str | None] = mapped_column(String(64), default=None)
    """Which running copy of the agent it was given to, and alone is good for."""


class ApprovalRow(Base):
    """One question to a human about one token. `state` is only ever moved by one conditional UPDATE."""

    __tablename__ = "approval"
    __table_args__ = (
        Index("ix_approval_human_state", "human", "state"),
        Index("ix_approval_digest", "digest"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    hash: Mapped[str] = mapped_column(String(64), unique=True)
    """SHA-256 of the auth_req_id."""
    state: Mapped[str] = mapped_column(String(10))
    client_id: Mapped[str] = mapped_column(String(64))
    agent: Mapped[str] = mapped_column(String(64))
    human: Mapped[str] = mapped_column(String(64))
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Exactly what is asked, as it will be issued: for whom, where, which scopes, chain, key, task."""
    digest: Mapped[str] = mapped_column(String(64))
    """SHA-256 of the parameters in canonical order."""
    hangs_on: Mapped[dict[str, Any]] = mapped_column(JSON)
    """Epochs it was asked under, tokens it came from, family, session, and how the human had signed in."""
    policies: Mapped[list[str]] = mapped_column(JSON)
    """The policies that wanted her to be asked."""
    max_age: Mapped[int | None] = mapped_column(Integer, default=None)
    """Seconds since her sign-in at most when she allows it."""
    asked_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    decided_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
    decision: Mapped[dict[str, Any] | None] = mapped_column(JSON, default=None)
    """What she allowed of it, how she had signed in, and the SHA-256 of what she was shown."""
    redeemed_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
