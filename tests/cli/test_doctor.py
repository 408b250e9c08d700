"""`deputy doctor` names what is wrong, each thing for itself, and changes nothing while it looks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.certificates import Authority
from tests.cli.conftest import Deployment, Shell, free_port
from tests.conftest import KEY


def findings(deployment: Deployment) -> list[str]:
    result = deployment.deputy("doctor", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == (1 if found else 0), result.output
    for one in found:
        assert all(one[name] for name in ("what", "why", "mend")), one
    return [str(one["what"]) for one in found]


def one_of(found: list[str], words: str) -> str:
    (said,) = [one for one in found if words in one]
    return said


def test_where_nothing_was_ever_started_it_says_so_and_makes_nothing(empty: Deployment) -> None:
    found = findings(empty)
    one_of(found, "is not there")
    one_of(found, "no database")
    assert not (empty.folder / "var").exists()
    assert not (empty.folder / "keys").exists()


def test_refused_settings_are_a_finding(empty: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPUTY_ISSUER", "http://as.example")
    (said,) = findings(empty)
    assert "DEPUTY_ISSUER" in said


def test_a_stopped_server_and_what_is_wrong_with_its_files(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    with deployment.running():
        pass
    (said,) = findings(deployment)
    assert "does not run" in said

    database = deployment.settings.var_dir / "deputy.sqlite"
    deployment.settings.var_dir.chmod(0o755)
    database.chmod(0o644)
    one_of(findings(deployment), "others on this machine can read")
    database.chmod(0o600)
    deployment.settings.var_dir.chmod(0o700)

    monkeypatch.setenv("DEPUTY_ISSUER", "http://127.0.0.1:9999")
    assert len(findings(deployment)) == 1  # nobody is registered yet
    monkeypatch.setenv("DEPUTY_ISSUER", "http://127.0.0.1:8000")

    monkeypatch.setenv("DEPUTY_KEY_ENCRYPTION_KEY", "BBECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
    assert len(findings(deployment)) == 2
    monkeypatch.setenv("DEPUTY_KEY_ENCRYPTION_KEY", KEY)

    deployment.stop_redis()
    one_of(findings(deployment), "cannot be reached")
    deployment.start_redis()
    one_of(findings(deployment), "live state is not ready")


def test_an_older_a_newer_and_a_damaged_database(deployment: Deployment) -> None:
    with deployment.running():
        pass
    file = deployment.settings.var_dir / "deputy.sqlite"

    def stands_at(revision: str) -> None:
        held = deployment.database()
        with held.engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
        held.close()

    stands_at("0001")
    one_of(findings(deployment), "older than this version")
    stands_at("9999")
    one_of(findings(deployment), "newer version")
    stands_at("0002")
    assert len(findings(deployment)) == 1
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    file.write_bytes(b"not a database" * 1000)
    one_of(findings(deployment), "cannot be reached or read")


def test_an_issuer_under_which_nobody_was_registered(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    with deployment.running() as world:
        world.agent(world.human())
    monkeypatch.setenv("DEPUTY_ISSUER", "http://127.0.0.1:9999")
    one_of(findings(deployment), "another issuer")


def test_a_cut_ledger_and_lost_checkpoints(deployment: Deployment) -> None:
    with deployment.running() as world:
        world.human()
    checkpoints = deployment.settings.checkpoints_file
    lines = checkpoints.read_bytes()
    checkpoints.unlink()
    one_of(findings(deployment), "checkpoints.jsonl is not there")
    checkpoints.write_bytes(lines)
    held = deployment.database()
    with held.engine.begin() as connection:
        connection.execute(text("DELETE FROM checkpoint"))
    held.close()
    one_of(findings(deployment), "speaks of entry")


@pytest.mark.served
def test_all_is_well_with_a_server_that_runs(folder: Path) -> None:
    deputy = Shell(var_dir=folder / "var", keys_dir=folder / "keys", port=free_port(), workers=1, redis_timeout=2)
    with deputy.serving(folder / "log"):
        ended = deputy("doctor")
        assert ended.returncode == 0, ended.stdout
        assert json.loads(deputy("doctor", "--json").stdout) == []
        # Asked with another port it looks where nobody is.
        assert "nothing answers" in deputy("doctor", port=free_port()).stdout


def test_certificates_that_cannot_be_used_or_end_soon(empty: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("DEPUTY_MTLS_PORT", "8443")
    monkeypatch.setenv("DEPUTY_MTLS_CLIENT_CA", str(authority.path))

    def serving(certificate: Path) -> list[str]:
        monkeypatch.setenv("DEPUTY_MTLS_CERTIFICATE", str(certificate))
        monkeypatch.setenv("DEPUTY_MTLS_KEY", str(certificate))
        return [one for one in findings(empty) if "ertificate" in one or "DEPUTY_MTLS" in one]

    assert serving(authority.client("good").path) == []
    one_of(serving(authority.client("soon", days=(-2, 3)).path), "ends in ")
    one_of(serving(authority.client("late", days=(-2, -1)).path), "has ended")
    one_of(serving(tmp_path / "missing.pem"), "cannot be used")
    one_of(serving(authority.path), "cannot be used")  # no key in it
