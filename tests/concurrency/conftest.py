"""One node for all tests here; each brings its own people."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.node import Node, node


@pytest.fixture(scope="session")
def node_of_two_workers() -> Iterator[Node]:
    with node(workers=2) as made:
        made.start()
        yield made
