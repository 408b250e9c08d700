"""What a worker holds of the keys: an immutable picture of SQL, replaced as a whole."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from app.keys.jwk import VerificationKey, import_public_key
from app.keys.models import SigningKeyRow
from app.live.things import Reading
from app.vocabulary import KeyState, KeyUse, SigningAlg

log = logging.getLogger(__name__)

PUBLISHED = frozenset({KeyState.NEXT, KeyState.ACTIVE, KeyState.RETIRING})
"""States in which a token key is in the JWK Set and verifies."""


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What may be shown of a key. Times in seconds since 1970."""

    kid: str
    use: KeyUse
    alg: SigningAlg
    state: KeyState
    created_at: int
    activated_at: int | None
    retired_at: int | None


class Sealed(NamedTuple):
    """A private key as SQL has it."""

    kid: str
    alg: SigningAlg
    jwe: str


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot:
    """All keys as SQL had them under one reading of `KEYS`."""

    reading: Reading
    active: Mapping[tuple[KeyUse, SigningAlg], Sealed]
    upcoming: tuple[Sealed, ...]
    token_keys: Mapping[str, VerificationKey]
    ledger_keys: Mapping[str, VerificationKey]
    token_jwks: tuple[dict[str, Any], ...]
    ledger_jwks: tuple[dict[str, Any], ...]
    token_jwks_bytes: bytes


def info(row: SigningKeyRow) -> KeyInfo:
    """A row without its keys."""
    return KeyInfo(
        kid=row.kid,
        use=KeyUse(row.use),
        alg=SigningAlg(row.alg),
        state=KeyState(row.state),
        created_at=row.created_at,
        activated_at=row.activated_at,
        retired_at=row.retired_at,
    )


def take(reading: Reading, rows: Iterable[SigningKeyRow]) -> Snapshot:
    """The snapshot of these rows. A row that is not what it says is left out, and logged."""
    active: dict[tuple[KeyUse, SigningAlg], Sealed] = {}
    upcoming: list[Sealed] = []
    keys: dict[KeyUse, dict[str, VerificationKey]] = {KeyUse.TOKEN: {}, KeyUse.LEDGER: {}}
    jwks: dict[KeyUse, list[dict[str, Any]]] = {KeyUse.TOKEN: [], KeyUse.LEDGER: []}
    for row in rows:
        use, alg, state = KeyUse(row.use), SigningAlg(row.alg), KeyState(row.state)
        public = orjson.loads(row.public_jwk)
        key = _public_key(row.kid, alg, public)
        if key is None:
            log.error("signing key %s is not what its row says; it is ignored", row.kid)
            continue
        # What the ledger's keys signed is verified for ever, whatever became of them.
        if use is KeyUse.LEDGER or state in PUBLISHED:
            keys[use][row.kid] = key
            jwks[use].append(public)
        if state is KeyState.ACTIVE:
            active[use, alg] = Sealed(row.kid, alg, row.private_jwe)
        if state is KeyState.NEXT:
            upcoming.append(Sealed(row.kid, alg, row.private_jwe))
    return Snapshot(
        reading=reading,
        active=active,
        upcoming=tuple(upcoming),
        token_keys=keys[KeyUse.TOKEN],
        ledger_keys=keys[KeyUse.LEDGER],
        token_jwks=tuple(jwks[KeyUse.TOKEN]),
        ledger_jwks=tuple(jwks[KeyUse.LEDGER]),
        token_jwks_bytes=orjson.dumps({"keys": jwks[KeyUse.TOKEN]}),
    )


def _public_key(kid: str, alg: SigningAlg, public: dict[str, Any]) -> VerificationKey | None:
    try:
        key = import_public_key(public)
    except ValueError:
        return None
    return key if key.thumbprint == kid == key.kid and key.algorithms == {alg} else None
