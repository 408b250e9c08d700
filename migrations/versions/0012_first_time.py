"""What an agent did for a human for the first time. What was done before this was kept is no news."""

from __future__ import annotations

import orjson
import sqlalchemy as sa
import sqlalchemy.orm
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

BATCH = 1000


def upgrade() -> None:
    op.create_table(
        "first_time",
        sa.Column("human", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.String(length=300), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("what", sa.String(length=500), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("human", "agent", "kind", "what"),
    )
    op.create_index("ix_first_time_human_seen_at_seq", "first_time", ["human", "seen_at", "seq"])
    session = sa.orm.Session(op.get_bind())
    _fill(session)
    session.flush()


def _fill(session: sa.orm.Session) -> None:
    ledger = sa.table("ledger", *map(sa.column, ("seq", "event", "human", "agent")), sa.column("record", sa.LargeBinary))
    first = sa.table("first_time", *map(sa.column, ("human", "agent", "kind", "what", "seq", "at", "seen_at")))
    issued = (ledger.c.event == "token.issued") & ledger.c.human.is_not(None) & ledger.c.agent.is_not(None)
    which = sa.select(ledger.c.seq, ledger.c.record).where(issued).order_by(ledger.c.seq).limit(BATCH)
    known: set[tuple[str, str, str, str]] = set()
    last = 0
    while rows := session.execute(which.where(ledger.c.seq > last)).all():
        new = []
        for row in rows:
            record = orjson.loads(row.record)
            human, agent, at = record["who"]["human"], record["who"]["actors"][0], record["at"] // 1000
            for kind, what in _of(record, agent):
                if (human, agent, kind, what) not in known:
                    known.add((human, agent, kind, what))
                    new.append({"human": human, "agent": agent, "kind": kind, "what": what, "seq": row.seq, "at": at, "seen_at": at})
        if new:
            session.execute(sa.insert(first), new)
        last = rows[-1].seq


def _of(record: dict[str, object], agent: str) -> list[tuple[str, str]]:
    found, audience, grant = [], str(record["audience"]), str(record["grant_type"])
    if record["token"] == "access_token":
        found.append(("resource", audience))
    if record["token"] == "handover" and audience != agent:
        found.append(("hand_over", audience))
    again = grant == "refresh_token" or (grant.endswith("token-exchange") and "parent" not in record)
    if again and record.get("consent") and "session" not in record:
        found.append(("alone", ""))
    return found
