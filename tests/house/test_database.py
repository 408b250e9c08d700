"""Transactions: what fails leaves nothing open behind it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from app.database import Database
from app.errors import TemporarilyUnavailable


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(create_engine(f"sqlite:///{tmp_path}/one.sqlite", connect_args={"timeout": 1.0, "check_same_thread": False}))
    with made.transaction() as session:
        session.execute(text("CREATE TABLE one (number INTEGER)"))
    yield made
    made.close()


def test_a_commit_that_fails_does_not_leave_the_file_locked(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_connection: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as failing:
        failing.setattr(database.engine.dialect, "do_commit", full)
        with pytest.raises(TemporarilyUnavailable), database.transaction() as session:
            session.execute(text("INSERT INTO one VALUES (1)"))
    with sqlite3.connect(f"{tmp_path}/one.sqlite", timeout=1, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert other.execute("SELECT number FROM one").fetchall() == []
        other.execute("ROLLBACK")
    other.close()
    with database.transaction() as session:
        session.execute(text("INSERT INTO one VALUES (2)"))
    with database.reading() as session:
        assert session.scalars(text("SELECT number FROM one")).all() == [2]
