"""The recorded past, asked again: which decisions would have been others under another policy set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.audit.events import ApprovalAsked, CallConsumed, CallPermitted, CallRefused, TokenIssued, TokenRefused
from app.database import Database
from app.ledger.queries import Entry, Filter, Queries
from app.policy.cedar import PolicySet, Question, Verdict

CALLS = frozenset({CallPermitted.name, CallConsumed.name, CallRefused.name})
"""Nobody waits for a human with one of these: what asks is a no."""

POLICY, APPROVAL = "policy", "approval"
PERMITTED, ASKED, REFUSED = "permitted", "asked of a human", "refused"


@dataclass(frozen=True, slots=True)
class Difference:
    """One recorded decision that would be another."""

    entry: Entry
    was: str
    """How it was decided then: `PERMITTED`, `ASKED` or `REFUSED`."""
    would_be: str
    """How it would be now."""
    policies: tuple[str, ...]
    """Which policies would refuse it or ask; none where it would be permitted."""


@dataclass(slots=True)
class Replay:
    """Counts while it goes."""

    database: Database
    policies: PolicySet
    since: int = 0
    """Milliseconds since 1970; older decisions are left out."""
    decided: int = 0
    """Decisions looked at: every permit that a policy was asked about, every refusal by one, every question to a human."""

    def differences(self) -> Iterator[Difference]:
        """Exactly the decisions that would differ, in the ledger's order.

        Each is asked as it was asked then, with the history its task had then. What our own rules refused stays refused
        whatever a policy says, and is not looked at.
        """
        queries, last = Queries(self.database), 0
        while entries := queries.following(last, Filter()):
            last = entries[-1].seq
            for entry in entries:
                if (difference := self.difference(entry)) is not None:
                    yield difference

    def difference(self, entry: Entry) -> Difference | None:
        """One decision, if it would be another."""
        record = entry.record
        was, question = _was(record), record.get("question")
        if was is None or question is None or record["at"] < self.since:
            return None
        self.decided += 1
        said = self.policies.ask(Question.parse(question))
        would_be = _would_be(said, waits=record["event"] not in CALLS)
        return Difference(entry, was, would_be, said.policies) if would_be != was else None


def _was(record: Mapping[str, Any]) -> str | None:
    """How the policies decided then; None where it did not come to them."""
    match record["event"]:
        case TokenIssued.name | CallPermitted.name | CallConsumed.name:
            return PERMITTED
        case ApprovalAsked.name if record.get("forbidden_by"):
            return ASKED
        case ApprovalAsked.name:
            # The agent asked of its own accord: the policies had nothing against it.
            return PERMITTED
        case TokenRefused.name | CallRefused.name if record.get("layer") == POLICY:
            return REFUSED
        case TokenRefused.name if record.get("layer") == APPROVAL and record.get("forbidden_by"):
            return ASKED
        case _:
            return None


def _would_be(said: Verdict, *, waits: bool) -> str:
    if said.allowed:
        return PERMITTED
    return ASKED if said.asks and waits else REFUSED
