"""`deputy doctor`: what is wrong, why it matters, and how to mend it."""

from __future__ import annotations

import fcntl
import http.client
import os
import shutil
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

import click
from sqlalchemy import func, select, text

from app import clock
from app.agents.models import AgentRow
from app.audit.models import OutboxRow
from app.cli.answer import table
from app.cli.certificates import last_day
from app.cli.embedded import embedded_socket, redis_url
from app.cli.readiness import reachable_host, readiness
from app.clients.models import ClientRow
from app.database import NEWEST, Database, sqlite_file
from app.errors import ConfigurationError, TemporarilyUnavailable
from app.keys.encryption import KeyEncryption
from app.keys.store import LEDGER_ALG, KeyStore
from app.ledger import checkpoints
from app.ledger.models import CheckpointRow, RelayRow
from app.live.commit import Live
from app.live.generation import STREAM
from app.resources.models import ResourceRow
from app.settings import Settings, load_settings, read_key_encryption_key
from app.vocabulary import KeyState, KeyUse, SigningAlg

WRONG = 1
"""Exit code: something is wrong."""

SPARE = 256 * 1024 * 1024
"""Bytes of disk below which a full one is near."""

SOON = 14
"""Days before its end in which a certificate should be replaced."""

LATE = 30.0
"""Seconds after which a record or checkpoint should have arrived, whatever the load."""

OTHERS = 0o077
"""Permissions of everybody but the owner."""


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
    if not settings.var_dir.is_dir():
        yield Finding(
            f"{settings.var_dir} is not there",
            "Nothing was ever started here.",
            "Run `deputy serve` (make run) in the right folder, or set DEPUTY_VAR_DIR.",
        )
    else:
        yield from _disk(settings)
    encryption = yield from _key_encryption(settings)
    if settings.mtls_port:
        yield from _certificates(settings)
    if (path := sqlite_file(settings)) is not None and not path.is_file():
        # Looking would make an empty one.
        yield Finding(
            f"there is no database at {path}",
            "Nobody and nothing is registered.",
            "Start the server, which makes it; or `deputy restore` a backup.",
        )
        return
    database = Database.open(settings)
    try:
        yield from _of_the_database(settings, database, encryption)
    except TemporarilyUnavailable as trouble:
        yield Finding(
            f"the database stopped answering ({trouble.reason})", "Nothing is issued without it.", "Look at its log, then ask again."
        )
    finally:
        database.close()


def _of_the_database(settings: Settings, database: Database, encryption: KeyEncryption | None) -> Iterator[Finding]:
    if not (yield from _sql(settings, database)):
        return
    yield from _registers(settings, database)
    live = Live(database, redis_url(settings), timeout=settings.redis_timeout, stall=settings.stream_stall)
    if encryption is not None:
        yield from _keys(database, KeyStore(live, encryption))
    runs = _is_locked(settings.var_dir / "deputy.lock")
    if not runs:
        yield Finding(
            "the server does not run here",
            "Nothing is issued, and no revocation is in force before it runs.",
            "Start it: make run, or `deputy serve`.",
        )
    if runs or settings.redis_url:
        # The embedded Valkey runs with the server and not without it.
        yield from _redis(settings, live)
    yield from _ledger(settings, database, runs=runs)
    if runs:
        yield from _web(settings)


def _certificates(settings: Settings) -> Iterator[Finding]:
    mend = "Put the new file in its place in one step (mv): it is used from the next connection on."
    try:
        days = (last_day(settings) - clock.timestamp()) // 86_400
    except ConfigurationError as error:
        yield Finding(str(error), f"Nobody can connect to port {settings.mtls_port}, and the next start is refused.", mend)
        return
    if days < SOON:
        yield Finding(
            f"a certificate in DEPUTY_MTLS_CERTIFICATE or DEPUTY_MTLS_CLIENT_CA ends in {days} days"
            if days >= 0
            else "a certificate has ended",
            f"Then nobody, or not every agent, can connect to port {settings.mtls_port}.",
            mend,
        )


def _disk(settings: Settings) -> Iterator[Finding]:
    if (free := shutil.disk_usage(settings.var_dir).free) < SPARE:
        yield Finding(
            f"{free // 1_048_576} MB of disk are left",
            "Without space nothing can be recorded, so nothing is issued.",
            "Make room where DEPUTY_VAR_DIR and the database are.",
        )
    database = sqlite_file(settings)
    if settings.var_dir.stat().st_mode & OTHERS:
        private = (settings.checkpoints_file, settings.var_dir / "valkey", *([database] if database is not None else ()))
        exposed = [path for path in private if path.exists() and path.stat().st_mode & OTHERS]
        if exposed:
            yield Finding(
                f"others on this machine can read {', '.join(map(str, exposed))}",
                "Names, hashes of passwords and secrets, and every record are in there.",
                f"chmod 700 {settings.var_dir}",
            )


