"""People and their sign-in sessions as SQL has them."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class HumanRow(Base):
    """A person. Her id is the `sub` of every token that acts for her; the username never is."""

    __tablename__ = "human"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    username: Mapped[str] = mapped_column(String(200), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str] = mapped_column(String(320))
    password_hash: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(16), default="member")
    enabled: Mapped[bool] = mapped_column(Boolean, default=True)
    created_at: Mapped[int] = mapped_column(BigInteger)


class SessionRow(Base):
    """A sign-in session. The cookie holds the secret, the row its hash; the id may be told."""

    __tablename__ = "sign_in_session"
    __table_args__ = (Index("ix_sign_in_session_human", "human"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    human: Mapped[str] = mapped_column(ForeignKey("human.id"))
    auth_time: Mapped[int] = mapped_column(BigInteger)
    acr: Mapped[str] = mapped_column(String(64))
    amr: Mapped[list[str]] = mapped_column(JSON)
    last_seen: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    ended_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
    address: Mapped[str] = mapped_column(String(45), default="", server_default="")
    """Where she signed in from: so that she can tell a stranger's. It is in no record."""
    browser: Mapped[str] = mapped_column(String(60), default="", server_default="")
    """With what, in a few words."""


class PasskeyRow(Base):
    """A passkey: a public key of an authenticator of hers, for our origin alone (WebAuthn §6.1)."""

    __tablename__ = "passkey"
    __table_args__ = (Index("ix_passkey_human", "human"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    human: Mapped[str] = mapped_column(ForeignKey("human.id"))
    credential: Mapped[str] = mapped_column(String(1400), unique=True)
    """The credential's id, in base64url."""
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    """COSE_Key (RFC 9052 §7)."""
    sign_count: Mapped[int] = mapped_column(BigInteger)
    synced: Mapped[bool] = mapped_column(Boolean)
    """Whether its provider may copy it to other devices (the flag BE)."""
    name: Mapped[str] = mapped_column(String(60))
    created_at: Mapped[int] = mapped_column(BigInteger)
    last_used_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
