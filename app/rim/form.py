"""A protocol request's form, read strictly once: body only, each parameter once, valid UTF-8, no NUL (protocol §5.1)."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from flask import Request

from app.clients.proof import PresentedProof
from app.clients.request import ProtocolRequest
from app.errors import InvalidRequest
from app.rim.certificates import CERTIFICATE, client_certificate
from app.tokens.presented import PresentedToken

MAX_BODY = 65_536
"""Bytes of a form, or of a JSON body."""
MAX_FIELDS = 100
REPEATABLE = frozenset({"resource", "audience"})
VISIBLE = bytes(range(0x21, 0x7F))
BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
LENGTH = re.compile(r"[0-9]{1,5}")
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
    body = _body(request)
    if len(body) > MAX_BODY:
        raise InvalidRequest("the body is too large")
    return ProtocolRequest(
        parameters=parse_parameters(body),
        authorization=parse_authorization(environ.get("HTTP_AUTHORIZATION")),
        headers={"accept": environ.get("HTTP_ACCEPT", "")},
        address=request.remote_addr or "",
        proof=presented_proof(request) if "HTTP_DPOP" in environ else None,
        certificate=client_certificate(request) if CERTIFICATE in environ else None,
    )


def _body(request: Request) -> bytes:
    """The body. Where the server has it whole and says how long it is, Werkzeug's bounds around it have nothing to add."""
    environ = request.environ
    length = environ.get("CONTENT_LENGTH", "")
    if environ.get("wsgi.input_terminated") and LENGTH.fullmatch(length) and int(length) <= MAX_BODY:
        body: bytes = environ["wsgi.input"].read(int(length))
        if len(body) != int(length):
            raise InvalidRequest("the body ends early")
        return body
    return request.get_data(cache=False)


def presented_proof(request: Request) -> PresentedProof:
    """The `DPoP` header of a request that has one."""
    return PresentedProof(request.environ["HTTP_DPOP"], request.method, request.path)


def presented_token(request: Request) -> PresentedToken:
    """The token in the `Authorization` header of a request, and its proof (RFC 6750 §2.1, RFC 9449 §7.1)."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    proof = presented_proof(request) if "HTTP_DPOP" in request.environ else None
    return PresentedToken(scheme.lower(), value.strip(), proof, client_certificate(request))


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
        name, _, value = text.partition("=")
        name, value = _decoded(name), _decoded(value)
        if "\x00" in name or "\x00" in value:
            raise InvalidRequest("NUL in a parameter")
        if name in found and name not in repeatable:
            raise InvalidRequest("a parameter twice")
        found[name] = (*found.get(name, ()), value)
    return found


def _decoded(text: str) -> str:
    if "%" not in text:
        return text.replace("+", " ")
    try:
        return unquote_to_bytes(text.replace("+", " ")).decode()
    except UnicodeDecodeError:
        raise InvalidRequest("bad UTF-8") from None


def parse_authorization(value: str | None) -> tuple[str, ...]:
    """Every Authorization header of a request."""
    if value is None:
        return ()
    # gunicorn joins repeated headers with a comma; neither base64 nor a b64token has one.
    return tuple(part.strip() for part in value.split(","))
