"""OAuth clients as SQL has them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Index, Integer, String
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
    certificate_name: Mapped[str] = mapped_column(String(600), default="", server_default="")
    """`san_uri:…` or `san_dns:…`: the name in its certificate, for tls_client_auth."""
    bound: Mapped[list[str]] = mapped_column(JSON, default=list, server_default="[]")
    """Members of `cnf` of which its tokens must have one; none: it may have bearer tokens (RFC 9449 §5.2, RFC 8705 §3.4)."""
    redirect_uris: Mapped[list[str]] = mapped_column(JSON, default=list)
    post_logout_redirect_uris: Mapped[list[str]] = mapped_column(JSON, default=list)
    id_token_alg: Mapped[str] = mapped_column(String(8), default="RS256")
    native: Mapped[bool] = mapped_column(Boolean, default=False)
    pairs: Mapped[list[list[str]]] = mapped_column(JSON, default=list)
    """For an app: which (resource, scope) it may ask a human for."""
    enabled: Mapped[bool] = mapped_column(Boolean, default=True)
    created_at: Mapped[int] = mapped_column(BigInteger)


class InstanceRow(Base):
    """A running copy of an agent, with a key of its own for hours. The thing `instance` of the same id carries its epoch."""

    __tablename__ = "instance"
    __table_args__ = (Index("ix_instance_client_id", "client_id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    client_id: Mapped[str] = mapped_column(String(64))
    """Of the agent it is a copy of."""
    jkt: Mapped[str] = mapped_column(String(43), unique=True)
    """RFC 7638 thumbprint of its key, which is its `kid`. A key is registered once."""
    jwk: Mapped[dict[str, Any]] = mapped_column(JSON)
    born: Mapped[int] = mapped_column(Integer)
    """Epoch of the client when it was registered: what ends the agent ends its copies."""
    via: Mapped[str] = mapped_column(String(16))
    """`enrolment` or `workload`."""
    under: Mapped[str] = mapped_column(String(64))
    """Id of the enrolment or of the trust."""
    subject: Mapped[str] = mapped_column(String(500), default="")
    """Whom its platform says it is; empty for an enrolment."""
    registered_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int] = mapped_column(BigInteger)
    ended_at: Mapped[int | None] = mapped_column(BigInteger, default=None)
