"""`auth_time`, `acr`, `amr`: the human's, never refreshed by an agent (RFC 9068 §2.2.1)."""

from __future__ import annotations

from typing import Any

from app.policy.access import AccessRequest


def claims(access: AccessRequest, _issuer: str, _jti: str) -> dict[str, Any]:
    """How the human signed in."""
    if access.signed_in is None:
        return {}
    return {"auth_time": access.signed_in.auth_time, "acr": access.signed_in.acr, "amr": list(access.signed_in.amr)}
