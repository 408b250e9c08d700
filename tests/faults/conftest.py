"""One node for each file of faults: every test hurts it, and leaves it well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.alone import Alone, alone
from tests.faults.load import Cast, cast
from tests.faults.node import Node, node
from tests.valkey import valkey


@pytest.fixture(scope="module")
def served() -> Iterator[Node]:
    with node() as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def everybody(served: Node) -> Cast:
    return cast(served)


@pytest.fixture(scope="session")
def spare_redis() -> Iterator[str]:
    with valkey() as url:
        yield url


@pytest.fixture
def by_itself(spare_redis: str, tmp_path: Path) -> Iterator[Alone]:
    with alone(spare_redis, tmp_path) as made:
        yield made
