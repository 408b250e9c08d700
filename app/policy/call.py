"""One call of an API with a token: what is to be done, and how to read it from a resource that asks about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.delegation.limits import Amount, parse_amount
from app.errors import InvalidRequest
from app.vocabulary import SCOPE_TOKEN, is_label, is_plain

MAX_ACTION = 100
MAX_REFERENCE = 100
MAX_LABELS = 32
MAX_OBJECT = 200
DETAILS = frozenset({"scope", "labels", "effect", "amount", "reference", "object", "consume"})
"""What a resource can say of a call beside its name."""

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """What a resource is about to do with a token."""

    action: str
    scope: str
    """The scope it needs: the action's own name, unless the resource says another."""
    labels: frozenset[str] = frozenset()
    """What it touches besides the labels of resource and scope."""
    amount: Amount | None = None
    done_to: tuple[str, str] | None = None
    """Type and id of the object."""
    reference: str | None = None
    """The resource's own id of it: the same once more is not counted again."""
    consume: bool = False
    """Whether it counts as done when it is permitted. Otherwise it is only looked at."""

    def facts(self) -> dict[str, Any]:
        """What the policies may look at beside its name."""
        found: dict[str, Any] = {}
        if self.amount is not None:
            found["amount"] = self.amount.stored()
        if self.done_to is not None:
            found["object"] = {"type": self.done_to[0], "id": self.done_to[1]}
        return found

    @classmethod
    def parse(cls, action: object, details: Body) -> Call:
        """From an action's name and details. Raises InvalidRequest for whatever is not understood."""
        if not isinstance(action, str) or not is_plain(action, MAX_ACTION):
            raise InvalidRequest("action is a short text")
        if not details.keys() <= DETAILS:
            raise InvalidRequest("a detail that is not known")
        scope = details.get("scope", action)
        if not isinstance(scope, str) or not ("scope" not in details or SCOPE_TOKEN.fullmatch(scope)):
            raise InvalidRequest("scope is one scope")
        consume = details.get("consume", False)
        if not isinstance(consume, bool):
            raise InvalidRequest("consume is true or false")
        return cls(action, scope, parse_labels(details), parse_spent(details), _object(details), parse_reference(details), consume)


def parse_labels(body: Body) -> frozenset[str]:
    """`labels` and `effect` of what is done. Raises InvalidRequest."""
    labels = body.get("labels", [])
    if not isinstance(labels, list) or len(labels) > MAX_LABELS:
        raise InvalidRequest("labels is a short array")
    found = [*labels, *([body["effect"]] if "effect" in body else [])]
    if not all(isinstance(label, str) and is_label(label) for label in found):
        raise InvalidRequest("not a label")
    return frozenset(found)


def parse_spent(body: Body) -> Amount | None:
    """`amount` of what is done. Raises InvalidRequest."""
    if "amount" not in body:
        return None
    try:
        return parse_amount(body["amount"], "value")
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


def parse_reference(body: Body) -> str | None:
    """`reference`: the resource's own id of what is done. Raises InvalidRequest."""
    reference = body.get("reference")
    if reference is not None and (not isinstance(reference, str) or not is_plain(reference, MAX_REFERENCE)):
        raise InvalidRequest("reference is a short text")
    return reference


def _object(body: Body) -> tuple[str, str] | None:
    if "object" not in body:
        return None
    given = body["object"]
    if not isinstance(given, Mapping) or given.keys() != {"type", "id"}:
        raise InvalidRequest("object has type and id")
    if not all(isinstance(value, str) and is_plain(value, MAX_OBJECT) for value in given.values()):
        raise InvalidRequest("type and id of an object are short texts")
    return given["type"], given["id"]
