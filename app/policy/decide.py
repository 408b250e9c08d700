"""Fold the rules: the first denial wins, narrowing adds up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.delegation.authority import Authority
from app.policy.access import AccessRequest, Denial, Permit, _permit
from app.policy.rules import RULES


def decide(access: AccessRequest) -> Permit | Denial:
    """Permit what every rule left, or say which layer refused. Pure: the same request, the same answer."""
    layers: list[Mapping[str, Any]] = []
    for rule in RULES:
        before = access.authority
        verdict = rule(access)
        if isinstance(verdict, Denial):
            return replace(verdict, layers=tuple(layers))
        access = verdict
        if access.authority is not before:
            layers.append({"layer": rule.__module__.rpartition(".")[2], **_taken(before, access.authority)})
    return _permit(access, tuple(layers))


def _taken(before: Authority, after: Authority) -> dict[str, Any]:
    taken: dict[str, Any] = {}
    if before.pairs != after.pairs:
        taken["pairs"] = [" ".join(pair) for pair in sorted(before.pairs - after.pairs)]
    if before.end != after.end:
        taken["end"] = after.end
    if before.depth != after.depth:
        taken["depth"] = after.depth
    return taken
