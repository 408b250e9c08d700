"""An event becomes a record: versioned, dated, with an id of its own, in canonical order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import orjson
import uuid_utils
from sqlalchemy import text
from sqlalchemy.orm import Session

from app import clock
from app.audit.events import CATALOGUE, Event, Who

SCHEMA = 1
"""Version of the record's form. A chain cannot gain a field later, so a change of form gets a new number."""

Outbox = Callable[[Session, Event], None]

LEAVE = text("INSERT INTO outbox (id, record) VALUES (:id, :record)")
WHO = tuple(item.name for item in fields(Who))
FIELDS = {event: tuple(item.name for item in fields(event)) for event in CATALOGUE}
"""What of each event is written down. An event that is not in the catalogue cannot be."""


def serialize(event: Event) -> tuple[str, bytes]:
    """The record's id (UUID version 7) and its JSON."""
    identifier = str(uuid_utils.uuid7())
    body: dict[str, Any] = {
        "v": SCHEMA,
        "id": identifier,
        "at": clock.milliseconds(),
        "event": event.name,
        "outcome": event.outcome.value,
    }
    for name in FIELDS[type(event)]:
        value = getattr(event, name)
        if value is not None:
            body[name] = {k: v for k in WHO if (v := getattr(value, k))} if name == "who" else value
    return identifier, orjson.dumps(body, default=_plain, option=orjson.OPT_SORT_KEYS)


def record(session: Session, event: Event) -> str:
    """Leave the record in the outbox, in the deed's own transaction: no record, no deed. Returns its id."""
    identifier, body = serialize(event)
    session.connection().execute(LEAVE, {"id": identifier, "record": body})
    return identifier


def _plain(value: object) -> object:
    if isinstance(value, (frozenset, set)):
        return sorted(value)
    raise TypeError(f"a record cannot hold {type(value).__name__}")
