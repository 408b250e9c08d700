"""How a token came to be and what became of it, from the human's sign-in to its end, as the ledger tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.audit.events import (
    ApprovalAllowed,
    ApprovalAsked,
    ApprovalDenied,
    ApprovalExpired,
    ApprovalRedeemed,
    ApprovalReturned,
    Changed,
    CodeIssued,
    ConsentGiven,
    ConsentNarrowed,
    ConsentWithdrawn,
    GenerationOpened,
    KeyMoved,
    ReplayDetected,
    Revoked,
    SignedIn,
    SignedOut,
    TaskOpened,
    TokenIssued,
    TokenNotDelivered,
)
from app.ledger.queries import Entry, Filter, Queries
from app.live.deeds import TOKEN
from app.live.things import Kind

MANY = 200
"""Entries of one kind that are looked through or told at most."""

Record = Mapping[str, Any]

ENDINGS = frozenset(
    event.name for event in (Changed, ConsentNarrowed, ConsentWithdrawn, GenerationOpened, KeyMoved, ReplayDetected, Revoked, SignedOut)
)
"""Events that may end a token."""

APPROVING = (ApprovalAsked, ApprovalAllowed, ApprovalDenied, ApprovalExpired, ApprovalRedeemed, ApprovalReturned)
"""What becomes of a question to a human."""

ANSWERED = 2 * 86_400_000
"""Milliseconds after which a question is over in any case."""


class Records:
    """The ledger, and the records on their way to it: one look for both. An entry of the latter has number 0."""

    def __init__(self, queries: Queries, waiting: Iterable[Record]) -> None:
        self._queries = queries
        self._waiting = [Entry(0, "", dict(record)) for record in waiting]

    def named(self, identifier: str) -> Entry | None:
        """The record of that id."""
        return self._queries.named(identifier) or next((e for e in self._waiting if e.record["id"] == identifier), None)

    def line(self, jti: str) -> list[Entry]:
        """The permits of a token and of those it was derived from, its own first."""
        waiting = {e.record.get("jti"): e for e in self._waiting if e.record["event"] == TokenIssued.name}
        found: list[Entry] = []
        wanted: object = jti
        while isinstance(wanted, str):
            in_ledger = self._queries.custody(wanted)
            if in_ledger:
                return found + in_ledger
            waits = waiting.pop(wanted, None)
            if waits is None:
                return found
            found.append(waits)
            wanted = waits.record.get("parent")
        return found

    def newest(self, which: Filter, until: int | None = None) -> list[Entry]:
        """The newest that fit, oldest first; `until` in milliseconds since 1970."""
        waits = self._beside(lambda record: _fits(record, which) and (until is None or record["at"] <= until))
        return _both(self._queries.newest(MANY, which, until=until), waits)

    def oldest(self, which: Filter, after: int) -> list[Entry]:
        """The first that fit, after an entry of that number."""
        waits = self._beside(lambda record: _fits(record, which))
        return _both(self._queries.following(after, which)[:MANY], waits)

    def every(self, which: Filter, until: int) -> list[Entry]:
        """All that fit up to that moment, oldest first."""
        waits = self._beside(lambda record: _fits(record, which) and record["at"] <= until)
        held: list[Entry] = []
        after = 0
        while page := self._queries.following(after, which):
            held += (entry for entry in page if entry.record["at"] <= until)
            after = page[-1].seq
        return _both(held, waits)

    def around(self, events: frozenset[str], since: int, until: int, after: int) -> list[Entry]:
        """What happened of these kinds in that time (milliseconds), oldest first."""
        waits = self._beside(lambda record: record["event"] in events and since <= record["at"] <= until)
        held = list(self._queries.around(events, since, until, after))
        return sorted(_both(held, waits), key=lambda entry: int(entry.record["at"]))

    def _beside(self, fits: Callable[[Record], bool]) -> list[Entry]:
        """Those that wait still. Looked at before the ledger is: what moves in between is then seen twice and not missed."""
        return [e for e in self._waiting if fits(e.record) and self._queries.named(e.record["id"]) is None]


def _both(held: list[Entry], waits: Sequence[Entry]) -> list[Entry]:
    known = {entry.record["id"] for entry in held}
    return held + [entry for entry in waits if entry.record["id"] not in known]


def _fits(record: Record, which: Filter) -> bool:
    who = record["who"]
    has = {**record, "human": who.get("human"), "agent": (who.get("actors") or (None,))[0], "client_id": who.get("client")}
    wanted = {name: getattr(which, name) for name in Filter.__dataclass_fields__}
    return all(value is None or has.get(name) == value for name, value in wanted.items())


@dataclass(frozen=True, slots=True)
class Custody:
    """The permits from a token back to its first ancestor, and what that line began with, both in their order of time."""

    tokens: tuple[Entry, ...]
    """The token's own last."""
    before: tuple[Entry, ...]
    """Sign-in, consent and what narrowed it, code, task."""

    @property
    def links(self) -> tuple[Entry, ...]:
        """All of it, by time."""
        return tuple(sorted((*self.before, *self.tokens), key=lambda entry: int(entry.record["at"])))


