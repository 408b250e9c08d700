"""What was issued and has not run out, and what each agent ever got: kept by the relay, in the batch of the entries that say so.

The ledger is the truth; these rows make two questions cheap: how much would a deed end, and what of what is allowed was used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import BigInteger, Index, Integer, String, delete, insert, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.audit.events import TokenIssued, TokenNotDelivered
from app.database import Base
from app.live import footing
from app.live.footing import Footing
from app.live.things import Thing
from app.vocabulary import SCOPE_TOKEN

GRACE = 60
"""Seconds past its end that a token's row is kept: clocks differ."""

MOST = 5000
"""Rows forgotten in one transaction."""

WIDEST = 64
"""Things or ancestors of one token. Ours have far fewer: a longer list was written by somebody else."""


class LiveTokenRow(Base):
    """A token that has not run out. Whether it is dead nevertheless is for its footing and the denied tokens to say."""

    __tablename__ = "live_token"
    __table_args__ = (Index("ix_live_token_footing", "footing", "expires_at"), Index("ix_live_token_expires_at", "expires_at"))

    jti: Mapped[str] = mapped_column(String(64), primary_key=True)
    footing: Mapped[str] = mapped_column(String(32))
    seq: Mapped[int] = mapped_column(BigInteger)
    """The entry that says it was issued."""
    expires_at: Mapped[int] = mapped_column(BigInteger)


class AncestorRow(Base):
    """A token was derived from another, however far back."""

    __tablename__ = "token_ancestor"
    __table_args__ = (Index("ix_token_ancestor_expires_at", "expires_at"),)

    ancestor: Mapped[str] = mapped_column(String(64), primary_key=True)
    jti: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[int] = mapped_column(BigInteger)


class AgentUseRow(Base):
    """An agent got tokens with this scope for this API, the work having come from the agent `via` (empty: from a human, or itself)."""

    __tablename__ = "agent_use"
    __table_args__ = (Index("ix_agent_use_via", "via"), Index("ix_agent_use_last_at", "last_at"))

    agent: Mapped[str] = mapped_column(String(300), primary_key=True)
    via: Mapped[str] = mapped_column(String(300), primary_key=True)
    resource: Mapped[str] = mapped_column(String(500), primary_key=True)
    scope: Mapped[str] = mapped_column(String(100), primary_key=True)
    tokens: Mapped[int] = mapped_column(Integer)
    first_at: Mapped[int] = mapped_column(BigInteger)
    """Seconds since 1970, and so is `last_at`."""
    last_at: Mapped[int] = mapped_column(BigInteger)


USE = text(
    "INSERT INTO agent_use (agent, via, resource, scope, tokens, first_at, last_at) "
    "VALUES (:agent, :via, :resource, :scope, :tokens, :first_at, :last_at) ON CONFLICT (agent, via, resource, scope) "
    "DO UPDATE SET tokens = agent_use.tokens + excluded.tokens, last_at = excluded.last_at"
)


@dataclass(frozen=True, slots=True)
class Issued:
    """What a record says of a token, as far as these rows need it."""

    jti: str
    seq: int
    at: int
    expires_at: int
    generation: int
    hangs_on: Mapping[str, int]
    parents: tuple[str, ...]
    actors: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    """(resource, scope) pairs of a token for an API."""


def enter(session: Session, entries: Iterable[Mapping[str, Any]]) -> None:
    """Take what these entries say, in the transaction that writes them."""
    issued: list[Issued] = []
    gone: list[str] = []
    for entry in entries:
        if entry["event"] == TokenIssued.name and (one := read(entry["seq"], orjson.loads(entry["record"]))) is not None:
            issued.append(one)
        elif entry["event"] == TokenNotDelivered.name and entry["jti"]:
            gone.append(entry["jti"])
    if issued:
        _write(session, issued)
        add_uses(session, issued)
    if gone:
        session.execute(delete(LiveTokenRow).where(LiveTokenRow.jti.in_(gone)))


