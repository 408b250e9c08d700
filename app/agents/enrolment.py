"""Enrolment: a code of minutes, good once, with which a running copy of an agent registers a key of its own (RFC 7591 §3)."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app import clock
from app.agents.agent import Agent, Agents
from app.agents.models import EnrolmentRow
from app.audit import record, serialize
from app.audit.events import Changed, InstanceRefused, Who
from app.clients.client import Client, Clients
from app.clients.instance import HOUR, KEPT, Birth, Instance, Instances, new_instance
from app.clients.proof import PresentedProof, Proofs, ProvenKey
from app.clients.secrets import hash_secret, new_secret
from app.errors import InvalidClient, InvalidDPoPProof, OAuthError, Refused, TemporarilyUnavailable, TooManyRequests
from app.live.cache import Held, versions_of
from app.live.commit import Commit, Live, Moved, UsedTwice
from app.live.generation import Generation
from app.live.things import Kind
from app.settings import Settings
from app.vocabulary import AuthMethod, new_id

PREFIX = "enr_"
CODE = re.compile(r"enr_[A-Za-z0-9_-]{43}")
MAX_MINUTES = 60
VIA = "enrolment"
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A fresh code, shown once."""

    id: str
    code: str = field(repr=False)
    expires_at: int
    hours: int


class _Presenting(NamedTuple):
    """What a code and a proof amount to together."""

    row: EnrolmentRow
    proven: ProvenKey
    generation: Generation


class Enrolments:
    """Gives codes out, and takes each once."""

    def __init__(
        self, live: Live, clients: Clients, agents: Agents, instances: Instances, proofs: Proofs, settings: Settings, pepper: bytes
    ) -> None:
        self._live = live
        self._clients = clients
        self._agents = agents
        self._instances = instances
        self._proofs = proofs
        self._settings = settings
        self._pepper = pepper

    def __repr__(self) -> str:
        return "Enrolments(…)"

    def give(self, client_id: str, *, minutes: int, hours: int, by: Who) -> Enrolment:
        """A code for one instance of that agent. Raises `Refused` with a sentence for whoever asked."""
        if not 1 <= minutes <= MAX_MINUTES:
            raise Refused(f"a code is good for 1 to {MAX_MINUTES} minutes")
        check_hours(hours, self._settings)
        agent = self._agents.of_client(client_id)
        # An operator is never told from memory.
        held = self._clients.reread(client_id)
        if agent is None or held is None:
            raise Refused("only an agent has instances")
        check_instances(held.value)
        now = clock.timestamp()
        made = Enrolment(new_id("enm"), PREFIX + new_secret(), now + minutes * 60, hours)
        with self._live.database.transaction() as session:
            session.execute(delete(EnrolmentRow).where(EnrolmentRow.expires_at < now - KEPT))
            session.add(
                EnrolmentRow(
                    id=made.id,
                    code_hash=hash_secret(made.code, self._pepper),
                    client_id=client_id,
                    born=held.reading.epoch,
                    hours=hours,
                    made_at=now,
                    expires_at=made.expires_at,
                )
            )
            what = {"enrolment": made.id, "until": made.expires_at, "hours": hours}
            record(session, Changed(who=by, kind=Kind.AGENT.value, target=agent.value.id, what=what))
        return made

    def redeem(self, code: object, proof: PresentedProof | None) -> dict[str, Any]:
        """Register the proven key as an instance. Raises an OAuthError; then there is no instance and the code is as it was."""
        if proof is None:
            raise InvalidDPoPProof("no proof of the instance's key")
        for _ in range(ATTEMPTS):
            generation = self._live.generation()
            proven = self._proofs.verify(proof, generation)
            row = self._find(code)
            try:
                return self._redeem(_Presenting(row, proven, generation))
            except Moved:
                continue
        raise TemporarilyUnavailable("too much is moving", retry_after=0)

    def _find(self, code: object) -> EnrolmentRow:
        """What a code stands for. Raises InvalidClient for one that was never given out."""
        known = code if isinstance(code, str) and CODE.fullmatch(code) else PREFIX + secrets.token_urlsafe(32)
        with self._live.database.reading() as session:
            row = session.scalar(select(EnrolmentRow).where(EnrolmentRow.code_hash == hash_secret(known, self._pepper)))
        if row is None:
            raise InvalidClient("no such enrolment code", layer="instance")
        return row

    def _redeem(self, presenting: _Presenting) -> dict[str, Any]:
        row = presenting.row
        # The record names who answers for it now.
        self._agents.reread(row.client_id)
        agent, client = self._agents.of_client(row.client_id), self._clients.find(row.client_id)
        if agent is None or client is None:
            raise InvalidClient("the agent is gone", layer="instance")
        try:
            instance = self._register(presenting, client, agent.value)
        except (TemporarilyUnavailable, TooManyRequests):
            raise
        except OAuthError as refusal:
            self._refused(presenting, agent.value, refusal)
            raise
        return self._answer(instance, agent.value)

    def _register(self, presenting: _Presenting, client: Held[Client], agent: Agent) -> Instance:
        row, now = presenting.row, clock.timestamp()
        if row.used_at is not None or row.expires_at <= now:
            raise InvalidClient("the enrolment code was used before" if row.used_at else "the enrolment code has expired", layer="instance")
        if self._instances.reread(presenting.proven.jkt) is not None:
            raise InvalidDPoPProof("the key was registered before", layer="instance")
        if not client.value.enabled or row.born != client.reading.epoch:
            raise self._stale(client, "the agent has ended since")
        expires_at = now + min(row.hours, self._settings.instance_hours) * HOUR
        instance = new_instance(client.value.client_id, client.reading.epoch, presenting.proven.jwk, now, expires_at).value
        with self._live.database.transaction() as session:
            if not _use(session, row.id, now):
                raise InvalidClient("the enrolment code was used before", layer="instance")
            birth = Birth(instance, presenting.proven.jwk, VIA, row.id)
            self._instances.register(session, birth, by=_who(agent, instance.id))
            # Inside the transaction: the proof is used up if the instance is registered, and the other way round.
            self._spend(presenting, client)
        return instance

    def _stale(self, client: Held[Client], reason: str) -> Exception:
        """A refusal is never told from memory: once more, if SQL has it otherwise."""
        if self._clients.moved(client):
            self._live.forget(client.thing)
            return Moved(str(client.thing))
        return InvalidClient(reason, layer="instance")

    def _spend(self, presenting: _Presenting, client: Held[Client], body: bytes = b"") -> None:
        commit = Commit(
            generation=presenting.generation,
            versions={} if body else versions_of(client),
            once=(presenting.proven.once,),
            rate=((client.value.client_id, self._settings.rate_client),),
            record=body,
        )
        try:
            self._live.commit(commit)
        except UsedTwice:
            raise InvalidDPoPProof("proof used before") from None

    def _refused(self, presenting: _Presenting, agent: Agent, refusal: OAuthError) -> None:
        """A refusal of somebody with a real code uses the proof up and is recorded."""
        event = InstanceRefused(
            who=_who(agent, None), under=presenting.row.id, error=str(refusal.error), layer=refusal.layer, reason=refusal.reason
        )
        identifier, body = serialize(event)
        client = self._clients.find(agent.client_id)
        if client is not None and refusal.reason != "proof used before":
            self._spend(presenting, client, body)
            refusal.extra["audit_id"] = identifier

    def _answer(self, instance: Instance, agent: Agent) -> dict[str, Any]:
        return {
            **introduction(instance, agent),
            "issuer": self._settings.issuer,
            "token_endpoint": self._settings.issuer + "/oauth/token",
            "token_endpoint_auth_method": AuthMethod.PRIVATE_KEY_JWT.value,
        }


