"""A large organisation, written straight into the database: people, agents, consents, uses, a chain of entries."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from app import clock
from app.agents.models import AgentRow
from app.clients.models import ClientRow
from app.delegation.models import ConsentRow, TaskRow
from app.humans.models import HumanRow
from app.ledger import checkpoints
from app.ledger.chain import GENESIS, Head
from app.ledger.issued import AgentUseRow, LiveTokenRow
from app.ledger.models import CheckpointRow, EntryRow, RelayRow
from app.live.footing import FootingRow, FootingThingRow, footing_id
from app.resources.models import ResourceRow
from app.wiring import Server

BATCH = 5000
APIS = 40
TARGET = "https://api-7.crowd.example"


def fill(server: Server, *, agents: int, consents: int, entries: int) -> str:
    """Make it. Returns the id of an agent in the middle of it."""
    now = clock.timestamp()
    people = max(20, agents // 10)
    issuer = server.settings.issuer
    with server.database.transaction() as session:
        for rows, table in (
            (_people(people, now), HumanRow),
            (_apis(now), ResourceRow),
            (_clients(agents, now), ClientRow),
            (_agents(agents, people, issuer, now), AgentRow),
            (_uses(agents, issuer, now), AgentUseRow),
        ):
            _write(session, table, rows)
        for table, rows in _consents(consents, agents, people, now).items():
            _write(session, table, iter(rows))
    head = Head(0, GENESIS)
    start = now - 40 * 86_400
    for first in range(0, entries, 50_000):
        with server.database.transaction() as session:
            rows = []
            for number in range(first, min(entries, first + 50_000)):
                at = (start + (now - 60 - start) * number // entries) * 1000
                facts, columns = _entry(number, at, agents, people, issuer)
                body = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
                head = head.extended(body)
                rows.append({"seq": head.seq, **columns, "record": body, "hash": head.hash})
            _write(session, EntryRow, iter(rows))
    with server.database.transaction() as session:
        point = checkpoints.sign(head, now - 60, issuer, server.keys.ledger_key())
        session.add(CheckpointRow(seq=head.seq, at=now - 60, jws=point.jws))
        session.add(RelayRow(id=1, holder="", until=0, seq=head.seq, hash=head.hash))
    return f"agt_{agents // 2:022}"


def stand_tokens(server: Server, count: int) -> None:
    """Live tokens of the generation that is open now, on the footings there are."""
    generation, now = server.live.generation().number, clock.timestamp()
    with server.database.transaction() as session:
        for number in range(count):
            name = f"{number:032x}"
            if number < count // 4:
                session.execute(insert(FootingRow).values(id=name, generation=generation, until=now + 900))
                things = {"human": f"hum_{number % 20:022}", "agent": f"agt_{number % 20:022}", "deployment": "1"}
                held = [{"kind": kind, "id": one, "footing": name, "epoch": 0} for kind, one in things.items()]
                session.execute(insert(FootingThingRow), held)
            on = f"{number % max(1, count // 4):032x}"
            session.execute(insert(LiveTokenRow).values(jti=f"tok_{number:022}", footing=on, seq=1, expires_at=now + 800))


def _write(session: Session, table: Any, rows: Iterator[dict[str, Any]]) -> None:
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH:
            session.execute(insert(table), batch)
            batch = []
    if batch:
        session.execute(insert(table), batch)


def _people(count: int, now: int) -> Iterator[dict[str, Any]]:
    for n in range(count):
        yield {
            "id": f"hum_{n:022}", "username": f"person-{n}", "name": f"Person {n}", "email": "p@example.com", "password_hash": "x",
            "role": "member", "enabled": n % 97 != 0, "created_at": now,
        }  # fmt: skip


def _apis(now: int) -> Iterator[dict[str, Any]]:
    for n in range(APIS):
        yield {
            "id": f"res_{n:022}", "uri": f"https://api-{n}.crowd.example", "name": f"API {n}", "scopes": {"read": "Read", "write": "Write"},
            "labels": ["confidential"] if n % 3 == 0 else [], "scope_labels": {}, "client_id": f"rsc_{n:022}", "created_at": now,
        }  # fmt: skip


def _clients(count: int, now: int) -> Iterator[dict[str, Any]]:
    for n in range(count):
        yield {"client_id": f"agc_{n:022}", "kind": "agent", "name": f"Agent {n}", "auth_method": "private_key_jwt", "created_at": now}


def _agents(count: int, people: int, issuer: str, now: int) -> Iterator[dict[str, Any]]:
    for n in range(count):
        mine = [[f"https://api-{(n + k) % APIS}.crowd.example", scope] for k in range(3) for scope in ("read", "write")]
        yield {
            "id": f"agt_{n:022}", "uri": f"{issuer}/agents/agt_{n:022}", "client_id": f"agc_{n:022}", "name": f"Agent {n * 7919 % count:05}",
            "owner": f"hum_{n % people:022}", "purpose": "Does a part of the work of many", "state": "active", "ceiling": mine, "own": [],
            "hands_to": [f"agt_{(n + 1) % count:022}"], "created_at": now,
        }  # fmt: skip


def _uses(count: int, issuer: str, now: int) -> Iterator[dict[str, Any]]:
    for n in range(count):
        via = f"{issuer}/agents/agt_{(n - 1) % count:022}" if n % 4 == 0 else ""
        for scope in ("read", "write"):
            yield {
                "agent": f"{issuer}/agents/agt_{n:022}", "via": via, "resource": f"https://api-{n % APIS}.crowd.example", "scope": scope,
                "tokens": n % 50 + 1, "first_at": now - 86_400, "last_at": now - n % 3_000_000,
            }  # fmt: skip


def _consents(count: int, agents: int, people: int, now: int) -> dict[Any, list[dict[str, Any]]]:
    rows: dict[Any, list[dict[str, Any]]] = {FootingRow: [], FootingThingRow: [], ConsentRow: [], TaskRow: []}
    for n in range(count):
        human, agent, client = f"hum_{n % people:022}", f"agt_{n % agents:022}", f"agc_{n % agents:022}"
        born = {"deployment:1": 0, f"human:{human}": 0, f"client:{client}": 0, f"agent:{agent}": 0}
        name, identifier = footing_id({**born, "n": n}, 0), f"con_{n:022}"
        rows[FootingRow].append({"id": name, "generation": 0, "until": now + 9_000_000})
        for thing, epoch in born.items():
            kind, _, one = thing.partition(":")
            rows[FootingThingRow].append({"kind": kind, "id": one, "footing": name, "epoch": epoch})
        pairs = [[f"https://api-{(n + k) % APIS}.crowd.example", "read"] for k in range(3)]
        rows[ConsentRow].append({
            "id": identifier, "human": human, "client_id": client, "agent": agent, "pairs": pairs, "depth": 4, "away": True, "given_at": now - n % 9000,
            "until": now + 8_000_000, "auth_time": now, "acr": "", "amr": [], "redirect_uri": "", "shown": "", "born": born, "footing": name,
        })  # fmt: skip
        rows[TaskRow].append({
            "id": f"tsk_{n:022}", "consent": identifier, "human": human, "agent": agent, "generation": 1, "opened_at": now, "deadline": now + 9000,
            "uses": n % 9,
        })  # fmt: skip
    return rows


def _entry(n: int, at: int, agents: int, people: int, issuer: str) -> tuple[dict[str, Any], dict[str, Any]]:
    agent, human = f"{issuer}/agents/agt_{n * 13 % agents:022}", f"hum_{n * 7 % people:022}"
    event, outcome = (
        ("token.refused", "deny") if n % 50 == 0 else ("token.first_used", "done") if n % 3 == 0 else ("token.issued", "permit")
    )
    if n % 1009 == 0:
        event, outcome = "consent.withdrawn", "done"
    columns = {
        "id": str(uuid.UUID(int=n + (7 << 76) + (2 << 62) + (at << 80))), "at": at, "event": event, "outcome": outcome, "human": human, "agent": agent,
        "client_id": f"agc_{n * 13 % agents:022}", "consent": f"con_{n * 11 % 1000:022}", "task": f"tsk_{n * 11 % 1000:022}",
        "jti": None if event == "token.refused" else f"tok_{n:022}",
    }  # fmt: skip
    facts: dict[str, Any] = {
        "v": 1, "id": columns["id"], "at": at, "event": event, "outcome": outcome,
        "who": {"actors": [agent], "human": human, "client": columns["client_id"]}, "consent": columns["consent"], "task": columns["task"],
    }  # fmt: skip
    if columns["jti"]:
        facts["jti"] = columns["jti"]
    if event == "token.issued":
        facts |= {
            "audience": TARGET, "scope": {TARGET: ["read"]}, "token": "access_token", "grant_type": "x", "asked": {}, "expires_at": at // 1000 + 300,
            "evidence": {"scope": {TARGET: ["read"]}, "end": at // 1000 + 300, "depth": 1},
            "question": {"action": "issue", "agent": agent, "owner": human, "target": TARGET, "target_owner": "", "target_labels": [], "context": {"scopes": ["read"]}},
        }  # fmt: skip
    elif event == "token.refused":
        facts |= {"error": "invalid_scope", "layer": "scope", "reason": "asked for more", "grant_type": "x", "asked": {}}
    elif event == "token.first_used":
        facts["resource"] = TARGET
    return facts, columns
