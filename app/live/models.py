"""SQL behind the live copy: epochs and versions, numbered movements, denied tokens, the generation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from app.database import Base
from app.live.things import NEVER_MOVED, Reading, Thing


class ThingRow(Base):
    """Epoch and version of a thing that was changed at least once."""

    __tablename__ = "thing"

    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer, default=0)
    version: Mapped[int] = mapped_column(Integer, default=0)


class MovementRow(Base):
    """One change of an epoch, a version or a denied token, numbered without a gap in commit order."""

    __tablename__ = "movement"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(16))
    id: Mapped[str] = mapped_column(String(64))
    epoch: Mapped[int] = mapped_column(Integer, default=0)
    version: Mapped[int] = mapped_column(Integer, default=0)
    expires_at: Mapped[int] = mapped_column(BigInteger, default=0)
    """For a denied token: seconds since 1970 until which it must be remembered."""


class DeniedTokenRow(Base):
    """One token revoked by its `jti`."""

    __tablename__ = "denied_token"
    __table_args__ = (Index("ix_denied_token_expires_at", "expires_at"),)

    jti: Mapped[str] = mapped_column(String(64), primary_key=True)
    expires_at: Mapped[int] = mapped_column(BigInteger)


class DeploymentRow(Base):
    """The one row that numbers generations and movements; its lock orders them."""

    __tablename__ = "deployment"
    __table_args__ = (CheckConstraint("id = 1", name="only_one"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(Integer, default=0)
    since: Mapped[int] = mapped_column(BigInteger, default=0)
    """Seconds since 1970 when this generation began; 0 for the first, before which nothing was forgotten."""
    movement: Mapped[int] = mapped_column(BigInteger, default=0)
    restored: Mapped[int] = mapped_column(Integer, default=0)
    """1 when a restored backup waits for its new generation."""


def reading_of(epoch: int | None, version: int | None) -> Reading:
    """Epoch and version as an outer join gives them: no row means never moved."""
    return NEVER_MOVED if epoch is None or version is None else Reading(epoch, version)


def read_thing(session: Session, thing: Thing) -> Reading:
    """Epoch and version of a thing."""
    row = session.execute(
        select(ThingRow.epoch, ThingRow.version).where(ThingRow.kind == thing.kind.value, ThingRow.id == thing.id)
    ).one_or_none()
    return NEVER_MOVED if row is None else Reading(row.epoch, row.version)


def read_epochs(session: Session, things: Iterable[Thing]) -> dict[Thing, int]:
    """The epochs that something born now is born under."""
    return {thing: read_thing(session, thing).epoch for thing in things}


def unmoved(session: Session, born: Mapping[str, int]) -> bool:
    """Whether no epoch has moved since something was born under these, written as `stored_epochs` does."""
    return all(read_thing(session, Thing.parse(name)).epoch == epoch for name, epoch in born.items())


def stored_epochs(epochs: Mapping[Thing, int]) -> dict[str, int]:
    """Epochs as a JSON column or a claim holds them."""
    return {str(thing): epoch for thing, epoch in epochs.items()}


def parse_epochs(stored: Mapping[str, int]) -> dict[Thing, int]:
    """The inverse of `stored_epochs`. Raises ValueError for anything else."""
    return {Thing.parse(name): int(epoch) for name, epoch in stored.items()}
