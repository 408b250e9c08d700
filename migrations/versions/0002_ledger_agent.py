"""The ledger's `agent` is an identifier under the issuer's name, and as long as the register allows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("ledger", schema=None) as batch_op:
        batch_op.alter_column("agent", existing_type=sa.String(length=64), type_=sa.String(length=300), existing_nullable=True)
