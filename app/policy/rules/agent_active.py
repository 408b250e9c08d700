"""A suspended or retired agent does nothing (protocol §5.2)."""

from __future__ import annotations

from app.errors import InvalidClient
from app.policy.access import AccessRequest, Denial


def rule(access: AccessRequest) -> AccessRequest | Denial:
    """The acting agent must be active, and the client behind it enabled."""
    if access.agent is not None and not access.agent.value.active:
        return Denial(InvalidClient(f"the agent is {access.agent.value.state}", layer="agent"))
    if not access.client.value.enabled:
        return Denial(InvalidClient("the client is disabled"))
    return access
