"""The machine against the model over HTTP: a node with several workers, its own relay, and the clock of the world.

An ordinary run of the tests plays 2,000 steps (MACHINE_STEPS_OVER_HTTP: so many), the same ones each time; `make soak` plays
10,000, in which Redis is emptied and workers are killed more often.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.faults.node import node
from tests.model.running import run
from tests.model.stage import OverTheWire

STEPS = int(os.environ.get("MACHINE_STEPS_OVER_HTTP", "2000"))
LONG = 10_000


@pytest.fixture
def wire() -> Iterator[OverTheWire]:
    with node(workers=2, threads=2) as served:
        served.start()
        yield OverTheWire(served)


@pytest.mark.minutes
@pytest.mark.served
def test_whatever_is_done_in_whatever_order_the_promises_hold_over_http(wire: OverTheWire) -> None:
    run(wire, STEPS)


@pytest.mark.soak
@pytest.mark.served
def test_they_hold_over_http_for_a_long_time(wire: OverTheWire) -> None:
    wire.flushes, wire.restarts = 10, 20
    run(wire, LONG)
