"""Authenticate a client: one method, the registered one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from app import clock
from app.clients.authentication import METHODS
from app.clients.authentication.context import Authenticating
from app.clients.authentication.credentials import Credentials, Presented, parse_credentials
from app.clients.client import Client, Clients
from app.clients.instance import Attestation, Instance, Instances
from app.clients.proof import NAMESPACE, PresentedProof, Proofs
from app.errors import InvalidClient, InvalidDPoPProof, OAuthError
from app.keys.verifier import JWTRefused, read_unverified
from app.live.cache import Held, versions_of
from app.live.commit import Live, Once, UsedTwice
from app.live.generation import Generation
from app.live.things import Reading, Thing
from app.vocabulary import AuthMethod, Confirmation, ConfirmationMethod


@dataclass(frozen=True, slots=True)
class AuthenticatedClient:
    """A client that proved who it is, how, what it holds, and the marks its proofs must set once."""

    held: Held[Client]
    method: AuthMethod
    generation: Generation
    """In which its proof was looked at: an earlier one may have seen it, a later one would not know."""
    once: tuple[Once, ...] = ()
    proven: tuple[Confirmation, ...] = ()
    """What it proved to hold: the key of a DPoP proof, which is sent on purpose, before the certificate of its connection."""
    jwk: Mapping[str, Any] = field(default_factory=dict)
    """The key of that proof."""
    instance: Held[Instance] | None = None
    """Which running copy of the agent it is; None for whoever holds a registered key."""
    attestation: Attestation | None = None
    """The word of its platform, if that is how it came; which copy it is follows from the key it proves."""

    @property
    def client(self) -> Client:
        """The client's registration."""
        return self.held.value

    @property
    def jkt(self) -> str | None:
        """Thumbprint of the key of its DPoP proof."""
        return next((one.thumbprint for one in self.proven if one.method is ConfirmationMethod.JKT), None)

    @property
    def versions(self) -> dict[Thing, int]:
        """What must not have moved for it to be who it is: a commit compares them."""
        return versions_of(self.held, self.instance)

    def replayed(self, used: UsedTwice) -> OAuthError:
        """What to answer when one of its marks was set before: which one says whether it was the assertion or the proof."""
        return InvalidDPoPProof("proof used before") if used.within(NAMESPACE) else InvalidClient("assertion used before")

    def without_proof(self) -> AuthenticatedClient:
        """The client as it is without the proof beside the request, which was used before."""
        proven = tuple(one for one in self.proven if one.method is not ConfirmationMethod.JKT)
        return replace(self, proven=proven, jwk={}, once=tuple(mark for mark in self.once if mark.namespace != NAMESPACE))


class Authenticator:
    """Authenticates clients at every endpoint that asks for it."""

    def __init__(self, live: Live, clients: Clients, instances: Instances, issuer: str, pepper: bytes, proofs: Proofs) -> None:
        self._live = live
        self._clients = clients
        self._instances = instances
        self._issuer = issuer
        self._token_endpoint = issuer + "/oauth/token"
        self._pepper = pepper
        self._proofs = proofs

    def authenticate(self, presented: Presented) -> AuthenticatedClient:
        """The client behind a request. Raises InvalidClient for whatever is wrong, InvalidRequest for two methods at once."""
        named = _Named.of(presented.one("client_assertion"))
        credentials = parse_credentials(presented, named.subject)
        client_id = credentials.unverified_client_id
        generation = self._live.generation()
        remembered = self._clients.recall(client_id)
        held = remembered or self._clients.find(client_id)
        asserted = credentials.method is AuthMethod.PRIVATE_KEY_JWT
        instance, asked = self._instances.recall(named.kid), False
        if asserted and instance is None and named.kid and not _registered(held, named.kid):
            instance, asked = self._instances.find_by_key(named.kid), True
        try:
            caller = self._check(credentials, held, instance, generation)
        except InvalidClient:
            # A refusal is never told from memory: a key may have been added, a client switched on again, a copy born. SQL is
            # asked once about each, whether there is such a one or not, so that the work does not tell.
            found = self._instances.reread(named.kid) if asserted and not asked else instance
            if remembered is not None and self._clients.moved(remembered):
                held = self._clients.reread(client_id)
            elif _version(found) == _version(instance):
                raise
            caller = self._check(credentials, held, found, generation)
        return caller if presented.certificate is None else replace(caller, proven=(presented.certificate.confirmation,))

    def prove(self, caller: AuthenticatedClient, presented: PresentedProof) -> AuthenticatedClient:
        """The client with the key it proved (RFC 9449 §5). An instance has one key. Raises InvalidDPoPProof, UseDPoPNonce."""
        proven = self._proofs.verify(presented, caller.generation)
        if caller.instance is not None and caller.instance.value.jkt != proven.jkt:
            raise InvalidDPoPProof("not the instance's key")
        key = Confirmation(ConfirmationMethod.JKT, proven.jkt)
        return replace(caller, proven=(key, *caller.proven), jwk=proven.jwk, once=(*caller.once, proven.once))

    def _check(
        self, credentials: Credentials, held: Held[Client] | None, instance: Held[Instance] | None, generation: Generation
    ) -> AuthenticatedClient:
        context = Authenticating(
            now=clock.timestamp(),
            generation=generation,
            issuer=self._issuer,
            token_endpoint=self._token_endpoint,
            pepper=self._pepper,
        )
        client = held.value if held is not None else None
        if instance is not None and not (held is not None and speaks_for(instance.value, held, context.now)):
            instance = None
        if instance is not None and client is not None:
            # What it signs is verified as the client's own assertions are, with the one key it has.
            client = replace(client, keys=(instance.value.key,))
        method = _method(credentials, held)
        once = METHODS[method](credentials, client, context)
        if held is None or held.value.auth_method is not method:
            raise InvalidClient("not the registered authentication method")
        if not held.value.enabled:
            raise InvalidClient("the client is disabled")
        return AuthenticatedClient(held, method, generation, once, instance=instance)


def _method(credentials: Credentials, held: Held[Client] | None) -> AuthMethod:
    """The method that was used. A public client's certificate binds its tokens, and says no more about it."""
    public = held is not None and held.value.auth_method is AuthMethod.NONE
    return AuthMethod.NONE if public and credentials.method is AuthMethod.TLS_CLIENT_AUTH else credentials.method


def speaks_for(instance: Instance, held: Held[Client], now: int) -> bool:
    """Whether it is a live copy of this client's agent, born since the agent last ended."""
    return instance.client_id == held.value.client_id and instance.live(now) and instance.born == held.reading.epoch


def _registered(held: Held[Client] | None, kid: str) -> bool:
    return held is not None and any(key.kid == kid for key in held.value.keys)


def _version(held: Held[Instance] | None) -> tuple[Thing, Reading] | None:
    return (held.thing, held.reading) if held is not None else None


class _Named(NamedTuple):
    """Whom an assertion claims to be from, and signed with which key: needed to find the key that can say so."""

    subject: str | None = None
    kid: str = ""

    @classmethod
    def of(cls, unverified_assertion: str | None) -> _Named:
        if unverified_assertion is None:
            return cls()
        try:
            header, claims = read_unverified(unverified_assertion)
        except JWTRefused:
            return cls()
        subject, kid = claims.get("sub"), header.get("kid")
        return cls(subject if isinstance(subject, str) else None, kid if isinstance(kid, str) else "")
