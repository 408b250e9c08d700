"""Clients that get only bound tokens, and those that their certificate authenticates (RFC 8705 §2.1, RFC 9449 §5.2)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("client", schema=None) as batch_op:
        batch_op.add_column(sa.Column("certificate_name", sa.String(length=600), server_default="", nullable=False))
        batch_op.add_column(sa.Column("bound", sa.JSON(), server_default="[]", nullable=False))
