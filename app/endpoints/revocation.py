"""`/oauth/revoke` (RFC 7009)."""

from __future__ import annotations

from flask import Blueprint, Response

from app.endpoints.guards import Guards
from app.rim.form import parse_form
from app.rim.problems import json_response
from app.tokens.revoking import Revoking


def blueprint(revoking: Revoking, guards: Guards) -> Blueprint:
    """The revocation endpoint."""
    endpoint = Blueprint("revocation", __name__)

    @endpoint.post("/oauth/revoke")
    def revoke() -> Response:
        with guards.admitted() as incoming:
            revoking.revoke(parse_form(incoming))
        return json_response({})

    return endpoint
