"""`act`, `may_act` (RFC 8693 §4.1, §4.4) and `txn` (RFC 8417 §2.2)."""

from __future__ import annotations

from typing import Any

from app.policy.access import AccessRequest, TokenKind
from app.vocabulary import ACTOR_PROFILE_AGENT


def claims(access: AccessRequest, issuer: str, _jti: str) -> dict[str, Any]:
    """Who acts, for which task; and for a hand-over, who alone may act next."""
    found: dict[str, Any] = {}
    if (act := access.authority.chain.claim()) is not None:
        found["act"] = act
        if access.task is not None:
            found["txn"] = access.task.value.id
    elif access.instance is not None:
        # An agent's own token has no `act` in which its running copies could be told apart (ADR 0018).
        found["instance"] = access.instance.value.id
    if access.target.kind is TokenKind.HANDOVER and access.target.agent is not None:
        found["may_act"] = {"iss": issuer, "sub": access.target.agent.value.uri, "sub_profile": ACTOR_PROFILE_AGENT}
    return found
