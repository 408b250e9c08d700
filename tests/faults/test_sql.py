"""SQL is away in the middle of load: what needs it waits its turn, what does not goes on, and nothing is said in vain."""

from __future__ import annotations

import sqlite3
import time

import pytest

from tests.faults.afterwards import check_ledger
from tests.faults.load import Cast, Load
from tests.faults.node import Node

pytestmark = pytest.mark.served


def held_by_another(served: Node, seconds: float) -> None:
    """Somebody has the database's write lock and does not give it back."""
    path = served.settings.database_url.removeprefix("sqlite:///")
    with sqlite3.connect(path, timeout=30, isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(seconds)
        other.execute("ROLLBACK")
    other.close()


@pytest.mark.parametrize("seconds", [3.0, pytest.param(20.0, marks=pytest.mark.soak)])
def test_the_database_is_locked(served: Node, everybody: Cast, seconds: float) -> None:
    load = Load(everybody)
    with load.running():
        held_by_another(served, seconds)
        load.settle()
    check_ledger(served, everybody.api, load.issued, every=True)
    assert load.refresh_known
    assert load.told["introspect 200"]
