"""The program that a job, a pod or a process copies: run as it is printed, against the server over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.copies import code_for
from tests.issuers import Issuer, served
from tests.journeys.conftest import Site
from tests.world import Api, Party, World

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "instance.py"
NAMESPACE = {"/kubernetes.io/namespace": "agents", "/kubernetes.io/serviceaccount/name": "scheduler"}

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def world(site: Site) -> World:
    return site.world()


@pytest.fixture
def api(world: World) -> Api:
    return world.resource("read")


@pytest.fixture
def agent(world: World, api: Api) -> Party:
    return world.agent(world.human(), own=[(api, "read")], jwks=None, keyless=True)


@pytest.fixture
def run(world: World, api: Api) -> Run:
    def start(*words: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(EXAMPLE), world.issuer, *words, "--resource", api.uri]
        environment = {"PATH": os.environ["PATH"], **more}
        return subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return start


def worked(world: World, agent: Party, api: Api, done: subprocess.CompletedProcess[str]) -> None:
    """It had its token, and ended itself when it was done."""
    assert done.returncode == 0, done.stderr
    (row,) = world.server.instances.of_client(agent.client_id)
    assert done.stdout.startswith(f"{row.id} has read at {api.uri}")
    assert row.ended_at is not None
    assert world.ledger(event="revoked", kind="instance", target=row.id)[0]["who"]["instance"] == row.id


def test_with_a_code(world: World, agent: Party, api: Api, run: Run) -> None:
    code = code_for(world, agent)
    worked(world, agent, api, run("--code", stdin=code + "\n"))
    again = run("--code", stdin=code + "\n")
    assert again.returncode == 1
    assert "invalid_client" in again.stderr


def test_in_a_github_job(world: World, agent: Party, api: Api, run: Run) -> None:
    github = Issuer()
    github.trusted(world, agent)
    with served({"value": github.says(world)}) as (url, asked):
        worked(world, agent, api, run("--github", ACTIONS_ID_TOKEN_REQUEST_URL=url + "?v=1", ACTIONS_ID_TOKEN_REQUEST_TOKEN="x"))
    assert len(asked) == 1
    assert "audience=" + world.issuer.replace(":", "%3A").replace("/", "%2F") in asked[0]


def test_in_a_pod(world: World, agent: Party, api: Api, run: Run, tmp_path: Path) -> None:
    cluster = Issuer()
    cluster.trusted(world, agent, claims=NAMESPACE)
    pod = {"namespace": "agents", "serviceaccount": {"name": "scheduler"}}
    file = tmp_path / "token"
    file.write_text(cluster.says(world, **{"kubernetes.io": pod}))
    worked(world, agent, api, run("--file", str(file)))
    file.write_text(cluster.says(world, **{"kubernetes.io": {**pod, "namespace": "default"}}))
    assert "invalid_client" in run("--file", str(file)).stderr


def test_with_an_svid_as_spire_prints_it(world: World, agent: Party, api: Api, run: Run, tmp_path: Path) -> None:
    name = "spiffe://acme.example/ns/agents/sa/" + agent.id.lower().replace("_", "-")
    spire = Issuer("spiffe://acme.example")
    spire.trusted(world, agent, claims={"sub": name})
    file = tmp_path / "svid.json"
    word = spire.says(world, sub=name, iss=..., jti=...)
    file.write_text(json.dumps([{"svids": [{"spiffe_id": name, "svid": word}]}, {"bundles": {}}]))
    worked(world, agent, api, run("--file", str(file)))
