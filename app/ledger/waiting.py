"""Records that are on their way to the ledger: in a stream, or in the outbox. Read, never taken."""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import select

from app.audit.models import OutboxRow
from app.live.commit import Live
from app.live.generation import STREAMS

MOST = 10_000
"""Records of each that are looked at: more wait only when the relay is down, and then nothing is issued."""


def waiting(live: Live) -> list[dict[str, Any]]:
    """The records that wait, oldest first. Raises TemporarilyUnavailable when Redis or SQL is out of reach.

    Look here first and into the ledger afterwards: what moves in between is then seen twice and not missed.
    """
    found = [entry for stream in STREAMS for entry in live.redis.call("XRANGE", stream, "-", "+", "COUNT", MOST)]
    bodies = [fields[1] for _, fields in found if len(fields) > 1]
    with live.database.reading() as session:
        bodies += session.scalars(select(OutboxRow.record).order_by(OutboxRow.id).limit(MOST))
    return sorted((record for body in bodies if (record := _parsed(body)) is not None), key=lambda record: int(record["at"]))


def _parsed(body: bytes) -> dict[str, Any] | None:
    """The relay says of what is no record that it is none; here it is passed over."""
    try:
        record = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    good = isinstance(record, dict) and isinstance(record.get("at"), int) and isinstance(record.get("who"), dict)
    return record if good and isinstance(record.get("event"), str) and isinstance(record.get("id"), str) else None
