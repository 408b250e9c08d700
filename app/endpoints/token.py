"""`/oauth/token` (RFC 6749 §3.2)."""

from __future__ import annotations

from flask import Blueprint, Response

from app.endpoints.guards import Guards
from app.rim.authlib import DeputyServer


def blueprint(server: DeputyServer, guards: Guards) -> Blueprint:
    """The token endpoint."""
    endpoint = Blueprint("token", __name__)

    @endpoint.post("/oauth/token")
    def token() -> Response:
        with guards.admitted() as incoming:
            return server.token_response(incoming)

    @endpoint.route("/oauth/token", methods=["OPTIONS"])
    def preflight() -> Response:
        return Response(status=204)

    guards.open_to_browsers(endpoint)
    guards.roll_nonces(endpoint)
    return endpoint
