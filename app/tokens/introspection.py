"""What a resource may learn about a token for itself (RFC 7662 §2.2, protocol §8)."""

from __future__ import annotations

from typing import Any

from app import clock
from app.audit import serialize
from app.audit.events import TokenFirstUsed, Who
from app.clients.authenticate import AuthenticatedClient, Authenticator
from app.clients.request import ProtocolRequest
from app.errors import InvalidClient, InvalidRequest, TemporarilyUnavailable
from app.keys.verifier import JWTRefused
from app.live.cache import Held
from app.live.commit import Commit, Live, Moved, Once, UsedTwice
from app.live.generation import Generation
from app.resources.resource import Resource, Resources
from app.tokens.verify import TokenReader, VerifiedToken
from app.vocabulary import ClientKind, JWTType

INACTIVE: dict[str, Any] = {"active": False}
MEMBERS = (
    "iss", "sub", "act", "may_act", "scope", "authorization_details", "aud", "client_id", "exp", "iat", "jti", "txn",
    "cnf", "auth_time", "acr",
)  # fmt: skip
ATTEMPTS = 3


class Introspection:
    """Answers resources: signature, then one read. Without Redis there is no answer."""

    def __init__(self, live: Live, authenticator: Authenticator, resources: Resources, tokens: TokenReader, deadline: float) -> None:
        self._live = live
        self._authenticator = authenticator
        self._resources = resources
        self._tokens = tokens
        self._deadline = deadline

    def introspect(self, request: ProtocolRequest) -> tuple[dict[str, Any], str]:
        """The answer, and the `client_id` it is for. Raises InvalidClient, InvalidRequest, 503."""
        for attempt in range(ATTEMPTS):
            caller = self._authenticator.authenticate(request)
            if not caller.client.confidential:
                # Whoever introspects proves who it is (RFC 7662 §2.1, §2.3); naming oneself proves nothing.
                raise InvalidClient("a public client")
            if caller.once and attempt == 0:
                self._spend(caller)
            if (token := request.one("token")) is None:
                raise InvalidRequest("token is required")
            resource = self._resources.of_client(caller.client.client_id) if caller.client.kind is ClientKind.RESOURCE else None
            try:
                answer = self._answer(token, caller, resource)
            except Moved:
                continue
            request.check_in_time(self._deadline)
            return answer, caller.client.client_id
        raise TemporarilyUnavailable("too much is moving", retry_after=0)

    def _answer(self, unverified_jwt: str, caller: AuthenticatedClient, resource: Held[Resource] | None) -> dict[str, Any]:
        if resource is None:
            # Not a resource: told nothing, also about a token it holds itself.
            return INACTIVE
        if not resource.value.enabled:
            self._confirm_versions(caller, resource)
            return INACTIVE
        try:
            token = self._tokens.read(unverified_jwt, JWTType.ACCESS_TOKEN, now=clock.timestamp())
        except JWTRefused:
            return INACTIVE
        if token.audience != resource.value.uri:
            return INACTIVE
        seen = Once("seen", token.jti, max(1, token.authority.end - clock.timestamp() + clock.SKEW))
        alive, values = self._live.still(
            token.lineage.generation,
            token.lineage.epochs,
            token.denied_by,
            versions=(caller.held.thing, resource.thing),
            names=(seen.name,),
        )
        client_version, resource_version, used = values
        if int(client_version or 0) != caller.held.reading.version or int(resource_version or 0) != resource.reading.version:
            self._live.moved(caller.held.thing)
            self._live.moved(resource.thing)
            raise Moved("the caller's registration")
        if not alive:
            return INACTIVE
        if used is None:
            self._first_use(token, seen, caller.generation)
        return _active(token)

    def _confirm_versions(self, caller: AuthenticatedClient, resource: Held[Resource]) -> None:
        """A disabled resource is told so from memory only if memory is current."""
        self._live.commit(Commit(versions={one.thing: one.reading.version for one in (caller.held, resource)}))

    def _spend(self, caller: AuthenticatedClient) -> None:
        try:
            self._live.commit(Commit(generation=caller.generation, once=caller.once))
        except UsedTwice:
            raise caller.replayed() from None
        except Moved:
            raise TemporarilyUnavailable("the live state was rebuilt meanwhile", retry_after=0) from None

    def _first_use(self, token: VerifiedToken, seen: Once, generation: Generation) -> None:
        """Record that the token lives: no record, no "active"."""
        event = TokenFirstUsed(
            who=Who(
                actors=tuple(actor.sub for actor in token.authority.chain.actors),
                human=token.subject if token.human else None,
                client=token.client_id,
            ),
            jti=token.jti,
            resource=token.audience,
            task=token.task,
            consent=token.lineage.consent,
        )
        commit = Commit(
            generation=generation,
            epochs=token.lineage.epochs,
            undenied=token.denied_by,
            once=(seen,),
            record=serialize(event)[1],
        )
        try:
            self._live.commit(commit)
        except UsedTwice:
            return


def _active(token: VerifiedToken) -> dict[str, Any]:
    answer: dict[str, Any] = {"active": True, "token_type": "Bearer"}
    answer |= {name: token.claims[name] for name in MEMBERS if name in token.claims}
    return answer
