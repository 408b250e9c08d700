"""Structured JSON logs with a request id. What may hold a secret never reaches a logger."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from flask import Flask, has_request_context, request

from app import clock
from app.vocabulary import new_id

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

REQUEST_ID, BEGAN = "deputy.request_id", "deputy.began"
"""In the WSGI environment: the request's id, and when it arrived on the monotonic clock."""
ECHOED = "deputy.echoed"
"""There as well: an id of the caller's own that the answer carries instead."""

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
    if has_request_context() and (request_id := request.environ.get(REQUEST_ID)):
        event["request_id"] = request_id
    return event


def clean(value: str) -> str:
    """A value from outside as one short printable line."""
    return UNPRINTABLE.sub("?", value[:MAX_FIELD])


def install(app: Flask) -> None:
    """Log every answer that is not plain success, under a request id that the answer carries too."""
    log = structlog.get_logger("deputy.http")
    inner = app.wsgi_app

    def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request_id = environ[REQUEST_ID] = new_id("req")
        began: float = environ.setdefault(BEGAN, clock.monotonic())

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Callable[[bytes], object]:
            headers.append(("X-Request-Id", environ.get(ECHOED, request_id)))
            if status >= "400":
                # The path only: a query can carry a code or a hint.
                log.info(
                    "answered",
                    method=clean(environ["REQUEST_METHOD"]),
                    path=clean(environ.get("PATH_INFO", "")),
                    status=int(status[:3]),
                    milliseconds=round((clock.monotonic() - began) * 1000, 1),
                )
            return start_response(status, headers, *more)

        return inner(environ, start)

    app.wsgi_app = outer  # type: ignore[method-assign]
