"""What a resource may learn about a token for itself, and about one call with it (RFC 7662 §2.2, AuthZEN, protocol §8)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from app import clock
from app.audit import serialize
from app.audit.events import TokenFirstUsed
from app.clients.authenticate import AuthenticatedClient, Authenticator
from app.clients.request import ProtocolRequest
from app.errors import InvalidClient, InvalidRequest, TemporarilyUnavailable
from app.keys.strict import Malformed, json_object
from app.keys.verifier import JWTRefused
from app.live.cache import Held, versions_of
from app.live.commit import Commit, Live, Moved, Once, UsedTwice
from app.live.generation import Generation
from app.live.things import POLICIES
from app.policy.call import Call
from app.resources.resource import Resource, Resources
from app.tokens.calls import Asked, Calls
from app.tokens.evaluation import Evaluation
from app.tokens.standing import Standing, who_acts
from app.tokens.verify import TokenReader, VerifiedToken
from app.vocabulary import ClientKind, JWTType, token_type

INACTIVE: dict[str, Any] = {"active": False}
MEMBERS = (
    "iss", "sub", "act", "may_act", "scope", "authorization_details", "aud", "client_id", "exp", "iat", "jti", "txn",
    "cnf", "auth_time", "acr", "instance",
)  # fmt: skip
ATTEMPTS = 3


class Living(NamedTuple):
    """A token that lives, for the resource that asks about it."""

    token: VerifiedToken
    resource: Held[Resource]
    caller: AuthenticatedClient
    policies: int
    """Version of the policies in force when it was seen alive."""


class Introspection:
    """Answers resources: signature, then one read. Without Redis there is no answer."""

    def __init__(
        self,
        live: Live,
        authenticator: Authenticator,
        resources: Resources,
        tokens: TokenReader,
        standing: Standing,
        calls: Calls,
        deadline: float,
    ) -> None:
        self._live = live
        self._authenticator = authenticator
        self._resources = resources
        self._tokens = tokens
        self._standing = standing
        self._calls = calls
        self._deadline = deadline

    def introspect(self, request: ProtocolRequest) -> tuple[dict[str, Any], str]:
        """The answer, and the `client_id` it is for. Raises InvalidClient, InvalidRequest, 503.

        With `action` the answer for a live token also says whether that call may be carried out.
        """
        call = _call(request)

        def answer(found: Living | None) -> dict[str, Any]:
            if found is None:
                return INACTIVE
            return _active(found.token) | (self._calls.decide(self._asked(found, call)).answer() if call is not None else {})

        return self._answered(request, lambda: request.one("token"), answer)

    def evaluate(self, request: ProtocolRequest, evaluation: Evaluation) -> dict[str, Any]:
        """Whether one call may be carried out (AuthZEN Authorization API 1.0 §6). Raises as `introspect` does."""

        def answer(found: Living | None) -> dict[str, Any]:
            if found is None:
                return {"decision": False}
            asked = self._asked(found, evaluation.call)
            stranger = evaluation.stranger(found.token)
            return (self._calls.decide(asked) if stranger is None else self._calls.refuse(asked, stranger)).answer()

        return self._answered(request, lambda: evaluation.unverified_jwt, answer)[0]

    def _answered(
        self, request: ProtocolRequest, token: Callable[[], str | None], answer: Callable[[Living | None], dict[str, Any]]
    ) -> tuple[dict[str, Any], str]:
        for attempt in range(ATTEMPTS):
            caller = self._authenticator.authenticate(request)
            if not caller.client.confidential:
                # Whoever introspects proves who it is (RFC 7662 §2.1, §2.3); naming oneself proves nothing.
                raise InvalidClient("a public client")
            if caller.once and attempt == 0:
                self._spend(caller)
            if (unverified_jwt := token()) is None:
                raise InvalidRequest("token is required")
            resource = self._resources.of_client(caller.client.client_id) if caller.client.kind is ClientKind.RESOURCE else None
            try:
                request.check_in_time(self._deadline)
                found = answer(self._living(unverified_jwt, caller, resource))
            except Moved:
                continue
            request.check_in_time(self._deadline)
            return found, caller.client.client_id
        raise TemporarilyUnavailable("too much is moving", retry_after=0)

    def _living(self, unverified_jwt: str, caller: AuthenticatedClient, resource: Held[Resource] | None) -> Living | None:
        if resource is None:
            # Not a resource: told nothing, also about a token it holds itself.
            return None
        if not resource.value.enabled:
            self._confirm_versions(caller, resource)
            return None
        try:
            token = self._tokens.read(unverified_jwt, JWTType.ACCESS_TOKEN, now=clock.timestamp())
        except JWTRefused:
            return None
        if token.audience != resource.value.uri:
            return None
        seen = Once("seen", token.jti, max(1, token.authority.end - clock.timestamp() + clock.SKEW))
        alive, values = self._live.still(
            token.lineage.generation,
            token.lineage.epochs,
            token.denied_by,
            versions=(caller.held.thing, resource.thing, POLICIES),
            names=(seen.name,),
        )
        client_version, resource_version, policies_version, used = values
        if int(client_version or 0) != caller.held.reading.version or int(resource_version or 0) != resource.reading.version:
            self._live.moved(caller.held.thing)
            self._live.moved(resource.thing)
            raise Moved("the caller's registration")
        if not alive:
            return None
        version = int(policies_version or 0)
        if version != token.lineage.policies and not self._permitted(token, resource.value, version):
            return None
        if used is None:
            self._first_use(token, seen, caller.generation)
        return Living(token, resource, caller, version)

    def _asked(self, found: Living, call: Call) -> Asked:
        return Asked(found.token, found.resource, found.caller, call, found.policies, self._standing.behind(found.token))

    def _permitted(self, token: VerifiedToken, resource: Resource, version: int) -> bool:
        """Whether the policies in force, others than it was issued under, let it live. A refusal is recorded once."""
        behind = self._standing.behind(token)
        forbidden = self._standing.forbidden(token, behind, resource, version)
        if forbidden is None:
            self._live.commit(Commit(versions=behind.versions))
            return True
        told = Once("forbidden", f"{token.jti}:{version}", max(1, token.authority.end - clock.timestamp() + clock.SKEW))
        with suppress(UsedTwice):
            self._live.commit(Commit(versions=behind.versions, once=(told,), record=serialize(forbidden)[1]))
        return False

    def _confirm_versions(self, caller: AuthenticatedClient, resource: Held[Resource]) -> None:
        """A disabled resource is told so from memory only if memory is current."""
        self._live.commit(Commit(versions=versions_of(caller.held, resource)))

    def _spend(self, caller: AuthenticatedClient) -> None:
        try:
            self._live.commit(Commit(generation=caller.generation, once=caller.once))
        except UsedTwice as used:
            raise caller.replayed(used) from None
        except Moved:
            raise TemporarilyUnavailable("the live state was rebuilt meanwhile", retry_after=0) from None

    def _first_use(self, token: VerifiedToken, seen: Once, generation: Generation) -> None:
        """Record that the token lives: no record, no "active"."""
        event = TokenFirstUsed(
            who=who_acts(token),
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
    answer: dict[str, Any] = {"active": True, "token_type": token_type(token.authority.confirmation)}
    answer |= {name: token.claims[name] for name in MEMBERS if name in token.claims}
    return answer


def _call(request: ProtocolRequest) -> Call | None:
    """`action` and `action_details` beside the token. Raises InvalidRequest."""
    action, details = request.one("action"), request.one("action_details")
    if action is None:
        if details is not None:
            raise InvalidRequest("action_details without action")
        return None
    try:
        return Call.parse(action, json_object(details.encode()) if details is not None else {})
    except Malformed as error:
        raise InvalidRequest(str(error)) from None
