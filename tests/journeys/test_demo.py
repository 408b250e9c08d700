"""`make demo`, as a person would run it: a whole server, three APIs, two agents, a browser."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from app.cli import demo
from app.settings import load_settings
from app.wiring import build, prepare
from tests.world import PASSWORD

ROOT = Path(__file__).resolve().parents[2]
HANG = 240
"""Seconds after which something is stuck."""

HAS_CHROMIUM = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")))


def free_ports(count: int) -> int:
    """The first of so many free ports in a row."""
    for _ in range(100):
        with ExitStack() as held:
            first = held.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            base = first.getsockname()[1]
            try:
                for port in range(base + 1, base + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except (OSError, OverflowError):
                continue
            return base
    raise AssertionError("no free ports")


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DEPUTY_", "PROMETHEUS_"))}
    return kept | {"PYTHONUNBUFFERED": "1", "NO_PROXY": "127.0.0.1"} | more


@contextmanager
def running(command: Sequence[str], env: dict[str, str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program in a session of its own, ended with all it started."""
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextmanager
def stores(database: str) -> Iterator[dict[str, str]]:
    """A database and a Redis of its own where the run has such servers; else the embedded ones."""
    redis_url = os.environ.get("DEPUTY_TEST_REDIS_URL", "")
    found: dict[str, str] = {}
    if redis_url:
        from redis import Redis

        found["DEPUTY_REDIS_URL"] = redis_url + ("&" if "?" in redis_url else "?") + "db=9"
        with Redis.from_url(found["DEPUTY_REDIS_URL"]) as redis:
            redis.flushdb()
    if not database:
        yield found
        return
    from sqlalchemy import NullPool, create_engine, make_url

    engine = create_engine(database, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    made = make_url(database).set(database=f"demo_{secrets.token_hex(4)}")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {made.database}")
    yield found | {"DEPUTY_DATABASE_URL": made.render_as_string(hide_password=False)}
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {made.database} WITH (FORCE)")


def answers(url: str, process: subprocess.Popen[bytes], output: Path, *, status: int = 200) -> None:
    end = time.monotonic() + HANG
    while process.poll() is None and time.monotonic() < end:
        try:
            if requests.get(url, timeout=5).status_code == status:
                return
        except requests.RequestException:
            pass
        time.sleep(0.1)
    raise AssertionError(output.read_text())


@pytest.mark.served
@pytest.mark.browser
@pytest.mark.skipif(not HAS_CHROMIUM and not os.environ.get("REQUIRE_ALL"), reason="no Chromium")
def test_the_demo_goes_as_it_is_told(short_dir: Path, given_database: str) -> None:
    directory = short_dir / "demo"
    directory.mkdir()
    port = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    serving = environment(
        DEPUTY_VAR_DIR=str(directory / "var"),
        DEPUTY_KEYS_DIR=str(directory / "keys"),
        DEPUTY_PORT=str(port),
        DEPUTY_DEMO="1",
        DEPUTY_DEMO_PORT=str(free_ports(3)),
    )
    with (
        stores(given_database) as stored,
        running([sys.executable, "-m", "app", "serve"], serving | stored, directory / "serve.log") as server,
    ):
        answers(url + "/readyz", server, directory / "serve.log")
        printed = (directory / "serve.log").read_text()
        assert f"Sign in at {url} as alice, password: correct horse battery staple" in printed
        private = directory / "var" / "demo"
        assert private.stat().st_mode & 0o777 == 0o700
        assert {file.stat().st_mode & 0o777 for file in private.iterdir()} == {0o600}

        telling = environment(DEPUTY_URL=url, DEPUTY_DEMO_DIR=str(private), AUTO="1", SCREENSHOT_DIR=str(directory / "pictures"))
        with running([sys.executable, "examples/demo.py"], telling, directory / "demo.log") as told:
            code = told.wait(HANG)
        text = (directory / "demo.log").read_text()
        assert code == 0, text
        position = 0
        for line in (
            "✓ Alice allowed it: calendar:read mail:read mail:send travel:book travel:search",
            "✓ Thursday 10:00  Board meeting, Lisbon",
            "✗ the same token at the travel agency: refused, 401 invalid_token",
            "✓ booked: TP 553, Wednesday 19:05, for Alice, by the assistant",
            "✗ Deputy, asked for a token for mail:delete: refused, 400 invalid_scope",
            "✗ the mail service, asked to send with the token for mail:read: refused, insufficient_scope",
            "✗ Deputy, asked for a token for mail:send: refused, 400 authorization_pending",
            "✓ Alice allowed it, this once",
            "✓ sent to Carol Chen: Lisbon",
            "✗ Deputy, asked for another token for mail:send: refused, 400 authorization_pending",
            "✓ booked: Hotel Alfama, Wednesday to Thursday, for Alice, by the booking agent, which had it from the assistant",
            "✗ the booking agent, asking for travel:search: refused, 400 invalid_scope",
            "✓ Alice is signed out",
            "✓ read 2 appointments",
            "✓ Alice withdrew on My agents",
            "✗ the assistant at the calendar: refused, 401 invalid_token",
            "✗ the booking agent at the travel agency: refused, 401 invalid_token",
            "✗ the assistant, by the consent: refused, 400 invalid_request",
            "✗ the assistant, by its refresh token: refused, 400 invalid_grant",
            "✗ the booking agent, by what was handed to it: refused, 400 invalid_request",
            "✓ tools: inbox, send; 2 messages read",
        ):
            position = text.find(line, position)
            assert position >= 0, f"missing, or not in its place: {line}\n\n{text}"
        assert {picture.name for picture in (directory / "pictures").iterdir()} == {
            "sign-in.png", "consent.png", "approvals.png", "approval.png", "my-agents.png", "withdraw.png",
        }  # fmt: skip
    logged = (directory / "serve.log").read_text()
    for file in private.glob("*.json"):
        secret = json.loads(file.read_text()).get("client_secret")
        assert not secret or secret not in logged


@pytest.mark.served
@pytest.mark.parametrize(("api", "path"), [("calendar", "/events"), ("travel", "/offers"), ("mail", "/mcp")])
def test_an_api_that_cannot_ask_refuses(api: str, path: str, tmp_path: Path) -> None:
    port, closed = free_ports(1), free_ports(1)
    resource = f"http://127.0.0.1:{port}{'/mcp' if api == 'mail' else ''}"
    (tmp_path / f"{api}.json").write_text(json.dumps({"resource": resource, "client_id": "rsc_x", "client_secret": "y"}))
    script = "mail_mcp.py" if api == "mail" else f"{api}_api.py"
    env = environment(DEPUTY_URL=f"http://127.0.0.1:{closed}", DEPUTY_DEMO_DIR=str(tmp_path))
    with running([sys.executable, f"examples/{script}"], env, tmp_path / "log") as process:
        url = f"http://127.0.0.1:{port}{path}"
        answers(url, process, tmp_path / "log", status=401)
        nobody = requests.get(url, timeout=30)
        assert nobody.headers["WWW-Authenticate"].startswith("Bearer")
        if api == "mail":
            assert "/.well-known/oauth-protected-resource/mcp" in nobody.headers["WWW-Authenticate"]
        answer = requests.get(url, headers={"Authorization": "Bearer some.token.here"}, timeout=30)
        assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable"), (tmp_path / "log").read_text()
        assert answer.headers["Retry-After"]


@pytest.mark.parametrize("file", ["travel.json", "assistant.jwk", "assistant.json", "mcp-client.json"])
def test_a_first_start_that_was_killed_is_finished_by_the_next(
    file: str, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(var_dir=tmp_path / "var", keys_dir=tmp_path / "keys", redis_url=redis_url, demo=True)
    write = demo._write

    class Killed(Exception):
        pass

    def killed(path: Path, text: str) -> None:
        if path.name == file:
            raise Killed
        write(path, text)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(demo, "_write", killed)
        prepare(settings)
    assert len(prepare(settings)) == 2
    server = build(settings)
    assert [human.username for human in server.accounts.list()] == ["alice", "bob"]
    assert (len(server.resource_registry.list()), len(server.agent_registry.list()), len(server.apps.list())) == (4, 2, 1)
    private = settings.var_dir / "demo"
    for name in ("assistant", "booking-agent"):
        registered = json.loads((private / f"{name}.json").read_text())
        kid = json.loads((private / f"{name}.jwk").read_text())["kid"]
        assert [key["kid"] for key in server.agent_registry.keys(registered["client_id"])] == [kid]
    written = {path.name: path.read_text() for path in private.iterdir()}
    assert set(written) == {*demo.FILES, "assistant.jwk", "booking-agent.jwk"}
    prepare(settings)
    assert {path.name: path.read_text() for path in private.iterdir()} == written
    server.database.close()


def test_where_people_are_registered_already_the_demo_stays_away(tmp_path: Path, redis_url: str) -> None:
    settings = load_settings(var_dir=tmp_path / "var", keys_dir=tmp_path / "keys", redis_url=redis_url)
    assert prepare(settings) == []
    server = build(settings)
    server.accounts.add("carol", "Carol", "carol@example.com", PASSWORD, by=demo.BY)
    assert prepare(load_settings(**{**settings.model_dump(), "demo": True})) == []
    assert [human.username for human in server.accounts.list()] == ["carol"]
    assert not (tmp_path / "var" / "demo").exists()
    server.database.close()
