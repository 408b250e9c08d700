"""`deputy relay`: the writer of the ledger."""

from __future__ import annotations

import signal
import threading

import click

from app.cli.answer import server_of
from app.ledger.relay import Relay
from app.rim import logs


@click.command()
@click.option("--holder", default="", help="Name under which it holds the lease; the same name takes over at once.")
@click.pass_context
def relay(context: click.Context, holder: str) -> None:
    """Write the ledger and keep the live state; `serve` runs one.

    Many may run; one holds the lease and the others stand by.
    """
    logs.configure()
    server = server_of(context)
    stop = threading.Event()
    for received in (signal.SIGTERM, signal.SIGINT):
        signal.signal(received, lambda *_: stop.set())
    Relay(server.database, server.live, server.keys, server.settings, holder=holder).run(stop)
