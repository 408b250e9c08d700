"""The register of human-facing applications: deeds on them, each recorded, each in force when it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.audit import record
from app.audit.events import Changed, Revoked, Who
from app.audit.events import Registered as RegisteredEvent
from app.clients.models import ClientRow
from app.clients.registration import Registered, SecretNotYetInForce, check_redirect_uris, give_secret, new_client
from app.errors import NotFound, Refused
from app.keys.store import KeyStore
from app.live.commit import Live
from app.live.deeds import Deed, Deeds, NotYetInForce
from app.live.things import Kind, Thing
from app.vocabulary import AuthMethod, ClientKind, ConfirmationMethod, Pairs, SigningAlg

CheckPairs = Callable[[Session, Pairs], None]
"""Raises `Refused` for a pair that no registered resource has."""


class AppRegistry:
    """Applications: they sign humans in, and may ask a human to hand work to an agent."""

    def __init__(self, live: Live, deeds: Deeds, keys: KeyStore, pepper: bytes, check_pairs: CheckPairs) -> None:
        self._live = live
        self._deeds = deeds
        self._keys = keys
        self._pepper = pepper
        self._check_pairs = check_pairs

    def add(
        self,
        name: str,
        *,
        redirect_uris: Sequence[str],
        auth: str,
        pairs: Pairs = frozenset(),
        native: bool = False,
        id_token_alg: str = "RS256",
        post_logout_redirect_uris: Sequence[str] = (),
        jwks: Mapping[str, Any] | None = None,
        bound: Iterable[ConfirmationMethod] = (),
        by: Who,
    ) -> Registered:
        """Register an application. Raises `Refused` with a sentence for whoever asked."""
        if not redirect_uris:
            raise Refused("an application has at least one redirect URI")
        row, secret = new_client(
            ClientKind.APP,
            name,
            prefix="app",
            auth=_method(auth),
            pepper=self._pepper,
            jwks=jwks,
            bound=bound,
            redirect_uris=redirect_uris,
            loopback=native,
        )
        row.native = native
        alg = _alg(id_token_alg)
        row.id_token_alg = alg.value
        row.post_logout_redirect_uris = check_redirect_uris(post_logout_redirect_uris, native=native)
        row.pairs = [list(pair) for pair in sorted(pairs)]
        self._keys.ensure_alg(alg)
        with self._deeds.deed() as deed:
            self._check_pairs(deed.session, pairs)
            deed.session.add(row)
            what = {"auth": row.auth_method, "pairs": row.pairs, "native": native, "bound": row.bound}
            record(deed.session, RegisteredEvent(who=by, kind=ClientKind.APP.value, target=row.client_id, what=what))
        return Registered(row.client_id, row.client_id, secret)

    def list(self) -> list[ClientRow]:
        """Every application, by name."""
        with self._live.database.reading() as session:
            which = ClientRow.kind == ClientKind.APP.value
            return list(session.scalars(select(ClientRow).where(which).order_by(ClientRow.name, ClientRow.client_id)))

    def get(self, client_id: str) -> ClientRow:
        """The application's registration. Raises `NotFound`."""
        with self._live.database.reading() as session:
            return _app(session, client_id)

    def disable(self, client_id: str, *, by: Who) -> None:
        """End all that hangs on the application; it cannot authenticate or send anybody here. Raises `NotFound`."""
        with self._deeds.deed() as deed:
            _app(deed.session, client_id).enabled = False
            deed.end(Thing(Kind.CLIENT, client_id))
            record(deed.session, Revoked(who=by, kind=Kind.CLIENT.value, target=client_id, reason="disabled"))

    def enable(self, client_id: str, *, by: Who) -> None:
        """Let the application in again. What ended stays ended. Raises `NotFound`."""
        with self._deeds.deed() as deed:
            _app(deed.session, client_id).enabled = True
            _changed(deed, client_id, {"enabled": True}, by)

    def new_secret(self, client_id: str, *, by: Who) -> str:
        """A fresh secret; the old one is good no more. Raises `Refused`, `NotFound`, `SecretNotYetInForce`."""
        try:
            with self._deeds.deed() as deed:
                secret = give_secret(_app(deed.session, client_id), self._pepper)
                _changed(deed, client_id, {"changed": ["client_secret"]}, by)
        except NotYetInForce as pending:
            raise SecretNotYetInForce(pending.reason, client_id, secret) from None
        return secret


def _changed(deed: Deed, client_id: str, what: Mapping[str, Any], by: Who) -> None:
    deed.change(Thing(Kind.CLIENT, client_id))
    record(deed.session, Changed(who=by, kind=Kind.CLIENT.value, target=client_id, what=what))


def _app(session: Session, client_id: str) -> ClientRow:
    row = session.get(ClientRow, client_id)
    if row is None or row.kind != ClientKind.APP.value:
        raise NotFound(f"no application {client_id}")
    return row


def _alg(alg: str) -> SigningAlg:
    try:
        return SigningAlg(alg)
    except ValueError:
        raise Refused("an ID token is signed with one of " + ", ".join(SigningAlg)) from None


def _method(auth: str) -> AuthMethod:
    try:
        return AuthMethod(auth)
    except ValueError:
        raise Refused("auth is one of " + ", ".join(AuthMethod)) from None
