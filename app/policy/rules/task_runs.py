"""When the task ends, so does the access (protocol §7)."""

from __future__ import annotations

from app.errors import InvalidGrant, InvalidToken
from app.policy.access import AccessRequest, Denial
from app.vocabulary import GrantType


def rule(access: AccessRequest) -> AccessRequest | Denial:
    """A delegated token belongs to one running task, under its consent, and ends with it."""
    if access.authority.chain.depth == 0 or access.human is None:
        return access
    held = access.task
    if held is None or not held.value.live(access.now, access.lineage.generation) or held.value.consent != access.lineage.consent:
        refusal = InvalidToken if access.grant_type is GrantType.TOKEN_EXCHANGE else InvalidGrant
        return Denial(refusal("the task has ended", layer="task"))
    return access.narrowed(access.authority.narrow(pairs=held.value.pairs, end=held.value.deadline, amount=held.value.limits.amount))
