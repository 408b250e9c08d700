"""A client gives a token of its own back (RFC 7009 §2); somebody else's stays as it is, and that is recorded."""

from __future__ import annotations

from app import clock
from app.agents.agent import Agent, Agents
from app.audit import serialize
from app.audit.events import RevocationIgnored, Who
from app.clients.authenticate import AuthenticatedClient, Authenticator
from app.clients.request import ProtocolRequest
from app.errors import InvalidRequest, TemporarilyUnavailable
from app.keys.verifier import JWTRefused
from app.live.cache import Held, versions_of
from app.live.commit import Commit, Live, Moved, UsedTwice
from app.revocation import Revocation
from app.tokens.families import Families
from app.tokens.verify import TokenReader
from app.vocabulary import ClientKind, JWTType


class Revoking:
    """Answers clients. 200 only for what holds; not even then is said whether there was such a token."""

    def __init__(
        self, live: Live, authenticator: Authenticator, agents: Agents, tokens: TokenReader, families: Families, revocation: Revocation
    ) -> None:
        self._live = live
        self._authenticator = authenticator
        self._agents = agents
        self._tokens = tokens
        self._families = families
        self._revocation = revocation

    def revoke(self, request: ProtocolRequest) -> None:
        """Revoke `token`. Raises InvalidClient, InvalidRequest, or 503 while it does not hold everywhere."""
        caller = self._authenticator.authenticate(request)
        agent = self._agents.of_client(caller.client.client_id) if caller.client.kind is ClientKind.AGENT else None
        # First of all: also a malformed request has used its assertion up.
        self._spend(caller, agent)
        token = request.one("token")
        if token is None:
            raise InvalidRequest("token is required")
        who = _who(caller, agent)
        if (refresh := self._families.find(token)) is not None:
            if refresh.authorization.client_id == caller.client.client_id:
                self._revocation.family(refresh.authorization.family, by=who)
            else:
                self._ignore(who)
            return
        try:
            verified = self._tokens.read(token, JWTType.ACCESS_TOKEN, JWTType.HANDOVER, now=clock.timestamp())
        except JWTRefused:
            return
        if verified.client_id == caller.client.client_id:
            self._revocation.token(verified.jti, verified.authority.end, by=who)
        else:
            self._ignore(who)

    def _spend(self, caller: AuthenticatedClient, agent: Held[Agent] | None) -> None:
        try:
            self._live.commit(Commit(generation=caller.generation, versions=caller.versions | versions_of(agent), once=caller.once))
        except UsedTwice as used:
            raise caller.replayed(used) from None
        except Moved:
            raise TemporarilyUnavailable("the client was changed meanwhile", retry_after=0) from None

    def _ignore(self, who: Who) -> None:
        event = RevocationIgnored(who=who, reason="another client's token")
        self._live.commit(Commit(record=serialize(event)[1]))


def _who(caller: AuthenticatedClient, agent: Held[Agent] | None) -> Who:
    client_id = caller.client.client_id
    if agent is None:
        return Who(client=client_id)
    instance = caller.instance.value.id if caller.instance is not None else None
    return Who(actors=(agent.value.uri,), client=client_id, owner=agent.value.owner, instance=instance)
