"""How far the ledger is behind: what the stream holds, and whether it has been taken."""

from __future__ import annotations

from app.live.commit import Live
from app.live.generation import STREAM

Mark = tuple[int, int]
"""A place in the stream: milliseconds and a number."""


def newest(live: Live) -> Mark | None:
    """The place of what came last, or None when nothing waits. Raises `TemporarilyUnavailable`."""
    found = live.redis.call("XREVRANGE", STREAM, "+", "-", "COUNT", 1)
    return _mark(found[0][0]) if found else None


def is_taken(live: Live, mark: Mark | None) -> bool:
    """Whether everything up to that place is in the ledger: the relay forgets in Redis what SQL has committed."""
    if mark is None:
        return True
    found = live.redis.call("XRANGE", STREAM, "-", "+", "COUNT", 1)
    return not found or _mark(found[0][0]) > mark


def _mark(stream_id: bytes) -> Mark:
    milliseconds, _, number = stream_id.partition(b"-")
    return int(milliseconds), int(number)
