"""Tasks by human and agent: what an agent's other tasks have touched is asked with each exchange."""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_task_human_agent", "task", ["human", "agent"])
