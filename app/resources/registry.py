"""The register of APIs: what each is called, which scopes it has in plain words, its labels, its credential."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import clock
from app.audit import record
from app.audit.events import Changed, Revoked, Who
from app.audit.events import Registered as RegisteredEvent
from app.clients.models import ClientRow
from app.clients.registration import URI_CHARACTERS, Registered, SecretNotYetInForce, check_name, give_secret, new_client
from app.errors import NotFound, Refused
from app.keys.store import KeyStore
from app.live.commit import Live
from app.live.deeds import Deeds, NotYetInForce
from app.live.things import Kind, Thing
from app.resources.models import ResourceRow
from app.settings import LOOPBACK_HOSTS, Settings
from app.vocabulary import MAX_SCOPES, OPENID_SCOPES, SCOPE_TOKEN, AuthMethod, ClientKind, Pairs, SigningAlg, new_id

MAX_URI = 500
MAX_SCOPE = 100
MAX_WORDS = 200
LABEL = re.compile(r"[a-z][a-z0-9:._-]{0,63}")


class ResourceRegistry:
    """Resources by URI or id, and the deeds on them."""

    def __init__(self, live: Live, deeds: Deeds, keys: KeyStore, settings: Settings, pepper: bytes) -> None:
        self._live = live
        self._deeds = deeds
        self._keys = keys
        self._settings = settings
        self._pepper = pepper

    def add(self, uri: str, *, name: str, scopes: Mapping[str, str], labels: Iterable[str] = (), alg: str = "ES256", by: Who) -> Registered:
        """Register an API. `scopes`: name to plain words. Raises `Refused` with a sentence for whoever asked."""
        self._check_uri(uri)
        chosen = _checked_alg(alg)
        client, secret = new_client(ClientKind.RESOURCE, name, prefix="rsc", auth=AuthMethod.CLIENT_SECRET_BASIC, pepper=self._pepper)
        row = ResourceRow(
            id=new_id("res"),
            uri=uri,
            name=name,
            scopes=_checked_scopes(scopes),
            labels=_checked_labels(labels),
            alg=chosen.value,
            client_id=client.client_id,
            created_at=clock.timestamp(),
        )
        self._keys.ensure_alg(chosen)
        try:
            with self._deeds.deed() as deed:
                deed.session.add_all((client, row))
                deed.session.flush()
                what = {"uri": uri, "scopes": sorted(scopes), "labels": row.labels}
                record(deed.session, RegisteredEvent(who=by, kind=Kind.RESOURCE.value, target=row.id, what=what))
        except IntegrityError:
            raise Refused("a resource with that URI is registered already") from None
        return Registered(row.id, client.client_id, secret, uri=uri)

    def list(self) -> list[ResourceRow]:
        """Every resource, by URI."""
        with self._live.database.reading() as session:
            return list(session.scalars(select(ResourceRow).order_by(ResourceRow.uri)))

    def get(self, reference: str) -> ResourceRow:
        """The resource with that URI or id. Raises `NotFound`."""
        with self._live.database.reading() as session:
            return _resource(session, reference)

    def disable(self, reference: str, *, by: Who) -> None:
        """End every token for the API; nothing is issued for it and it is told about no token. Raises `NotFound`."""
        with self._deeds.deed() as deed:
            row = _resource(deed.session, reference)
            row.enabled = False
            deed.end(Thing(Kind.RESOURCE, row.id))
            record(deed.session, Revoked(who=by, kind=Kind.RESOURCE.value, target=row.id, reason="disabled"))

    def enable(self, reference: str, *, by: Who) -> None:
        """Open the API again. What ended stays ended. Raises `NotFound`."""
        with self._deeds.deed() as deed:
            row = _resource(deed.session, reference)
            row.enabled = True
            deed.change(Thing(Kind.RESOURCE, row.id))
            record(deed.session, Changed(who=by, kind=Kind.RESOURCE.value, target=row.id, what={"enabled": True}))

    def new_secret(self, reference: str, *, by: Who) -> tuple[str, str]:
        """`client_id` and a fresh secret; the old one is good no more. Raises `NotFound`, `SecretNotYetInForce`."""
        try:
            with self._deeds.deed() as deed:
                row = _resource(deed.session, reference)
                secret = give_secret(deed.session.get_one(ClientRow, row.client_id), self._pepper)
                deed.change(Thing(Kind.CLIENT, row.client_id))
                what = {"changed": ["client_secret"]}
                record(deed.session, Changed(who=by, kind=Kind.RESOURCE.value, target=row.id, what=what))
        except NotYetInForce as pending:
            raise SecretNotYetInForce(pending.reason, row.client_id, secret) from None
        return row.client_id, secret

    def _check_uri(self, uri: str) -> None:
        if len(uri) > MAX_URI or not URI_CHARACTERS.fullmatch(uri) or "#" in uri or "?" in uri:
            raise Refused("a resource URI is absolute, in ASCII, without query or fragment (RFC 8707 §2)")
        try:
            parts = urlsplit(uri)
            sound = bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
        except ValueError:
            sound = False
        development = self._settings.environment == "development"
        plain = sound and parts.scheme == "http" and development and parts.hostname in LOOPBACK_HOSTS
        if not sound or not (parts.scheme == "https" or plain):
            raise Refused("a resource URI begins with https://; http:// is for a loopback address in development")
        issuer = self._settings.issuer
        if uri.rstrip("/") == issuer or uri.startswith(issuer + "/"):
            raise Refused("URIs under the issuer name the server's own endpoints and its agents")


def check_pairs(session: Session, pairs: Pairs) -> None:
    """Every (resource, scope) there is in the register. Raises `Refused` naming the first that is not."""
    known = {row.uri: row.scopes for row in session.scalars(select(ResourceRow))} if pairs else {}
    for resource, scope in sorted(pairs):
        if resource not in known:
            raise Refused(f"no resource {resource} is registered")
        if scope not in known[resource]:
            raise Refused(f"{resource} has no scope {scope}")


def _resource(session: Session, reference: str) -> ResourceRow:
    row = session.scalar(select(ResourceRow).where((ResourceRow.uri == reference) | (ResourceRow.id == reference)))
    if row is None:
        raise NotFound(f"no resource {reference}")
    return row


def _checked_scopes(scopes: Mapping[str, str]) -> dict[str, str]:
    if not 1 <= len(scopes) <= MAX_SCOPES:
        raise Refused(f"a resource has 1 to {MAX_SCOPES} scopes")
    for scope, words in scopes.items():
        if len(scope) > MAX_SCOPE or not SCOPE_TOKEN.fullmatch(scope):
            raise Refused("a scope is one word of visible ASCII without quote or backslash (RFC 6749 §3.3)")
        if scope in OPENID_SCOPES:
            raise Refused(f"{scope} belongs to the sign-in and not to a resource")
        check_name(words, f"what {scope} means in plain words", MAX_WORDS)
    return dict(scopes)


def _checked_labels(labels: Iterable[str]) -> list[str]:
    checked = sorted(set(labels))
    if any(not LABEL.fullmatch(label) for label in checked):
        raise Refused("a label is a short word of lower-case letters, digits and : . _ -")
    return checked


def _checked_alg(alg: str) -> SigningAlg:
    try:
        return SigningAlg(alg)
    except ValueError:
        raise Refused("alg is one of " + ", ".join(SigningAlg)) from None
