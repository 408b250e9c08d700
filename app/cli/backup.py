"""`deputy backup` and `deputy restore`: the database and the checkpoints, never the key-encryption key."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
import orjson
from sqlalchemy.engine import make_url

from app import clock
from app.cli.answer import answers, show
from app.database import Database, upgrade
from app.errors import Refused
from app.live.generation import mark_restored
from app.settings import Settings, load_settings

FORM = 1
MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints.jsonl"
SQLITE, POSTGRESQL = "deputy.sqlite", "deputy.dump"


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@answers
def backup(directory: Path, as_json: bool) -> None:  # noqa: FBT001
    """Copy the database and the ledger's checkpoints into a new folder, also while the server runs.

    Signing keys are in it, encrypted. The key-encryption key is not: keep that elsewhere.
    """
    settings = load_settings()
    if directory.exists() and any(directory.iterdir()):
        raise Refused(f"{directory} is not empty")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    # The checkpoints first: a copy of the database that is younger than they are contradicts none of them.
    if settings.checkpoints_file.exists():
        _private(directory / CHECKPOINTS, settings.checkpoints_file.read_bytes())
    database = directory / (SQLITE if _is_sqlite(settings) else POSTGRESQL)
    _copy_sqlite(_sqlite_path(settings), database) if _is_sqlite(settings) else _dump(settings, database)
    database.chmod(0o600)
    files = {path.name: _digest(path) for path in sorted(directory.iterdir())}
    manifest = {"form": FORM, "made_at": clock.timestamp(), "issuer": settings.issuer, "sha256": files}
    _private(directory / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    show({"backup": str(directory), "files": sorted(files)}, as_json=as_json)


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@answers
def restore(directory: Path, as_json: bool) -> None:  # noqa: FBT001
    """Put a backup in place of the database. The server must not run; what it had is kept aside.

    The next start opens a new generation: every token of before is dead. Consents, registrations and the ledger are the backup's.
    """
    settings = load_settings()
    manifest = _checked_manifest(directory, settings)
    settings.var_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _stopped(settings):
        moment = clock.timestamp()
        aside = None
        if _is_sqlite(settings):
            aside = _put_back_sqlite(directory, settings, moment)
        else:
            _put_back_dump(directory, settings)
        kept = _put_back_checkpoints(directory, settings, moment)
        upgrade(settings)
        database = Database.open(settings)
        with database.transaction() as session:
            mark_restored(session)
        database.close()
    facts: dict[str, Any] = {"restored": str(directory), "made_at": manifest["made_at"]}
    if aside is not None:
        facts["database_before"] = str(aside)
    if kept is not None:
        facts["checkpoints_before"] = str(kept)
    show(facts, as_json=as_json)
    if kept is not None and not as_json:
        click.echo(f"Checkpoints younger than the backup are in {kept}: what they cover is missing from the restored ledger.")


def _checked_manifest(directory: Path, settings: Settings) -> dict[str, Any]:
    try:
        manifest = orjson.loads((directory / MANIFEST).read_bytes())
        files = dict(manifest["sha256"])
        form, issuer = manifest["form"], manifest["issuer"]
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused(f"{directory} holds no backup of ours") from None
    if form != FORM:
        raise Refused("the backup is of another form than this version reads")
    wanted = SQLITE if _is_sqlite(settings) else POSTGRESQL
    if wanted not in files:
        raise Refused("the backup is of another kind of database than DEPUTY_DATABASE_URL names")
    for name, digest in files.items():
        path = directory / Path(name).name
        if not path.is_file() or _digest(path) != digest:
            raise Refused(f"{path.name} is damaged: it is not what was backed up")
    if issuer != settings.issuer:
        raise Refused(f"the backup is of {issuer}; set DEPUTY_ISSUER to that")
    return dict(manifest)


@contextmanager
def _stopped(settings: Settings) -> Iterator[None]:
    """Hold the node's lock, so that the server does not run and cannot be started. Raises `Refused`."""
    with (settings.var_dir / "deputy.lock").open("a+b") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("the server runs; stop it first") from None
        yield


def _put_back_sqlite(directory: Path, settings: Settings, moment: int) -> Path | None:
    path = _sqlite_path(settings)
    fresh = path.with_name(path.name + ".restoring")
    fresh.unlink(missing_ok=True)
    _copy_sqlite(directory / SQLITE, fresh)
    fresh.chmod(0o600)
    aside = None
    if path.exists():
        aside = path.with_name(f"{path.name}.before-restore-{moment}")
        _copy_sqlite(path, aside)
        aside.chmod(0o600)
        # The log belongs to the database that goes; the new one has none.
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    fresh.replace(path)
    return aside


def _put_back_dump(directory: Path, settings: Settings) -> None:
    _run(settings, "pg_restore", "--clean", "--if-exists", "--no-owner", "--single-transaction", str(directory / POSTGRESQL))


def _put_back_checkpoints(directory: Path, settings: Settings, moment: int) -> Path | None:
    """The backup's checkpoints; those that are there already and differ are kept aside, for they say what is missing."""
    ours, theirs = settings.checkpoints_file, directory / CHECKPOINTS
    restored = theirs.read_bytes() if theirs.exists() else b""
    kept = None
    if ours.exists() and ours.read_bytes() != restored:
        kept = ours.with_name(f"checkpoints.before-restore-{moment}.jsonl")
        ours.rename(kept)
    else:
        ours.unlink(missing_ok=True)
    if restored:
        _private(ours, restored)
    return kept


def _copy_sqlite(source: Path, target: Path) -> None:
    if not source.exists():
        raise Refused(f"there is no database at {source}")
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.backup(writing)
        # One file, complete: no log beside it.
        writing.execute("PRAGMA journal_mode=DELETE")


def _dump(settings: Settings, target: Path) -> None:
    _run(settings, "pg_dump", "--format=custom", "--no-owner", f"--file={target}")


def _run(settings: Settings, program: str, *arguments: str) -> None:
    if shutil.which(program) is None:
        raise Refused(f"{program} is not installed; it comes with PostgreSQL's client programs")
    url = make_url(settings.database_url).set(drivername="postgresql")
    # The password goes by the environment: arguments are there for every user of the machine to see.
    environment = os.environ | ({"PGPASSWORD": str(url.password)} if url.password else {})
    dbname = f"--dbname={url.set(password=None).render_as_string()}"
    done = subprocess.run([program, dbname, *arguments], capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    if done.returncode:
        raise Refused(f"{program} failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}")


def _is_sqlite(settings: Settings) -> bool:
    return settings.database_url.startswith("sqlite:///")


def _sqlite_path(settings: Settings) -> Path:
    return Path(settings.database_url.removeprefix("sqlite:///"))


def _private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
