"""A resource as the token path sees it: a frozen snapshot, cached with its version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app.live.cache import Cache, Held, beside
from app.live.commit import Live
from app.live.models import ThingRow, reading_of
from app.live.things import Kind, Thing
from app.resources.models import ResourceRow
from app.vocabulary import ConfirmationMethod, Pair, Pairs, ScopeSet, SigningAlg


@dataclass(frozen=True, slots=True)
class Resource:
    """A protected resource (RFC 8707): its URI is what `resource` and `aud` say."""

    id: str
    uri: str
    name: str
    scopes: Mapping[str, str]
    labels: frozenset[str]
    scope_labels: Mapping[str, frozenset[str]]
    alg: SigningAlg
    client_id: str
    enabled: bool
    bound: frozenset[ConfirmationMethod] = frozenset()
    """How its tokens must be bound, in one of these ways; empty: it takes bearer tokens too (RFC 9728 §2)."""

    @property
    def pairs(self) -> Pairs:
        """Every (resource, scope) there is here."""
        return frozenset(Pair(self.uri, scope) for scope in self.scopes)

    def touched_by(self, scope: ScopeSet) -> frozenset[str]:
        """The labels that whoever holds these scopes here has touched: the resource's own and the scopes'."""
        return self.labels.union(*(self.scope_labels[one] for one in scope if one in self.scope_labels))


class Resources:
    """Resources by URI and by the `client_id` they introspect with."""

    def __init__(self, live: Live) -> None:
        self._database = live.database
        self._by_uri = Cache(live, lambda session, key: load_resource(session, ResourceRow.uri == key))
        self._by_client = Cache(live, lambda session, key: load_resource(session, ResourceRow.client_id == key))

    def named(self, uri: str) -> Held[Resource] | None:
        """The resource with that URI, byte for byte."""
        return self._by_uri.find(uri)

    def of_client(self, client_id: str) -> Held[Resource] | None:
        """The resource that introspects as this client."""
        return self._by_client.find(client_id)

    def reread(self, uri: str) -> None:
        """Ask SQL next time."""
        self._by_uri.drop(uri)


def load_resource(session: Session, which: ColumnElement[bool]) -> Held[Resource] | None:
    """Row and version in one statement."""
    statement = (
        select(ResourceRow, ThingRow.epoch, ThingRow.version).outerjoin(ThingRow, beside(Kind.RESOURCE, ResourceRow.id)).where(which)
    )
    found = session.execute(statement).one_or_none()
    if found is None:
        return None
    row: ResourceRow = found[0]
    resource = Resource(
        id=row.id,
        uri=row.uri,
        name=row.name,
        scopes=dict(row.scopes),
        labels=frozenset(row.labels),
        scope_labels={scope: frozenset(labels) for scope, labels in row.scope_labels.items()},
        alg=SigningAlg(row.alg),
        client_id=row.client_id,
        enabled=row.enabled,
        bound=frozenset(map(ConfirmationMethod, row.bound)),
    )
    return Held(resource, Thing(Kind.RESOURCE, row.id), reading_of(found[1], found[2]))
