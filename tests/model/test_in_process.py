"""The machine against the model: two applications with caches of their own over one state, and a clock that is moved.

A failure prints the program that led to it, line by line. An ordinary run of the tests plays 20,000 steps (MACHINE_STEPS:
so many), the same ones each time, half of them in a file of their own that another process takes; `make soak` plays 200,000.
"""

from __future__ import annotations

import pytest

from tests.model.running import HALF, MEETS, run
from tests.model.stage import InThisProcess

LONG = 200_000


@pytest.mark.minutes
def test_whatever_is_done_in_whatever_order_the_promises_hold(stage: InThisProcess) -> None:
    run(stage, HALF, meets=MEETS if HALF >= 5000 else frozenset())


@pytest.mark.soak
def test_they_hold_for_a_long_time(stage: InThisProcess) -> None:
    run(stage, LONG, meets=MEETS)
