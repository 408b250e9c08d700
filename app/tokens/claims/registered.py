"""`iss`, `aud`, `sub`, `client_id`, `iat`, `exp`, `jti` (RFC 9068 §2.2)."""

from __future__ import annotations

from typing import Any

from app.policy.access import AccessRequest


def claims(access: AccessRequest, issuer: str, jti: str) -> dict[str, Any]:
    """Who issued it, for whom, about whom, from when until when."""
    agent = access.agent.value.uri if access.agent is not None else access.client.value.client_id
    return {
        "iss": issuer,
        "aud": access.target.audience,
        "sub": access.human or agent,
        "client_id": access.client.value.client_id,
        "iat": access.now,
        "exp": access.authority.end,
        "jti": jti,
    }
