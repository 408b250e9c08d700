"""`deputy human`: the people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from app.cli.answer import OPERATOR, answers, server_of, show, table
from app.errors import NotFound
from app.vocabulary import Role

if TYPE_CHECKING:
    from app.humans.accounts import Human
    from app.wiring import Server


@click.group()
def human() -> None:
    """People: who may sign in, who administers."""


@human.command()
@click.argument("username")
@click.option("--name", required=True, help="As pages show it.")
@click.option("--email", required=True)
@click.option("--password-stdin", is_flag=True, required=True, help="Read the password from standard input, one line.")
@click.option("--operator", "role", flag_value=Role.OPERATOR.value, help="May administer.")
@click.option("--auditor", "role", flag_value=Role.AUDITOR.value, help="May read everything, and change nothing.")
@click.pass_context
@answers
def add(context: click.Context, username: str, name: str, email: str, password_stdin: bool, role: str | None, as_json: bool) -> None:  # noqa: ARG001, FBT001
    """Register a person."""
    office = Role(role) if role is not None else Role.MEMBER
    made = server_of(context).accounts.add(username, name, email, _password(), role=office, by=OPERATOR)
    show({"id": made, "username": username}, as_json=as_json)


@human.command("list")
@click.pass_context
@answers
def list_(context: click.Context, as_json: bool) -> None:  # noqa: FBT001
    """Everybody, by username."""
    rows = [
        {"username": one.username, "name": one.name, "email": one.email, "role": one.role, "enabled": one.enabled, "id": one.id}
        for one in server_of(context).accounts.list()
    ]
    table(rows, as_json=as_json, none="Nobody is registered yet.")


@human.command()
@click.argument("username")
@click.argument("role", type=click.Choice([role.value for role in Role]))
@click.pass_context
@answers
def role(context: click.Context, username: str, role: str, as_json: bool) -> None:  # noqa: FBT001
    """Make a person operator or auditor, or a member again. It holds at her next request."""
    server = server_of(context)
    found = find_human(server, username)
    server.accounts.set_role(found.id, Role(role), by=OPERATOR)
    show({"username": found.username, "role": role}, as_json=as_json)


@human.command()
@click.argument("username")
@click.option("--password-stdin", is_flag=True, required=True, help="Read the password from standard input, one line.")
@click.pass_context
@answers
def password(context: click.Context, username: str, password_stdin: bool, as_json: bool) -> None:  # noqa: ARG001, FBT001
    """Set a new password; whoever signed in with the old one is signed out.

    What was allowed for while she is away stands: `revoke human` ends that too.
    """
    server = server_of(context)
    found = find_human(server, username)
    server.accounts.set_password(found.id, _password(), by=OPERATOR)
    show({"username": found.username, "password": "changed"}, as_json=as_json)


@human.command()
@click.argument("username")
@click.pass_context
@answers
def disable(context: click.Context, username: str, as_json: bool) -> None:  # noqa: FBT001
    """End all that acts for this person; she cannot sign in."""
    server = server_of(context)
    found = find_human(server, username)
    server.accounts.disable(found.id, by=OPERATOR)
    show({"username": found.username, "enabled": False}, as_json=as_json)


@human.command()
@click.argument("username")
@click.pass_context
@answers
def enable(context: click.Context, username: str, as_json: bool) -> None:  # noqa: FBT001
    """Let her sign in again. What ended stays ended."""
    server = server_of(context)
    found = find_human(server, username)
    server.accounts.enable(found.id, by=OPERATOR)
    show({"username": found.username, "enabled": True}, as_json=as_json)


def find_human(server: Server, reference: str) -> Human:
    """The person with that username or id. Raises `NotFound`."""
    found = server.accounts.find_by_username(reference) or server.accounts.find(reference)
    if found is None:
        raise NotFound(f"no human {reference}")
    return found


def _password() -> str:
    return sys.stdin.readline().rstrip("\r\n")
