"""Every error becomes the RFC's answer here, and nowhere else. What the caller hears is `description`; `reason` is logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import structlog
from authlib.oauth2 import OAuth2Error
from flask import Flask, Response, request
from gunicorn.http.errors import NoMoreData, ParseException
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException

from app.errors import InvalidBearer, InvalidClient, InvalidRequest, MissingBearer, OAuthError, TemporarilyUnavailable
from app.rim.noise import Noise

log = structlog.get_logger("deputy.problem")

PAGES = ("/login", "/logout", "/consent", "/my/", "/oauth/authorize", "/admin")
PROGRAMS = ("/oauth/", "/tasks", "/agents/", "/access/", "/api/")
JSON = "application/json"


def json_response(body: dict[str, Any], status: int = 200) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(body), status, content_type=JSON)


def problem(error: OAuthError) -> Response:
    """The answer of RFC 6749 §5.2 for an error, with the headers its status asks for."""
    body: dict[str, Any] = {"error": str(error.error), "error_description": error.description, **error.extra}
    if error.error == "access_denied":
        body["layer"] = error.layer
    response = json_response(body, error.status_code)
    if isinstance(error, InvalidClient):
        response.headers["WWW-Authenticate"] = 'Basic realm="Deputy", charset="UTF-8"'
    if isinstance(error, InvalidBearer):
        said = "" if isinstance(error, MissingBearer) else f', error="{error.error}"'
        response.headers["WWW-Authenticate"] = f'Bearer realm="Deputy"{said}'
    for name, value in error.headers.items():
        response.headers[name] = value
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def install(app: Flask, noise: Noise, page: Callable[[Exception], Response]) -> None:
    """Register the handlers. `page` renders an error for a human."""

    def answer(error: OAuthError) -> Response:
        noise.count(error)
        if error.status_code == 503:
            log.warning("unavailable", reason=error.reason)
        else:
            log.info("refused", error=str(error.error), layer=error.layer, reason=error.reason)
        if request.path.startswith(PAGES) or request.path == "/":
            return page(error)
        return problem(error)

    @app.errorhandler(OAuthError)
    def _ours(error: OAuthError) -> Response:
        return answer(error)

    @app.errorhandler(OAuth2Error)
    def _authlibs(error: OAuth2Error) -> Response:
        return answer(InvalidRequest(f"authlib: {error.error}"))

    @app.errorhandler(ParseException)
    @app.errorhandler(NoMoreData)
    def _framing(error: Exception) -> Response:
        # A chunked body is parsed while it is read, so what is wrong with it comes up here (RFC 9112 §7.1).
        return answer(InvalidRequest(f"the body cannot be read: {type(error).__name__}"))

    @app.errorhandler(SQLAlchemyError)
    def _sql(error: SQLAlchemyError) -> Response:
        return answer(TemporarilyUnavailable(f"sql: {type(error).__name__}"))

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        status = error.code or 400
        if status == 413:
            return answer(InvalidRequest("the body is too large"))
        if request.path.startswith(PROGRAMS) and request.path != "/oauth/authorize":
            response = json_response({"error": "invalid_request", "error_description": error.name}, status)
        else:
            response = page(error)
        for name, value in error.get_headers():
            if name not in {"Content-Type", "Content-Length"}:
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def _unforeseen(error: Exception) -> Response:
        # A bug. Its message may hold anything, so only its class and place are logged; the answer is "not safely".
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "?"
        log.error("unforeseen", kind=type(error).__name__, where=where)
        return answer(TemporarilyUnavailable("unforeseen"))
