"""`deputy agent`: the agents."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from app.agents.change import Change
from app.cli.answer import OPERATOR, answers, server_of, show, table
from app.cli.bound import WAYS, said_bound, ways_of
from app.cli.human import find_human
from app.cli.instance import enrol, instances
from app.cli.pairs import pairs_of
from app.errors import Refused
from app.keys.jwk import generate_client_key, public_part
from app.vocabulary import SigningAlg

if TYPE_CHECKING:
    from app.agents.models import AgentRow
    from app.wiring import Server

KEY_FILE = click.Path(dir_okay=False, path_type=Path)
MAX_FILE = 65_536


@click.group()
def agent() -> None:
    """Agents: their identity, owner, purpose, ceiling, keys, instances, lifecycle."""


for _command in (enrol, instances):
    agent.add_command(_command)


@agent.command()
@click.argument("name")
@click.option("--owner", required=True, help="Username of the person who answers for it.")
@click.option("--purpose", required=True, help="What it is for, in a sentence; people will read it.")
@click.option("--resource", "resources", multiple=True, metavar="URI", help="An API it may reach; repeat it.")
@click.option("--scope", "scopes", multiple=True, help="What it may do there for a human who consents; repeat it.")
@click.option("--own-scope", "own_scopes", multiple=True, help="What it may do there as itself; repeat it.")
@click.option("--may-hand-to", "hands_to", multiple=True, metavar="AGENT", help="Another agent it may hand work to; repeat it.")
@click.option("--max-depth", type=int, help="How many agents in a row at most.")
@click.option("--serves", default="", metavar="URI", help="The API this agent speaks for.")
@click.option("--redirect-uri", "redirect_uris", multiple=True)
@click.option(
    "--auth",
    default="private_key_jwt",
    show_default=True,
    help="Or tls_client_auth; or client_secret_basic, client_secret_post, where allowed.",
)
@click.option("--assertion-audience", default="issuer", show_default=True, help="Or token-endpoint, for older client libraries.")
@click.option("--certificate-name", default="", metavar="NAME", help="For tls_client_auth: san_uri:… or san_dns:…, as in its certificate.")
@click.option("--bound", type=click.Choice(WAYS), help="It gets only tokens bound by DPoP, by mutual TLS, or by either.")
@click.option("--draft", is_flag=True, help="It does nothing until it is activated.")
@click.option("--key", type=KEY_FILE, help="Its key as a JWK; made if the file is not there. Only the public part is registered.")
@click.option("--jwks", type=KEY_FILE, help="Its public keys as a JWK Set, instead.")
@click.option("--no-key", "keyless", is_flag=True, help="No key of its own: only its instances have some.")
@click.pass_context
@answers
def add(context: click.Context, /, name: str, owner: str, key: Path | None, jwks: Path | None, as_json: bool, **asked: Any) -> None:  # noqa: FBT001
    """Register an agent. Prints its identifier, which is its `sub` and `act.sub`, and its client_id."""
    server = server_of(context)
    if sum((key is not None, jwks is not None, asked["keyless"])) > 1:
        raise Refused("one of --key, --jwks and --no-key")
    made = server.agent_registry.add(
        name,
        owner=find_human(server, owner).id,
        purpose=asked["purpose"],
        ceiling=pairs_of(server, asked["resources"], asked["scopes"]),
        own=pairs_of(server, asked["resources"], asked["own_scopes"]),
        hands_to=[server.agent_registry.get(other).id for other in asked["hands_to"]],
        max_depth=asked["max_depth"],
        serves=asked["serves"],
        redirect_uris=asked["redirect_uris"],
        auth=asked["auth"],
        assertion_audience=asked["assertion_audience"],
        certificate_name=asked["certificate_name"],
        bound=ways_of(asked["bound"]),
        draft=asked["draft"],
        jwks={"keys": [public_key(key)]} if key is not None else read_json(jwks) if jwks is not None else None,
        keyless=asked["keyless"],
        by=OPERATOR,
    )
    facts = {"agent": made.uri, "client_id": made.client_id}
    if made.client_secret is not None:
        facts |= {"client_secret": made.client_secret, "client_secret_expires_at": str(made.secret_expires_at)}
    show(facts, as_json=as_json)


@agent.command("list")
@click.pass_context
@answers
def list_(context: click.Context, as_json: bool) -> None:  # noqa: FBT001
    """Every agent, by name."""
    server = server_of(context)
    people = {one.id: one.username for one in server.accounts.list()}
    rows = [
        {"name": row.name, "owner": people.get(row.owner, row.owner), "state": row.state, "client_id": row.client_id, "agent": row.uri}
        for row in server.agent_registry.list()
    ]
    table(rows, as_json=as_json, none="No agent is registered yet.")


@agent.command("show")
@click.argument("reference", metavar="AGENT")
@click.pass_context
@answers
def show_(context: click.Context, reference: str, as_json: bool) -> None:  # noqa: FBT001
    """All that is registered of an agent."""
    server = server_of(context)
    show(_facts(server, server.agent_registry.get(reference)), as_json=as_json)


@agent.command()
@click.argument("reference", metavar="AGENT")
@click.option("--name")
@click.option("--purpose", help="What it is for, in a sentence; people will read it.")
@click.option("--owner", help="Username of the person who answers for it.")
@click.option("--resource", "resources", multiple=True, metavar="URI", help="The APIs of --scope and --own-scope; repeat it.")
@click.option("--scope", "scopes", multiple=True, help="All it may do for a human who consents, in place of what it had; repeat it.")
@click.option("--own-scope", "own_scopes", multiple=True, help="All it may do as itself, in place of what it had; repeat it.")
@click.option(
    "--may-hand-to", "hands_to", multiple=True, metavar="AGENT", help="All it may hand work to, in place of those it could; repeat it."
)
@click.option("--max-depth", type=int, help="How many agents in a row at most.")
@click.option("--redirect-uri", "redirect_uris", multiple=True, help="All of them, in place of those it had.")
@click.pass_context
@answers
def change(context: click.Context, /, reference: str, as_json: bool, **asked: Any) -> None:  # noqa: FBT001
    """Change what is registered. What takes something away from it ends what it holds: people are asked again."""
    server = server_of(context)
    made = Change(
        name=asked["name"],
        purpose=asked["purpose"],
        owner=find_human(server, asked["owner"]).id if asked["owner"] is not None else None,
        ceiling=pairs_of(server, asked["resources"], asked["scopes"]) if asked["scopes"] else None,
        own=pairs_of(server, asked["resources"], asked["own_scopes"]) if asked["own_scopes"] else None,
        hands_to=frozenset(server.agent_registry.get(other).id for other in asked["hands_to"]) if asked["hands_to"] else None,
        max_depth=asked["max_depth"],
        redirect_uris=tuple(asked["redirect_uris"]) or None,
    )
    smaller = server.agent_registry.change(reference, made, by=OPERATOR)
    show({"agent": server.agent_registry.get(reference).uri, "ended": smaller}, as_json=as_json)


@agent.command()
@click.argument("reference", metavar="AGENT")
@click.pass_context
@answers
def activate(context: click.Context, reference: str, as_json: bool) -> None:  # noqa: FBT001
    """Let a draft work."""
    server = server_of(context)
    server.agent_registry.activate(reference, by=OPERATOR)
    _state(server, reference, as_json=as_json)


@agent.command()
@click.argument("reference", metavar="AGENT")
@click.pass_context
@answers
def suspend(context: click.Context, reference: str, as_json: bool) -> None:  # noqa: FBT001
    """End all that hangs on the agent, and keep it out until resumed."""
    server = server_of(context)
    server.agent_registry.suspend(reference, by=OPERATOR)
    _state(server, reference, as_json=as_json)


@agent.command()
@click.argument("reference", metavar="AGENT")
@click.pass_context
@answers
def resume(context: click.Context, reference: str, as_json: bool) -> None:  # noqa: FBT001
    """Let a suspended agent work again. What ended stays ended."""
    server = server_of(context)
    server.agent_registry.resume(reference, by=OPERATOR)
    _state(server, reference, as_json=as_json)


@agent.command()
@click.argument("reference", metavar="AGENT")
@click.pass_context
@answers
def retire(context: click.Context, reference: str, as_json: bool) -> None:  # noqa: FBT001
    """End all that hangs on the agent, for ever."""
    server = server_of(context)
    server.agent_registry.retire(reference, by=OPERATOR)
    _state(server, reference, as_json=as_json)


@agent.command()
@click.argument("reference", metavar="AGENT")
@click.option("--audience", required=True, metavar="URI", help="The API for which the token it brings is meant.")
@click.option("--target", required=True, metavar="URI", help="The API for which it may exchange it.")
@click.pass_context
@answers
def entitle(context: click.Context, reference: str, audience: str, target: str, as_json: bool) -> None:  # noqa: FBT001
    """Let an agent exchange tokens that were meant for one API into tokens for another, or for the same."""
    server = server_of(context)
    server.agent_registry.entitle(reference, audience=audience, target=target, by=OPERATOR)
    show({"agent": server.agent_registry.get(reference).uri, "audience": audience, "target": target}, as_json=as_json)


@agent.group()
def key() -> None:
    """An agent's keys. Add the new one, let the agent change over, remove the old one."""