def _key_encryption(settings: Settings) -> Generator[Finding, None, KeyEncryption | None]:
    try:
        encryption = KeyEncryption(read_key_encryption_key(settings))
    except ConfigurationError as error:
        yield Finding(
            str(error),
            "Signing keys cannot be opened, so nothing can be signed; client secrets are void.",
            "Put the key back from where you keep its copy. Only where nothing was ever started: the start makes one in development.",
        )
        return None
    if not settings.key_encryption_key.get_secret_value():
        path = settings.key_encryption_key_file or settings.own_key_file
        if path.stat().st_mode & OTHERS:
            yield Finding(f"others can read {path}", "Who has it and the database can sign as you.", f"chmod 600 {path}")
    return encryption


def _sql(settings: Settings, database: Database) -> Generator[Finding, None, bool]:
    try:
        current = database.migration()
        with database.reading() as session:
            standby = database.engine.dialect.name == "postgresql" and bool(session.scalar(text("SELECT pg_is_in_recovery()")))
    except TemporarilyUnavailable as trouble:
        yield Finding(
            f"the database cannot be reached or read ({trouble.reason})",
            "Nothing is issued without it.",
            "See that it runs and that DEPUTY_DATABASE_URL is right; restore a backup if it is damaged.",
        )
        return False
    if standby:
        yield Finding(
            "DEPUTY_DATABASE_URL names a standby",
            "It may lag behind, and what it has not heard of would not be revoked.",
            "Name the primary.",
        )
        return False
    if current == NEWEST:
        return True
    from app.schema import is_known  # noqa: PLC0415  # seldom needed, and Alembic takes long to import

    if not is_known(settings, current):
        yield Finding(
            f"the database was made by a newer version (migration {current})",
            "This version does not know what its tables mean.",
            "Run the version it was made by, or restore a backup of before the upgrade.",
        )
    else:
        yield Finding(
            f"the database is older than this version (migration {current}, needed {NEWEST})",
            "Tables or columns are missing.",
            "Back up, then start the server: it migrates the database first.",
        )
    return False


def _registers(settings: Settings, database: Database) -> Iterator[Finding]:
    with database.reading() as session:
        foreign = session.scalars(select(AgentRow.name).where(~AgentRow.uri.startswith(settings.issuer + "/", autoescape=True))).all()
    if foreign:
        yield Finding(
            f"{len(foreign)} agents are registered under another issuer than {settings.issuer}: {', '.join(foreign[:3])}",
            "Their identifiers, which stand in every token, name a server that is not this one.",
            "Set DEPUTY_ISSUER (or PORT) back to what it was, or register them anew.",
        )


def _keys(database: Database, keys: KeyStore) -> Iterator[Finding]:
    with database.reading() as session:
        needed = {SigningAlg.ES256.value}
        needed |= set(session.scalars(select(ResourceRow.alg).where(ResourceRow.enabled.is_(True)).distinct()))
        needed |= set(session.scalars(select(ClientRow.id_token_alg).where(ClientRow.enabled.is_(True)).distinct()))
    active = {(one.use, one.alg) for one in keys.list() if one.state is KeyState.ACTIVE}
    missing = [alg for alg in sorted(needed) if (KeyUse.TOKEN, SigningAlg(alg)) not in active]
    if (KeyUse.LEDGER, LEDGER_ALG) not in active:
        missing.append("the ledger")
    if missing:
        yield Finding(
            f"there is no active signing key for {', '.join(missing)}",
            "What it should sign is not issued; without the ledger's, nothing is recorded and nothing issued.",
            "Start the server, which makes the first keys; `deputy key rotate --alg` makes the next one active.",
        )
        return
    try:
        keys.warm()
        keys.ledger_key()
    except TemporarilyUnavailable as trouble:
        yield Finding(
            trouble.reason, "The key-encryption key is not the one they were sealed under.", "Put the right key-encryption key back."
        )


