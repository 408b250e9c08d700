"""Families: all tokens of one authorization, and their refresh tokens, each good once (RFC 6749 §6, RFC 9700 §4.14)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from app import clock
from app.database import Database
from app.live.models import parse_epochs, read_thing, stored_epochs, unmoved
from app.live.things import Kind, Thing
from app.policy.access import SignedInAs
from app.tokens.models import FamilyRow, RefreshTokenRow
from app.vocabulary import Confirmation, ConfirmationMethod, Pair, Pairs, ScopeSet, new_id

PREFIX = "rt_"


@dataclass(frozen=True, slots=True)
class Authorization:
    """What a human authorized: the code carries it, a family repeats it."""

    family: str
    client_id: str
    human: str
    pairs: Pairs
    openid: ScopeSet
    signed_in: SignedInAs
    born: Mapping[Thing, int]
    """Epochs it was given under, the consent's own among them."""
    consent: str | None = None
    session: str | None = None
    """The sign-in session; None when it may go on while the human is away."""
    handover: str | None = None
    """URI of the agent an application asked for."""
    refreshable: bool = False
    expires_at: int = 0

    def stored(self) -> dict[str, Any]:
        """As a JSON column or a code holds it."""
        return {
            "pairs": [list(pair) for pair in sorted(self.pairs)],
            "openid": sorted(self.openid),
            "auth": [self.signed_in.auth_time, self.signed_in.acr, list(self.signed_in.amr)],
            "born": stored_epochs(self.born),
            "handover": self.handover,
            "refreshable": self.refreshable,
        }


def parse_authorization(
    stored: Mapping[str, Any], *, family: str, client_id: str, human: str, consent: str | None, session: str | None, expires_at: int
) -> Authorization:
    """The inverse of `stored`, with the columns beside it."""
    auth_time, acr, amr = stored["auth"]
    return Authorization(
        family=family,
        client_id=client_id,
        human=human,
        pairs=frozenset(Pair(*pair) for pair in stored["pairs"]),
        openid=frozenset(stored["openid"]),
        signed_in=SignedInAs(auth_time, acr, tuple(amr)),
        born=parse_epochs(stored["born"]),
        consent=consent,
        session=session,
        handover=stored["handover"],
        refreshable=stored["refreshable"],
        expires_at=expires_at,
    )


@dataclass(frozen=True, slots=True)
class Refresh:
    """A refresh token as SQL knows it: its family, and whether it was used before."""

    hash: str
    authorization: Authorization
    generation: int
    used: bool
    alive: bool
    """Neither expired nor of a family that ended."""
    confirmation: Confirmation | None = None
    """What it is bound to; None for a bearer's."""
    instance: str | None = None
    """Which running copy of the agent it was given to; None where it was none."""


class Holder(NamedTuple):
    """In whose hands a refresh token is good: what it is bound to, and which running copy of the agent, where there are such."""

    confirmation: Confirmation | None = None
    instance: str | None = None


class Families:
    """Families and refresh tokens. Values are random, 256 bits; only hashes are kept."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, session: Session, authorization: Authorization) -> None:
        """Write a family down, inside the deed in which the human approved."""
        session.add(
            FamilyRow(
                id=authorization.family,
                client_id=authorization.client_id,
                human=authorization.human,
                consent=authorization.consent,
                session=authorization.session,
                authorization=authorization.stored(),
                created_at=clock.timestamp(),
                expires_at=authorization.expires_at,
            )
        )

    def find(self, refresh_token: str) -> Refresh | None:
        """What is known of a refresh token; None for one that never was."""
        if not refresh_token.startswith(PREFIX):
            return None
        digest = _hash(refresh_token)
        with self._database.reading() as session:
            row = session.get(RefreshTokenRow, digest)
            family = session.get(FamilyRow, row.family) if row is not None else None
            if row is None or family is None:
                return None
            authorization = parse_authorization(
                family.authorization,
                family=family.id,
                client_id=family.client_id,
                human=family.human,
                consent=family.consent,
                session=family.session,
                expires_at=family.expires_at,
            )
            alive = (
                clock.timestamp() < min(row.expires_at, family.expires_at)
                and read_thing(session, Thing(Kind.FAMILY, family.id)).epoch == 0
                and unmoved(session, {k: v for k, v in family.authorization["born"].items() if not _narrows(k)})
            )
            return Refresh(digest, authorization, row.generation, row.used_at is not None, alive, _confirmation(row), row.instance)

    def begin_refreshing(self, family: str, expires_at: int, holder: Holder) -> str:
        """The first refresh token of a family, in whose hands it is good. `expires_at` in seconds since 1970."""
        with self._database.transaction() as session:
            return _add(session, family, 0, expires_at, holder)

    def rotate(self, session: Session, refresh: Refresh, holder: Holder) -> str | None:
        """Use a refresh token up, by one conditional UPDATE, and make the next, good in the hands of whoever proved to be here.

        Until the transaction ends everybody else who holds it waits. None: somebody was first, a replay.
        """
        statement = (
            update(RefreshTokenRow)
            .where(RefreshTokenRow.hash == refresh.hash, RefreshTokenRow.used_at.is_(None))
            .values(used_at=clock.timestamp())
            .returning(RefreshTokenRow.hash)
        )
        if session.execute(statement).one_or_none() is None:
            return None
        authorization = refresh.authorization
        return _add(session, authorization.family, refresh.generation + 1, authorization.expires_at, holder)

    def give_back(self, refresh: Refresh, undelivered: str) -> None:
        """Take `rotate` back, because its caller was told to come again: what he has is good, what he never got is not."""
        nobodys = (RefreshTokenRow.hash == _hash(undelivered), RefreshTokenRow.used_at.is_(None))
        with self._database.transaction() as session:
            if session.execute(delete(RefreshTokenRow).where(*nobodys).returning(RefreshTokenRow.hash)).one_or_none() is not None:
                session.execute(update(RefreshTokenRow).where(RefreshTokenRow.hash == refresh.hash).values(used_at=None))


def _add(session: Session, family: str, generation: int, expires_at: int, holder: Holder) -> str:
    value = PREFIX + secrets.token_urlsafe(32)
    issued_at = clock.timestamp()
    row = RefreshTokenRow(hash=_hash(value), family=family, generation=generation, issued_at=issued_at, expires_at=expires_at)
    row.instance, bound = holder.instance, holder.confirmation
    if bound is not None and bound.method is ConfirmationMethod.JKT:
        row.jkt = bound.thumbprint
    elif bound is not None:
        row.x5t_s256 = bound.thumbprint
    session.add(row)
    return value


def _confirmation(row: RefreshTokenRow) -> Confirmation | None:
    if row.jkt is not None:
        return Confirmation(ConfirmationMethod.JKT, row.jkt)
    return Confirmation(ConfirmationMethod.X5T_S256, row.x5t_s256) if row.x5t_s256 is not None else None


def new_family() -> str:
    """A fresh family id."""
    return new_id("fam")


def _narrows(thing: str) -> bool:
    # A narrowed consent moves its epoch and leaves refresh tokens, within what is left; a withdrawn one has ended.
    return thing.startswith(Kind.CONSENT.value + ":")


def _hash(value: str) -> str:
    return sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