@key.command("add")
@click.argument("reference", metavar="AGENT")
@click.argument("file", type=KEY_FILE)
@click.pass_context
@answers
def add_key(context: click.Context, reference: str, file: Path, as_json: bool) -> None:  # noqa: FBT001
    """Add a key; the file is made if it is not there. The others stay good."""
    registry = server_of(context).agent_registry
    registry.add_key(reference, public_key(file), by=OPERATOR)
    show({"agent": registry.get(reference).uri, "keys": [one["thumbprint"] for one in registry.keys(reference)]}, as_json=as_json)


@key.command("remove")
@click.argument("reference", metavar="AGENT")
@click.argument("kid")
@click.option("--last", is_flag=True, help="Also the only one: then only its instances speak for the agent.")
@click.pass_context
@answers
def remove_key(context: click.Context, reference: str, kid: str, last: bool, as_json: bool) -> None:  # noqa: FBT001
    """Remove the key with that kid or thumbprint."""
    registry = server_of(context).agent_registry
    registry.remove_key(reference, kid, last=last, by=OPERATOR)
    show({"agent": registry.get(reference).uri, "keys": [one["thumbprint"] for one in registry.keys(reference)]}, as_json=as_json)


def public_key(path: Path) -> dict[str, Any]:
    """The public part of the key in a file; a fresh ES256 key is written there first if there is none. Raises `Refused`."""
    if not path.exists():
        made = generate_client_key(SigningAlg.ES256)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            json.dump(made, file)
            file.flush()
            os.fsync(file.fileno())
    jwk = read_json(path)
    if not isinstance(jwk.get("kty"), str):
        raise Refused(f"{path} is not a JWK" + ("; --jwks takes a JWK Set" if "keys" in jwk else ""))
    public = public_part(jwk)
    if public.keys() != jwk.keys() and path.stat().st_mode & 0o077:
        click.echo(f"Others can read the private key in {path}: chmod 600 it.", err=True)
    return public


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object in a file. Raises `Refused`; nothing of the content is said."""
    try:
        text = path.read_bytes()
        found = json.loads(text) if len(text) <= MAX_FILE else None
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise Refused(f"{path} is not a JSON object")
    return found


def _state(server: Server, reference: str, *, as_json: bool) -> None:
    row = server.agent_registry.get(reference)
    show({"agent": row.uri, "name": row.name, "state": row.state}, as_json=as_json)


def _facts(server: Server, row: AgentRow) -> dict[str, Any]:
    owner, held = server.accounts.find(row.owner), server.clients.find(row.client_id)
    client = held.value if held is not None else None
    return {
        "agent": row.uri,
        "name": row.name,
        "owner": owner.username if owner is not None else row.owner,
        "purpose": row.purpose,
        "state": row.state,
        "client_id": row.client_id,
        "auth": client.auth_method.value if client is not None else "",
        "certificate_name": client.certificate_name if client is not None else "",
        "bound": said_bound(client.bound if client is not None else ()),
        "assertion_audience": client.assertion_audience if client is not None else "",
        "redirect_uris": list(client.redirect_uris) if client is not None else [],
        "scopes": [" ".join(pair) for pair in row.ceiling],
        "own_scopes": [" ".join(pair) for pair in row.own],
        "may_hand_to": [server.agent_registry.get(other).uri for other in row.hands_to],
        "max_depth": row.max_depth,
        "serves": row.serves,
        "keys": [one["thumbprint"] for one in server.agent_registry.keys(row.id)],
        "id": row.id,
    }
