"""Every delegated token hangs on one live consent and stays within it (protocol §5.4)."""

from __future__ import annotations

from app.errors import InvalidGrant, InvalidToken, OAuthError
from app.policy.access import AccessRequest, Denial
from app.vocabulary import GrantType


def rule(access: AccessRequest) -> AccessRequest | Denial:
    """Pairs, end, depth and limit of the consent bound the request; a consent that ended gives nothing."""
    if access.human is None:
        return access
    held = access.consent
    if held is None:
        if access.authority.pairs:
            return Denial(_refusal(access, "no consent"))
        return access
    consent = held.value
    if not consent.live(access.now):
        return Denial(_refusal(access, "the consent is paused" if consent.paused else "the consent has ended"))
    if consent.human != access.human:
        return Denial(_refusal(access, "the consent is another human's"))
    limit = consent.limits.amount
    return access.narrowed(access.authority.narrow(pairs=consent.pairs, end=consent.until, depth=consent.depth, amount=limit))


def _refusal(access: AccessRequest, reason: str) -> OAuthError:
    if access.grant_type is GrantType.TOKEN_EXCHANGE:
        return InvalidToken(reason, layer="consent")
    return InvalidGrant(reason, layer="consent")
