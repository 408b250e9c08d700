"""`/oauth/bc-authorize`: an agent asks a human, who answers on `/my/approvals` (OIDC CIBA Core §7, by poll)."""

from __future__ import annotations

from flask import Blueprint, Response

from app.endpoints.guards import Guards
from app.errors import AccessDenied
from app.issuance import Issuance
from app.rim.form import parse_form
from app.rim.problems import json_response


def blueprint(issuance: Issuance, guards: Guards) -> Blueprint:
    """The backchannel authentication endpoint."""
    endpoint = Blueprint("backchannel_authentication", __name__)

    @endpoint.post("/oauth/bc-authorize")
    def ask() -> Response:
        with guards.admitted() as incoming:
            try:
                return json_response(issuance.ask(parse_form(incoming)))
            except AccessDenied as refusal:
                # What the token endpoint answers with 400 (protocol §5) is 403 here (CIBA Core §13).
                refusal.status_code = 403
                raise

    guards.roll_nonces(endpoint)
    return endpoint
