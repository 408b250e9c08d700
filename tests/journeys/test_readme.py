"""The README's own commands, typed as printed."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.journeys.test_demo import HANG, ROOT, answers, environment, free_ports, running, stores

README = (ROOT / "README.md").read_text()
SHELL = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def block(beginning: str) -> str:
    (found,) = [text for text in SHELL if beginning in text]
    return str(found)


@pytest.mark.served
def test_register_get_a_token_check_it_revoke_it_audit_it(short_dir: Path, given_database: str) -> None:
    directory = short_dir / "readme"
    directory.mkdir()
    port = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    settings = environment(
        DEPUTY_VAR_DIR=str(directory / "var"),
        DEPUTY_KEYS_DIR=str(directory / "keys"),
        DEPUTY_PORT=str(port),
        DEPUTY_DEMO="1",
        DEPUTY_DEMO_PORT=str(free_ports(3)),
    )
    # `.venv/bin/deputy` and its Python, as the Makefile puts them there.
    (directory / ".venv" / "bin").mkdir(parents=True)
    deputy = directory / ".venv" / "bin" / "deputy"
    deputy.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m app "$@"\n')
    deputy.chmod(deputy.stat().st_mode | stat.S_IXUSR)
    (directory / ".venv" / "bin" / "python").symlink_to(sys.executable)

    with stores(given_database) as stored, running([sys.executable, "-m", "app", "serve"], settings | stored, directory / "log") as server:
        answers(url + "/readyz", server, directory / "log")

        def typed(text: str, **variables: str) -> str:
            env = settings | stored | {"PYTHONPATH": str(ROOT)} | variables
            done = subprocess.run(
                ["sh", "-e", "-c", text.replace("http://127.0.0.1:8000", url)],
                cwd=directory, env=env, capture_output=True, text=True, timeout=HANG, check=False,
            )  # fmt: skip
            assert done.returncode == 0, (text, done.stdout, done.stderr)
            return done.stdout

        registered = dict(line.split(maxsplit=1) for line in typed(block("resource add")).splitlines())
        assert set(registered) == {"resource", "client_id", "client_secret", "agent"}
        agent = typed(".venv/bin/deputy agent show 'Scheduling agent' --json")
        client_id = json.loads(agent)["client_id"]

        (program,) = re.findall(r"```python\n(# get_token.py.*?)```", README, re.DOTALL)
        (directory / "get_token.py").write_text(program.replace("http://127.0.0.1:8000", url))
        token = typed(block("get_token.py").replace("CLIENT_ID", client_id)).strip()

        resource = json.loads(typed(".venv/bin/deputy resource secret https://calendar.example --json"))
        asked = {"RESOURCE_CLIENT_ID": resource["client_id"], "RESOURCE_CLIENT_SECRET": resource["client_secret"], "TOKEN": token}
        answer = json.loads(typed(block("/oauth/introspect"), **asked))
        assert answer["active"] is True
        assert answer["scope"] == "calendar:read"

        typed(block("agent suspend"))
        assert json.loads(typed(block("/oauth/introspect"), **asked)) == {"active": False}

        audit = typed(block("ledger tail"))
        assert "token.issued" in audit
        assert re.search(r"^sound +yes$", audit, re.MULTILINE)
        assert (directory / "var" / "checkpoints.jsonl").exists()
