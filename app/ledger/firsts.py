"""What an agent did for a human for the first time: kept by the relay, in the batch of the entries that say so."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import orjson
from sqlalchemy import BigInteger, Index, String, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.audit.events import TokenIssued
from app.database import Base

KNOWN = 50_000
"""First times a relay remembers, so that what happens every minute asks SQL nothing."""

AGENT_WIDTH, WHAT_WIDTH = 300, 500


class FirstKind(StrEnum):
    """What can be new about what an agent does for a human."""

    RESOURCE = "resource"
    """It got access to this API."""
    HAND_OVER = "hand_over"
    """It handed work to this agent."""
    ALONE = "alone"
    """It came back without her."""


class FirstRow(Base):
    """The first time an agent did something of a kind in a human's name. `seen_at`: when she said that she knows."""

    __tablename__ = "first_time"
    __table_args__ = (Index("ix_first_time_human_seen_at_seq", "human", "seen_at", "seq"),)

    human: Mapped[str] = mapped_column(String(64), primary_key=True)
    agent: Mapped[str] = mapped_column(String(AGENT_WIDTH), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    what: Mapped[str] = mapped_column(String(WHAT_WIDTH), primary_key=True)
    """URI of the API or agent; empty for what needs none."""
    seq: Mapped[int] = mapped_column(BigInteger)
    """The entry of the ledger that says so."""
    at: Mapped[int] = mapped_column(BigInteger)
    """Seconds since 1970."""
    seen_at: Mapped[int | None] = mapped_column(BigInteger, default=None)


class First(NamedTuple):
    """What would be a first time, were it not there yet."""

    human: str
    agent: str
    kind: FirstKind
    what: str


WRITE = text(
    "INSERT INTO first_time (human, agent, kind, what, seq, at) VALUES (:human, :agent, :kind, :what, :seq, :at) "
    "ON CONFLICT (human, agent, kind, what) DO NOTHING"
)


class Firsts:
    """Finds what is new in the entries of one relay."""

    def __init__(self) -> None:
        self._known: OrderedDict[First, None] = OrderedDict()

    def enter(self, session: Session, entries: Iterable[Mapping[str, Any]]) -> list[First]:
        """Write what is new, in the transaction that writes the entries. Returns what to `remember` once it has committed."""
        found: dict[First, dict[str, Any]] = {}
        for entry in entries:
            if entry["event"] != TokenIssued.name or not entry["human"] or not entry["agent"]:
                continue
            for first in of(orjson.loads(entry["record"])):
                if first not in self._known:
                    found.setdefault(first, {**first._asdict(), "seq": entry["seq"], "at": entry["at"] // 1000})
        if found:
            # In one order, so that two relays cannot stand across.
            session.execute(WRITE, [found[first] for first in sorted(found)])
        return list(found)

    def remember(self, firsts: Iterable[First]) -> None:
        """They are in SQL, whoever wrote them."""
        for first in firsts:
            self._known[first] = None
        while len(self._known) > KNOWN:
            self._known.popitem(last=False)


def of(record: Mapping[str, Any]) -> Iterator[First]:
    """What a record of an issued token would be the first time of. Nothing for a record that is not of ours."""
    who = record["who"]
    actors = who.get("actors")
    human, audience = _fitting(who.get("human"), 64), _fitting(record.get("audience"), WHAT_WIDTH)
    agent = _fitting(actors[0], AGENT_WIDTH) if isinstance(actors, list) and actors else None
    if human is None or agent is None or audience is None:
        return
    if record.get("token") == "access_token":
        yield First(human, agent, FirstKind.RESOURCE, audience)
    if record.get("token") == "handover" and audience != agent:
        yield First(human, agent, FirstKind.HAND_OVER, audience)
    if came_alone(record):
        yield First(human, agent, FirstKind.ALONE, "")


def came_alone(record: Mapping[str, Any]) -> bool:
    """Whether an agent came with nothing but its own key and what its human allowed while away, and no sign-in of hers behind it."""
    grant = str(record.get("grant_type"))
    again = grant.endswith("refresh_token") or (grant.endswith("token-exchange") and "parent" not in record)
    return bool(again and record.get("consent") and "session" not in record and record["who"].get("actors"))


def _fitting(value: object, width: int) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= width and value.isprintable() else None
