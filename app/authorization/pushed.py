"""Pushed authorization requests (RFC 9126): kept in live state, for their client, for a short while, for one approval."""

from __future__ import annotations

import secrets

import orjson

from app.authorization.request import Parameters
from app.errors import InvalidRequestURI
from app.live.commit import Live, Once, Put, held_name

NAMESPACE = "par"
URN = "urn:ietf:params:oauth:request_uri:"


def new_request_uri(parameters: Parameters, lifetime: int) -> tuple[str, Put]:
    """A fresh `request_uri`, and what the commit must keep for it for `lifetime` seconds."""
    request_uri = URN + secrets.token_urlsafe(32)
    held = {name: list(values) for name, values in parameters.items()}
    return request_uri, Put(NAMESPACE, request_uri, orjson.dumps(held), lifetime)


def read_pushed(live: Live, request_uri: str, client_id: str | None) -> Parameters:
    """The parameters that were pushed. Reading uses nothing up. Raises InvalidRequestURI."""
    if not request_uri.startswith(URN):
        raise InvalidRequestURI("not one of ours")
    found, used = live.read([held_name(NAMESPACE, request_uri), once_pushed(request_uri, 0).name])
    if found is None or used is not None:
        raise InvalidRequestURI("unknown, expired or used")
    parameters = {name: tuple(values) for name, values in orjson.loads(found).items()}
    if parameters["client_id"] != (client_id,):
        raise InvalidRequestURI("another client's")
    return parameters


def once_pushed(request_uri: str, seconds: int) -> Once:
    """The mark that makes a pushed request good for one answer."""
    return Once(NAMESPACE, request_uri, seconds)
