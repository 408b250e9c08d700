"""Passkeys; where somebody signed in from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "passkey",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("human", sa.String(length=64), nullable=False),
        sa.Column("credential", sa.String(length=1400), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("sign_count", sa.BigInteger(), nullable=False),
        sa.Column("synced", sa.Boolean(), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["human"], ["human.id"], name="fk_passkey_human_human"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("credential", name="uq_passkey_credential"),
    )
    op.create_index("ix_passkey_human", "passkey", ["human"])
    # In place: SQLite cannot copy a table that others point to.
    op.add_column("sign_in_session", sa.Column("address", sa.String(length=45), nullable=False, server_default=""))
    op.add_column("sign_in_session", sa.Column("browser", sa.String(length=60), nullable=False, server_default=""))
