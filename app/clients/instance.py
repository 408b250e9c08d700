"""Instances: running copies of an agent, each with a fresh key of its own for hours, told apart and ended one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import clock
from app.audit import record
from app.audit.events import InstanceRegistered, Revoked, Who
from app.clients.models import ClientRow, InstanceRow
from app.errors import AccessDenied, InvalidDPoPProof, NotFound
from app.keys.verifier import VerificationKey, import_client_keys, import_public_key, thumbprint
from app.live.cache import Cache, Held, beside
from app.live.commit import Live, Moved
from app.live.deeds import Deed, Deeds
from app.live.models import ThingRow, read_thing, reading_of
from app.live.things import NEVER_MOVED, Kind, Thing
from app.vocabulary import new_id

HOUR = 3600
KEPT = 30 * 24 * HOUR
"""Seconds a row is kept after its instance's end; the ledger keeps the record for good."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One running copy of an agent."""

    id: str
    client_id: str
    jkt: str
    """RFC 7638 thumbprint of its key; the `kid` of what it signs."""
    key: VerificationKey = field(repr=False)
    born: int
    """Epoch of its client when it was registered."""
    registered_at: int
    expires_at: int
    """Seconds since 1970, both."""
    ended: bool = False

    def live(self, now: int) -> bool:
        """Whether it may act, as far as it itself goes: neither ended nor expired."""
        return not self.ended and now < self.expires_at


@dataclass(frozen=True, slots=True)
class Attestation:
    """Whose word a workload came with: under which trust, about whom, and how many seconds of life that gives."""

    under: str
    subject: str
    lifetime: int
    jkt: str | None = None
    """The only key it was said of, where it says so (RFC 9449 §6)."""


@dataclass(frozen=True, slots=True)
class Birth:
    """How an instance comes into the world: with which key, under what, until when."""

    instance: Instance
    jwk: Mapping[str, Any]
    via: str
    under: str
    subject: str = ""


def new_instance(client_id: str, born: int, jwk: Mapping[str, Any], now: int, expires_at: int) -> Held[Instance]:
    """An instance that is registered nowhere yet."""
    key = _key(jwk)
    identifier = new_id("ins")
    instance = Instance(identifier, client_id, key.thumbprint, key, born, now, expires_at)
    return Held(instance, Thing(Kind.INSTANCE, identifier), NEVER_MOVED)


