"""The stage in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import KEY
from tests.model.stage import InThisProcess, settings_of
from tests.valkey import valkey


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[InThisProcess]:
    with valkey() as redis:
        made = InThisProcess(settings_of(tmp_path, redis, KEY))
        with made.own_clock():
            yield made
        made.close()
