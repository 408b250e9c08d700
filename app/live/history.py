"""What running tasks have touched: a set of labels each, in Redis, remembered by workers with its size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from app.live.commit import Live, Touch, history_name
from app.live.things import Kind, Thing


class History(NamedTuple):
    """The labels a task has touched in this generation. Labels are only added, so `size` tells whether it has moved."""

    labels: frozenset[str] = frozenset()
    size: int = 0


class Histories:
    """Histories by task. A stale one is found out at the commit, which compares the size."""

    def __init__(self, live: Live, *, size: int = 10_000) -> None:
        self._live = live
        self._size = size
        self._held: OrderedDict[tuple[int, str], History] = OrderedDict()
        self._lock = threading.Lock()
        live.caches.append(self)

    def of(self, task: str, *, certain: bool = False) -> History:
        """The history of a task; `certain`: as Redis has it now."""
        key = (self._live.generation().number, task)
        held = None if certain else self._held.get(key)
        if held is not None:
            return held
        labels = self._live.members(history_name(task))
        held = History(labels, len(labels))
        with self._lock:
            self._held[key] = held
            while len(self._held) > self._size:
                self._held.popitem(last=False)
        return held

    def touched(self, tasks: Sequence[str]) -> frozenset[str]:
        """What any of these tasks has touched, as Redis has it now."""
        return self._live.union(map(history_name, tasks)) if tasks else frozenset()

    def grown(self, touch: Touch) -> None:
        """What a commit of this worker has just added: it compared the size, so nothing else was added meanwhile."""
        key = (self._live.generation().number, touch.task)
        with self._lock:
            held = self._held.get(key)
            if held is not None and held.size == touch.size:
                self._held[key] = History(held.labels | frozenset(touch.labels), held.size + len(touch.labels))

    def forget(self, thing: Thing) -> None:
        """Drop the history of a task that moved."""
        if thing.kind is Kind.TASK:
            with self._lock:
                self._held.pop((self._live.generation().number, thing.id), None)
