"""What one deed takes from the limits of its task and its consent. Counted there, never where the token is (protocol §7)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.delegation.authority import least
from app.delegation.consent import CONSENT_PREFIX, Consent
from app.delegation.limits import AMOUNT, LIVE_TOKENS, USES, Amount, Limits, format_amount
from app.delegation.task import Task
from app.errors import AccessDenied
from app.live.commit import Born
from app.live.deeds import REMEMBER

ALIVE = "alive"


class Spend(NamedTuple):
    """So much of one counter that may reach `limit`. Integers below 2**53."""

    kind: str
    """`uses` or `amount`."""
    owner: str
    """The task or the consent that has the limit."""
    units: int
    limit: int
    until: int
    """Seconds since 1970 until which it must be remembered."""
    lasting: bool
    """Whether it outlasts a lost Redis, as a consent does and no running task."""
    currency: str = ""

    @property
    def name(self) -> str:
        """The counter's key below the generation."""
        return f"{self.kind}:{self.owner}" + (f":{self.currency}" if self.currency else "")

    def said(self, left: int) -> int | dict[str, str]:
        """So much of it as a program reads it, in the form in which the limit was given."""
        return Amount(self.currency, max(0, left)).stored() if self.kind == AMOUNT else max(0, left)

    def refusal(self, left: int | None = None) -> AccessDenied:
        """What is said when not enough is left; `left` where it is known."""
        refusal = _used_up(self.kind, lasting=self.lasting)
        if left is not None:
            refusal.extra["left"] = format_amount(max(0, left)) if self.kind == AMOUNT else max(0, left)
        return refusal


def of_token(task: Task, consent: Consent | None) -> tuple[Spend, ...]:
    """What one API token takes: a use where tokens are counted."""
    return tuple(
        Spend(USES, owner, 1, limits.uses, until, lasting)
        for owner, limits, until, lasting in _limited(task, consent)
        if limits.uses is not None and not limits.counts_events
    )


def counted(task: Task, consent: Consent | None) -> tuple[Spend, ...]:
    """Every counter that what is done in a task is taken from, with nothing taken."""
    found: list[Spend] = []
    for owner, limits, until, lasting in _limited(task, consent):
        if limits.uses is not None:
            found.append(Spend(USES, owner, 0, limits.uses, until, lasting))
        if limits.amount is not None:
            found.append(Spend(AMOUNT, owner, 0, limits.amount.units, until, lasting, limits.amount.currency))
    return tuple(found)


def born(task: Task, consent: Consent | None, jti: str, end: int) -> tuple[Born, ...]:
    """Among how many live tokens one more is born."""
    return tuple(
        Born(f"{ALIVE}:{owner}", limits.live_tokens, jti, end)
        for owner, limits, _until, _lasting in _limited(task, consent)
        if limits.live_tokens is not None
    )


def as_many_alive(name: str) -> AccessDenied:
    """What is said when under the name of a `Born` as many tokens live as may."""
    refusal = _used_up(LIVE_TOKENS, lasting=name.startswith(f"{ALIVE}:{CONSENT_PREFIX}"))
    refusal.extra["left"] = 0
    return refusal


def of_event(task: Task, consent: Consent | None, amount: Amount | None, ceiling: Amount | None) -> tuple[Spend, ...]:
    """What one event takes: a use where events are counted, and its amount. `ceiling`: the token's own.

    Raises AccessDenied for an amount that cannot be compared with a limit.
    """
    spends: list[Spend] = []
    for owner, limits, until, lasting in _limited(task, consent):
        if limits.uses is not None and limits.counts_events:
            spends.append(Spend(USES, owner, 1, limits.uses, until, lasting))
        # The token's ceiling is on what its task adds up to: however it was split over children, the sum stays below.
        bound = limits.amount if lasting or ceiling is None else least(limits.amount, ceiling)
        if bound is None or amount is None:
            continue
        if amount.currency != bound.currency:
            # What cannot be compared cannot be taken from the limit, and a limit is never passed by.
            raise AccessDenied("an amount in another currency than the limit's", layer="limit")
        spends.append(Spend(AMOUNT, owner, amount.units, bound.units, until, lasting, bound.currency))
    return tuple(spends)


def _used_up(kind: str, *, lasting: bool) -> AccessDenied:
    refusal = AccessDenied(f"used up: {kind} of the {'consent' if lasting else 'task'}", layer="limit")
    refusal.extra["limit"] = kind
    return refusal


def _limited(task: Task, consent: Consent | None) -> Sequence[tuple[str, Limits, int, bool]]:
    found = [(task.id, task.limits, task.deadline + REMEMBER, False)]
    if consent is not None:
        found.append((consent.id, consent.limits, consent.until + REMEMBER, True))
    return found
