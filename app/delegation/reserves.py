"""What consents may use up, in SQL: how much there is, and how much of it was set aside for Redis to take from."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.orm import Session

from app.delegation.limits import AMOUNT, USES, Limits
from app.delegation.models import AllowanceRow


def begin(session: Session, consent: str, limits: Limits, generation: int) -> None:
    """Write down what a consent may use up, inside the deed that gives it."""
    for kind, most in _counted(limits):
        session.add(AllowanceRow(consent=consent, kind=kind, generation=generation, most=most))


def lower(session: Session, consent: str, limits: Limits, generation: int) -> None:
    """Lower what a consent may use up, inside the deed that narrows it."""
    for kind, most in _counted(limits):
        row = session.get(AllowanceRow, (consent, kind))
        if row is None:
            session.add(AllowanceRow(consent=consent, kind=kind, generation=generation, most=most))
        else:
            row.most = most


def exhaust(session: Session) -> None:
    """After a restored backup nobody knows what was used up since: everything counts as used."""
    session.execute(update(AllowanceRow).values(reserved=AllowanceRow.most))


def _counted(limits: Limits) -> list[tuple[str, int]]:
    found = []
    if limits.uses is not None:
        found.append((USES, limits.uses))
    if limits.amount is not None:
        found.append((AMOUNT, limits.amount.units))
    return found
