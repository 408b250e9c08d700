"""Instances and trusts at the command line."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_commands import Deputy, answer, deputy
from tests.copies import Copy
from tests.issuers import Issuer, attest, born
from tests.protocol.answers import refused
from tests.world import World

__all__ = ["answer", "deputy"]


@pytest.fixture
def name(world: World, answer: Callable[..., Any]) -> str:
    """An agent without a key of its own."""
    alice, name = world.human(), "agent-" + secrets.token_hex(4)
    answer("agent", "add", name, "--owner", alice.username, "--purpose", "Works without a secret", "--no-key")
    return name


def test_a_code_is_shown_once_and_its_instance_listed_and_ended(
    world: World, deputy: Deputy, answer: Callable[..., Any], name: str
) -> None:
    made = answer("agent", "enrol", name, "--minutes", "5", "--hours", "2")
    assert made["register_at"] == world.issuer + "/agents/instances"
    assert made["enrolment_code"].startswith("enr_")
    copy = Copy()
    copy.told = copy.register(world, made["enrolment_code"]).json
    (row,) = answer("agent", "instances", name)
    assert (row["instance"], row["state"], row["via"]) == (copy.told["instance_id"], "live", "enrolment")
    assert made["enrolment_code"] not in deputy("agent", "instances", name, "--all").stdout
    assert answer("revoke", "instance", copy.told["instance_id"])["revoked"] == copy.told["instance_id"]
    refused(copy.own(world), "invalid_client", 401)
    assert answer("agent", "instances", name) == []
    (row,) = answer("agent", "instances", name, "--all")
    assert row["state"] == "ended"
    assert deputy("agent", "instances", name).stdout == "No instance of this agent lives.\n"


def test_a_trust_is_added_shown_given_other_keys_and_taken_back(
    world: World, deputy: Deputy, answer: Callable[..., Any], name: str, tmp_path: Path
) -> None:
    issuer, keys = Issuer(), tmp_path / "keys.json"
    keys.write_text(json.dumps(issuer.jwks))
    words = ("--agent", name, "--claim", "repository=acme/agents", "--claim", "/environment/name=x=y", "--jwks", str(keys), "--hours", "2")
    made = answer("trust", "add", issuer.name, *words)
    assert made["claims"] == {"repository": "acme/agents", "/environment/name": "x=y"}
    assert (made["agent"], made["audience"], made["keys"], made["enabled"]) == (name, world.issuer, [issuer.kid], True)
    claims: dict[str, Any] = {"environment": {"name": "x=y"}}
    copy = born(world, issuer, **claims)
    assert made["trust"] in deputy("trust", "list").stdout
    rotated = Issuer(issuer.name)
    keys.write_text(json.dumps(rotated.jwks))
    assert answer("trust", "keys", made["trust"], "--jwks", str(keys))["keys"] == [rotated.kid]
    refused(attest(world, issuer.says(world, **claims)), "invalid_client", 401)
    assert attest(world, rotated.says(world, **claims)).status == 200
    assert answer("trust", "disable", made["trust"]) == {"trust": made["trust"], "instances_ended": 2}
    assert not answer("trust", "show", made["trust"])["enabled"]
    refused(copy.own(world), "invalid_client", 401)
    answer("trust", "enable", made["trust"])
    assert attest(world, rotated.says(world, **claims)).status == 200
    assert answer("trust", "remove", made["trust"])["instances_ended"] == 1
    assert deputy("trust", "show", made["trust"]).exit_code == 1


def test_what_is_refused_is_one_sentence(deputy: Deputy, name: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps(Issuer().jwks))
    add = ("trust", "add", "https://issuer.example", "--agent", name, "--jwks", str(keys))
    for words in (
        (*add, "--claim", "repository"),
        (*add, "--claim", "repository=a", "--claim", "repository=b"),
        (*add, "--claim", "aud=x"),
        (*add, "--claim", "sub=x", "--hours", "1000"),
        (*add[:-2], "--claim", "sub=x"),
        ("trust", "add", "issuer", "--agent", name, "--jwks", str(keys), "--claim", "sub=x"),
        ("trust", "disable", "trs_nowhere"),
        ("agent", "enrol", "nobody"),
        ("agent", "enrol", name, "--minutes", "100"),
        ("revoke", "instance", "ins_nowhere"),
        ("agent", "add", "x", "--owner", "nobody", "--purpose", "x", "--no-key", "--key", str(keys)),
    ):
        result = deputy(*words)
        assert result.exit_code == 1, (words, result.output)
        assert len(result.stderr.splitlines()) == 1
