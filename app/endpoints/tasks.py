"""`/tasks`: pieces of work, opened and ended by agents, reported on by resources (protocol §7)."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from app.endpoints.guards import Guards
from app.errors import NotFound
from app.rim.form import presented_token
from app.rim.json_body import authenticating, json_body
from app.rim.problems import json_response
from app.tokens.tasks import TaskRequests


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
            return _found(lambda: tasks.report(authenticating(request, body), task_id, body))

    guards.roll_nonces(endpoint)
    return endpoint


def _found(answer: Any) -> Response:
    try:
        return json_response(answer())
    except NotFound:
        return json_response({"error": "not_found", "error_description": "There is no such task."}, 404)
