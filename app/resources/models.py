"""APIs as SQL has them."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Boolean, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class ResourceRow(Base):
    """A protected resource. Its URI (RFC 8707) is its identity; the thing `resource` has the short id."""

    __tablename__ = "resource"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    uri: Mapped[str] = mapped_column(String(500), unique=True)
    name: Mapped[str] = mapped_column(String(200))
    scopes: Mapped[dict[str, str]] = mapped_column(JSON)
    """Scope name to what it means in plain words."""
    labels: Mapped[list[str]] = mapped_column(JSON, default=list)
    scope_labels: Mapped[dict[str, list[str]]] = mapped_column(JSON, default=dict, server_default="{}")
    """Scope name to labels of its own: `external-send`, say."""
    alg: Mapped[str] = mapped_column(String(8), default="ES256")
    client_id: Mapped[str] = mapped_column(String(64), unique=True)
    """The credential with which it introspects."""
    bound: Mapped[list[str]] = mapped_column(JSON, default=list, server_default="[]")
    """Members of `cnf` of which its tokens must have one; none: it takes bearer tokens too."""
    enabled: Mapped[bool] = mapped_column(Boolean, default=True)
    created_at: Mapped[int] = mapped_column(BigInteger)
