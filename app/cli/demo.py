"""The demo's people and things: put into an empty database, and what its programs need into `var/demo`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.audit.events import Who
from app.errors import NotFound, Refused
from app.keys.jwk import public_part
from app.keys.verifier import generate_client_key
from app.policy.policies import DRAFT
from app.vocabulary import Pair, Role, SigningAlg

if TYPE_CHECKING:
    from app.wiring import Server

BY = Who(operator="demo")
PASSWORD = "correct horse battery staple"
LOOPBACK = "http://127.0.0.1/callback"
"""The programs listen on any free port (RFC 8252 §7.3)."""

APIS = (
    ("calendar", "", "Calendar", {"calendar:read": "Read your calendar", "calendar:write": "Add and change appointments"}),
    ("travel", "", "Travel agency", {"travel:search": "Look for flights and hotels", "travel:book": "Book flights and hotels"}),
    (
        "mail",
        "/mcp",
        "Mail",
        {"mail:read": "Read your mail", "mail:send": "Send mail in your name", "mail:delete": "Delete your mail"},
    ),
)
"""File, path, name and scopes of each API; the first listens on `demo_port`, the others on the next two."""

LABELS = {"calendar": ["confidential"]}
SCOPE_LABELS = {"mail": {"mail:send": ["external-send"]}}
POLICY = "confidential-stays-inside"
RULE = "What is confidential leaves the company only when the person it was read for has seen it."
POLICY_TEXT = """@ask("approval")
forbid (principal, action, resource)
when { context.combined.contains("confidential") && context.labels.contains("external-send") };
"""

FILES = ("calendar.json", "travel.json", "mail.json", "assistant.json", "booking-agent.json", "mcp-client.json")


def fill(server: Server) -> list[str]:
    """Make the demo where nobody is registered yet. Idempotent; finishes what a killed start began."""
    directory = server.settings.var_dir / "demo"
    begun = directory / "unfinished"
    if server.accounts.list() and not begun.exists():
        return _lines(server) if all((directory / name).exists() for name in FILES) else []
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.chmod(0o700)
    _write(begun, "")
    _register(server, directory)
    begun.unlink()
    return _lines(server)


def _register(server: Server, directory: Path) -> None:
    alice = _human(server, "alice", "Alice Archer")
    bob = _human(server, "bob", "Bob Barker", role=Role.OPERATOR)
    port = server.settings.demo_port
    uris = {api: f"http://127.0.0.1:{port + n}{path}" for n, (api, path, _, _) in enumerate(APIS)}
    for api, _, name, scopes in APIS:
        _json(directory / f"{api}.json", {"resource": uris[api], **_resource(server, api, uris[api], name, scopes)})
    books = frozenset(Pair(uris["travel"], scope) for scope in ("travel:search", "travel:book"))
    office = frozenset({Pair(uris["calendar"], "calendar:read"), Pair(uris["mail"], "mail:read"), Pair(uris["mail"], "mail:send")})
    booking = _agent(
        server,
        directory / "booking-agent.jwk",
        "Booking agent",
        owner=bob,
        purpose="Books flights and hotels for other agents",
        ceiling=books,
    )
    assistant = _agent(
        server,
        directory / "assistant.jwk",
        "Executive assistant",
        owner=alice,
        purpose="Looks after your calendar and your mail, and books your trips",
        ceiling=books | office,
        hands_to=frozenset({booking["id"]}),
        max_depth=2,
        redirect_uris=(LOOPBACK,),
    )
    _json(directory / "booking-agent.json", {**booking, "travel": uris["travel"]})
    _json(directory / "assistant.json", {**assistant, **uris, "booking_agent": booking["agent"]})
    client_id = _app(server, "MCP mail client", frozenset({Pair(uris["mail"], "mail:read")}))
    _json(directory / "mcp-client.json", {"client_id": client_id, "mail": uris["mail"]})
    _policy(server, owner=bob)


def _human(server: Server, username: str, name: str, *, role: Role = Role.MEMBER) -> str:
    if (found := server.accounts.find_by_username(username)) is not None:
        return found.id
    return server.accounts.add(username, name, f"{username}@example.com", PASSWORD, role=role, by=BY)


def _resource(server: Server, api: str, uri: str, name: str, scopes: Mapping[str, str]) -> dict[str, str | None]:
    try:
        made = server.resource_registry.add(
            uri, name=name, scopes=scopes, labels=LABELS.get(api, ()), scope_labels=SCOPE_LABELS.get(api, {}), by=BY
        )
    except Refused:
        # Registered before the start was killed; its secret is gone with that process.
        client_id, secret = server.resource_registry.new_secret(uri, by=BY)
        return {"client_id": client_id, "client_secret": secret}
    return {"client_id": made.client_id, "client_secret": made.client_secret}


def _agent(server: Server, key_file: Path, name: str, **registered: Any) -> dict[str, str]:
    try:
        row = server.agent_registry.get(name)
    except NotFound:
        # The key is kept before it is registered: what is registered can always be used.
        private = generate_client_key(SigningAlg.ES256)
        _json(key_file, private)
        made = server.agent_registry.add(name, jwks={"keys": [public_part(private)]}, by=BY, **registered)
        return {"id": made.id, "agent": made.uri, "client_id": made.client_id}
    return {"id": row.id, "agent": row.uri, "client_id": row.client_id}


def _app(server: Server, name: str, pairs: frozenset[Pair]) -> str:
    for row in server.apps.list():
        if row.name == name:
            return row.client_id
    return server.apps.add(name, redirect_uris=(LOOPBACK,), auth="none", pairs=pairs, native=True, by=BY).client_id


def _policy(server: Server, *, owner: str) -> None:
    try:
        row = server.policies.get(POLICY)
    except NotFound:
        row = server.policies.add(POLICY, POLICY_TEXT, owner=owner, rule=RULE, by=BY)
    if row.state == DRAFT:
        server.policies.activate(POLICY, row.version, by=Who(operator=owner))


def _lines(server: Server) -> list[str]:
    issuer = server.settings.issuer
    elsewhere = "" if issuer == "http://127.0.0.1:8000" else f"DEPUTY_URL={issuer} "
    return [
        f"Sign in at {issuer} as alice, password: {PASSWORD}  (bob is an operator; same password)",
        f"See it work: {elsewhere}make demo, in a second terminal",
    ]


def _json(path: Path, content: Mapping[str, Any]) -> None:
    _write(path, json.dumps(content, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    """For our user only, and whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)
