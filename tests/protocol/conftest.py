"""Time that tests of the protocol may move."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from app import clock
from tests import world

Later = Callable[[int], None]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Moves everybody's clock: `later(61)` is a minute and a second from now, until the test ends."""

    def move(seconds: int) -> None:
        def moved() -> float:
            return time.time() + seconds

        monkeypatch.setattr(clock, "timestamp", lambda: int(moved()))
        monkeypatch.setattr(world, "time", SimpleNamespace(time=moved, monotonic=time.monotonic, sleep=time.sleep))

    return move
