"""`@ask` on a policy: it forbids unless a human says otherwise, to exactly this or by having signed in just now."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

ANNOTATION = "ask"
APPROVAL = "approval"
SIGN_IN = re.compile(r"sign-in:([1-9][0-9]{0,6})")


class Ask(NamedTuple):
    """What a policy that forbids wants to let a request pass."""

    max_age: int | None = None
    """Seconds since the human's sign-in at most; None: that she approves exactly this."""


class Approved(NamedTuple):
    """What a human answered to the policies about one request."""

    policies: frozenset[str]
    """Those that she was told of when she said yes. She has said nothing to any other."""
    sign_in_age: int
    """How long before it she had signed in, in seconds."""

    def recorded(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        return {"policies": sorted(self.policies), "sign_in_age": self.sign_in_age}

    @classmethod
    def parse(cls, recorded: Mapping[str, Any]) -> Approved:
        """The inverse of `recorded`. Raises TypeError or KeyError for anything else."""
        return cls(frozenset(recorded["policies"]), recorded["sign_in_age"])


def parse_ask(value: object) -> Ask:
    """The ask that an annotation's value means. Raises ValueError for one that means nothing."""
    if value == APPROVAL:
        return Ask()
    if isinstance(value, str) and (found := SIGN_IN.fullmatch(value)):
        return Ask(int(found[1]))
    raise ValueError('@ask is "approval" or "sign-in:SECONDS"')


def met(ask: Ask, policy: str, context: Mapping[str, Any], approved: Approved | None) -> bool:
    """Whether the policy has what it asks for: an approval that knew of it, or a sign-in that is fresh enough.

    What acts for nobody has nobody to ask.
    """
    if not context["human"]:
        return False
    if approved is not None and policy in approved.policies:
        return ask.max_age is None or approved.sign_in_age <= ask.max_age
    return ask.max_age is not None and bool(context["acr"]) and context["sign_in_age"] <= ask.max_age
