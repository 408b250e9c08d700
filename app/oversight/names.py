"""Names for the identifiers that records hold, looked up in bulk when they are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.agents.models import AgentRow
from app.clients.models import ClientRow
from app.delegation.models import ConsentRow, TaskRow
from app.resources.models import ResourceRow

Row = TypeVar("Row")
Record = Mapping[str, Any]

GONE = "something that is no longer registered"


@dataclass(frozen=True, slots=True)
class Names:
    """What is known of the identifiers of some records. What is not found keeps its identifier, or is said to be gone."""

    agents: Mapping[str, AgentRow] = field(default_factory=dict)
    """By URI."""
    clients: Mapping[str, ClientRow] = field(default_factory=dict)
    resources: Mapping[str, ResourceRow] = field(default_factory=dict)
    """By URI."""
    tasks: Mapping[str, TaskRow] = field(default_factory=dict)
    consents: Mapping[str, ConsentRow] = field(default_factory=dict)

    @classmethod
    def of(cls, session: Session, records: Iterable[Record]) -> Names:
        """Everything these records name, in five queries however many they are."""
        wanted = _Wanted()
        for record in records:
            wanted.add(record)
        consents = _rows(session, ConsentRow.id, wanted.consents)
        return cls(
            agents=_rows(session, AgentRow.uri, wanted.uris),
            clients=_rows(session, ClientRow.client_id, wanted.clients | {row.client_id for row in consents.values()}),
            resources=_rows(session, ResourceRow.uri, wanted.uris),
            tasks=_rows(session, TaskRow.id, wanted.tasks),
            consents=consents,
        )

    def agent(self, uri: str) -> str:
        """An agent's name, by its URI."""
        return self.agents[uri].name if uri in self.agents else GONE

    def client(self, client_id: str) -> str:
        """The name of an agent or application, by its `client_id`."""
        return self.clients[client_id].name if client_id in self.clients else GONE

    def target(self, uri: str) -> str:
        """The name of an API or agent, by its URI; a host is better than nothing."""
        if uri in self.resources:
            return self.resources[uri].name
        return self.agents[uri].name if uri in self.agents else urlsplit(uri).netloc or uri

    def words(self, uri: str, scope: str) -> str:
        """What a scope means at a resource."""
        row = self.resources.get(uri)
        return str(row.scopes.get(scope, scope)) if row is not None else scope

    def purpose(self, task: str) -> str:
        """What a task is for, as its agent said it; empty for the default task and for an unknown one."""
        return self.tasks[task].purpose if task in self.tasks else ""

    def client_of(self, consent: str) -> str | None:
        """Whom a consent allowed something."""
        return self.consents[consent].client_id if consent in self.consents else None


@dataclass(slots=True)
class _Wanted:
    uris: set[str] = field(default_factory=set)
    clients: set[str] = field(default_factory=set)
    tasks: set[str] = field(default_factory=set)
    consents: set[str] = field(default_factory=set)

    def add(self, record: Record) -> None:
        who: Record = record["who"]
        asked: Record = record.get("asked") or {}
        scope = record.get("scope")
        self.uris.update(who.get("actors", ()))
        self.uris.update(scope if isinstance(scope, Mapping) else ())
        self.uris.update(asked.get("target", ()))
        self.uris.update(uri for name in ("audience", "resource") if (uri := record.get(name)))
        self.clients.update(filter(None, (who.get("client"), record.get("app"))))
        self.tasks.update(filter(None, (record.get("task"),)))
        self.consents.update(filter(None, (record.get("consent"),)))
        if record.get("kind") == "task":
            self.tasks.add(record["target"])


def _rows(session: Session, key: InstrumentedAttribute[str], values: set[str]) -> dict[str, Any]:
    found = session.scalars(select(key.class_).where(key.in_(sorted(values)))) if values else ()
    return {getattr(row, key.key): row for row in found}
