"""A stock client of another language, unmodified: openid-client for Node.js, its versions pinned by their hashes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.journeys.npm import HANG, installed
from tests.world import World

HERE = Path(__file__).parent / "openid_client"


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest) -> Path:
    """Where the client is installed; kept for the next run."""
    path = installed(request, HERE)
    shutil.copy(HERE / "client.mjs", path)
    return path


class Program:
    """The client running: it speaks in lines of JSON."""

    def __init__(self, folder: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            ["node", "client.mjs"], cwd=folder, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True, encoding="utf-8"
        )
        self._timer = threading.Timer(HANG, self.process.kill)
        self._timer.start()

    def say(self, what: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.stderr.read()[-3000:])
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        self._timer.cancel()
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        self.process.wait()


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[[], Program]]:
    programs: list[Program] = []

    def begin() -> Program:
        programs.append(Program(folder))
        return programs[-1]

    yield begin
    for program in programs:
        program.close()


def test_openid_client_goes_through_everything(world: World, start: Callable[[], Program], callback: str) -> None:
    alice, api = world.human(), world.resource("read", "write")
    app = replace(world.app(pairs=[(api, "read")], native=True, redirect_uris=(callback,)), redirect_uri=callback)
    helper = world.agent(alice, ceiling=[(api, "read")])
    agent = replace(world.agent(alice, ceiling=[(api, "read")], hands_to=[helper], redirect_uris=(callback,)), redirect_uri=callback)
    browser = world.signed_in(alice)
    assert agent.key is not None
    program = start()
    program.say(
        {
            "issuer": world.issuer,
            "app": {"client_id": app.client_id, "client_secret": app.secret},
            "agent": {
                "client_id": agent.client_id,
                "hands_to": helper.uri,
                "key": agent.key.as_dict(private=True) | {"kid": agent.key.thumbprint()},
            },
            "api": {"client_id": api.client_id, "client_secret": api.client_secret, "uri": api.uri, "scope": "read"},
            "redirect_uri": callback,
        }
    )
    said = program.hear()
    while "go" in said:
        query = parse_qsl(urlsplit(said["go"]).query)
        assert said["go"].startswith(f"{world.issuer}/oauth/authorize?")
        answer = browser.decide(browser.authorize(query), away=True)
        assert answer.status == 303, answer.text
        program.say({"came": answer.headers["Location"]})
        said = program.hear()

    signed_in = said["application"]
    assert signed_in["scope"].split() == ["offline_access", "openid", "profile", "read"]
    assert signed_in["claims"]["sub"] == signed_in["userinfo"]["sub"] == alice.id
    assert signed_in["userinfo"]["preferred_username"] == alice.username
    for answer in signed_in["before"]:
        assert (answer["active"], answer["sub"], answer["aud"], answer["scope"]) == (True, alice.id, api.uri, "read")
    assert signed_in["rotated"] is True
    assert signed_in["after"] == [{"active": False}, {"active": False}]
    assert signed_in["again"] == "invalid_grant"
    assert signed_in["goodbye"].startswith(f"{world.issuer}/logout?")

    acting = said["acting"]
    assert acting["pushed"] == ["client_id", "request_uri"]
    assert acting["kind"] == "urn:ietf:params:oauth:token-type:access_token"
    for answer in (*acting["before"], *acting["beside"]):
        assert answer["active"] is True
        assert answer["act"]["sub"] == agent.uri
    assert acting["revoked"] == acting["after"] == [{"active": False}, {"active": False}]
    assert acting["again"] == "invalid_grant"

    keyed = said["keyed"]
    assert keyed["kinds"] == ["dpop"] * 4
    assert keyed["handed"] == ["n_a", "urn:ietf:params:oauth:token-type:jwt"]
    for answers in keyed["tokens"]:
        for answer in answers:
            assert (answer["active"], answer["token_type"], answer["cnf"]) == (True, "DPoP", {"jkt": keyed["jkt"]})
    assert keyed["stripped"] == keyed["stolen"] == "invalid_dpop_proof"
