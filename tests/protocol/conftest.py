"""Time that tests of the protocol may move."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from app import clock

Later = Callable[[int], None]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Moves the server's clock: `later(61)` is a minute and a second from now, until the test ends."""

    def move(seconds: int) -> None:
        monkeypatch.setattr(clock, "timestamp", lambda: int(time.time()) + seconds)

    return move
