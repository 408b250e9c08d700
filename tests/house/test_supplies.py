"""What comes from elsewhere is what we looked at: locked by hash, vendored by checksum, migrations one after another."""

from __future__ import annotations

import re
import shutil
import sqlite3
import tomllib
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from alembic import command

from app import schema
from app.database import NEWEST, Database
from app.errors import ConfigurationError
from app.schema import differences, upgrade
from app.settings import Settings, load_settings
from tests.conftest import KEY

ROOT = Path(__file__).resolve().parents[2]
VENDOR = ROOT / "app" / "static" / "vendor"


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Package, version and how many hashes."""
    text = (ROOT / name).read_text()
    found = re.findall(r"^([a-z0-9._-]+)==(\S+)(?: ;[^\\\n]+)? ?((?:\\\n +--hash=sha256:[0-9a-f]{64} ?)+)", text, re.MULTILINE)
    assert len(found) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)), "a line that is not package==version with hashes"
    return {package: (version, hashes.count("--hash")) for package, version, hashes in found}


def test_everything_is_locked_with_hashes() -> None:
    run, dev = locked("requirements.lock"), locked("requirements-dev.lock")
    assert all(hashes for _, hashes in (*run.values(), *dev.values()))
    assert {package: version for package, (version, _) in run.items()}.items() <= {p: v for p, (v, _) in dev.items()}.items()


def test_everything_asked_for_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[<>=~ ]", requirement)[0].lower().replace("_", "-") for requirement in requirements}

    run = names(project["dependencies"] + extras["embedded"] + extras["postgres"])
    assert run <= set(locked("requirements.lock"))
    assert names(extras["dev"] + extras["demo"]) <= set(locked("requirements-dev.lock"))


def test_vendored_files_are_unchanged_and_their_licences_beside_them() -> None:
    sums = dict(reversed(line.split()) for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == {path.name for path in VENDOR.iterdir()} - {"SHA256SUMS"}
    for name, digest in sums.items():
        assert sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
        assert f"app/static/vendor/{name}" in (ROOT / "NOTICE").read_text()


@pytest.fixture
def older(tmp_path: Path) -> Settings:
    return load_settings(var_dir=tmp_path, database_url=f"sqlite:///{tmp_path}/older.sqlite", key_encryption_key=KEY)


def test_an_older_database_is_migrated_with_all_that_is_in_it(older: Settings, tmp_path: Path) -> None:
    command.upgrade(schema._alembic(older), "0001")
    entries = [(seq, f"evt-{seq}", 1000, "human.signed_in", "permit", "hum_a", None, b"{}", "0" * 64) for seq in range(1, 6)]
    read = "SELECT seq, id, at, event, outcome, human, agent, record, hash FROM ledger ORDER BY seq"
    with closing(sqlite3.connect(tmp_path / "older.sqlite")) as connection:
        connection.executemany(
            "INSERT INTO ledger (seq, id, at, event, outcome, human, agent, record, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", entries
        )
        connection.commit()
    for _ in range(2):
        upgrade(older)
        assert differences(older) == []
        with closing(sqlite3.connect(tmp_path / "older.sqlite")) as connection:
            assert connection.execute(read).fetchall() == entries


def test_a_start_knows_without_alembic_whether_it_has_to_migrate(older: Settings) -> None:
    database = Database.open(older)
    assert database.migration() is None
    command.upgrade(schema._alembic(older), "0001")
    assert database.migration() == "0001"
    upgrade(older)
    assert database.migration() == NEWEST
    database.close()


def test_a_database_of_a_newer_version_is_not_touched(older: Settings, tmp_path: Path) -> None:
    upgrade(older)
    file = tmp_path / "older.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    shutil.copy(file, tmp_path / "copy")
    with pytest.raises(ConfigurationError, match="newer"):
        upgrade(older)
    with closing(sqlite3.connect(file)) as now, closing(sqlite3.connect(tmp_path / "copy")) as then:
        assert list(now.iterdump()) == list(then.iterdump())


def test_a_damaged_database_is_said_to_be_damaged(older: Settings, tmp_path: Path) -> None:
    (tmp_path / "older.sqlite").write_bytes(b"this is not a database" * 1000)
    with pytest.raises(ConfigurationError, match="damaged"):
        upgrade(older)
