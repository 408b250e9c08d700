"""The agents a consent was given for beside its own. Of a consent there is already: those who may act under it today."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

agents = sa.table("agent", sa.column("id"), sa.column("hands_to", sa.JSON), sa.column("serves"))
entitlements = sa.table("entitlement", sa.column("agent"), sa.column("audience"))
consents = sa.table(
    "consent", sa.column("id"), sa.column("agent"), sa.column("depth"), sa.column("pairs", sa.JSON), sa.column("receivers", sa.JSON)
)


def upgrade() -> None:
    with op.batch_alter_table("consent", schema=None) as batch_op:
        batch_op.add_column(sa.Column("receivers", sa.JSON(), nullable=False, server_default="[]"))
    connection = op.get_bind()
    handed: dict[str, list[str]] = {}
    audiences: dict[str, set[str]] = {}
    for row in connection.execute(sa.select(agents)).all():
        handed[row.id] = row.hands_to
        audiences.setdefault(row.serves, set()).add(row.id)
    for row in connection.execute(sa.select(entitlements)).all():
        audiences.setdefault(row.audience, set()).add(row.agent)
    for row in connection.execute(sa.select(consents).where(consents.c.agent.is_not(None), consents.c.depth > 1)).all():
        reached: set[str] = set()
        edge = {*handed.get(row.agent, ()), *(one for uri, _ in row.pairs for one in audiences.get(uri, ()))}
        for _ in range(row.depth - 1):
            reached |= edge
            edge = {receiver for one in edge for receiver in handed.get(one, ())} - reached
        receivers = sorted(reached - {row.agent})
        if receivers:
            connection.execute(sa.update(consents).where(consents.c.id == row.id).values(receivers=receivers))
