"""What the operator registered is the most an agent or application can have (protocol §3, §5.8)."""

from __future__ import annotations

from app.policy.access import AccessRequest, Denial


def rule(access: AccessRequest) -> AccessRequest | Denial:
    """For a human: the ceiling. As itself: only its own scopes, which no consent widens."""
    if access.agent is not None:
        agent = access.agent.value
        pairs = agent.own if access.human is None else agent.ceiling
        authority = access.authority.narrow(pairs=pairs, depth=agent.max_depth)
        if access.target.agent is not None:
            # What the receiver could never use is not handed to it.
            authority = authority.narrow(pairs=access.target.agent.value.ceiling)
        return access.narrowed(authority)
    if access.target.agent is not None:
        # An application that hands over has no ceiling of its own; the receiving agent's bounds it.
        return access.narrowed(access.authority.narrow(pairs=access.target.agent.value.ceiling))
    return access.narrowed(access.authority.narrow(pairs=access.client.value.pairs))
