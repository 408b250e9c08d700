"""What was issued and has not run out, what agents got, roles of people, and more ways to search the ledger."""

from __future__ import annotations

from hashlib import sha256

import orjson
import sqlalchemy as sa
import sqlalchemy.orm
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BATCH = 1000


def upgrade() -> None:
    op.create_table(
        "footing",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_footing_until", "footing", ["until"])
    op.create_table(
        "footing_thing",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("footing", sa.String(length=32), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "id", "footing"),
    )
    op.create_index("ix_footing_thing_footing", "footing_thing", ["footing"])
    op.create_table(
        "live_token",
        sa.Column("jti", sa.String(length=64), nullable=False),
        sa.Column("footing", sa.String(length=32), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("jti"),
    )
    op.create_index("ix_live_token_footing", "live_token", ["footing", "expires_at"])
    op.create_index("ix_live_token_expires_at", "live_token", ["expires_at"])
    op.create_table(
        "token_ancestor",
        sa.Column("ancestor", sa.String(length=64), nullable=False),
        sa.Column("jti", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("ancestor", "jti"),
    )
    op.create_index("ix_token_ancestor_expires_at", "token_ancestor", ["expires_at"])
    op.create_table(
        "agent_use",
        sa.Column("agent", sa.String(length=300), nullable=False),
        sa.Column("via", sa.String(length=300), nullable=False),
        sa.Column("resource", sa.String(length=500), nullable=False),
        sa.Column("scope", sa.String(length=100), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("agent", "via", "resource", "scope"),
    )
    for column in ("consent", "event", "outcome"):
        op.create_index(f"ix_ledger_{column}_seq", "ledger", [column, "seq"])
    # In place: SQLite cannot copy a table that sign-in sessions point to.
    op.add_column("human", sa.Column("role", sa.String(length=16), nullable=False, server_default="member"))
    op.execute(sa.text("UPDATE human SET role = 'operator' WHERE operator"))
    op.drop_column("human", "operator")
    with op.batch_alter_table("consent", schema=None) as batch_op:
        batch_op.add_column(sa.Column("footing", sa.String(length=32), nullable=True))
        batch_op.create_index("ix_consent_agent", ["agent"])
        batch_op.create_index("ix_consent_footing", ["footing"])
    session = sa.orm.Session(op.get_bind())
    _stand(session)
    _count_uses(session)
    session.flush()


def _stand(session: sa.orm.Session) -> None:
    """Give the consents there are the footings that `born` says."""
    consent = sa.table("consent", sa.column("id"), sa.column("born", sa.JSON), sa.column("until"), sa.column("footing"))
    footing = sa.table("footing", sa.column("id"), sa.column("generation"), sa.column("until"))
    thing = sa.table("footing_thing", sa.column("kind"), sa.column("id"), sa.column("footing"), sa.column("epoch"))
    last = ""
    while rows := session.execute(sa.select(consent).where(consent.c.id > last).order_by(consent.c.id).limit(BATCH)).all():
        for row in rows:
            # One each: those that are alike would share one, and need not.
            name = sha256(row.id.encode()).hexdigest()[:32]
            session.execute(sa.insert(footing).values(id=name, generation=0, until=row.until + 900))
            things = [one.partition(":")[::2] for one in row.born]
            held = [{"kind": kind, "id": identifier, "footing": name} for kind, identifier in things]
            session.execute(sa.insert(thing), [one | {"epoch": epoch} for one, epoch in zip(held, row.born.values(), strict=True)])
            session.execute(sa.update(consent).where(consent.c.id == row.id).values(footing=name))
        last = rows[-1].id


def _count_uses(session: sa.orm.Session) -> None:
    """What agents got before these rows were kept, from the entries that say so."""
    ledger = sa.table("ledger", sa.column("seq"), sa.column("event"), sa.column("record", sa.LargeBinary))
    named = ("agent", "via", "resource", "scope", "tokens", "first_at", "last_at")
    use = sa.table("agent_use", *map(sa.column, named))
    which = sa.select(ledger.c.seq, ledger.c.record).where(ledger.c.event == "token.issued").order_by(ledger.c.seq).limit(BATCH)
    uses: dict[tuple[str, str, str, str], list[int]] = {}
    last = 0
    while rows := session.execute(which.where(ledger.c.seq > last)).all():
        for row in rows:
            record = orjson.loads(row.record)
            actors, at = record["who"].get("actors") or [], record["at"] // 1000
            if not actors or record.get("token") != "access_token":
                continue
            for resource, scopes in record["scope"].items():
                for scope in scopes:
                    held = uses.setdefault((actors[0], actors[1] if actors[1:] else "", resource, scope), [0, at, at])
                    held[0], held[2] = held[0] + 1, max(held[2], at)
        last = rows[-1].seq
    if uses:
        session.execute(sa.insert(use), [dict(zip(named, (*key, *held), strict=True)) for key, held in uses.items()])
