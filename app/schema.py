"""Migrations kept in step with the models. Apart from `database`, so that only who migrates imports Alembic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.database import Base, Database, sqlite_file
from app.errors import ConfigurationError, TemporarilyUnavailable
from app.settings import Settings

ROOT = Path(__file__).resolve().parent.parent


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
