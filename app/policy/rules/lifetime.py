"""`exp` is the least of everything; a thousand exchanges never extend it (protocol §5.10)."""

from __future__ import annotations

from app.errors import InvalidGrant, InvalidToken
from app.policy.access import AccessRequest, Denial
from app.vocabulary import GrantType


def rule(access: AccessRequest) -> AccessRequest | Denial:
    """End at now + the default at the latest; an end that is already there is a refusal."""
    authority = access.authority.narrow(end=access.now + access.lifetime)
    if authority.end <= access.now:
        refusal = InvalidToken if access.grant_type is GrantType.TOKEN_EXCHANGE else InvalidGrant
        return Denial(refusal("nothing of its time is left", layer="lifetime"))
    return access.narrowed(authority)
