"""Authorization codes: kept in live state by the hash of their value, redeemed once (RFC 6749 §4.1.2)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import orjson

from app import clock
from app.live.commit import Live, Once, Put, held_name
from app.tokens.families import Authorization, parse_authorization
from app.vocabulary import Confirmation, ConfirmationMethod

NAMESPACE = "code"
RETAIN = 900
"""Seconds a redeemed code is remembered, so that its replay still finds the family to end."""


@dataclass(frozen=True, slots=True)
class Code:
    """What a code stands for."""

    authorization: Authorization
    redirect_uri: str
    redirect_uri_sent: bool
    challenge: str
    nonce: str | None
    jkt: str | None
    """`dpop_jkt`: the key that must be proven when it is redeemed."""
    expires_at: int
    """Seconds since 1970 until which it may be redeemed."""

    @property
    def confirmation(self) -> Confirmation | None:
        """What must be proven when it is redeemed."""
        return Confirmation(ConfirmationMethod.JKT, self.jkt) if self.jkt is not None else None


def new_code(code: Code) -> tuple[str, Put]:
    """A fresh code value, and what the commit must keep for it."""
    value = "ac_" + secrets.token_urlsafe(32)
    authorization = code.authorization
    held = {
        "authorization": authorization.stored(),
        "family": authorization.family,
        "client_id": authorization.client_id,
        "human": authorization.human,
        "consent": authorization.consent,
        "session": authorization.session,
        "family_expires_at": authorization.expires_at,
        "redirect_uri": code.redirect_uri,
        "redirect_uri_sent": code.redirect_uri_sent,
        "challenge": code.challenge,
        "nonce": code.nonce,
        "jkt": code.jkt,
        "expires_at": code.expires_at,
    }
    return value, Put(NAMESPACE, value, orjson.dumps(held), RETAIN)


def read_code(live: Live, value: str) -> Code | None:
    """What a code stands for, redeemed or not; None for one that is not of this generation."""
    (found,) = live.read([held_name(NAMESPACE, value)])
    if found is None:
        return None
    held = orjson.loads(found)
    return Code(
        authorization=parse_authorization(
            held["authorization"],
            family=held["family"],
            client_id=held["client_id"],
            human=held["human"],
            consent=held["consent"],
            session=held["session"],
            expires_at=held["family_expires_at"],
        ),
        redirect_uri=held["redirect_uri"],
        redirect_uri_sent=held["redirect_uri_sent"],
        challenge=held["challenge"],
        nonce=held["nonce"],
        jkt=held.get("jkt"),
        expires_at=held["expires_at"],
    )


def redeemed(live: Live, value: str) -> bool:
    """Whether the code was redeemed before."""
    (used,) = live.read([once_code(value).name])
    return used is not None


def once_code(value: str) -> Once:
    """The mark that makes a code good once."""
    return Once(NAMESPACE, value, RETAIN)


def expires_at(lifetime: int) -> int:
    """When a code made now can no longer be redeemed; `lifetime` in seconds."""
    return clock.timestamp() + lifetime
