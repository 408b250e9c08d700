"""kill -9 of what a node runs, in the middle of load: no wrong answer, then well again by itself."""

from __future__ import annotations

import time

import pytest

from tests.faults.afterwards import all_dead, check_ledger
from tests.faults.load import Cast, Load
from tests.faults.node import Node, until

pytestmark = pytest.mark.served


def test_the_relay_is_killed(served: Node, everybody: Cast) -> None:
    load = Load(everybody)
    with load.running():
        served.kill_child("relay")
        load.settle()
    check_ledger(served, everybody.api, load.issued, every=True)


def test_valkey_is_killed(served: Node, everybody: Cast) -> None:
    load = Load(everybody)
    with load.running():
        load.lossy = True
        before = list(load.issued)
        served.kill_child("valkey")
        load.settle()
    all_dead(served, everybody.api, before[:50])
    assert check_ledger(served, everybody.api, load.issued, every=False)


def test_a_worker_is_killed(served: Node, everybody: Cast) -> None:
    load = Load(everybody)
    with load.running():
        load.unreachable_allowed = True
        victim = served.workers()[0]
        served.kill(victim)
        until(lambda: len(w := served.workers()) == 2 and victim not in w, "another worker")
        load.settle()
    check_ledger(served, everybody.api, load.issued, every=True)
    if not load.refresh_known:
        everybody.renew()


def test_the_master_is_killed(served: Node, everybody: Cast) -> None:
    load = Load(everybody)
    with load.running():
        load.unreachable_allowed = True
        served.kill_child("web")
        load.settle()
        time.sleep(0.5)
    check_ledger(served, everybody.api, load.issued, every=True)
    if not load.refresh_known:
        everybody.renew()
