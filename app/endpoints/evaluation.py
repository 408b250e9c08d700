"""`/access/v1/evaluation`: may this call be carried out (OpenID AuthZEN Authorization API 1.0 §6, §10.1)."""

from __future__ import annotations

import re

from flask import Blueprint, Response

from app.endpoints.guards import Guards
from app.rim.json_body import authenticating, json_body
from app.rim.logs import ECHOED
from app.rim.problems import json_response
from app.tokens.evaluation import Evaluation
from app.tokens.introspection import Introspection

PATH = "/access/v1/evaluation"
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,200}")


def blueprint(introspection: Introspection, guards: Guards) -> Blueprint:
    """The access evaluation endpoint."""
    endpoint = Blueprint("evaluation", __name__)

    @endpoint.post(PATH)
    def evaluate() -> Response:
        with guards.admitted() as request:
            sent = request.headers.get("X-Request-Id", "")
            if REQUEST_ID.fullmatch(sent):
                # The caller's own id comes back in place of ours (AuthZEN §10.1.3).
                request.environ[ECHOED] = sent
            body = json_body(request)
            return json_response(introspection.evaluate(authenticating(request, body), Evaluation.parse(body)))

    return endpoint
