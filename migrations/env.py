"""Alembic's entry: the engine of the settings it is given, batch mode so that SQLite can alter."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

import app.wiring  # noqa: F401  # every model registers itself
from app.database import Base, Database

database = Database.open(context.config.attributes["settings"])
with database.engine.connect() as connection:
    if connection.dialect.name == "sqlite":
        # The driver leaves it to us. A file that is locked or damaged is told as every other trouble of SQL.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True, compare_type=True)
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            # Two nodes that start at once: the second waits, and finds nothing left to do.
            connection.execute(text("SET LOCAL lock_timeout = 0; SET LOCAL statement_timeout = 0"))
            connection.execute(text("SELECT pg_advisory_xact_lock(1684371573)"))
        context.run_migrations()
    connection.commit()
database.close()
