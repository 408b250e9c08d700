"""How the API is asked: strictly, once, and as its document says."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from app.api.operations import OPERATIONS
from tests.api.conftest import Callers
from tests.world import Answer


def malformed(answer: Answer) -> None:
    assert (answer.status, answer.error) == (400, "invalid_request"), answer.text
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b'"x"', b"{", b'{"what":"agent","what":"human","reference":"x"}', b'{"what":"agent\\u0000","reference":"x"}',
        b'{"what":"agent","reference":"\\ud800"}', b'{"what":"agent","reference":"x","more":1}', b'{"what":"agents","reference":"x"}',
        b'{"what":"agent","reference":1}', b'{"what":"agent","reference":null}', b'{"reference":"x"}', b"\xff\xfe",
        b'{"what":' + b"[" * 100 + b"]" * 100 + b"}", b'{"what":"agent","reference":"x","keep_out":"true"}',
        b'{"what":"agent","reference":"' + b"x" * 501 + b'"}', b'{"what":"agent","reference":"' + b"x" * 70_000 + b'"}',
    ],
)  # fmt: skip
def test_a_body_is_one_object_with_each_member_once_and_none_unknown(callers: Callers, body: bytes) -> None:
    _, token = callers.machine("kill")
    malformed(callers.post("/kill", token, body, **{"Content-Type": "application/json"}))


def test_what_is_refused_is_never_repeated(callers: Callers) -> None:
    _, token = callers.machine("kill", "admin:read")
    answer = callers.post("/kill", token, {"what": "sesame", "sesame": "sesame"})
    malformed(answer)
    assert "sesame" not in answer.text
    answer = callers.get("/agents", token, sesame="sesame")
    malformed(answer)
    assert "sesame" not in answer.text
    assert "sesame" not in callers.get("/agents/sesame", token).text


def test_another_type_of_body_is_not_read(callers: Callers) -> None:
    _, token = callers.machine("kill")
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        malformed(callers.post("/kill/preview", token, b'{"what":"agent","reference":"x"}', **{"Content-Type": kind}))


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "limit=1&limit=2", "state=none", "more=1", "after=a%00b", "after=", "owner=%ff", "after=a/b"],
)
def test_a_query_has_what_is_known_once(callers: Callers, query: str) -> None:
    _, token = callers.machine("admin:read")
    malformed(callers.get(f"/agents?{query}", token))


def test_a_deed_takes_nothing_from_the_query_and_nothing_it_does_not_need(callers: Callers) -> None:
    world = callers.world
    agent = world.agent(world.human())
    _, token = callers.machine("admin:write")
    malformed(callers.post(f"/agents/{agent.id}/suspend?reason=x", token))
    malformed(callers.post(f"/agents/{agent.id}/suspend", token, {"agent": "agt_other"}))
    assert world.server.agent_registry.get(agent.id).state == "active"
    assert callers.post(f"/agents/{agent.id}/suspend", token, {}).status == 200


def test_a_token_in_the_query_or_the_body_is_no_token(callers: Callers) -> None:
    _, token = callers.machine("admin:read")
    assert callers.get("/agents", access_token=token).status == 401


def test_no_other_page_reads_it(callers: Callers) -> None:
    _, token = callers.machine("admin:read")
    headers = {"Authorization": f"Bearer {token}", "Origin": "https://elsewhere.example"}
    answer = callers.world.get("/api/v1/agents", headers)
    assert answer.status == 200
    assert not [name for name in dict(answer.headers) if name.startswith("Access-Control")]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_an_unknown_address_and_a_wrong_method_are_told_in_json(callers: Callers) -> None:
    _, token = callers.machine("admin:read")
    for answer, status in ((callers.get("/none", token), 404), (callers.post("/agents", token, {}), 405)):
        assert (answer.status, answer.error) == (status, "invalid_request")


def test_the_document_names_every_route_and_no_other(app: Flask, callers: Callers) -> None:
    document = callers.get("/openapi.json").ok()
    assert document["openapi"].startswith("3.1.")
    routes = {
        (method, re.sub(r"<(\w+)>", r"{\1}", rule.rule.removeprefix("/api/v1")))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1/") and not rule.rule.endswith("openapi.json")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == routes == {(one.method, one.path) for one in OPERATIONS}
    names = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(set(names)) == len(names)


def test_the_document_leads_nowhere_that_is_not_there_and_names_the_scopes(callers: Callers) -> None:
    answer = callers.get("/openapi.json")
    document = answer.ok()
    for reference in set(re.findall(r'"#/components/schemas/(\w+)"', answer.text)):
        assert reference in document["components"]["schemas"]
    flows = document["components"]["securitySchemes"]["token"]["flows"]
    registered = callers.world.server.resource_registry.get(callers.api.uri).scopes
    assert flows["clientCredentials"]["scopes"] == registered
    for methods in document["paths"].values():
        for one in methods.values():
            assert one["security"]
            assert all(scope in registered for way in one["security"] for scope in way["token"])
