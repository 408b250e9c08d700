"""The machine against the model: two applications with caches of their own over one state, and a clock that is moved.

A failure prints the program that led to it, line by line. An ordinary run of the tests plays 20,000 steps (MACHINE_STEPS:
so many), the same ones each time; `make soak` plays 200,000.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.conftest import KEY
from tests.model.running import MEETS, run
from tests.model.stage import InThisProcess, settings_of
from tests.valkey import valkey

STEPS = int(os.environ.get("MACHINE_STEPS", "20000"))
LONG = 200_000


@pytest.fixture
def stage(tmp_path) -> Iterator[InThisProcess]:
    with valkey() as redis:
        made = InThisProcess(settings_of(tmp_path, redis, KEY))
        yield made
        made.close()


@pytest.mark.minutes
def test_whatever_is_done_in_whatever_order_the_promises_hold(stage: InThisProcess) -> None:
    with stage.own_clock():
        run(stage, STEPS, meets=MEETS if STEPS >= 5000 else frozenset())


@pytest.mark.soak
def test_they_hold_for_a_long_time(stage: InThisProcess) -> None:
    with stage.own_clock():
        run(stage, LONG, meets=MEETS)
