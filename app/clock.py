"""The one module that reads the clock. Everything is UTC; whole seconds only where the wire has them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

SKEW = 5
"""Seconds by which another party's clock may run ahead of ours."""


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def timestamp() -> int:
    """The present moment in whole seconds since 1970, as `iat` and `exp` count."""
    return int(time.time())


def milliseconds() -> int:
    """The present moment in milliseconds since 1970, as the ledger counts."""
    return time.time_ns() // 1_000_000


def at(seconds: float) -> datetime:
    """The aware datetime of a number of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def monotonic() -> float:
    """Seconds on a clock that never steps; for deadlines and waiting, not for dates."""
    return time.monotonic()