class Instances:
    """Instances by the thumbprint of their key and by id, and the deeds on them."""

    def __init__(self, live: Live, deeds: Deeds, limit: int) -> None:
        self._live = live
        self._deeds = deeds
        self._limit = limit
        self._by_key = Cache(live, lambda session, key: _load(session, InstanceRow.jkt == key))
        self._by_id = Cache(live, lambda session, key: _load(session, InstanceRow.id == key))

    def recall(self, jkt: str) -> Held[Instance] | None:
        """The instance with that key, if it is in memory."""
        return self._by_key.recall(jkt)

    def find_by_key(self, jkt: str) -> Held[Instance] | None:
        """The instance with that key."""
        return self._by_key.find(jkt)

    def reread(self, jkt: str) -> Held[Instance] | None:
        """The instance with that key as SQL has it now. SQL is asked whatever is named."""
        self._by_key.drop(jkt)
        return self._by_key.find(jkt)

    def find(self, identifier: str) -> Held[Instance] | None:
        """The instance of that id."""
        return self._by_id.find(identifier)

    def of_client(self, client_id: str) -> list[InstanceRow]:
        """Every instance of an agent that SQL still has, the newest first."""
        with self._live.database.reading() as session:
            statement = select(InstanceRow).where(InstanceRow.client_id == client_id)
            return list(session.scalars(statement.order_by(InstanceRow.registered_at.desc(), InstanceRow.id)))

    def register(self, session: Session, birth: Birth, *, by: Who) -> None:
        """Write it down with its record, in a transaction that is open. The client's row is locked until that ends.

        Raises AccessDenied when as many live as may, InvalidDPoPProof for a registered key of the agent, `Moved` when the agent has
        changed, or the key was registered as an instance's, since the caller looked.
        """
        one = birth.instance
        now, client_id, thing = one.registered_at, one.client_id, Thing(Kind.CLIENT, one.client_id)
        client = session.scalar(select(ClientRow).where(ClientRow.client_id == client_id).with_for_update())
        if client is None or not client.enabled or read_thing(session, thing).epoch != one.born:
            self._live.forget(thing)
            raise Moved(str(thing))
        session.execute(delete(InstanceRow).where(InstanceRow.client_id == client_id, InstanceRow.expires_at < now - KEPT))
        living = select(func.count()).where(InstanceRow.client_id == client_id, InstanceRow.born == one.born, *_living(now))
        if (session.scalar(living) or 0) >= self._limit:
            raise AccessDenied("as many instances live as may", layer="instance")
        registered = import_client_keys(client.jwks) if client.jwks.get("keys") else ()
        if one.jkt in {key.thumbprint for key in registered}:
            raise InvalidDPoPProof("a registered key of the agent", layer="instance")
        session.add(
            InstanceRow(
                id=one.id,
                client_id=client_id,
                jkt=one.jkt,
                jwk=dict(birth.jwk),
                born=one.born,
                via=birth.via,
                under=birth.under,
                subject=birth.subject,
                registered_at=now,
                expires_at=one.expires_at,
            )
        )
        try:
            session.flush()
        except IntegrityError:
            raise Moved("the key was registered meanwhile") from None
        event = InstanceRegistered(
            who=by,
            instance=one.id,
            via=birth.via,
            under=birth.under,
            subject=birth.subject or None,
            jkt=one.jkt,
            expires_at=one.expires_at,
        )
        record(session, event)

    def end(self, identifier: str, *, by: Who, reason: str = "revoked") -> None:
        """End one instance and all it got; its siblings go on. Raises `NotFound`."""
        with self._deeds.deed() as deed:
            end_instance(deed, identifier, by, reason)


def end_born_under(deed: Deed, under: str, by: Who, reason: str) -> int:
    """End every live instance that was born under a trust, inside a deed. Returns how many."""
    living = select(InstanceRow.id).where(InstanceRow.under == under, *_living(clock.timestamp()))
    found = deed.session.scalars(living.order_by(InstanceRow.id)).all()
    for identifier in found:
        end_instance(deed, identifier, by, reason)
    return len(found)


def end_instance(deed: Deed, identifier: str, by: Who, reason: str = "revoked") -> None:
    """End an instance inside a deed. Raises `NotFound`."""
    row = deed.session.get(InstanceRow, identifier)
    if row is None:
        raise NotFound(f"no instance {identifier}")
    row.ended_at = row.ended_at or clock.timestamp()
    deed.end(Thing(Kind.INSTANCE, identifier))
    record(deed.session, Revoked(who=by, kind=Kind.INSTANCE.value, target=identifier, reason=reason))


def _living(now: int) -> tuple[ColumnElement[bool], ...]:
    return (InstanceRow.ended_at.is_(None), InstanceRow.expires_at > now)


def _key(jwk: Mapping[str, Any]) -> VerificationKey:
    """The key under the only name it has here: its thumbprint."""
    return import_public_key({**jwk, "kid": thumbprint(jwk)})


def _load(session: Session, which: ColumnElement[bool]) -> Held[Instance] | None:
    """Row and version in one statement."""
    statement = (
        select(InstanceRow, ThingRow.epoch, ThingRow.version).outerjoin(ThingRow, beside(Kind.INSTANCE, InstanceRow.id)).where(which)
    )
    found = session.execute(statement).one_or_none()
    if found is None:
        return None
    row: InstanceRow = found[0]
    instance = Instance(
        id=row.id,
        client_id=row.client_id,
        jkt=row.jkt,
        key=_key(row.jwk),
        born=row.born,
        registered_at=row.registered_at,
        expires_at=row.expires_at,
        ended=row.ended_at is not None,
    )
    return Held(instance, Thing(Kind.INSTANCE, row.id), reading_of(found[1], found[2]))
