"""A JSON body, read strictly once: one object, each member once, nothing in the query."""

from __future__ import annotations

from typing import Any

from flask import Request

from app.clients.request import ProtocolRequest
from app.errors import InvalidRequest
from app.keys.strict import Malformed, json_object
from app.rim.certificates import client_certificate
from app.rim.form import MAX_BODY, parse_authorization
from app.tokens.tasks import CREDENTIALS


def json_body(request: Request, *, optional: bool = False) -> dict[str, Any]:
    """The JSON object of a request; where it is `optional`, no body is an empty one. Raises InvalidRequest."""
    if request.query_string:
        raise InvalidRequest("parameters in the query")
    body = request.get_data(cache=False)
    if optional and not body:
        return {}
    if request.mimetype != "application/json":
        raise InvalidRequest("not JSON", description="The body is JSON, and its Content-Type says so.")
    if len(body) > MAX_BODY:
        raise InvalidRequest("the body is too large")
    try:
        return json_object(body)
    except Malformed as error:
        raise InvalidRequest(str(error), description="The body is not one JSON object with each member once.") from None


def authenticating(request: Request, body: dict[str, Any]) -> ProtocolRequest:
    """How the caller authenticates: in the header, or with the members of RFC 6749 §2.3.1 and RFC 7521 §4.2 in the body."""
    credentials = {name: (value,) for name, value in body.items() if name in CREDENTIALS and isinstance(value, str)}
    return ProtocolRequest(
        parameters=credentials,
        authorization=parse_authorization(request.headers.get("Authorization")),
        address=request.remote_addr or "",
        certificate=client_certificate(request),
    )
