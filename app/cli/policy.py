"""`deputy policy`: what may not be combined, and who may not do what, in Cedar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

import click

from app import clock
from app.audit.events import Who
from app.cli.answer import OPERATOR, answers, server_of, show, table, when
from app.errors import NotFound, Refused
from app.policy.models import PolicyRow
from app.policy.ready import ready_made
from app.policy.replay import Replay

if TYPE_CHECKING:
    from app.wiring import Server

DAY = 86_400
"""Seconds."""

version_option = click.option("--version", type=click.IntRange(1), help="Which version; without it, the newest.")
by_option = click.option("--by", metavar="USERNAME", help="The operator who does it, where a second person must activate.")


@click.group()
def policy() -> None:
    """Policies: what is forbidden though consents and ceilings would allow it. docs/policies.md tells how to write one."""


@policy.command()
@click.argument("name")
@click.argument("file", type=click.File("r", encoding="utf-8"), required=False)
@click.option("--ready-made", "from_house", is_flag=True, help="Take the ready-made policy of that name instead of a file.")
@click.option("--owner", required=True, help="Username of the person who answers for it.")
@click.option("--rule", help="The law, contract or rule of conduct it carries out; a ready-made one brings its own.")
@by_option
@click.pass_context
@answers
def add(
    context: click.Context,
    name: str,
    file: TextIO | None,
    from_house: bool,  # noqa: FBT001
    owner: str,
    rule: str | None,
    by: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Save the next version of a policy, after it was validated. It is in force once activated. FILE - is standard input."""
    server = server_of(context)
    if (file is None) != from_house:
        raise Refused("either a FILE or --ready-made")
    if file is not None:
        text = file.read()
    else:
        made = next((one for one in ready_made() if one.name == name), None)
        if made is None:
            raise NotFound(f"no ready-made policy {name}: `deputy policy ready-made` lists them")
        text, rule = made.text, rule or made.rule
    if not rule:
        raise Refused("--rule: say which law, contract or rule of conduct it carries out")
    responsible = server.accounts.find_by_username(owner)
    if responsible is None:
        raise NotFound(f"nobody has the username {owner}")
    row = server.policies.add(name, text, owner=responsible.id, rule=rule, by=_who(server, by))
    show(_facts(row, as_json=as_json), as_json=as_json)


@policy.command("list")
@click.pass_context
@answers
def list_(context: click.Context, as_json: bool) -> None:  # noqa: FBT001
    """Every version of every policy, the newest first."""
    rows = [_facts(row, as_json=as_json) for row in server_of(context).policies.list()]
    table(rows, as_json=as_json, none="No policy is saved yet. `deputy policy ready-made` lists those to start from.")


@policy.command("ready-made")
@click.pass_context
@answers
def ready_made_(_context: click.Context, as_json: bool) -> None:  # noqa: FBT001
    """The policies that come with Deputy."""
    rows = [{"policy": one.name, "rule": one.rule} for one in ready_made()]
    table(rows, as_json=as_json, none="")


@policy.command("show")
@click.argument("name")
@version_option
@click.pass_context
@answers
def show_(context: click.Context, name: str, version: int | None, as_json: bool) -> None:  # noqa: FBT001
    """A version of a policy, with its text."""
    row = server_of(context).policies.get(name, version)
    show({**_facts(row, as_json=as_json), **({"text": row.text} if as_json else {})}, as_json=as_json)
    if not as_json:
        click.echo("\n" + row.text.rstrip())


@policy.command()
@click.argument("name")
@version_option
@by_option
@click.pass_context
@answers
def activate(context: click.Context, name: str, version: int | None, by: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Put a version in force, in place of the one before. Tokens issued before are judged by it at their next introspection."""
    server = server_of(context)
    row = server.policies.activate(name, version, by=_who(server, by))
    show(_facts(row, as_json=as_json), as_json=as_json)


@policy.command()
@click.argument("name")
@by_option
@click.pass_context
@answers
def retire(context: click.Context, name: str, by: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Take a policy out of force."""
    server = server_of(context)
    server.policies.retire(name, by=_who(server, by))
    show({"policy": name, "state": "retired"}, as_json=as_json)


@policy.command()
@click.argument("name")
@version_option
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="How far to look back.")
@click.pass_context
@answers
def replay(context: click.Context, name: str, version: int | None, days: int, as_json: bool) -> None:  # noqa: FBT001
    """Try a version on the recorded past: lists exactly the decisions that would differ. Changes nothing."""
    server = server_of(context)
    tried = Replay(server.database, server.policies.trial(name, version), since=(clock.timestamp() - days * DAY) * 1000)
    rows: list[dict[str, Any]] = []
    for one in tried.differences():
        record = one.entry.record
        rows.append(
            {
                "at": when(record["at"] // 1000, as_json=as_json),
                "id": record["id"],
                "agent": record["question"]["agent"],
                "target": record["question"]["target"],
                "scope": " ".join(record["question"]["context"]["scopes"]),
                "was": one.was,
                "would_be": " ".join((one.would_be, "by", *one.policies)) if one.policies else one.would_be,
            }
        )
    if as_json:
        show({"decisions": tried.decided, "differences": rows}, as_json=True)
        return
    table(rows, as_json=False, none="Nothing would differ.")
    click.echo(f"{len(rows)} of {tried.decided} decisions of the last {days} days would differ.")


def _who(server: Server, by: str | None) -> Who:
    """Who does it. The shell of the server is trusted to say; the name makes two deeds those of two persons."""
    if by is None:
        return OPERATOR
    human = server.accounts.find_by_username(by)
    if human is None or not human.operator or not human.enabled:
        raise Refused(f"{by} is not an operator")
    return Who(operator=human.id)


def _facts(row: PolicyRow, *, as_json: bool) -> dict[str, Any]:
    return {
        "policy": row.name,
        "version": row.version,
        "state": row.state,
        "rule": row.rule,
        "owner": row.owner,
        "made_at": when(row.made_at, as_json=as_json),
    }
