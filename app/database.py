"""SQL, the truth: the declarative base, and transactions that begin as writers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, MetaData, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session

from app.errors import TemporarilyUnavailable
from app.settings import Settings


class Base(DeclarativeBase):
    """Base of every table. Constraints have names, so that migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


db = SQLAlchemy(model_class=Base, disable_autonaming=True)
"""Flask-SQLAlchemy's handle; the application binds it to the engine that `Database` then uses."""

NEWEST = "0019"
"""The newest migration of this version, known without asking Alembic, which takes long to import."""


def engine_options(settings: Settings) -> dict[str, Any]:
    """Options of the engine: bounded waits, so that a slow database is a 503 and not a hang."""
    if settings.database_url.startswith("sqlite"):
        return {"connect_args": {"timeout": 2.0, "check_same_thread": False}, "pool_timeout": 2}
    return {
        "pool_size": settings.threads + 1,
        "max_overflow": 4,
        "pool_timeout": 2,
        "pool_pre_ping": True,
        "connect_args": {"connect_timeout": 2, "options": "-c synchronous_commit=on -c statement_timeout=2000 -c lock_timeout=1500"},
    }


OPEN = frozenset({2, 3})
"""`transaction_status` of a PostgreSQL connection inside a transaction: in one that goes on, in one that failed."""


class Database:
    """Transactions over one engine. A writing one begins IMMEDIATE on SQLite, so it never fails half-way for a lock."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _sqlite_connect)
            event.listen(engine, "checkin", _sqlite_checkin)
        else:
            event.listen(engine, "checkin", _postgresql_checkin)

    @classmethod
    def open(cls, settings: Settings) -> Database:
        """A database outside any Flask application: the relay and the command line."""
        return cls(create_engine(settings.database_url, **engine_options(settings)))

    def close(self) -> None:
        """Close the connections that are not in use; the next transaction opens one again."""
        self.engine.dispose()

    def migration(self) -> str | None:
        """The migration it stands at; None where nothing was ever set up. Raises `TemporarilyUnavailable`."""
        with self.reading() as session:
            connection = session.connection()
            found = connection.dialect.has_table(connection, "alembic_version")
            return session.scalar(text("SELECT version_num FROM alembic_version")) if found else None

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One writing transaction. Commits at the end, rolls back on any exception; SQL out of reach is a 503."""
        with self._session(writing=True) as session:
            yield session
            session.commit()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One reading transaction."""
        with self._session(writing=False) as session:
            yield session

    @contextmanager
    def _session(self, *, writing: bool) -> Iterator[Session]:
        try:
            with Session(self.engine, expire_on_commit=False) as session:
                self._begin(session, writing=writing)
                yield session
        except IntegrityError:
            raise
        except (DBAPIError, PoolTimeout, sqlite3.Error) as error:
            # The driver's text can carry values of the statement: only its class goes on.
            raise TemporarilyUnavailable(f"sql: {type(error).__name__}") from None

    def _begin(self, session: Session, *, writing: bool) -> None:
        """Begin where the driver leaves that to us, and a writer's at once as one. Raises sqlite3.Error."""
        # Elsewhere the session has no connection yet: who needs another isolation says so when it takes one.
        if self.engine.dialect.name == "sqlite":
            # Not by a listener of the engine: with one, every statement looks for listeners.
            driver: Any = session.connection().connection.driver_connection
            driver.execute("BEGIN IMMEDIATE" if writing else "BEGIN")


def sqlite_file(settings: Settings) -> Path | None:
    """The file of the database; None where it is a server's."""
    url = make_url(settings.database_url)
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


def _sqlite_connect(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=2000"):
        connection.execute(f"PRAGMA {pragma}")


def _sqlite_checkin(connection: Any, _record: Any) -> None:
    # After a COMMIT that failed SQLAlchemy takes the transaction for closed; the file would stay locked for everybody.
    if connection is not None and connection.in_transaction:
        connection.rollback()


def _postgresql_checkin(connection: Any, _record: Any) -> None:
    # The same here: whoever got the connection next would be inside the transaction of another.
    if connection is not None and not connection.closed and connection.info.transaction_status in OPEN:
        connection.rollback()
