"""`deputy ledger`: read it, export it, verify it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import orjson

from app import clock
from app.cli.answer import answers, server_of, show
from app.ledger.exported import NotAsWritten, read_keys, verify_export
from app.ledger.queries import BATCH, Entry, Filter, Queries
from app.ledger.verify import Coverage, Verdict, Verifier
from app.rim.logs import UNPRINTABLE

UNSOUND = 1
"""Exit code: the ledger is not what was written."""

FOLLOW = 0.5
"""Seconds between looks with `--follow`."""


@click.group()
def ledger() -> None:
    """What was decided and done, in a chain that shows tampering."""


@ledger.command()
@click.option("-n", "--number", type=click.IntRange(1, 100_000), default=20, show_default=True, help="How many entries.")
@click.option("--human", help="In whose name: a human's id or username.")
@click.option("--agent", help="Done by this agent: identifier, id, client_id or name.")
@click.option("--consent")
@click.option("--task")
@click.option("--jti", help="About this token.")
@click.option("--event", help="One kind of event, as docs/ledger.md names it.")
@click.option("--outcome", type=click.Choice(["permit", "deny", "done"]))
@click.option("--follow", is_flag=True, help="Go on as entries are written.")
@click.pass_context
@answers
def tail(context: click.Context, /, number: int, follow: bool, as_json: bool, **which: str | None) -> None:  # noqa: FBT001
    """The newest entries, oldest first."""
    server = server_of(context)
    if which["human"] is not None and (named := server.accounts.find_by_username(which["human"])) is not None:
        which["human"] = named.id
    if which["agent"] is not None:
        which["agent"] = server.agent_registry.get(which["agent"]).uri
    queries, chosen = Queries(server.database), Filter(**which)
    entries, last = queries.newest(number, chosen), 0
    with suppress(KeyboardInterrupt):
        while True:
            for entry in entries:
                click.echo(_json(entry) if as_json else _line(entry))
                last = entry.seq
            if not follow:
                return
            if len(entries) < BATCH:
                time.sleep(FOLLOW)
            entries = queries.following(last, chosen)


@ledger.command()
@click.argument("jti")
@click.pass_context
@answers
def custody(context: click.Context, jti: str, as_json: bool) -> None:  # noqa: FBT001
    """How a token came to be: its own permit first, then each it was derived from."""
    chain = Queries(server_of(context).database).custody(jti)
    if not chain:
        raise click.ClickException("no token with that jti is in the ledger")
    for entry in chain:
        click.echo(_json(entry) if as_json else _line(entry))


@ledger.command()
@click.option("--from", "first", type=click.IntRange(1), default=1, show_default=True, help="Number of the first entry.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file; standard output without it.")
@click.pass_context
@answers
def export(context: click.Context, first: int, output: Path | None, as_json: bool) -> None:  # noqa: ARG001, FBT001
    """JSON lines that anybody can verify offline; docs/ledger.md shows how."""
    lines = Queries(server_of(context).database).export(first)
    if output is None:
        sys.stdout.buffer.writelines(lines)
        return
    with os.fdopen(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.writelines(lines)


@ledger.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--keys",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The ledger's public keys, as `deputy key list --json` prints them.",
)
@click.option(
    "--checkpoints",
    "kept",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoints kept elsewhere; more than one may be given.",
)
@answers
def check(file: Path, keys: Path, kept: tuple[Path, ...], as_json: bool) -> None:  # noqa: FBT001
    """Whether an exported file is what was written. It needs no server and no database."""
    try:
        found = verify_export(file, read_keys(keys.read_bytes()), kept)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    except NotAsWritten as error:
        show({"sound": False, "what": UNPRINTABLE.sub("?", str(error))}, as_json=as_json)
        raise click.exceptions.Exit(UNSOUND) from None
    facts = {"sound": True, "first": found.first, "last": found.head.seq, "hash": found.head.hash, "checkpoints": found.checkpoints}
    show(facts, as_json=as_json)
    if found.beyond and not as_json:
        click.echo(f"Checkpoints kept elsewhere go on to entry {found.beyond}: it was exported before, or its end is missing.")


@ledger.command()
@click.option(
    "--checkpoints",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoints kept outside the database; more than one may be given. By default this node's own file.",
)
@click.pass_context
@answers
def verify(context: click.Context, files: tuple[Path, ...], as_json: bool) -> None:  # noqa: FBT001
    """Walk the whole chain; name the first bad entry, exit 1."""
    server = server_of(context)
    own = server.settings.checkpoints_file
    used = files or ((own,) if own.exists() else ())
    verdict = Verifier(server.database, server.keys.ledger_verification_key, server.settings.issuer).verify(used)
    if as_json:
        show(_facts(verdict), as_json=True)
    else:
        _tell(verdict, own)
    if not verdict.sound:
        raise click.exceptions.Exit(UNSOUND)


def _facts(verdict: Verdict) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "sound": verdict.sound,
        "entries": verdict.entries,
        "hash": verdict.head.hash,
        "checkpoints": verdict.checkpoints,
        "checkpoints_outside": verdict.outside,
        "covered": [asdict(one) for one in (verdict.covered, *verdict.covered_outside)],
    }
    if verdict.bad is not None:
        facts |= {"first_bad_entry": verdict.bad.seq or None, "what": verdict.bad.what}
        facts["findings"] = [{"entry": one.seq or None, "what": one.what} for one in verdict.findings]
    return facts


def _tell(verdict: Verdict, own: Path) -> None:
    facts: dict[str, Any] = {"sound": verdict.sound, "entries": verdict.entries, "hash": verdict.head.hash}
    facts |= {f"checkpoints in {one.where}": _coverage(one) for one in (verdict.covered, *verdict.covered_outside)}
    if verdict.bad is not None:
        facts["first bad entry"] = verdict.bad.seq or None
        facts |= {"what" if at == 0 else f"what ({at + 1})": UNPRINTABLE.sub("?", one.what) for at, one in enumerate(verdict.findings)}
    show(facts, as_json=False)
    if not verdict.covered_outside:
        click.echo(f"There is no {own}: without checkpoints from outside the database, a tail cut with care cannot be seen.")
    elif verdict.sound and (until := max(one.until for one in verdict.covered_outside)) < verdict.entries:
        click.echo(f"Checkpoints from outside the database vouch for what is up to entry {until}; what follows is as safe as the database.")


def _coverage(one: Coverage) -> str:
    return f"{one.checkpoints}, up to entry {one.until}" if one.checkpoints else "none"


def _json(entry: Entry) -> str:
    return orjson.dumps({"seq": entry.seq, "hash": entry.hash, "record": entry.record}).decode()


def _line(entry: Entry) -> str:
    record = entry.record
    when = clock.at(record["at"] / 1000).strftime("%Y-%m-%d %H:%M:%S")
    # Some of it is in the words of whoever was refused: no control character reaches the terminal.
    return UNPRINTABLE.sub(
        "?", f"{entry.seq:>6}  {when}  {record['outcome']:<6}  {record['event']:<22}  {_who(record['who'])}{_what(record)}"
    )


def _who(who: Mapping[str, Any]) -> str:
    actors = [str(actor).rpartition("/")[2] for actor in who.get("actors", ())]
    doer = " < ".join(actors) or who.get("operator") or who.get("client") or who.get("human") or "the server"
    return f"{doer} for {who['human']}" if actors and who.get("human") else str(doer)


def _what(record: Mapping[str, Any]) -> str:
    scope = record.get("scope")
    parts = [f"{uri}: {_words(scopes)}" for uri, scopes in scope.items()] if isinstance(scope, Mapping) else []
    parts += [str(record[name]) for name in ("error", "reason", "kind", "target", "move", "cause", "consent") if name in record]
    return "  " + "; ".join(dict.fromkeys(part for part in parts if part)) if parts else ""


def _words(scopes: object) -> str:
    return " ".join(map(str, scopes)) if isinstance(scopes, list) else str(scopes)
