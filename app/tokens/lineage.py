"""The `deputy` claim: what a token hangs on, so that introspection needs no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.live.models import parse_epochs, stored_epochs
from app.policy.access import Lineage

CLAIM = "deputy"


def lineage_claim(lineage: Lineage, depth: int, policies: int = 0) -> dict[str, Any]:
    """The lineage as our tokens carry it: generation, epochs, ancestors, the depth still allowed, the policy set, the approval."""
    claim: dict[str, Any] = {"g": lineage.generation, "e": stored_epochs(lineage.epochs), "d": depth}
    beside = {
        "p": list(lineage.parents),
        "c": lineage.consent,
        "f": lineage.family,
        "s": lineage.session,
        "v": policies,
        "a": lineage.approval,
    }
    return claim | {name: value for name, value in beside.items() if value}


def parse_lineage(claim: Mapping[str, Any]) -> tuple[Lineage, int]:
    """The lineage and depth of a claim that our own signature covers. Raises ValueError or KeyError otherwise."""
    lineage = Lineage(
        generation=int(claim["g"]),
        epochs=parse_epochs(claim["e"]),
        parents=tuple(claim.get("p", ())),
        consent=claim.get("c"),
        family=claim.get("f"),
        session=claim.get("s"),
        policies=int(claim.get("v", 0)),
        approval=claim.get("a"),
    )
    return lineage, int(claim["d"])
