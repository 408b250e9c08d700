"""The OpenAPI 3.1 document, made of the operations: it cannot say anything else than the code does."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from app.api.answers import Problem
from app.api.operations import OPERATIONS, Operation
from app.oversight.caller import NAME, PATH, WORDS

REFERENCE = "#/components/schemas/{model}"
VERSION = "1.0.0"
"""Of the API: what is added raises the middle number; what is taken away gets another path."""

REFUSALS = {
    "400": "Not what this takes.",
    "401": "No token, or one that is not good here; or the human must sign in anew.",
    "403": "The token has not the scope, or whoever it acts for no office for it.",
    "404": "Not there, or not within reach.",
    "405": "Another method.",
    "409": "The rules of the house forbid it; error_description says which.",
    "429": "Too many requests.",
    "503": "Nothing can be said safely just now; Retry-After says when to come again.",
}


def document(issuer: str) -> dict[str, Any]:
    """The document of a server."""
    schemas = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, schemas[operation.takes.__name__])
    for operation in OPERATIONS:
        schemas.pop(operation.takes.__name__, None)
    return {
        "openapi": "3.1.0",
        "info": {"title": NAME, "version": VERSION, "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": issuer + PATH}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": _security(issuer)}},
    }


def _schemas() -> dict[str, Any]:
    taken = [(operation.takes, "validation") for operation in OPERATIONS]
    given = [(operation.gives, "serialization") for operation in OPERATIONS]
    _, found = models_json_schema([*taken, *given, (Problem, "serialization")], ref_template=REFERENCE)  # type: ignore[list-item]
    schemas: dict[str, Any] = found["$defs"]
    return schemas


def _operation(operation: Operation, takes: dict[str, Any]) -> dict[str, Any]:
    members: dict[str, Any] = takes.get("properties", {})
    in_path = [name for name in members if f"{{{name}}}" in operation.path]
    beside = {name: schema for name, schema in members.items() if name not in in_path}
    parameters = [{"name": name, "in": "path", "required": True, "schema": members[name]} for name in in_path]
    said: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": "Needs one of the scopes " + ", ".join(f"`{scope.value}`" for scope in operation.scopes) + ".",
        "security": [{"token": [scope.value]} for scope in operation.scopes],
    }
    if operation.method == "GET":
        parameters += [{"name": name, "in": "query", "required": False, "schema": _given(schema)} for name, schema in beside.items()]
    elif beside:
        required = [name for name in takes.get("required", ()) if name in beside]
        body = {"type": "object", "properties": beside, "required": required, "additionalProperties": False}
        said["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if parameters:
        said["parameters"] = parameters
    refusals = {status: _answer(words, "Problem") for status, words in REFUSALS.items()}
    said["responses"] = {"200": _answer(operation.gives.__doc__ or "", operation.gives.__name__), **refusals}
    return said


def _given(schema: dict[str, Any]) -> dict[str, Any]:
    """As a parameter that is not given is: absent, never null."""
    schema = {name: value for name, value in schema.items() if not (name == "default" and value is None)}
    options = [one for one in schema.pop("anyOf", ()) if one != {"type": "null"}]
    return {**schema, **options[0]} if options else schema


def _answer(words: str, model: str) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": {"$ref": REFERENCE.format(model=model)}}}}


def _security(issuer: str) -> dict[str, Any]:
    scopes = {scope.value: words for scope, words in WORDS.items()}
    token_url = issuer + "/oauth/token"
    return {
        "type": "oauth2",
        "description": f"An access token of this server with the audience {issuer + PATH}, as a bearer's or bound (RFC 6750, RFC 9449).",
        "flows": {
            "clientCredentials": {"tokenUrl": token_url, "scopes": scopes},
            "authorizationCode": {"authorizationUrl": issuer + "/oauth/authorize", "tokenUrl": token_url, "scopes": scopes},
        },
    }
