"""The lines that docs/api.md prints, sent as they stand there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import ALL, Callers
from tests.world import Answer, claims_of

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
LINES = [
    line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in re.split(r"\n(?=\S)", block) if line.startswith("api ")
]

MAY_BE_ABSENT = ("ins_", "apr_")
"""None of these is made here: that there is none is an answer too."""


def sent(callers: Callers, token: str, line: str) -> Answer:
    """What the function `api` does with curl."""
    path, *options = shlex.split(line, comments=True)[1:]
    match options:
        case []:
            return callers.get(path, token)
        case ["-X", "POST"]:
            return callers.post(path, token)
        case ["--json", body]:
            return callers.post(path, token, json.loads(body))
    raise AssertionError(line)


@pytest.fixture
def ids(callers: Callers) -> dict[str, str]:
    world = callers.world
    api, alice = world.resource("read"), world.human()
    agent = world.agent(world.human(), ceiling=[(api, "read")])
    given: dict[str, Any] = world.consented(world.signed_in(alice), agent, api, away=True)
    return {
        "agt_…": agent.id,
        "hum_…": alice.id,
        "con_…": given["consent_id"],
        "tsk_…": given["task_id"],
        "tok_…": claims_of(given["access_token"])["jti"],
        "ins_…": "ins_none",
        "apr_…": "apr_none",
    }


def test_every_line_does_what_it_says(callers: Callers, ids: dict[str, str]) -> None:
    assert len(LINES) >= 15
    _, token = callers.machine(*ALL)
    # What ends the agent comes last; everything is looked at while it is there.
    for line in sorted(LINES, key=lambda line: "/kill " in line or "suspend" in line):
        asked = line
        for placeholder, identifier in ids.items():
            asked = asked.replace(placeholder, identifier)
        assert "…" not in asked, line
        answer = sent(callers, token, asked)
        if any(kind in line for kind in MAY_BE_ABSENT):
            assert (answer.status, answer.error) == (404, "not_found"), (line, answer.text)
        else:
            assert answer.status == 200, (line, answer.text)
    assert callers.world.server.agent_registry.get(ids["agt_…"]).state == "suspended"
