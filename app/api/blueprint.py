"""The routes, one for each operation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from flask import Blueprint, Response

from app.api.doorkeeper import Doorkeeper, read
from app.api.openapi import document
from app.api.operations import OPERATIONS, Operation
from app.errors import NotFound, Refused
from app.oversight.caller import PATH
from app.oversight.office import Office
from app.rim.form import presented_token
from app.rim.problems import JSON, json_response

if TYPE_CHECKING:
    from app.endpoints.guards import Guards


def blueprint(office: Office, doorkeeper: Doorkeeper, issuer: str, guards: Guards) -> Blueprint:
    """The API, and the document that describes it."""
    api = Blueprint("api", __name__, url_prefix=PATH)
    described = orjson.dumps(document(issuer))

    @api.get("/openapi.json")
    def openapi() -> Response:
        with guards.admitted():
            return Response(described, content_type=JSON)

    def served(operation: Operation) -> None:
        def view(**in_path: str) -> Response:
            with guards.admitted() as request:
                # Who may not is told so before anything of the request is looked at.
                caller = doorkeeper.admit(presented_token(request), operation)
                asked = read(request, operation, in_path)
                try:
                    answer = operation.act(office, caller, asked)
                except NotFound:
                    return json_response({"error": "not_found", "error_description": "Not there, or not within reach."}, 404)
                except Refused as refused:
                    return json_response({"error": "refused", "error_description": str(refused)}, 409)
                return Response(answer.model_dump_json(), content_type=JSON)

        path = operation.path.replace("{", "<").replace("}", ">")
        api.add_url_rule(path, operation.name, view, methods=[operation.method])

    for operation in OPERATIONS:
        served(operation)
    guards.roll_nonces(api)
    return api
