"""Refresh tokens may be bound to a client certificate, and a resource says how its tokens must be bound (RFC 8705)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("refresh_token", schema=None) as batch_op:
        batch_op.add_column(sa.Column("x5t_s256", sa.String(length=43), nullable=True))
    with op.batch_alter_table("resource", schema=None) as batch_op:
        batch_op.add_column(sa.Column("bound", sa.JSON(), server_default="[]", nullable=False))
    op.execute(sa.text("""UPDATE resource SET bound = '["jkt"]' WHERE dpop_required"""))
    with op.batch_alter_table("resource", schema=None) as batch_op:
        batch_op.drop_column("dpop_required")
