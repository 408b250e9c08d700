"""The ledger explorer: search, one entry, one decision explained with its chain of custody, an export."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlencode

import orjson
from flask import Blueprint, Response
from werkzeug.exceptions import NotFound as NoSuchPage

from app import clock
from app.admin.desk import HERE, Desk, number, text
from app.agents.registry import AgentRegistry
from app.audit.events import CATALOGUE
from app.errors import NotFound, Refused
from app.humans.accounts import Accounts
from app.ledger.queries import Queries
from app.oversight.explain import Explain
from app.oversight.explorer import Explorer, Wanted
from app.oversight.governance import Duty, Officer
from app.oversight.words import brief, layer_words, reach
from app.vocabulary import Outcome
from app.web.pages import see_other

RECORD_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
FILTERS = ("event", "outcome", "human", "agent", "consent", "task", "jti", "since", "until")
KINDS = {"tok_": "jti", "con_": "consent", "tsk_": "task", "hum_": "human"}
"""What an identifier is by how it begins."""


def blueprint(desk: Desk, explorer: Explorer, explain: Explain, queries: Queries, accounts: Accounts, agents: AgentRegistry) -> Blueprint:
    """The pages of the ledger."""
    pages = desk.blueprint("ledger", __name__)

    @pages.get("/ledger")
    def index() -> Response:
        officer = desk.officer()
        if (found := text("q")) and (target := _go_to(found, explorer)):
            return see_other(target)
        asked = {name: text(name) for name in FILTERS}
        problem = ""
        try:
            wanted = _wanted(officer, asked, accounts, agents)
        except Refused as refused:
            wanted, problem = Wanted(before=1), f"{str(refused).capitalize()}."
            # A field for days takes nothing else.
            asked |= {name: "" for name in ("since", "until") if not DAY.fullmatch(asked[name])}
        page = explorer.page(wanted)
        kept = {name: value for name, value in asked.items() if value}
        older = f"{HERE}/ledger?{urlencode({**kept, 'before': page.older})}" if page.older else ""
        return desk.render(
            "ledger.html",
            400 if problem else 200,
            page=page,
            asked=asked,
            older=older,
            filtered=bool(kept),
            events=[event.name for event in CATALOGUE],
            outcomes=list(Outcome),
            soundness=explorer.soundness() if officer.sees_all and not kept and wanted.before is None else None,
            problem=problem,
        )

    @pages.get("/ledger/<int:seq>")
    def entry(seq: int) -> Response:
        told = explorer.entry(seq, desk.officer().sees_only) if 0 < seq < 2**53 else None
        if told is None:
            raise NoSuchPage
        record = orjson.dumps(told.entry.record, option=orjson.OPT_INDENT_2).decode()
        return desk.render("entry.html", told=told, text=record)

    @pages.get("/explain")
    def explained() -> Response:
        officer, reference = desk.officer(), text("ref", 100)
        try:
            found = explain.of(reference)
        except NotFound:
            return desk.render("explain.html", 404, found=None, reference=reference)
        if not officer.sees_all:
            actors = found.entry.record["who"].get("actors") or [""]
            officer.check(Duty.READ, agents.owner_of(actors[0]))
        return desk.render(
            "explain.html",
            found=found,
            reference=reference,
            layer_words=layer_words,
            reach=lambda scope: reach(scope, found.names),
            told=lambda one: brief(one.record, found.names),
            at=lambda one: one.record["at"] // 1000,
        )

    @pages.get("/ledger/export")
    def export() -> Response:
        desk.officer().check(Duty.READ_ALL)
        first = number("from") or 1
        name = f"ledger-{clock.at(clock.timestamp()):%Y%m%d-%H%M%S}.jsonl"
        answer = Response(_flow(queries, first), content_type="application/jsonl")
        answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return answer

    return pages


def _flow(queries: Queries, first: int) -> Iterator[bytes]:
    yield from queries.export(first)


def _go_to(found: str, explorer: Explorer) -> str | None:
    """Where a search for one thing leads."""
    if RECORD_ID.fullmatch(found):
        seq = explorer.named(found)
        return f"{HERE}/ledger/{seq}" if seq is not None else f"{HERE}/explain?{urlencode({'ref': found})}"
    if found.isascii() and found.isdigit() and len(found) < 16:
        return f"{HERE}/ledger/{int(found)}"
    if found.startswith("tok_"):
        return f"{HERE}/explain?{urlencode({'ref': found})}"
    kind = next((kind for begins, kind in KINDS.items() if found.startswith(begins)), "agent" if "/agents/" in found else "human")
    return f"{HERE}/ledger?{urlencode({kind: found})}"


def _wanted(officer: Officer, asked: dict[str, str], accounts: Accounts, agents: AgentRegistry) -> Wanted:
    """The filter as the ledger knows it: people by id, agents by URI. Raises `Refused` for what names nobody."""
    human, agent = asked["human"], asked["agent"]
    if human:
        known = accounts.find_by_username(human) or accounts.find(human)
        if known is None:
            raise Refused(f"nobody is called {human}")
        human = known.id
    if agent:
        try:
            agent = agents.get(agent).uri
        except NotFound as error:
            raise Refused(str(error)) from None
    return Wanted(
        event=asked["event"] or None,
        outcome=asked["outcome"] or None,
        human=human or None,
        agent=agent or None,
        consent=asked["consent"] or None,
        task=asked["task"] or None,
        jti=asked["jti"] or None,
        before=number("before"),
        since=_day(asked["since"]),
        until=_day(asked["until"], 1),
        agents_of=officer.sees_only,
    )


def _day(given: str, later: int = 0) -> int | None:
    """Midnight of a day, UTC, some days later."""
    if not given:
        return None
    try:
        return int(datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) + later * 86_400
    except ValueError:
        raise Refused("a day is written 2026-12-31") from None
