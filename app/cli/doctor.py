"""`deputy doctor`: what is wrong, why it matters, and how to mend it."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass

import click
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app import clock
from app.agents.models import AgentRow
from app.audit.models import OutboxRow
from app.cli.answer import table
from app.cli.embedded import embedded_socket, redis_url
from app.database import Database, differences
from app.errors import ConfigurationError, TemporarilyUnavailable
from app.keys.encryption import KeyEncryption
from app.keys.store import KeyStore
from app.ledger import checkpoints
from app.ledger.models import CheckpointRow, RelayRow
from app.live.commit import Live
from app.live.generation import STREAM
from app.settings import Settings, load_settings, read_key_encryption_key

WRONG = 1
"""Exit code: something is wrong."""

SPARE = 200 * 1024 * 1024
"""Bytes of disk below which a full one is near."""

LONGEST_OUTBOX = 5000


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    what: str
    why: str
    mend: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def doctor(as_json: bool) -> None:  # noqa: FBT001
    """Say what is wrong and how to mend it. It changes nothing; exit code 1 if anything is."""
    found = list(findings())
    if as_json:
        table([asdict(finding) for finding in found], as_json=True, none="")
    elif not found:
        click.echo("All is well.")
    for finding in [] if as_json else found:
        click.echo(f"✗ {finding.what}\n  {finding.why}\n  → {finding.mend}\n")
    if found:
        raise click.exceptions.Exit(WRONG)


def findings() -> Iterator[Finding]:
    """What is wrong, the deepest cause first. Never raises for what it is there to find."""
    try:
        settings = load_settings()
    except ConfigurationError as error:
        yield Finding(f"the settings are refused: {error}", "The server does not start.", "Change the DEPUTY_ variables it names.")
        return
    yield from _disk(settings)
    encryption = yield from _key_encryption(settings)
    database = Database.open(settings)
    try:
        if not (yield from _sql(settings, database)):
            return
        yield from _registers(settings, database)
        live = Live(database, redis_url(settings), timeout=settings.redis_timeout, stall=settings.stream_stall)
        if encryption is not None:
            yield from _keys(live, encryption)
        yield from _ledger(settings, database)
        yield from _redis(settings, live)
    finally:
        database.close()


def _disk(settings: Settings) -> Iterator[Finding]:
    if not settings.var_dir.is_dir():
        yield Finding(
            f"{settings.var_dir} is not there",
            "Nothing was ever started here.",
            "Run `deputy serve` (make run) in the right folder, or set DEPUTY_VAR_DIR.",
        )
        return
    if (free := shutil.disk_usage(settings.var_dir).free) < SPARE:
        yield Finding(
            f"{free // 1_048_576} MB of disk are left",
            "Without space nothing can be recorded, so nothing is issued.",
            "Make room where DEPUTY_VAR_DIR and the database are.",
        )


def _key_encryption(settings: Settings) -> Generator[Finding, None, KeyEncryption | None]:
    try:
        encryption = KeyEncryption(read_key_encryption_key(settings))
    except ConfigurationError as error:
        yield Finding(str(error), "Signing keys cannot be opened: nothing can be signed.", "Put the key back; without it, begin anew.")
        return None
    for path in (settings.key_encryption_key_file, settings.own_key_file):
        if path is not None and path.exists() and path.stat().st_mode & 0o077:
            yield Finding(f"{path} can be read by others", "Who has it and the database can sign as you.", f"chmod 600 {path}")
    return encryption


def _sql(settings: Settings, database: Database) -> Generator[Finding, None, bool]:
    try:
        with database.reading() as session:
            session.execute(select(1))
    except (TemporarilyUnavailable, SQLAlchemyError) as error:
        reason = getattr(error, "reason", type(error).__name__)
        yield Finding(
            f"the database cannot be reached ({reason})",
            "Nothing is issued without it.",
            "Look at DEPUTY_DATABASE_URL and whether it runs.",
        )
        return False
    if different := differences(settings):
        yield Finding(
            f"the database differs from this version in {len(different)} places",
            "It is older, or was never set up.",
            "Start the server: it migrates the database first. After that, restore a backup.",
        )
        return False
    return True


def _registers(settings: Settings, database: Database) -> Iterator[Finding]:
    with database.reading() as session:
        foreign = session.scalars(select(AgentRow.name).where(~AgentRow.uri.startswith(settings.issuer + "/", autoescape=True))).all()
    if foreign:
        yield Finding(
            f"{len(foreign)} agents are registered under another issuer than {settings.issuer}",
            "Their identifiers, which stand in every token, name a server that is not this one.",
            "Set DEPUTY_ISSUER (or PORT) back to what it was, or register them anew.",
        )


def _keys(live: Live, encryption: KeyEncryption) -> Iterator[Finding]:
    try:
        KeyStore(live, encryption).warm()
    except TemporarilyUnavailable as trouble:
        yield Finding(
            trouble.reason, "The key-encryption key is not the one they were sealed under.", "Put the right key-encryption key back."
        )


def _ledger(settings: Settings, database: Database) -> Iterator[Finding]:
    with database.reading() as session:
        relay = session.get(RelayRow, 1)
        waiting = session.scalar(select(func.count()).select_from(OutboxRow)) or 0
        last = session.scalar(select(func.max(CheckpointRow.seq))) or 0
    if relay is None or relay.until < clock.milliseconds():
        yield Finding(
            "no relay writes the ledger",
            "After five seconds without it nothing is issued.",
            "Start the server (make run), or `deputy relay`.",
        )
    if waiting > LONGEST_OUTBOX:
        yield Finding(f"{waiting} records wait for the ledger", "The relay does not keep up, or does not run.", "Look at its log.")
    if last and checkpoints.last_written(settings.checkpoints_file) < last and relay is not None and relay.until < clock.milliseconds():
        yield Finding(
            f"{settings.checkpoints_file} is behind the database",
            "A cut tail cannot be seen without it.",
            "The relay makes it good when it starts; on several nodes it is with the one that holds the lease.",
        )


def _redis(settings: Settings, live: Live) -> Iterator[Finding]:
    try:
        live.redis.check()
    except ConfigurationError as error:
        yield Finding(str(error), "Live state must neither be forgotten nor be a copy.", "Change that, then start again.")
        return
    except TemporarilyUnavailable as trouble:
        where = settings.redis_url or f"the embedded Valkey at {embedded_socket(settings)}"
        yield Finding(
            f"{where} cannot be reached ({trouble.reason})",
            "Nothing is issued and nothing is called active.",
            "Start the server (make run), or Redis.",
        )
        return
    try:
        live.read(())
        if (waited := _oldest(live)) > settings.stream_stall:
            yield Finding(
                f"the oldest record has waited {waited:.0f} s for the ledger", "Issuance has stopped.", "See what the relay's log says."
            )
    except TemporarilyUnavailable as trouble:
        yield Finding(
            f"live state is not ready ({trouble.reason})",
            "The relay has not rebuilt it.",
            "Start the server; see what the relay's log says.",
        )


def _oldest(live: Live) -> float:
    oldest = live.redis.call("XRANGE", STREAM, "-", "+", "COUNT", 1)
    return clock.milliseconds() / 1000 - int(oldest[0][0].split(b"-")[0]) / 1000 if oldest else 0.0
