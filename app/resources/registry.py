"""The register of APIs: what each is called, which scopes it has in plain words, its labels, its credential."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from urllib.parse import urlsplit

from sqlalchemy import func, or_, select
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
from app.live.deeds import Deed, Deeds, NotYetInForce
from app.live.things import Kind, Thing
from app.resources.models import ResourceRow
from app.settings import LOOPBACK_HOSTS, Settings
from app.vocabulary import (
    MAX_SCOPES,
    OPENID_SCOPES,
    SCOPE_TOKEN,
    AuthMethod,
    ClientKind,
    ConfirmationMethod,
    Pairs,
    SigningAlg,
    is_label,
    new_id,
)

MAX_URI = 500
MAX_SCOPE = 100
MAX_WORDS = 200
MAX_LABELS = 32


class ResourceRegistry:
    """Resources by URI or id, and the deeds on them."""

    def __init__(self, live: Live, deeds: Deeds, keys: KeyStore, settings: Settings, pepper: bytes) -> None:
        self._live = live
        self._deeds = deeds
        self._keys = keys
        self._settings = settings
        self._pepper = pepper

    def add(
        self,
        uri: str,
        *,
        name: str,
        scopes: Mapping[str, str],
        labels: Iterable[str] = (),
        scope_labels: Mapping[str, Iterable[str]] | None = None,
        alg: str = "ES256",
        bound: Iterable[ConfirmationMethod] = (),
        by: Who,
    ) -> Registered:
        """Register an API. `scopes`: name to plain words; `bound`: it takes no bearer token, only what is bound in one of these ways.

        Raises `Refused` with a sentence for whoever asked.
        """
        self._check_uri(uri)
        return self._add(uri, name=name, scopes=scopes, labels=labels, scope_labels=scope_labels, alg=alg, bound=bound, by=by)

    def _add(
        self,
        uri: str,
        *,
        name: str,
        scopes: Mapping[str, str],
        labels: Iterable[str] = (),
        scope_labels: Mapping[str, Iterable[str]] | None = None,
        alg: str = "ES256",
        bound: Iterable[ConfirmationMethod] = (),
        by: Who,
    ) -> Registered:
        chosen = _checked_alg(alg)
        client, secret = new_client(ClientKind.RESOURCE, name, prefix="rsc", auth=AuthMethod.CLIENT_SECRET_BASIC, pepper=self._pepper)
        row = ResourceRow(
            id=new_id("res"),
            uri=uri,
            name=name,
            scopes=_checked_scopes(scopes),
            labels=_checked_labels(labels),
            scope_labels=_checked_scope_labels(scopes, scope_labels or {}),
            alg=chosen.value,
            bound=sorted(bound),
            client_id=client.client_id,
            created_at=clock.timestamp(),
        )
        self._keys.ensure_alg(chosen)
        try:
            with self._deeds.deed() as deed:
                deed.session.add_all((client, row))
                deed.session.flush()
                what = {
                    "uri": uri,
                    "scopes": sorted(scopes),
                    "labels": row.labels,
                    "scope_labels": row.scope_labels,
                    "bound": row.bound,
                }
                record(deed.session, RegisteredEvent(who=by, kind=Kind.RESOURCE.value, target=row.id, what=what))
        except IntegrityError:
            raise Refused("a resource with that URI is registered already") from None
        return Registered(row.id, client.client_id, secret, uri=uri)

    def keep_own(self, uri: str, *, name: str, scopes: Mapping[str, str], by: Who) -> None:
        """See to it that an API which this server is itself is registered, with these scopes. Idempotent; SQL is enough.

        Nobody is given its credential: what is presented there needs no introspection.
        """
        with self._live.database.reading() as session:
            row = session.scalar(select(ResourceRow).where(ResourceRow.uri == uri))
        if row is None:
            with suppress(Refused):  # another process was first
                self._add(uri, name=name, scopes=scopes, by=by)
        elif row.scopes != scopes:
            with suppress(NotYetInForce), self._deeds.deed() as deed:
                _resource(deed.session, uri).scopes = _checked_scopes(scopes)
                deed.change(Thing(Kind.RESOURCE, row.id))
                record(deed.session, Changed(who=by, kind=Kind.RESOURCE.value, target=row.id, what={"scopes": sorted(scopes)}))

    def list(self) -> list[ResourceRow]:
        """Every resource, by URI."""
        with self._live.database.reading() as session:
            return list(session.scalars(select(ResourceRow).order_by(ResourceRow.uri)))

    def found(self, words: str, most: int) -> tuple[Sequence[ResourceRow], int]:
        """Up to `most` resources whose name or URI holds the words, by name, and how many do."""
        fits = or_(*(column.icontains(words, autoescape=True) for column in (ResourceRow.name, ResourceRow.uri)))
        with self._live.database.reading() as session:
            count = session.scalar(select(func.count()).select_from(ResourceRow).where(fits)) or 0
            rows = session.scalars(select(ResourceRow).where(fits).order_by(ResourceRow.name, ResourceRow.uri).limit(most))
            return rows.all(), count

    def get(self, reference: str) -> ResourceRow:
        """The resource with that URI or id. Raises `NotFound`."""
        with self._live.database.reading() as session:
            return _resource(session, reference)

    def change(
        self,
        reference: str,
        *,
        name: str | None = None,
        scopes: Mapping[str, str] | None = None,
        labels: Iterable[str] | None = None,
        scope_labels: Mapping[str, Iterable[str]] | None = None,
        by: Who,
    ) -> bool:
        """Change what is registered of an API; None stays as it is. Raises `NotFound`, `Refused`.

        Returns whether scopes were taken away or labels are others now: then every token for it has ended, and agents ask anew.
        """
        with self._deeds.deed() as deed:
            row = _resource(deed.session, reference)
            before = set(row.scopes), row.labels, row.scope_labels
            what: dict[str, object] = {}
            if name is not None and name != row.name:
                check_name(name)
                row.name, what["changed"] = name, ["name"]
            if scopes is not None and scopes != row.scopes:
                row.scopes = _checked_scopes(scopes)
                what["scopes"] = sorted(row.scopes)
            if labels is not None and (checked := _checked_labels(labels)) != row.labels:
                row.labels = what["labels"] = checked
            left = {scope: worn for scope, worn in row.scope_labels.items() if scope in row.scopes}
            wanted = left if scope_labels is None else scope_labels
            kept = {scope: worn for scope, worn in _checked_scope_labels(row.scopes, wanted).items() if worn}
            if kept != row.scope_labels:
                row.scope_labels = what["scope_labels"] = kept
            if not what:
                return False
            ended = not before[0] <= set(row.scopes) or (row.labels, row.scope_labels) != before[1:]
            if ended:
                deed.end(Thing(Kind.RESOURCE, row.id))
            deed.change(Thing(Kind.RESOURCE, row.id))
            record(deed.session, Changed(who=by, kind=Kind.RESOURCE.value, target=row.id, what=what | {"ended": ended}))
        return ended

    def disable(self, reference: str, *, by: Who) -> None:
        """End every token for the API; nothing is issued for it and it is told about no token. Raises `NotFound`."""
        with self._deeds.deed() as deed:
            disable_resource(deed, reference, by)

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


def disable_resource(deed: Deed, reference: str, by: Who) -> None:
    """End every token for an API and close it, inside a deed. Raises `NotFound`."""
    row = _resource(deed.session, reference)
    row.enabled = False
    deed.end(Thing(Kind.RESOURCE, row.id))
    record(deed.session, Revoked(who=by, kind=Kind.RESOURCE.value, target=row.id, reason="disabled"))


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
    if len(checked) > MAX_LABELS or any(not is_label(label) for label in checked):
        raise Refused(f"up to {MAX_LABELS} labels; each is a short word of lower-case letters, digits and : . _ -")
    return checked


def _checked_scope_labels(scopes: Mapping[str, str], scope_labels: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    for scope in scope_labels:
        if scope not in scopes:
            raise Refused(f"there is no scope {scope} to put a label on")
    return {scope: _checked_labels(labels) for scope, labels in scope_labels.items()}


def _checked_alg(alg: str) -> SigningAlg:
    try:
        return SigningAlg(alg)
    except ValueError:
        raise Refused("alg is one of " + ", ".join(SigningAlg)) from None
