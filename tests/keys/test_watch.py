"""Asking without hanging."""

from __future__ import annotations

import threading
import time

from app.errors import TemporarilyUnavailable
from app.keys.watch import Watch


def test_a_question_is_asked_once_for_all_who_wait() -> None:
    asked: list[float] = []

    def ask() -> None:
        asked.append(time.monotonic())
        time.sleep(0.05)

    watch = Watch(ask, patience=5)
    moment = time.monotonic()
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(watch.answered_since(moment))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    assert len(asked) == 1


def test_an_answer_to_an_older_question_is_not_enough() -> None:
    count = 0

    def ask() -> None:
        nonlocal count
        count += 1

    watch = Watch(ask)
    assert watch.answered_since(time.monotonic())
    assert watch.answered_since(time.monotonic())
    assert count == 2
    assert watch.answered_since(0)
    assert count == 2


def test_a_question_that_hangs_costs_the_patience_once() -> None:
    hanging = threading.Event()

    def ask() -> None:
        hanging.wait(30)

    watch = Watch(ask, patience=0.1)
    began = time.monotonic()
    for _ in range(1000):
        assert not watch.answered_since(began)
    # A thousand times the patience would be 100 s.
    assert 0.1 < time.monotonic() - began < 10
    hanging.set()
    deadline = time.monotonic() + 5
    while not watch.answered_since(began):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_after_a_failure_it_is_asked_in_the_background_until_it_is_answered() -> None:
    count = 0

    def ask() -> None:
        nonlocal count
        count += 1
        if count < 4:
            raise TemporarilyUnavailable("away")

    watch = Watch(ask, patience=5, pause=0.01)
    moment = time.monotonic()
    assert not watch.answered_since(moment)
    deadline = time.monotonic() + 5
    while not watch.answered_since(moment):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert count == 4


def test_a_database_that_is_away_is_not_asked_more_often_than_the_pause() -> None:
    count = 0

    def ask() -> None:
        nonlocal count
        count += 1
        raise TemporarilyUnavailable("away")

    watch = Watch(ask, patience=5, pause=10)
    for _ in range(1000):
        assert not watch.answered_since(time.monotonic())
    assert count == 1
