"""Agents by name, what they got by where the work came from and by when, and where the ledger was when."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_agent_name", "agent", ["name", "id"])
    op.create_index("ix_agent_use_via", "agent_use", ["via"])
    op.create_index("ix_agent_use_last_at", "agent_use", ["last_at"])
    op.create_index("ix_checkpoint_at", "checkpoint", ["at", "seq"])
