"""What comes beside an access token: the ID token, with what was granted of the person's profile."""

from __future__ import annotations

from typing import Any

from app.humans.accounts import Accounts
from app.keys.store import KeyStore
from app.policy.access import AccessRequest
from app.tokens.id_token import id_token


def id_token_for(access: AccessRequest, access_token: str, keys: KeyStore, accounts: Accounts, issuer: str) -> str:
    """The ID token that goes with this access token."""
    if access.human is None or access.signed_in is None:
        raise ValueError("nobody signed in")
    return id_token(
        issuer=issuer,
        client=access.client.value,
        human=access.human,
        signed_in=access.signed_in,
        nonce=access.nonce,
        access_token=access_token,
        profile=profile(accounts, access.human),
        openid=access.openid,
        now=access.now,
        key=keys.signing_key(access.client.value.id_token_alg),
    )


def profile(accounts: Accounts, human: str) -> dict[str, Any]:
    """The standard claims we have of a person (OIDC Core §5.1)."""
    found = accounts.find(human)
    if found is None:
        return {}
    return {"name": found.name, "preferred_username": found.username, "email": found.email, "email_verified": False}
