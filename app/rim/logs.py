"""Structured JSON logs with a request id. What may hold a secret never reaches a logger."""

from __future__ import annotations

import logging
import re
import sys

import orjson
import structlog
from flask import Flask, Response, g, has_app_context, request

from app import clock
from app.vocabulary import new_id

MAX_FIELD = 300
UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def configure() -> None:
    """One JSON object a line on standard error; Authlib's debug lines, which hold tokens, stay off."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s", force=True)
    logging.getLogger("authlib").setLevel(logging.INFO)
    structlog.configure(
        processors=[
            _name_request,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=lambda event, **_: orjson.dumps(event, default=str).decode()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _name_request(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Under which request a line was written. Most requests write none, so it is looked up here and not set down there."""
    if has_app_context() and (request_id := g.get("request_id")):
        event["request_id"] = request_id
    return event


def clean(value: str) -> str:
    """A value from outside as one short printable line."""
    return UNPRINTABLE.sub("?", value[:MAX_FIELD])


def install(app: Flask) -> None:
    """Log every answer that is not plain success, under a request id that the answer carries too."""
    log = structlog.get_logger("deputy.http")

    @app.before_request
    def _begin() -> None:
        g.request_id = new_id("req")
        g.started = clock.monotonic()

    @app.after_request
    def _end(response: Response) -> Response:
        request_id = g.get("request_id")
        if request_id:
            response.headers["X-Request-Id"] = request_id
        if response.status_code >= 400:
            # The path only: a query can carry a code or a hint.
            log.info(
                "answered",
                method=clean(request.method),
                path=clean(request.path),
                status=response.status_code,
                milliseconds=round((clock.monotonic() - g.get("started", clock.monotonic())) * 1000, 1),
            )
        return response
