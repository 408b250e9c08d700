"""`--bound`: how tokens must be bound, in words."""

from __future__ import annotations

from collections.abc import Iterable

from app.vocabulary import ConfirmationMethod

WAYS = ("dpop", "mtls", "any")
_SAID = {ConfirmationMethod.JKT: "dpop", ConfirmationMethod.X5T_S256: "mtls"}


def ways_of(bound: str | None) -> tuple[ConfirmationMethod, ...]:
    """The ways that `--bound` names; none where it was left out."""
    return tuple(method for method, word in _SAID.items() if bound in {word, "any"})


def said_bound(methods: Iterable[ConfirmationMethod | str]) -> str:
    """What a registration demands."""
    return " or ".join(_SAID[ConfirmationMethod(method)] for method in sorted(methods)) or "not demanded"