def custody_of(records: Records, record: Record) -> Custody:
    """From a decision back to the sign-in. `record`: that of a token, or of a refusal that names what it rested on."""
    at = int(record["at"])
    jti = record.get("jti") or record.get("parent")
    tokens = list(reversed(records.line(jti))) if isinstance(jti, str) else []
    told = [*(entry.record for entry in tokens), record]
    human = next((h for one in told if (h := one["who"].get("human"))), None)
    if human is None:
        return Custody(tuple(tokens), ())
    before: list[Entry] = []
    sessions: list[str] = []
    for consent in _distinct(one.get("consent") for one in told):
        mine = Filter(human=human, consent=consent)
        given = [e for e in records.newest(_only(mine, ConsentGiven.name), at) if e.record["consent"] == consent][:1]
        before += given + records.newest(_only(mine, ConsentNarrowed.name), at)
        sessions += [e.record["session"] for e in given if "session" in e.record]
    for family in _distinct(one.get("family") for one in told):
        codes = records.newest(Filter(human=human, event=CodeIssued.name), at)
        before += [e for e in codes if e.record["family"] == family][:1]
    for task in _distinct(one.get("task") for one in told):
        before += records.newest(Filter(task=task, event=TaskOpened.name), at)[:1]
    begun = min((int(e.record["at"]) for e in (*before, *tokens)), default=at)
    sign_ins = records.newest(Filter(human=human, event=SignedIn.name), begun)
    for session in _distinct((*sessions, *(one.get("session") for one in told))):
        before += [e for e in sign_ins if e.record["session"] == session][-1:]
    return Custody(tuple(tokens), tuple(before))


def approval_of(records: Records, record: Record) -> tuple[Entry, ...]:
    """The question to a human that a record is or rests on, and all that became of it, by time."""
    approval, human, at = record.get("approval"), record["who"].get("human"), int(record["at"])
    if not isinstance(approval, str) or human is None:
        return ()
    found = (e for event in APPROVING for e in records.newest(Filter(human=human, event=event.name), at + ANSWERED))
    return tuple(sorted((e for e in found if e.record["approval"] == approval), key=lambda entry: int(entry.record["at"])))


def _only(which: Filter, event: str) -> Filter:
    return Filter(human=which.human, consent=which.consent, event=event)


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(value for value in values if isinstance(value, str)))


@dataclass(frozen=True, slots=True)
class Afterwards:
    """What became of a token."""

    seen: tuple[Entry, ...]
    """What is recorded of itself: first use, reports, refusals by a changed policy."""
    derived: tuple[Entry, ...]
    """Tokens it was exchanged for."""
    endings: tuple[Entry, ...]
    """Everything that would have ended it while it could live; the first did."""


def afterwards(records: Records, custody: Custody) -> Afterwards:
    """What the ledger says of the last token of the line after it was permitted."""
    entry = custody.tokens[-1]
    record = entry.record
    jti, at, end = record["jti"], int(record["at"]), int(record["expires_at"]) * 1000
    seen = [e for e in records.oldest(Filter(jti=jti), 0) if e.record["event"] != TokenIssued.name]
    derived: list[Entry] = []
    if (task := record.get("task")) is not None and entry.seq:
        beside = records.oldest(Filter(task=task, event=TokenIssued.name), entry.seq)
        derived = [e for e in beside if e.record.get("parent") == jti]
    hangs = _hangs_on(record)
    endings = [e for e in records.around(ENDINGS, at, end, entry.seq) if _ends(e.record, hangs, record)]
    undelivered = [e for e in seen if e.record["event"] == TokenNotDelivered.name]
    return Afterwards(tuple(seen), tuple(derived), (*undelivered, *endings))


Hangs = Mapping[str, frozenset[str]]
"""What a token hangs on: ids by the kind that a revocation names."""


def _hangs_on(record: Record) -> Hangs:
    """The things a token was born under, and the tokens it was derived from."""
    found: dict[str, set[str]] = {kind.value: set() for kind in Kind}
    for thing in record.get("hangs_on", ()):
        kind, _, identifier = thing.partition(":")
        found.setdefault(kind, set()).add(identifier)
    found[TOKEN] = {record["jti"], *record.get("parents", ())}
    return {kind: frozenset(ids) for kind, ids in found.items()}


def _ends(record: Record, hangs: Hangs, token: Record) -> bool:
    match record["event"]:
        case Revoked.name:
            return record["target"] in hangs.get(record["kind"], ())
        case ConsentWithdrawn.name | ConsentNarrowed.name:
            return record["consent"] in hangs[Kind.CONSENT.value]
        case SignedOut.name:
            return record["session"] in hangs[Kind.SESSION.value]
        case ReplayDetected.name:
            return record.get("family") in hangs[Kind.FAMILY.value]
        case KeyMoved.name:
            return record["move"] == "revoked" and record["kid"] in hangs[Kind.KEY.value]
        case GenerationOpened.name:
            return bool(record["generation"] > token.get("generation", 0))
        case _:
            # A new password ends the sessions that began with the old one.
            changed = record.get("what", {}).get("changed", ())
            return "password" in changed and record["target"] in hangs[Kind.HUMAN.value] and bool(hangs[Kind.SESSION.value])