def introduction(instance: Instance, agent: Agent) -> dict[str, Any]:
    """What an instance must know of itself: whose copy it is, by which `kid` it signs, until when."""
    return {
        "client_id": agent.client_id,
        "agent": agent.uri,
        "instance_id": instance.id,
        "kid": instance.jkt,
        "instance_expires_at": instance.expires_at,
    }


def check_hours(hours: int, settings: Settings) -> None:
    """Raises `Refused` for a life longer than the setting allows."""
    if not 1 <= hours <= settings.instance_hours:
        raise Refused(f"an instance lives 1 to {settings.instance_hours} hours (DEPUTY_INSTANCE_HOURS)")


def check_instances(client: Client) -> None:
    """Raises `Refused` for an agent that has no instances: it proves itself by a secret, or does not at all just now."""
    if client.auth_method is not AuthMethod.PRIVATE_KEY_JWT:
        raise Refused("an instance proves itself with its key: only an agent with private_key_jwt has some")
    if not client.enabled:
        raise Refused("the agent is suspended or retired")


def _use(session: Session, identifier: str, now: int) -> bool:
    """Use a code up, by one conditional UPDATE. Whether nobody was first."""
    statement = (
        update(EnrolmentRow)
        .where(EnrolmentRow.id == identifier, EnrolmentRow.used_at.is_(None), EnrolmentRow.expires_at > now)
        .values(used_at=now)
        .returning(EnrolmentRow.id)
    )
    return session.execute(statement).one_or_none() is not None


def _who(agent: Agent, instance: str | None) -> Who:
    return Who(actors=(agent.uri,), client=agent.client_id, owner=agent.owner, instance=instance)