def read(seq: int, record: Mapping[str, Any]) -> Issued | None:
    """What a record of an issued token says; None when somebody else wrote it, or a server that did not say it yet."""
    who = record["who"]
    hangs_on, parents, scope = record.get("hangs_on"), record.get("parents", []), record.get("scope")
    actors = who.get("actors") or []
    if not isinstance(hangs_on, dict):
        return None
    try:
        sound = (
            len(hangs_on) <= WIDEST
            and all(map(_is_held, hangs_on, hangs_on.values()))
            and _are_ids(parents, 64)
            and _are_ids(actors, 300)
            and isinstance(record["jti"], str)
            and all(type(record[name]) is int and 0 <= record[name] < 2**40 for name in ("expires_at", "generation"))
        )
    except (ValueError, KeyError):
        sound = False
    if not sound:
        return None
    pairs = tuple(_pairs(scope)) if record.get("token") == "access_token" and isinstance(scope, dict) else ()
    return Issued(
        jti=record["jti"],
        seq=seq,
        at=record["at"] // 1000,
        expires_at=record["expires_at"],
        generation=record["generation"],
        hangs_on=hangs_on,
        parents=tuple(parents),
        actors=tuple(actors),
        pairs=pairs,
    )


def trim(session: Session, now: int) -> bool:
    """Forget what has run out, a bounded piece. Returns whether there may be more."""
    over = now - GRACE
    jtis = select(LiveTokenRow.jti).where(LiveTokenRow.expires_at < over).limit(MOST)
    tokens = session.execute(delete(LiveTokenRow).where(LiveTokenRow.jti.in_(jtis))).rowcount  # type: ignore[attr-defined]
    lines = select(AncestorRow.jti).where(AncestorRow.expires_at < over).limit(MOST)
    session.execute(delete(AncestorRow).where(AncestorRow.jti.in_(lines)))
    return tokens >= MOST or footing.trim(session, over, MOST) >= MOST


def add_uses(session: Session, issued: Iterable[Issued]) -> None:
    """Count what agents got, by agent, where the work came from, API and scope."""
    uses: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for one in issued:
        if not one.actors:
            continue
        agent, via = one.actors[0], one.actors[1] if len(one.actors) > 1 else ""
        for resource, scope in one.pairs:
            held = uses.setdefault((agent, via, resource, scope), {"tokens": 0, "first_at": one.at, "last_at": one.at})
            held["tokens"] += 1
            held["last_at"] = max(held["last_at"], one.at)
    if uses:
        named = ("agent", "via", "resource", "scope")
        # In one order, so that nobody else who counts can stand across.
        session.execute(USE, [{**dict(zip(named, key, strict=True)), **uses[key]} for key in sorted(uses)])


def _write(session: Session, issued: list[Issued]) -> None:
    footings = [Footing(one.hangs_on, one.generation, one.expires_at) for one in issued]
    footing.write(session, footings)
    rows = {
        one.jti: {"jti": one.jti, "footing": under.id, "seq": one.seq, "expires_at": one.expires_at}
        for one, under in zip(issued, footings, strict=True)
    }
    # A jti is ours and fresh; one that is there already came from somebody else's hand, and the first stands.
    for chunk in footing.chunks(rows):
        for held in session.scalars(select(LiveTokenRow.jti).where(LiveTokenRow.jti.in_(chunk))):
            del rows[held]
    if rows:
        session.execute(insert(LiveTokenRow), list(rows.values()))
    lines = {
        (ancestor, one.jti): {"ancestor": ancestor, "jti": one.jti, "expires_at": one.expires_at}
        for one in issued
        if one.jti in rows
        for ancestor in one.parents
    }
    if lines:
        session.execute(insert(AncestorRow), list(lines.values()))


def _is_held(name: str, epoch: object) -> bool:
    """Whether it is a thing and an epoch. Raises ValueError for what names no thing."""
    return len(Thing.parse(name).id) <= 64 and name.isprintable() and type(epoch) is int and 0 <= epoch < 2**31


def _are_ids(given: object, width: int) -> bool:
    return (
        isinstance(given, list)
        and len(given) <= WIDEST
        and all(isinstance(one, str) and 0 < len(one) <= width and one.isprintable() for one in given)
    )


def _pairs(scope: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for resource, scopes in scope.items():
        if 0 < len(resource) <= 500 and resource.isprintable() and isinstance(scopes, list):
            yield from ((resource, s) for s in scopes if isinstance(s, str) and len(s) <= 100 and SCOPE_TOKEN.fullmatch(s))
