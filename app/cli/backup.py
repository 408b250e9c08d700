"""`deputy backup` and `deputy restore`: the database and the checkpoints, never the key-encryption key."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any, NamedTuple

import click
import orjson
from sqlalchemy import delete, select
from sqlalchemy.engine import URL, make_url

from app import clock
from app.cli.answer import answers, show, when
from app.database import Database, sqlite_file
from app.delegation.reserves import exhaust
from app.errors import ConfigurationError, Refused, TemporarilyUnavailable
from app.humans.sessions import end_everybodys
from app.keys.encryption import CannotOpen, KeyEncryption
from app.keys.models import SigningKeyRow
from app.ledger import checkpoints
from app.ledger.models import RelayRow
from app.live.deeds import Deed
from app.live.generation import mark_restored
from app.live.models import DeploymentRow
from app.settings import Settings, load_settings, read_key_encryption_key
from app.tokens.approvals import close_all
from app.tokens.models import RefreshTokenRow

FORM = 1
MANIFEST = "manifest.json"
CHECKPOINTS = "checkpoints.jsonl"
SQLITE, POSTGRESQL = "deputy.sqlite", "deputy.dump"
FILES = frozenset({CHECKPOINTS, SQLITE, POSTGRESQL})

PROCESSES = {"deputy": "the server runs", "relay": "a relay runs", "web": "web workers run", "valkey": "the embedded Valkey runs"}
"""Lock files of a node's processes, and what it means that one is held."""


class Position(NamedTuple):
    """How far a database has come; zeros where it cannot be asked."""

    generation: int = 0
    lease_until: int = 0
    """Milliseconds since 1970."""
    entries: int = 0


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
    try:
        files = _write(directory, settings)
    except BaseException:
        # Half a backup must not look like one, nor stand in the way of the next.
        for name in (*FILES, MANIFEST):
            (directory / name).unlink(missing_ok=True)
        raise
    show({"backup": str(directory), "files": files}, as_json=as_json)


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@answers
def restore(directory: Path, as_json: bool) -> None:  # noqa: FBT001
    """Put a backup in place of the database. The server must not run; what it had is kept aside.

    The next start opens a new generation. Every token of before is dead, refresh tokens too, and everybody signs in again.
    Consents, registrations and the ledger are the backup's.
    """
    settings = load_settings()
    manifest = _checked_manifest(directory, settings)
    settings.var_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _stopped(settings):
        before = _position(settings)
        if before.lease_until > clock.milliseconds():
            raise Refused("a relay writes to this database: stop every node; after a kill wait three seconds")
        moment = clock.timestamp()
        file = sqlite_file(settings)
        if file is not None:
            aside = _put_back_sqlite(directory, file, settings, before, moment)
        else:
            aside = _put_back_dump(directory, settings, before, moment)
        now = _position(settings)
        kept = _put_back_checkpoints(directory / CHECKPOINTS, settings.checkpoints_file, now.entries, moment)
        opened = _opens(settings)
    facts: dict[str, Any] = {"restored": str(directory), "made_at": when(manifest["made_at"], as_json=as_json), "entries": now.entries}
    facts |= {name: str(path) for name, path in (("database_before", aside), ("checkpoints_before", kept)) if path is not None}
    show(facts, as_json=as_json)
    if as_json:
        return
    if before.entries > now.entries:
        click.echo(f"Entries {now.entries + 1} to {before.entries} of the ledger are in the database of before only.")
    if kept is not None:
        click.echo("The checkpoints of before say how far the ledger had come.")
    click.echo("What was withdrawn, revoked, disabled or suspended after the backup stands again: do it once more before you start.")
    if not opened:
        click.echo("The signing keys do not open: put the key-encryption key of the backup's time in its place before you start.", err=True)


