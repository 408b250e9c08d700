"""What a worker may keep of SQL: rows by id with their version. Never absence, never the answer "alive"."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, and_
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.live.commit import Live
from app.live.models import ThingRow
from app.live.things import Kind, Reading, Thing

T = TypeVar("T")


class Held(NamedTuple, Generic[T]):
    """A value, the thing it is of, and the epoch and version it was read at, in one statement."""

    value: T
    thing: Thing
    reading: Reading


def versions_of(*read: Held[Any] | None) -> dict[Thing, int]:
    """At which versions these were read: a commit that is given them passes only where none has moved since."""
    return {held.thing: held.reading.version for held in read if held is not None}


class Cache(Generic[T]):
    """Values by key. Every use is compared with Redis at commit; a moved version drops the entry."""

    def __init__(self, live: Live, load: Callable[[Session, str], Held[T] | None], *, size: int = 10_000) -> None:
        self._database = live.database
        self._load = load
        self._size = size
        self._held: OrderedDict[str, Held[T]] = OrderedDict()
        self._keys: dict[Thing, str] = {}
        self._lock = threading.Lock()
        live.caches.append(self)

    def find(self, key: str) -> Held[T] | None:
        """The value, from memory or SQL. None is asked of SQL every time."""
        held = self._held.get(key)
        if held is not None:
            return held
        if "\x00" in key:
            # No key of ours, and PostgreSQL refuses to be asked about it.
            return None
        with self._database.reading() as session:
            held = self._load(session, key)
        if held is not None:
            with self._lock:
                self._held[key] = held
                self._keys[held.thing] = key
                while len(self._held) > self._size:
                    _key, oldest = self._held.popitem(last=False)
                    self._keys.pop(oldest.thing, None)
        return held

    def recall(self, key: str) -> Held[T] | None:
        """The value, from memory alone."""
        return self._held.get(key)

    def drop(self, key: str) -> None:
        """Drop the entry under a key, so that the next look asks SQL."""
        held = self._held.get(key)
        if held is not None:
            self.forget(held.thing)

    def forget(self, thing: Thing) -> None:
        """Drop the entry of a thing that moved."""
        with self._lock:
            key = self._keys.pop(thing, None)
            if key is not None:
                self._held.pop(key, None)


def beside(kind: Kind, identifier: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """The join condition that puts a thing's epoch and version beside its row: both in one statement."""
    return and_(ThingRow.kind == kind.value, ThingRow.id == identifier)
