"""`urn:ietf:params:oauth:grant-type:jwt-bearer`: a running copy of an agent, attested by its platform, begins (RFC 7523 §2.1)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from app.agents.agent import Agent
from app.agents.enrolment import introduction
from app.audit.events import Who
from app.clients.authenticate import AuthenticatedClient, speaks_for
from app.clients.instance import Birth, Instance, new_instance
from app.errors import InvalidDPoPProof
from app.grants.client_credentials import ClientCredentials
from app.live.cache import Held
from app.live.commit import Moved
from app.policy.access import AccessRequest
from app.vocabulary import GrantType

VIA = "workload"


class JWTBearer(ClientCredentials):
    """The agent's own token, bound to the key that the copy proved; the key is registered as an instance's where it is new."""

    name = GrantType.JWT_BEARER
    attested: ClassVar[bool] = True
    _fresh: Held[Instance] | None = None

    _caller: AuthenticatedClient

    def access_request(self, caller: AuthenticatedClient, agent: Held[Agent] | None, *, certain: bool) -> AccessRequest:
        """What the agent may have as itself, asked by this instance."""
        if caller.jkt is None:
            raise InvalidDPoPProof("no proof of the instance's key")
        if caller.attestation is not None and caller.attestation.jkt not in {None, caller.jkt}:
            raise InvalidDPoPProof("attested for another key")
        access = super().access_request(caller, agent, certain=certain)
        self._caller = caller
        self.instance = self._of(caller, caller.jkt)
        return access

    def _of(self, caller: AuthenticatedClient, key: str) -> Held[Instance]:
        """The instance with that key, or a new one. A key that was an instance's is never another's."""
        instances = self.registers.instances
        held = instances.find_by_key(key)
        if held is not None and not speaks_for(held.value, caller.held, self.now):
            held = instances.reread(key)
        if held is not None:
            self._fresh = None
            if not speaks_for(held.value, caller.held, self.now):
                raise InvalidDPoPProof("the key of another instance, or of one that has ended", layer="instance")
            return held
        if self._fresh is None or self._fresh.value.born != caller.held.reading.epoch:
            lifetime = caller.attestation.lifetime if caller.attestation is not None else 0
            born, now = caller.held.reading.epoch, self.now
            self._fresh = new_instance(caller.client.client_id, born, caller.jwk, now, now + lifetime)
        return self._fresh

    @contextmanager
    def together(self, access: AccessRequest) -> Iterator[None]:
        """The instance is registered if and only if the commit passes; the trust it came under still stands."""
        fresh, attestation, agent = self._fresh, self._caller.attestation, access.agent
        if fresh is None or attestation is None or agent is None:
            yield
            return
        who = Who(actors=(agent.value.uri,), client=agent.value.client_id, owner=agent.value.owner, instance=fresh.value.id)
        with self.registers.live.database.transaction() as session:
            if not self.registers.trusts.stands(session, attestation.under):
                raise Moved("the trust")
            birth = Birth(fresh.value, self._caller.jwk, VIA, attestation.under, attestation.subject)
            self.registers.instances.register(session, birth, by=who)
            yield

    def beside(self, access: AccessRequest) -> dict[str, Any]:
        """Who it is from now on."""
        if access.instance is None or access.agent is None:
            return {}
        return introduction(access.instance.value, access.agent.value)
