"""The deeds that end authority."""

from __future__ import annotations

from app.audit import record
from app.audit.events import Revoked, Who
from app.live.deeds import Deed, Deeds
from app.live.things import Kind, Thing

TOKEN = "token"
WITH_ROWS_OF_THEIR_OWN = frozenset({Kind.CONSENT, Kind.TASK, Kind.SESSION})
"""What ends for good, and says so in its own row: its own deeds end it (`Consents.withdraw`, `Tasks.end`, `Sessions.end`)."""


class Revocation:
    """Each deed raises `NotYetInForce` when SQL has it and Redis did not confirm; repeating it is harmless."""

    def __init__(self, deeds: Deeds) -> None:
        self._deeds = deeds

    def token(self, jti: str, expires_at: int, *, by: Who) -> None:
        """End one token and what was derived from it. `expires_at` in seconds since 1970: how long to remember it."""
        with self._deeds.deed() as deed:
            deny_token(deed, jti, expires_at, by)

    def family(self, family: str, *, by: Who) -> None:
        """End all tokens of one authorization, its refresh token too."""
        self.end(Thing(Kind.FAMILY, family), by=by)

    def end(self, thing: Thing, *beside: Thing, by: Who) -> None:
        """End what hangs on a thing, and on those beside it that are part of the same. The thing itself goes on.

        Raises ValueError for a kind that does not go on after its end.
        """
        with self._deeds.deed() as deed:
            end_things(deed, thing, *beside, by=by)


def deny_token(deed: Deed, jti: str, expires_at: int, by: Who) -> None:
    """End one token and what was derived from it, inside a deed."""
    deed.deny(jti, expires_at)
    record(deed.session, Revoked(who=by, kind=TOKEN, target=jti))


def end_things(deed: Deed, thing: Thing, *beside: Thing, by: Who) -> None:
    """End what hangs on a thing and on those beside it, inside a deed. Raises ValueError as `Revocation.end` does."""
    if not WITH_ROWS_OF_THEIR_OWN.isdisjoint(one.kind for one in (thing, *beside)):
        raise ValueError(f"a {thing.kind} is ended by its own deed")
    for one in (thing, *beside):
        deed.end(one)
    record(deed.session, Revoked(who=by, kind=thing.kind.value, target=thing.id, reason="revoked"))
