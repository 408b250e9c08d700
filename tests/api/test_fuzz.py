"""Schemathesis asks every operation for anything its document allows, and for what it does not, in process."""

from __future__ import annotations

import secrets

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, unsupported_method

from app.api.operations import OPERATIONS, Operation
from app.oversight.caller import PATH
from tests.api.conftest import ALL, Callers
from tests.world import BY

WHOLE = {"everything", "key", "resource"}
"""What others in the same process rest on is not stopped by chance; its own tests stop it."""

EXAMPLES = 8
"""Of each kind and operation: bounded, so that all of them take well under a minute."""


@pytest.fixture
def things(callers: Callers) -> dict[str, str]:
    """Something that is there, by the name of the path's member."""
    world = callers.world
    human = world.human()
    api = world.resource("read")
    agent = world.agent(human, ceiling=[(api, "read")], own=[(callers.api, "own:read")])
    given_ = world.consented(world.signed_in(human), agent, api, away=True)
    policy = "fuzzed-" + secrets.token_hex(4)
    world.server.policies.add(policy, 'forbid(principal == Agent::"none", action, resource);', owner=human.id, rule="A test", by=BY)
    tasks = world.server.tasks
    consent = given_["consent_id"]
    held = world.server.consents.find(consent)
    assert held is not None
    task = tasks.default(held.value)
    assert task is not None
    return {
        "agent": agent.id,
        "consent": consent,
        "task": task.value.id,
        "resource": api.id,
        "client_id": world.app().client_id,
        "policy": policy,
        "reference": "tok_" + secrets.token_urlsafe(16),
        "instance": "ins_none",
        "approval": "apr_none",
    }


GROUPS = sorted({operation.path.split("/")[1] for operation in OPERATIONS})


@pytest.mark.parametrize("group", GROUPS)
def test_every_operation_keeps_to_its_document(app: Flask, callers: Callers, things: dict[str, str], group: str) -> None:
    schema = schemathesis.openapi.from_wsgi(f"{PATH}/openapi.json", app)
    for operation in OPERATIONS:
        if operation.path.split("/")[1] == group:
            try:
                fuzz(schema, operation, callers.machine(*ALL)[1], things)
            finally:
                left_in_force(callers, things["policy"])


def fuzz(schema: schemathesis.BaseSchema, operation: Operation, token: str, things: dict[str, str]) -> None:
    described = schema[operation.path][operation.method]

    def ask(case: schemathesis.Case, real: bool) -> None:
        positive = case.meta is None or case.meta.generation.mode is GenerationMode.POSITIVE
        if isinstance(case.body, dict) and case.body.get("what") in WHOLE:
            return
        if real and positive and case.path_parameters:
            case.path_parameters = {name: things[name] for name in case.path_parameters}
        response = case.call(headers={"Authorization": f"Bearer {token}"})
        case.validate_response(response, excluded_checks=[ignored_auth, unsupported_method])
        assert response.status_code < 500, response.text

    # What takes nothing cannot be asked wrongly.
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if operation.takes.model_fields else (GenerationMode.POSITIVE,)
    for mode in modes:
        check = given(case=described.as_strategy(generation_mode=mode), real=st.booleans())(ask)
        settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))(check)()


def left_in_force(callers: Callers, policy: str) -> None:
    """No test leaves a policy active."""
    policies = callers.world.server.policies
    for row in policies.list():
        if row.state == "active" and (row.name == policy or row.rule == "A test"):
            policies.retire(row.name, by=BY)
