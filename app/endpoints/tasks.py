"""`/tasks`: pieces of work, opened and ended by agents, reported on by resources (protocol §7)."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Request, Response

from app.clients.request import ProtocolRequest
from app.endpoints.guards import Guards
from app.errors import InvalidRequest, NotFound
from app.keys.strict import Malformed, json_object
from app.rim.certificates import client_certificate
from app.rim.form import parse_authorization, presented_token
from app.rim.problems import json_response
from app.tokens.tasks import CREDENTIALS, TaskRequests

MAX_BODY = 65_536
"""Bytes of a JSON body."""


def blueprint(tasks: TaskRequests, guards: Guards) -> Blueprint:
    """The tasks endpoints."""
    endpoint = Blueprint("tasks", __name__)

    @endpoint.post("/tasks")
    def open_() -> Response:
        with guards.admitted() as request:
            return json_response(tasks.open(presented_token(request), json_body(request)), 201)

    @endpoint.get("/tasks/<task_id>")
    def show(task_id: str) -> Response:
        with guards.admitted() as request:
            return _found(lambda: tasks.show(presented_token(request), task_id))

    @endpoint.post("/tasks/<task_id>/end")
    def end(task_id: str) -> Response:
        with guards.admitted() as request:
            return _found(lambda: tasks.end(presented_token(request), task_id))

    @endpoint.post("/tasks/<task_id>/events")
    def report(task_id: str) -> Response:
        with guards.admitted() as request:
            body = json_body(request)
            return _found(lambda: tasks.report(presented(request, body), task_id, body))

    guards.roll_nonces(endpoint)
    return endpoint


def json_body(request: Request) -> dict[str, Any]:
    """The JSON object of a request, strictly read. Raises InvalidRequest."""
    if request.query_string:
        raise InvalidRequest("parameters in the query")
    if request.mimetype != "application/json":
        raise InvalidRequest("not JSON")
    body = request.get_data(cache=False)
    if len(body) > MAX_BODY:
        raise InvalidRequest("the body is too large")
    try:
        return json_object(body)
    except Malformed as error:
        raise InvalidRequest(str(error)) from None


def presented(request: Request, body: dict[str, Any]) -> ProtocolRequest:
    """How the caller authenticates: in the header, or with the members of RFC 6749 §2.3.1 and RFC 7521 §4.2 in the body."""
    credentials = {name: (value,) for name, value in body.items() if name in CREDENTIALS and isinstance(value, str)}
    return ProtocolRequest(
        parameters=credentials,
        authorization=parse_authorization(request.headers.get("Authorization")),
        address=request.remote_addr or "",
        certificate=client_certificate(request),
    )


def _found(answer: Any) -> Response:
    try:
        return json_response(answer())
    except NotFound:
        return json_response({"error": "not_found", "error_description": "There is no such task."}, 404)
