"""An access evaluation request as it comes over the wire (OpenID AuthZEN Authorization API 1.0 §5, §6.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.errors import AccessDenied, InvalidRequest
from app.policy.access import Denial
from app.policy.call import Call
from app.tokens.verify import VerifiedToken

TOKEN = "access_token"
"""Type of a subject that is the token itself, and the member of `context` that holds it beside another subject."""
USER, AGENT = "user", "agent"
PROPERTIES = frozenset({"scope", "labels", "effect", "amount", "reference"})
"""Properties of an action that are looked at; whatever else an API sends there is its own."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a resource asks: with this token, this action at this of its things. Its token has no repr."""

    unverified_jwt: str = field(repr=False)
    subject: tuple[str, str] | None
    """Type and id that the token must be about; None where the token is the subject."""
    call: Call

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Evaluation:
        """From the JSON of a request. Raises InvalidRequest. What the specification leaves open is left alone."""
        subject, action, resource = (_entity(body, name) for name in ("subject", "action", "resource"))
        context = _object(body, "context")
        kind, identifier = _texts(subject, "type", "id")
        token = context.get(TOKEN)
        if kind == TOKEN:
            if token is not None:
                raise InvalidRequest("the token twice")
            token = identifier
        elif kind not in {USER, AGENT}:
            raise InvalidRequest("a subject is an access_token, a user or an agent")
        if not isinstance(token, str) or not token:
            raise InvalidRequest("no access_token, as subject or in context")
        properties = _object(action, "properties")
        details: dict[str, Any] = {name: properties[name] for name in sorted(PROPERTIES & properties.keys())}
        details["object"] = dict(zip(("type", "id"), _texts(resource, "type", "id"), strict=True))
        if "labels" in (about := _object(resource, "properties")):
            details["labels"] = _list(details.get("labels", [])) + _list(about["labels"])
        if "consume" in context:
            details["consume"] = context["consume"]
        return cls(token, None if kind == TOKEN else (kind, identifier), Call.parse(action.get("name"), details))

    def stranger(self, token: VerifiedToken) -> Denial | None:
        """The refusal when the token is not about the subject that was named."""
        match self.subject:
            case None:
                return None
            case ("user", identifier):
                known = token.subject if token.human else None
            case (_, identifier):
                actor = token.authority.chain.current
                known = actor.sub if actor is not None else (None if token.human else token.subject)
        return None if known == identifier else Denial(AccessDenied("the token is not about that subject", layer="subject"))


def _entity(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if name not in body:
        raise InvalidRequest(f"{name} is required")
    return _object(body, name)


def _object(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = body.get(name, {})
    if not isinstance(found, Mapping):
        raise InvalidRequest(f"{name} is an object")
    return found


def _texts(entity: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    found = tuple(entity.get(name) for name in names)
    if not all(isinstance(value, str) and value for value in found):
        raise InvalidRequest("type and id are strings")
    return tuple(map(str, found))


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRequest("labels is an array")
    return value
