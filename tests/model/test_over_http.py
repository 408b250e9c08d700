"""The machine against the model over HTTP: a node with several workers, its own relay, and the clock of the world.

An ordinary run of the tests plays some 500 steps, the same ones each time; `make soak` plays 1,000 (MACHINE_STEPS_OVER_HTTP:
so many) and 2,000.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.faults.node import node
from tests.model.running import run
from tests.model.stage import OverTheWire

SHARE = 500
"""What an ordinary run of the tests plays; less than a minute."""

STEPS = int(os.environ.get("MACHINE_STEPS_OVER_HTTP", "1000"))

LONG = 2000


@pytest.fixture
def wire() -> Iterator[OverTheWire]:
    with node(workers=2, threads=2) as served:
        served.start()
        yield OverTheWire(served)


@pytest.mark.served
def test_a_share_of_it_over_http(wire: OverTheWire) -> None:
    run(wire, SHARE)


@pytest.mark.soak
@pytest.mark.served
def test_whatever_is_done_in_whatever_order_the_promises_hold_over_http(wire: OverTheWire) -> None:
    run(wire, STEPS)


@pytest.mark.soak
@pytest.mark.served
def test_they_hold_over_http_for_a_long_time(wire: OverTheWire) -> None:
    wire.flushes, wire.restarts = 10, 20
    run(wire, LONG)
