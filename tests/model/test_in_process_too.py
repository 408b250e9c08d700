"""The other half of what `test_in_process` plays: other programs, for another process of the run."""

from __future__ import annotations

import pytest

from tests.model.running import HALF, MEETS, run
from tests.model.stage import InThisProcess


@pytest.mark.minutes
def test_they_hold_in_other_orders_too(stage: InThisProcess) -> None:
    run(stage, HALF, meets=MEETS if HALF >= 5000 else frozenset(), name="OtherMachine")
