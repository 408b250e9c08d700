"""What is written down, and in which words.

Owns: the catalogue of events, `record()` into the outbox, `serialize()` for the stream.
Promises: ids only, no names, no mail, no secret; every record is complete from the first one on.
Never: a record after the fact, or one that can be skipped.
Specs: none but our own; docs/ledger.md describes each field.
"""

from app.audit.record import Outbox, record, serialize

__all__ = ["Outbox", "record", "serialize"]