def _write(directory: Path, settings: Settings) -> list[str]:
    # The checkpoints first: a copy of the database that is younger than they are contradicts none of them.
    with suppress(FileNotFoundError):
        lines = settings.checkpoints_file.read_bytes()
        _private(directory / CHECKPOINTS, lines[: lines.rfind(b"\n") + 1])
    database = _existing(settings)
    revision = database.migration()
    database.close()
    if (file := sqlite_file(settings)) is not None:
        _copy_sqlite(file, directory / SQLITE)
    else:
        _dump(settings, directory / POSTGRESQL)
    files = {path.name: _digest(path) for path in sorted(directory.iterdir())}
    manifest = {"form": FORM, "made_at": clock.timestamp(), "issuer": settings.issuer, "revision": revision, "sha256": files}
    _private(directory / MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return sorted(files)


def _checked_manifest(directory: Path, settings: Settings) -> dict[str, Any]:
    try:
        manifest = dict(orjson.loads((directory / MANIFEST).read_bytes()))
        files = dict(manifest["sha256"])
        form, issuer, revision = manifest["form"], manifest["issuer"], manifest["revision"]
        when(manifest["made_at"], as_json=False)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        raise Refused(f"{directory} holds no backup of ours") from None
    if form != FORM or not files.keys() <= FILES:
        raise Refused("the backup is of another form than this version reads")
    if (POSTGRESQL if sqlite_file(settings) is None else SQLITE) not in files:
        raise Refused("the backup is of another kind of database than DEPUTY_DATABASE_URL names")
    for name, digest in files.items():
        if not (directory / name).is_file() or _digest(directory / name) != digest:
            raise Refused(f"{name} is damaged: it is not what was backed up")
    if CHECKPOINTS not in files and (directory / CHECKPOINTS).exists():
        raise Refused(f"{CHECKPOINTS} is not what was backed up")
    if issuer != settings.issuer:
        raise Refused(f"the backup is of {issuer}; set DEPUTY_ISSUER to that")
    from app.schema import is_known  # noqa: PLC0415  # only a restore needs it, and Alembic takes long to import

    if not is_known(settings, revision):
        raise Refused("the backup was made by a newer version of Deputy; restore it with that")
    return manifest


@contextmanager
def _stopped(settings: Settings) -> Iterator[None]:
    """Hold the locks of a node's processes, so that none runs and none can be started. Raises `Refused`."""
    with ExitStack() as held:
        for name, running in PROCESSES.items():
            lock = held.enter_context((settings.var_dir / f"{name}.lock").open("a+b"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Refused(f"{running}; stop the server first") from None
        yield


def _position(settings: Settings) -> Position:
    """What can be learned of the database that is there. It may be damaged, empty or gone: that may be why."""
    try:
        database = _existing(settings)
    except Refused:
        return Position()
    try:
        with database.reading() as session:
            generation = session.scalar(select(DeploymentRow.generation)) or 0
            relay = session.execute(select(RelayRow.until, RelayRow.seq)).one_or_none()
    except TemporarilyUnavailable:
        return Position()
    finally:
        database.close()
    return Position(generation, relay.until, relay.seq) if relay is not None else Position(generation)


def _put_right(settings: Settings, before: Position) -> None:
    """Bring a restored database up to date, and end in it what cannot be trusted to have been alive at the end."""
    from app.schema import upgrade  # noqa: PLC0415  # as above

    upgrade(settings)
    database = Database.open(settings)
    try:
        with database.transaction() as session:
            mark_restored(session, before.generation)
            # The backup takes refresh tokens for unused that were used since, and people for signed in who signed out.
            session.execute(delete(RefreshTokenRow))
            end_everybodys(Deed(session))
            # It takes approvals for unused that were used since, too.
            close_all(session)
            # And it knows less than was used up of what people limited.
            exhaust(session)
    finally:
        database.close()


def _put_back_sqlite(directory: Path, path: Path, settings: Settings, before: Position, moment: int) -> Path | None:
    """Make the new database ready beside the old one, then put it in its place in one step. Returns where the old one is."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".restoring")
    for suffix in ("", "-wal", "-shm"):
        fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    _copy_sqlite(directory / SQLITE, fresh)
    _put_right(settings.model_copy(update={"database_url": f"sqlite:///{fresh}"}), before)
    _fold(fresh)
    aside = None
    if path.exists():
        aside = _unused(path.with_name(f"{path.name}.before-restore-{moment}"))
        # A log that stayed would be taken for the new database's: it goes into its own, or with it where that is damaged.
        with suppress(sqlite3.Error):
            _fold(path)
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
        try:
            aside.hardlink_to(path)
        except OSError:
            path.rename(aside)
        aside.chmod(0o600)
    fresh.replace(path)
    _sync(path.parent)
    return aside


def _put_back_dump(directory: Path, settings: Settings, before: Position, moment: int) -> Path | None:
    aside = None
    if before != Position():
        aside = _unused(settings.var_dir / f"{POSTGRESQL}.before-restore-{moment}")
        _dump(settings, aside)
    _run(settings, "pg_restore", "--clean", "--if-exists", "--no-owner", "--single-transaction", str(directory / POSTGRESQL))
    try:
        _put_right(settings, before)
    except (TemporarilyUnavailable, ConfigurationError):
        raise Refused("the backup is in place but not made ready: run restore again before you start the server") from None
    return aside


def _put_back_checkpoints(theirs: Path, ours: Path, entries: int, moment: int) -> Path | None:
    """Every checkpoint that speaks of what the database has. A file that says more than that is kept aside, whole."""
    backed_up = theirs.read_bytes() if theirs.exists() else b""
    present = ours.read_bytes() if ours.exists() else b""
    sequence = checkpoints.last_written(ours)
    if present.startswith(backed_up) and sequence <= entries:
        return None
    kept = None
    if present and not backed_up.startswith(present):
        kept = _unused(ours.with_name(f"checkpoints.before-restore-{moment}.jsonl"))
        ours.rename(kept)
    if backed_up:
        fresh = ours.with_name(ours.name + ".restoring")
        fresh.unlink(missing_ok=True)
        _private(fresh, backed_up)
        fresh.replace(ours)
    _sync(ours.parent)
    return kept


def _opens(settings: Settings) -> bool:
    """Whether the key-encryption key at hand opens the signing keys in the database."""
    database = Database.open(settings)
    try:
        encryption = KeyEncryption(read_key_encryption_key(settings))
        with database.reading() as session:
            for sealed in session.scalars(select(SigningKeyRow.private_jwe).where(SigningKeyRow.private_jwe != "")):
                encryption.open(sealed)
    except (ConfigurationError, CannotOpen):
        return False
    finally:
        database.close()
    return True


def _copy_sqlite(source: Path, target: Path) -> None:
    """A whole copy in one file, also of a database that is being written to. Raises `Refused`."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
            reading.backup(writing)
        _fold(target)
    except sqlite3.DatabaseError as error:
        raise Refused(f"{source} is damaged: {error}") from None


def _fold(path: Path) -> None:
    """Write a database's log into it: one file, complete, nothing beside it. Raises `sqlite3.Error`."""
    with closing(sqlite3.connect(path)) as connection:
        (mode,) = connection.execute("PRAGMA journal_mode=DELETE").fetchone()
        if mode != "delete":
            raise sqlite3.OperationalError("somebody else has it open")


def _dump(settings: Settings, target: Path) -> None:
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    _run(settings, "pg_dump", "--format=custom", "--no-owner", f"--file={target}")


def _run(settings: Settings, program: str, *arguments: str) -> None:
    if shutil.which(program) is None:
        raise Refused(f"{program} is not installed; it comes with PostgreSQL's client programs")
    url = make_url(settings.database_url)
    query = dict(url.query)
    password = query.pop("password", url.password)
    # The password goes by the environment: arguments are there for every user of the machine to see.
    environment = os.environ | ({"PGPASSWORD": str(password)} if password else {})
    bare = URL.create("postgresql", url.username, None, url.host, url.port, url.database, query)
    command = [program, f"--dbname={bare.render_as_string()}", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    if done.returncode:
        raise Refused(f"{program} failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}")


def _existing(settings: Settings) -> Database:
    """The database, without making one: SQLite would. Raises `Refused`."""
    if (file := sqlite_file(settings)) is not None and not file.is_file():
        raise Refused(f"there is no database at {file}")
    return Database.open(settings)


def _unused(path: Path) -> Path:
    """A name beside which nothing stands: two restores in one second keep both."""
    number = 1
    found = path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def _private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
