"""To whom an agent may pass work is a list in its registration; empty means nobody (protocol §4)."""

from __future__ import annotations

from app.errors import InvalidToken
from app.policy.access import AccessRequest, Denial, TokenKind
from app.vocabulary import GrantType


def rule(access: AccessRequest) -> AccessRequest | Denial:
    """A hand-over by exchange, approved or not, goes to an active agent on the caller's list; by a code, to whom the human consented.

    Whoever acts, and whoever is handed to, could do so already when she consented: a list that grows later widens no consent.
    """
    if access.consent is not None:
        for acts in (access.agent, access.target.agent):
            if acts is not None and not access.consent.value.names(acts.value.id):
                return Denial(InvalidToken("the consent was given before this agent could act under it", layer="consent"))
    if access.target.kind is not TokenKind.HANDOVER:
        return access
    receiver = access.target.agent
    if receiver is None or not receiver.value.active:
        return Denial(InvalidToken("the receiving agent is unknown or not active", layer="hand-over"))
    if access.grant_type not in {GrantType.TOKEN_EXCHANGE, GrantType.CIBA} or access.agent is None:
        return access
    if receiver.value.id not in access.agent.value.hands_to:
        return Denial(InvalidToken("the agent may not hand over to this one", layer="hand-over"))
    return access
