"""SQL, the truth: the declarative base, transactions that begin as writers, and migrations kept in step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, make_url
from sqlalchemy.exc import DatabaseError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session

from app.errors import ConfigurationError, TemporarilyUnavailable
from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


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

READING = "deputy_reading"


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
        self._reading = engine.execution_options(**{READING: True})
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _sqlite_connect)
            event.listen(engine, "begin", _sqlite_begin)
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

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One writing transaction. Commits at the end, rolls back on any exception; SQL out of reach is a 503."""
        with self._session(self.engine) as session:
            yield session
            session.commit()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One reading transaction."""
        with self._session(self._reading) as session:
            yield session

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Session]:
        try:
            with Session(engine, expire_on_commit=False) as session:
                yield session
        except IntegrityError:
            raise
        except (DBAPIError, PoolTimeout) as error:
            # The driver's text can carry values of the statement: only its class goes on.
            raise TemporarilyUnavailable(f"sql: {type(error).__name__}") from None


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


def _sqlite_begin(connection: Connection) -> None:
    reading = connection.get_execution_options().get(READING)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _alembic(settings: Settings) -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.attributes["settings"] = settings
    return config


def upgrade(settings: Settings) -> None:
    """Bring the database to the newest migration; an empty one gets everything.

    Raises `TemporarilyUnavailable` when it cannot be reached, `ConfigurationError` when it is damaged or too new.
    """
    if (file := sqlite_file(settings)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        command.upgrade(_alembic(settings), "head")
    except CommandError:
        raise ConfigurationError("the database was made by a newer version of Deputy: run that, or restore a backup of before") from None
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        # No statement with anybody's values has run yet: what the driver says is for the operator.
        raise TemporarilyUnavailable(f"sql: {str(getattr(error, 'orig', error)).strip().splitlines()[0]}") from None
    except DatabaseError as error:
        if type(error) is not DatabaseError:
            raise
        raise ConfigurationError(f"the database is damaged ({error.orig}): restore a backup") from None


class Migration(NamedTuple):
    """Which migration a database has, and which is the newest here. None: nothing was ever set up."""

    current: str | None
    newest: str | None


def migration(settings: Settings, database: Database) -> Migration:
    """Where the database stands. Raises `TemporarilyUnavailable`."""
    with database.reading() as session:
        current = MigrationContext.configure(session.connection()).get_current_revision()
    return Migration(current, ScriptDirectory.from_config(_alembic(settings)).get_current_head())


def is_known(settings: Settings, revision: str | None) -> bool:
    """Whether this version has that migration; a newer one's it has not."""
    known = ScriptDirectory.from_config(_alembic(settings)).walk_revisions()
    return revision is None or revision in {script.revision for script in known}


def differences(settings: Settings) -> list[Any]:
    """What the models have and the migrated database has not, or the other way round."""
    database = Database.open(settings)
    try:
        with database.engine.connect() as connection:
            return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))
    finally:
        database.close()


def revision(settings: Settings, message: str) -> None:
    """Write a migration for what the models gained. For developers."""
    command.revision(_alembic(settings), message=message, autogenerate=True)
