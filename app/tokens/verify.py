"""Read our own tokens back: signature, type, issuer, time, in one order for all. Liveness is asked of Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from app.delegation.authority import Authority
from app.delegation.chain import Actor, ActorChain
from app.keys.verifier import JWTRefused, TokenVerifier, VerifiedJWT
from app.policy.access import Lineage, SignedInAs
from app.tokens.authorization_details import Access, parse_resource_access
from app.tokens.lineage import CLAIM, parse_lineage
from app.vocabulary import Confirmation, JWTType, Pair


@dataclass(frozen=True, slots=True, repr=False)
class VerifiedToken:
    """A token of ours: its signature, type, issuer and time are good. Whether it lives is not said here."""

    typ: JWTType
    jti: str
    subject: str
    audience: str
    client_id: str
    authority: Authority
    signed_in: SignedInAs | None
    task: str | None
    may_act: Actor | None
    lineage: Lineage
    claims: Mapping[str, Any]
    """As signed. Shared by all who read the token: nobody writes to them."""

    @property
    def denied_by(self) -> tuple[str, ...]:
        """The `jti`s whose denial kills it: its own and its ancestors'."""
        return (self.jti, *self.lineage.parents)

    @property
    def instance(self) -> str | None:
        """Which running copy of the current agent it was given to, where that was told apart."""
        current = self.authority.chain.current
        return (current.instance if current is not None else self.claims.get("instance")) or None

    @property
    def human(self) -> bool:
        """Whether its subject is a human: an agent's own token names the agent twice."""
        return self.signed_in is not None


class TokenReader:
    """Reads tokens that this issuer signed."""

    def __init__(self, issuer: str, verifier: TokenVerifier) -> None:
        self._issuer = issuer
        self._verifier = verifier

    def read(self, unverified_jwt: str, *typ: JWTType, now: int) -> VerifiedToken:
        """The token, if it is one of these types, ours, and not expired at `now` (seconds). Raises `JWTRefused`."""
        token = self._verifier.read_own(unverified_jwt, frozenset(typ), _read)
        if token.claims.get("iss") != self._issuer:
            raise JWTRefused("another issuer")
        if token.authority.end <= now:
            raise JWTRefused("expired")
        return token


def _read(verified: VerifiedJWT) -> VerifiedToken:
    try:
        return _parse(JWTType(verified.header["typ"]), verified.claims)
    except (KeyError, TypeError, ValueError) as error:
        raise JWTRefused(f"unreadable: {type(error).__name__}") from None


def _parse(typ: JWTType, claims: Mapping[str, Any]) -> VerifiedToken:
    lineage, depth = parse_lineage(claims[CLAIM])
    signed_in = None
    if "auth_time" in claims:
        signed_in = SignedInAs(claims["auth_time"], claims["acr"], tuple(claims["amr"]))
    access = _access(typ, claims)
    return VerifiedToken(
        typ=typ,
        jti=claims["jti"],
        subject=claims["sub"],
        audience=claims["aud"],
        client_id=claims["client_id"],
        authority=Authority(
            pairs=access.pairs,
            end=claims["exp"],
            chain=ActorChain.parse(claims.get("act")),
            depth=depth,
            confirmation=Confirmation.parse(claims["cnf"]) if "cnf" in claims else None,
            amount=access.amount,
        ),
        signed_in=signed_in,
        task=claims.get("txn"),
        may_act=Actor.parse(claims["may_act"]) if "may_act" in claims else None,
        lineage=lineage,
        claims=MappingProxyType(dict(claims)),
    )


def _access(typ: JWTType, claims: Mapping[str, Any]) -> Access:
    if typ is JWTType.HANDOVER or "authorization_details" in claims:
        return parse_resource_access(claims["authorization_details"])
    return Access(frozenset(Pair(claims["aud"], scope) for scope in claims.get("scope", "").split()))
