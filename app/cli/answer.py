"""How the command line answers: for people by default, `--json` for programs, one sentence and a non-zero exit for a refusal."""

from __future__ import annotations

import errno
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from app import clock
from app.audit.events import Who
from app.clients.registration import SecretNotYetInForce
from app.errors import ConfigurationError, NotFound, Refused, TemporarilyUnavailable, TooManyRequests
from app.live.deeds import NotYetInForce

if TYPE_CHECKING:
    from app.wiring import Server

F = TypeVar("F", bound=Callable[..., Any])

OPERATOR = Who(operator="command line")
"""Who does what is done at the shell of the server."""

NOT_YET_IN_FORCE = 3
"""Exit code: SQL has the deed, the live state has not confirmed it."""

UNAVAILABLE = 4
"""Exit code: SQL or Redis is out of reach; nothing was done."""


def answers(command: F) -> F:
    """Give a command `--json`, and turn what the house raises into a sentence and an exit code."""

    @click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (Refused, NotFound, ConfigurationError) as error:
            raise click.ClickException(str(error)) from None
        except NotYetInForce as error:
            not_yet(f"{error.reason}. It comes into force when the server runs; repeat to confirm.")
        except (TemporarilyUnavailable, TooManyRequests) as error:
            click.echo(f"Not possible just now: {error.reason}.", err=True)
            raise click.exceptions.Exit(UNAVAILABLE) from None
        except UnicodeError:
            raise click.ClickException("text that is not UTF-8 is neither taken nor shown") from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click knows what to do when nobody reads on
            raise click.ClickException(": ".join(str(part) for part in (error.filename, error.strerror or error) if part)) from None

    return run  # type: ignore[return-value]  # the same command with one option more


def not_yet(why: str) -> NoReturn:
    """Say that only SQL has it, and end with the exit code for that."""
    click.echo(f"Recorded, not yet in force: {why}", err=True)
    raise click.exceptions.Exit(NOT_YET_IN_FORCE)


@contextmanager
def shown_once(*, as_json: bool) -> Iterator[None]:
    """A fresh secret is shown also when only SQL has it: the old one is gone, and repeating would make another."""
    try:
        yield
    except SecretNotYetInForce as pending:
        show({"client_id": pending.client_id, "client_secret": pending.client_secret}, as_json=as_json)
        not_yet(f"{pending.reason}. This secret is good when the server runs; repeating makes another.")


def when(seconds: int, *, as_json: bool) -> int | str:
    """A moment in seconds since 1970, as a program or a person reads it."""
    return seconds if as_json else clock.at(seconds).strftime("%Y-%m-%d %H:%M:%S UTC")


def server_of(context: click.Context) -> Server:
    """The built server of this command; the database is brought up to date on the way."""
    server: Server = context.find_root().obj()
    return server


def show(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing: a line a fact."""
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {_plain(value)}")


def table(rows: Sequence[Mapping[str, Any]], *, as_json: bool, none: str) -> None:
    """Many things: a table, or a JSON array."""
    if as_json:
        click.echo(json.dumps(list(rows), ensure_ascii=False))
        return
    if not rows:
        click.echo(none)
        return
    cells = [list(rows[0])] + [[_plain(value) for value in row.values()] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    for row in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(str(item) for item in value) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "-"
    return str(value) if value not in {None, ""} else "-"
