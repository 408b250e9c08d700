"""Sign what was permitted. Only a `Permit` can be prepared, only what was prepared can be signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.errors import InvalidToken
from app.keys.signer import SigningKey, TokenTooLarge, Unsigned
from app.keys.signer import prepare as unsigned
from app.live.things import Thing
from app.policy.access import Permit, TokenKind
from app.tokens.claims import CLAIMS
from app.tokens.lineage import CLAIM
from app.vocabulary import JWTType, SigningAlg, new_id


@dataclass(frozen=True, slots=True)
class Prepared:
    """A token but for its signature: everything that can fail before the commit has been done."""

    permit: Permit
    jti: str
    key: SigningKey
    epochs: Mapping[Thing, int]
    """All it hangs on, its signing key too."""
    jwt: Unsigned = field(repr=False)


def signing_alg(permit: Permit) -> SigningAlg:
    """The algorithm its resource asked for; ES256 for what only we read."""
    resource = permit.access.target.resource
    return resource.value.alg if resource is not None else SigningAlg.ES256


def prepare(permit: Permit, issuer: str, key: SigningKey) -> Prepared:
    """Claims of the token, serialised. Raises `InvalidToken` for one that would not be read back: never cut."""
    access, jti = permit.access, new_id("tok")
    claims: dict[str, Any] = {}
    for group in CLAIMS:
        claims |= group(access, issuer, jti)
    # A revoked key never signs again, so what it signed was born under its epoch 0.
    claims[CLAIM]["e"][str(key.thing)] = 0
    typ = JWTType.HANDOVER if access.target.kind is TokenKind.HANDOVER else JWTType.ACCESS_TOKEN
    try:
        jwt = unsigned(claims, typ, key)
    except TokenTooLarge:
        raise InvalidToken("the token would be too large", layer="chain") from None
    return Prepared(permit, jti, key, {**access.lineage.epochs, key.thing: 0}, jwt)


def mint(prepared: Prepared) -> str:
    """The signed token (RFC 9068, RFC 7515 §3.1)."""
    return prepared.jwt.sign()
