"""Authenticate a client: one method, the registered one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app import clock
from app.clients.authentication import METHODS
from app.clients.authentication.context import Authenticating
from app.clients.authentication.credentials import Credentials, Presented, parse_credentials
from app.clients.client import Client, Clients
from app.errors import InvalidClient
from app.keys.verifier import JWTRefused, read_unverified_claims
from app.live.cache import Held
from app.live.commit import Live, Once
from app.live.generation import Generation
from app.vocabulary import AuthMethod


@dataclass(frozen=True, slots=True)
class AuthenticatedClient:
    """A client that proved who it is, how, and the marks its proof must set once."""

    held: Held[Client]
    method: AuthMethod
    generation: Generation
    """In which its proof was looked at: an earlier one may have seen it, a later one would not know."""
    once: tuple[Once, ...] = ()

    @property
    def client(self) -> Client:
        """The client's registration."""
        return self.held.value

    def replayed(self) -> InvalidClient:
        """What to answer when its marks were set before."""
        return InvalidClient("assertion used before")


class Authenticator:
    """Authenticates clients at every endpoint that asks for it."""

    def __init__(self, live: Live, clients: Clients, issuer: str, pepper: bytes) -> None:
        self._live = live
        self._clients = clients
        self._issuer = issuer
        self._token_endpoint = issuer + "/oauth/token"
        self._pepper = pepper

    def authenticate(self, presented: Presented) -> AuthenticatedClient:
        """The client behind a request. Raises InvalidClient for whatever is wrong, InvalidRequest for two methods at once."""
        credentials = parse_credentials(presented, _unverified_subject(presented))
        client_id = credentials.unverified_client_id
        generation = self._live.generation()
        remembered = self._clients.recall(client_id)
        try:
            return self._check(credentials, remembered or self._clients.find(client_id), generation)
        except InvalidClient:
            # A refusal is never told from memory: a key may have been added, a client switched on again. SQL is asked
            # once, whether there is such a client or not, so that the work does not tell.
            if remembered is None or not self._clients.moved(remembered):
                raise
            return self._check(credentials, self._clients.reread(client_id), generation)

    def _check(self, credentials: Credentials, held: Held[Client] | None, generation: Generation) -> AuthenticatedClient:
        context = Authenticating(
            now=clock.timestamp(),
            since=generation.since,
            issuer=self._issuer,
            token_endpoint=self._token_endpoint,
            pepper=self._pepper,
        )
        once = METHODS[credentials.method](credentials, held.value if held is not None else None, context)
        if held is None or held.value.auth_method is not credentials.method:
            raise InvalidClient("not the registered authentication method")
        if not held.value.enabled:
            raise InvalidClient("the client is disabled")
        return AuthenticatedClient(held, credentials.method, generation, once)


def _unverified_subject(presented: Presented) -> Mapping[str, str] | None:
    """Whom an assertion without a client_id beside it claims to be from: needed to find the key that can say so."""
    assertion = presented.one("client_assertion")
    if assertion is None:
        return None
    try:
        subject = read_unverified_claims(assertion).get("sub")
    except JWTRefused:
        return None
    return {"sub": subject} if isinstance(subject, str) else None
