"""`deputy ledger`: read it, export it, verify it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import orjson

from app import clock
from app.cli.answer import answers, server_of, show
from app.ledger.queries import Entry, Filter, Queries
from app.ledger.verify import Verifier

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
    queries, chosen, last = Queries(server.database), Filter(**which), 0
    while True:
        for entry in queries.newest(number, chosen, after=last):
            click.echo(_json(entry) if as_json else _line(entry))
            last = entry.seq
        if not follow:
            return
        time.sleep(FOLLOW)


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
    with output.open("xb") as file:
        file.writelines(lines)


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
    facts: dict[str, Any] = {
        "sound": verdict.sound,
        "entries": verdict.entries,
        "hash": verdict.head.hash,
        "checkpoints": verdict.checkpoints,
        "checkpoints outside": verdict.outside,
    }
    if verdict.bad is not None:
        facts |= {"first bad entry": verdict.bad.seq, "what": verdict.bad.what}
    show({name.replace(" ", "_"): value for name, value in facts.items()} if as_json else facts, as_json=as_json)
    if not used and not as_json:
        click.echo("No checkpoints outside the database were given: a cut tail or a chain computed anew cannot be seen.")
    if not verdict.sound:
        raise click.exceptions.Exit(UNSOUND)


def _json(entry: Entry) -> str:
    return orjson.dumps({"seq": entry.seq, "hash": entry.hash, "record": entry.record}).decode()


def _line(entry: Entry) -> str:
    record = entry.record
    when = clock.at(record["at"] / 1000).strftime("%Y-%m-%d %H:%M:%S")
    return f"{entry.seq:>6}  {when}  {record['outcome']:<6}  {record['event']:<22}  {_who(record['who'])}{_what(record)}"


def _who(who: Mapping[str, Any]) -> str:
    actors = [str(actor).rpartition("/")[2] for actor in who.get("actors", ())]
    doer = " < ".join(actors) or who.get("operator") or who.get("client") or who.get("human") or "the server"
    return f"{doer} for {who['human']}" if actors and who.get("human") else str(doer)


def _what(record: Mapping[str, Any]) -> str:
    parts = [f"{uri}: {' '.join(scopes)}" for uri, scopes in record.get("scope", {}).items()]
    parts += [str(record[name]) for name in ("error", "reason", "kind", "target", "move", "cause", "consent") if name in record]
    return "  " + "; ".join(dict.fromkeys(part for part in parts if part)) if parts else ""
