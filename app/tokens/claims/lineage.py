"""`deputy`: what the token hangs on."""

from __future__ import annotations

from typing import Any

from app.policy.access import AccessRequest
from app.tokens.lineage import CLAIM, lineage_claim


def claims(access: AccessRequest, _issuer: str, _jti: str) -> dict[str, Any]:
    """Generation, epochs, ancestors: what introspection compares with Redis."""
    return {CLAIM: lineage_claim(access.lineage, access.authority.depth, access.policies)}
