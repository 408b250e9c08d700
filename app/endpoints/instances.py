"""`/agents/instances`: running copies of agents register their own keys, and end themselves (ADR 0018)."""

from __future__ import annotations

from flask import Blueprint, Response

from app.agents.enrolment import Enrolments
from app.endpoints.guards import Guards
from app.errors import InvalidRequest, NotFound
from app.rim.form import presented_proof, presented_token
from app.rim.json_body import json_body
from app.rim.problems import json_response
from app.tokens.instances import OwnInstance

MEMBERS = frozenset({"enrolment_code"})


def blueprint(enrolments: Enrolments, own: OwnInstance, guards: Guards) -> Blueprint:
    """The instances endpoints."""
    endpoint = Blueprint("instances", __name__)

    @endpoint.post("/agents/instances")
    def register() -> Response:
        with guards.admitted() as request:
            body = json_body(request)
            if not body.keys() <= MEMBERS:
                raise InvalidRequest("a member that is not known")
            proof = presented_proof(request) if "HTTP_DPOP" in request.environ else None
            return json_response(enrolments.redeem(body.get("enrolment_code"), proof), 201)

    @endpoint.post("/agents/instances/<instance_id>/end")
    def end(instance_id: str) -> Response:
        with guards.admitted() as request:
            try:
                own.end(presented_token(request), instance_id)
            except NotFound:
                return json_response({"error": "not_found", "error_description": "There is no such instance."}, 404)
            return json_response({"instance_id": instance_id, "active": False})

    guards.roll_nonces(endpoint)
    return endpoint
