"""What something was born on: the things it hangs on and their epochs then, kept so that SQL alone can say who still stands.

Tokens and consents born on the same things under the same epochs share one footing. It never changes; it falls when the
epoch of one of its things moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import orjson
from sqlalchemy import BigInteger, ColumnElement, Index, Integer, Select, String, delete, exists, func, insert, select, update
from sqlalchemy.orm import InstrumentedAttribute, Mapped, Session, aliased, mapped_column

from app.database import Base
from app.live.models import MovementRow, ThingRow
from app.live.things import Thing

LEEWAY = 900
"""Seconds a footing is kept beyond what stands on it, so that it is not written anew with every token."""

CHUNK = 500
"""Identifiers in one statement."""


class FootingRow(Base):
    """One footing. Its id is a hash of what is in it."""

    __tablename__ = "footing"
    __table_args__ = (Index("ix_footing_until", "until"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    generation: Mapped[int] = mapped_column(Integer)
    """Of the live state, for tokens; 0 for what outlives a generation."""
    until: Mapped[int] = mapped_column(BigInteger)
    """Seconds since 1970: nothing on it lasts longer."""


class FootingThingRow(Base):
    """One thing of a footing, and its epoch at birth."""

    __tablename__ = "footing_thing"
    __table_args__ = (Index("ix_footing_thing_footing", "footing"),)

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    footing: Mapped[str] = mapped_column(String(32), primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer)


def footing_id(epochs: Mapping[str, int], generation: int) -> str:
    """The id of a footing; `epochs` as `stored_epochs` writes them."""
    return sha256(orjson.dumps([generation, epochs], option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


class Footing:
    """A footing to be written: what is on it lasts until a second since 1970."""

    __slots__ = ("epochs", "generation", "id", "until")

    def __init__(self, epochs: Mapping[str, int], generation: int, until: int) -> None:
        self.id = footing_id(epochs, generation)
        self.epochs = epochs
        self.generation = generation
        self.until = until


def write(session: Session, footings: Iterable[Footing]) -> None:
    """Write footings that are not there yet and keep the others long enough. Raises ValueError for what names no thing."""
    wanted: dict[str, Footing] = {}
    for one in footings:
        if one.id not in wanted or wanted[one.id].until < one.until:
            wanted[one.id] = one
    held: dict[str, int] = {}
    for chunk in chunks(wanted):
        found = session.execute(select(FootingRow.id, FootingRow.until).where(FootingRow.id.in_(chunk)))
        held |= {row.id: row.until for row in found}
    new = [one for one in wanted.values() if one.id not in held]
    things = []
    for one in new:
        for name, epoch in one.epochs.items():
            thing = Thing.parse(name)
            things.append({"kind": thing.kind.value, "id": thing.id, "footing": one.id, "epoch": int(epoch)})
    if new:
        session.execute(insert(FootingRow), [{"id": f.id, "generation": f.generation, "until": f.until + LEEWAY} for f in new])
    if things:
        session.execute(insert(FootingThingRow), things)
    for one in wanted.values():
        if held.get(one.id, one.until) < one.until:
            session.execute(update(FootingRow).where(FootingRow.id == one.id).values(until=one.until + LEEWAY))


def trim(session: Session, now: int, most: int) -> int:
    """Forget up to `most` footings on which nothing can stand any more. Returns how many."""
    gone = list(session.scalars(select(FootingRow.id).where(FootingRow.until < now).limit(most)))
    for chunk in chunks(gone):
        session.execute(delete(FootingThingRow).where(FootingThingRow.footing.in_(chunk)))
        session.execute(delete(FootingRow).where(FootingRow.id.in_(chunk)))
    return len(gone)


def on(kind: str, ids: Iterable[str] | Select[str]) -> Select[str]:
    """Footings that hang on any of these things of a kind."""
    which = FootingThingRow.id.in_(ids if isinstance(ids, Select) else list(ids))
    return select(FootingThingRow.footing).where(FootingThingRow.kind == kind, which)


def fallen(footing: InstrumentedAttribute[Any], since: int | None = None) -> ColumnElement[bool]:
    """Whether a footing has fallen; with `since`, whether it had before the movement of that number."""
    held = aliased(FootingThingRow)
    return exists().where(held.footing == footing, *_moved(held, since))


def among_the_fallen(footing: InstrumentedAttribute[Any], since: int | None = None) -> ColumnElement[bool]:
    """The same, for very many footings: what has fallen is looked for first, and once."""
    held = aliased(FootingThingRow)
    return func.coalesce(footing, "").in_(select(held.footing).where(*_moved(held, since)))


def _moved(held: type[FootingThingRow], since: int | None) -> Iterable[ColumnElement[bool]]:
    """That a thing's epoch is another than at the birth of the footing.

    An end moves an epoch by one, so what a footing fell by is the movement to the epoch after the one of its birth.
    """
    now = aliased(ThingRow)
    yield from (now.kind == held.kind, now.id == held.id, now.epoch > held.epoch, now.epoch > 0)
    if since is not None:
        yield ~exists().where(
            MovementRow.seq >= since,
            MovementRow.kind == held.kind,
            MovementRow.id == held.id,
            MovementRow.epoch == held.epoch + 1,
        )


def chunks(ids: Iterable[str]) -> Iterable[list[str]]:
    """The same in pieces that fit into a statement."""
    every = list(ids)
    return (every[start : start + CHUNK] for start in range(0, len(every), CHUNK))
