"""SQL behind the key store."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


def _only_one(state: str) -> Index:
    where = text(f"state = '{state}'")
    return Index(f"uq_signing_key_{state}", "use", "alg", unique=True, sqlite_where=where, postgresql_where=where)


class SigningKeyRow(Base):
    """One key pair. The private part is a JWE, and gone as soon as the key will never sign again."""

    __tablename__ = "signing_key"
    # Two processes that both make first keys cannot end with two active ones.
    __table_args__ = (_only_one("active"), _only_one("next"))

    kid: Mapped[str] = mapped_column(String(64), primary_key=True)
    use: Mapped[str] = mapped_column(String(8))
    alg: Mapped[str] = mapped_column(String(8))
    state: Mapped[str] = mapped_column(String(8))
    private_jwe: Mapped[str] = mapped_column(Text)
    """The private JWK under the key-encryption key (RFC 7516); empty once the key is retiring or revoked."""
    public_jwk: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(BigInteger)
    """Seconds since 1970, as all three."""
    activated_at: Mapped[int | None] = mapped_column(BigInteger)
    retired_at: Mapped[int | None] = mapped_column(BigInteger)
    """When it stopped being of use for signing: rotated out or revoked, whichever came first."""
