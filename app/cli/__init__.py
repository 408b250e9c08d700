"""The `deputy` command: every deed of an operator at the server's own shell, and the processes of a node.

Owns: nouns and verbs, what they print (`--json` on everything that answers), `serve` and `relay`.
Promises: the same settings as the server; a revocation that is not in force everywhere exits non-zero.
Never: a deed of its own; it calls the registers and says what they said.
Specs: none but our own; docs/command-line.md lists every command.
"""

from __future__ import annotations

import click

from app.cli.agent import agent
from app.cli.application import app
from app.cli.approval import approval
from app.cli.backup import backup, restore
from app.cli.consent import consent
from app.cli.doctor import doctor
from app.cli.explain import explain
from app.cli.human import human
from app.cli.key import key
from app.cli.ledger import ledger
from app.cli.policy import policy
from app.cli.relay import relay
from app.cli.resource import resource
from app.cli.revoke import revoke
from app.cli.serve import serve
from app.cli.trust import trust

COMMANDS: tuple[click.Command, ...] = (
    agent,
    app,
    approval,
    backup,
    consent,
    doctor,
    explain,
    human,
    key,
    ledger,
    policy,
    relay,
    resource,
    restore,
    revoke,
    serve,
    trust,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def cli() -> None:
    """Deputy: the authorization server for AI agents that act for people."""


for _command in COMMANDS:
    cli.add_command(_command)

__all__ = ["cli"]
