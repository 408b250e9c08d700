"""A token ends no later than the running copy of the agent that asks for it (protocol §5.10)."""

from __future__ import annotations

from app.errors import InvalidClient
from app.policy.access import AccessRequest, Denial


def rule(access: AccessRequest) -> AccessRequest | Denial:
    """The instance must be this client's, live, and born since the agent last ended; its end is an end."""
    if access.instance is None:
        return access
    instance, client = access.instance.value, access.client
    if instance.client_id != client.value.client_id or instance.born != client.reading.epoch or not instance.live(access.now):
        return Denial(InvalidClient("the instance has ended", layer="instance"))
    return access.narrowed(access.authority.narrow(end=instance.expires_at))
