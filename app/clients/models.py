"""OAuth clients as SQL has them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class ClientRow(Base):
    """A client's registration (RFC 7591 §2 in our words). The thing `client` of the same id carries its epoch."""

    __tablename__ = "client"

    client_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(200))
    auth_method: Mapped[str] = mapped_column(String(32))
    secret_hash: Mapped[str] = mapped_column(String(64), default="")
    secret_expires_at: Mapped[int] = mapped_column(BigInteger, default=0)
    """Seconds since 1970; 0: does not expire (resources and apps)."""
    jwks: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    assertion_audience: Mapped[str] = mapped_column(String(16), default="issuer")
    """`issuer`, or `token-endpoint` for older client libraries."""
    redirect_uris: Mapped[list[str]] = mapped_column(JSON, default=list)
    post_logout_redirect_uris: Mapped[list[str]] = mapped_column(JSON, default=list)
    id_token_alg: Mapped[str] = mapped_column(String(8), default="RS256")
    native: Mapped[bool] = mapped_column(Boolean, default=False)
    pairs: Mapped[list[list[str]]] = mapped_column(JSON, default=list)
    """For an app: which (resource, scope) it may ask a human for."""
    enabled: Mapped[bool] = mapped_column(Boolean, default=True)
    created_at: Mapped[int] = mapped_column(BigInteger)
