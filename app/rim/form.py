"""A protocol request's form, read strictly once: body only, each parameter once, valid UTF-8, no NUL (protocol §5.1)."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from flask import Request

from app.clients.request import ProtocolRequest
from app.errors import InvalidRequest

MAX_BODY = 65_536
"""Bytes of a form."""
MAX_FIELDS = 100
REPEATABLE = frozenset({"resource", "audience"})
VISIBLE = bytes(range(0x21, 0x7F))
BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
FORM = "application/x-www-form-urlencoded"


def parse_form(request: Request) -> ProtocolRequest:
    """The form of a POST to a protocol endpoint. Raises InvalidRequest; what it holds is never repeated back."""
    environ = request.environ
    if environ.get("QUERY_STRING"):
        raise InvalidRequest("parameters in the query")
    if environ.get("CONTENT_TYPE") != FORM:
        _check_type(request)
    if environ.get("HTTP_CONTENT_ENCODING"):
        raise InvalidRequest("an encoded body")
    body = request.get_data(cache=False)
    if len(body) > MAX_BODY:
        raise InvalidRequest("the body is too large")
    if "HTTP_DPOP" in environ:
        # Ignoring a proof would hand out a bearer token where a bound one was asked for.
        raise InvalidRequest("DPoP is not supported")
    return ProtocolRequest(
        parameters=parse_parameters(body),
        authorization=_authorization(environ.get("HTTP_AUTHORIZATION")),
        headers={"accept": environ.get("HTTP_ACCEPT", "")},
        address=request.remote_addr or "",
    )


def _check_type(request: Request) -> None:
    """Written in another way it may still be the one type."""
    if request.mimetype != FORM:
        raise InvalidRequest("not a urlencoded form")
    if request.mimetype_params.get("charset", "utf-8").lower() not in {"utf-8", "utf8"}:
        raise InvalidRequest("another charset")


def parse_parameters(encoded: bytes, repeatable: frozenset[str] = REPEATABLE) -> dict[str, tuple[str, ...]]:
    """Names and values of urlencoded text (WHATWG URL §5.1, strictly). Raises InvalidRequest."""
    if encoded.translate(None, VISIBLE) or BAD_ESCAPE.search(encoded):
        raise InvalidRequest("malformed urlencoding")
    if encoded.count(b"&") >= MAX_FIELDS:
        raise InvalidRequest("too many fields")
    found: dict[str, tuple[str, ...]] = {}
    for text in filter(None, encoded.decode("ascii").split("&")):
        name, _, value = map(_decoded, text.partition("="))
        if "\x00" in name or "\x00" in value:
            raise InvalidRequest("NUL in a parameter")
        if name in found and name not in repeatable:
            raise InvalidRequest("a parameter twice")
        found[name] = (*found.get(name, ()), value)
    return found


def _decoded(text: str) -> str:
    try:
        return unquote_to_bytes(text.replace("+", " ")).decode()
    except UnicodeDecodeError:
        raise InvalidRequest("bad UTF-8") from None


def _authorization(value: str | None) -> tuple[str, ...]:
    if value is None:
        return ()
    # gunicorn joins repeated headers with a comma; neither base64 nor a b64token has one.
    return tuple(part.strip() for part in value.split(","))