def _redis(settings: Settings, live: Live) -> Iterator[Finding]:
    try:
        live.redis.check()
        seconds, microseconds = live.redis.call("TIME")
        there = int(seconds) + int(microseconds) / 1e6
        oldest = live.redis.call("XRANGE", STREAM, "-", "+", "COUNT", 1)
    except ConfigurationError as error:
        yield Finding(str(error), "Live state must neither be forgotten nor be a copy.", "Change that, then start again.")
        return
    except TemporarilyUnavailable as trouble:
        where = "DEPUTY_REDIS_URL" if settings.redis_url else f"the embedded Valkey at {embedded_socket(settings)}"
        yield Finding(
            f"{where} cannot be reached ({trouble.reason})",
            "Nothing is issued, nothing is called active, and no revocation is in force.",
            "Start Redis, or look at what the server's log says of it.",
        )
        return
    if abs(apart := there - clock.milliseconds() / 1000) > clock.SKEW:
        yield Finding(f"the clock of Redis is {apart:+.0f} s from this one", "Tokens live longer or shorter than they say.", "Set both.")
    try:
        live.read(())
    except TemporarilyUnavailable as trouble:
        yield Finding(
            f"live state is not ready ({trouble.reason})",
            "Nothing is issued and nothing is called active until a relay has built it.",
            "Start the server; if it runs, its log says what the relay waits for.",
        )
    if oldest and (waited := there - int(oldest[0][0].split(b"-")[0]) / 1e3) > settings.stream_stall:
        yield Finding(
            f"the oldest record has waited {waited:.0f} s for the ledger", "Issuance has stopped.", "See what the relay's log says."
        )


def _ledger(settings: Settings, database: Database, *, runs: bool) -> Iterator[Finding]:
    # The file first: it follows the database, and never the other way round.
    written = checkpoints.last_written(settings.checkpoints_file)
    with database.reading() as session:
        relay = session.get(RelayRow, 1)
        waiting = session.scalar(select(func.count()).select_from(OutboxRow)) or 0
        oldest = session.scalar(select(func.min(OutboxRow.id)))
        last = session.execute(select(CheckpointRow.seq, CheckpointRow.at).order_by(CheckpointRow.seq.desc()).limit(1)).one_or_none()
    held = relay is not None and relay.until >= clock.milliseconds()
    if runs and not held:
        yield Finding(
            "no relay writes the ledger",
            "After five seconds without one nothing is issued.",
            "The server starts it again; its log says what it dies of.",
        )
    if held and oldest is not None and (waited := clock.milliseconds() / 1000 - _born(oldest)) > LATE:
        yield Finding(
            f"{waiting} records wait in the outbox, the oldest for {waited:.0f} s",
            "The ledger does not show yet what was done.",
            "See what the relay's log says.",
        )
    signed = last.seq if last is not None else 0
    if written > signed:
        yield Finding(
            f"{settings.checkpoints_file} speaks of entry {written}, the database's checkpoints end with {signed}",
            "The end of the ledger was cut off, or another database was put in place.",
            "`deputy ledger verify` says more. `deputy restore` puts such a file aside by itself.",
        )
    if last is None or (held and relay is not None and relay.holder != _node(settings)):
        return  # nothing to write down yet, or the node that holds the lease has the file
    behind = written < last.seq and last.at < clock.timestamp() - LATE
    if behind or not settings.checkpoints_file.exists():
        yield Finding(
            f"{settings.checkpoints_file} is behind the database" if written else f"{settings.checkpoints_file} is not there",
            "Without checkpoints outside the database a cut tail, or a chain computed anew, cannot be seen.",
            "See that the folder can be written to, and start the server again: its relay writes what is missing.",
        )


def _web(settings: Settings) -> Iterator[Finding]:
    where = f"{reachable_host(settings)}:{settings.port}"
    try:
        status = readiness(settings, 5)
    except (OSError, http.client.HTTPException) as error:
        yield Finding(
            f"nothing answers at {where} ({type(error).__name__})",
            "The web workers do not run, or listen elsewhere.",
            "See what the server's log says; DEPUTY_BIND_HOST and DEPUTY_PORT must be the server's own.",
        )
        return
    if status != http.HTTPStatus.OK:
        yield Finding(
            f"/readyz at {where} answers {status}",
            "The server issues nothing just now.",
            "If nothing above says why: curl it from this machine, it names what is missing.",
        )


def _is_locked(path: Path) -> bool:
    """Whether a running process holds the lock. Does not make the file."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)


def _node(settings: Settings) -> str:
    try:
        return (settings.var_dir / "node").read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def _born(identifier: str) -> float:
    """Seconds since 1970 at which a record's id was made (UUID version 7, RFC 9562 §5.7)."""
    return (UUID(identifier).int >> 80) / 1000
