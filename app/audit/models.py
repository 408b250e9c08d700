"""The outbox: records of SQL deeds, waiting for the ledger in the deed's own transaction."""

from __future__ import annotations

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base


class OutboxRow(Base):
    """One record on its way. The relay takes it in the order of ids, which grow with time."""

    __tablename__ = "outbox"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    record: Mapped[bytes] = mapped_column(LargeBinary)
