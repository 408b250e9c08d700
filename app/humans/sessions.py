"""Sign-in sessions: SQL is their truth, the cookie holds a secret of which SQL keeps the hash."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app import clock
from app.audit import record
from app.audit.events import Revoked, SignedIn, SignedOut, Who
from app.errors import NotFound, Refused
from app.humans.accounts import Human, end_sessions, snapshot
from app.humans.models import HumanRow, SessionRow
from app.live.commit import Live
from app.live.deeds import Deed, Deeds
from app.live.things import DEPLOYMENT, Kind, Thing
from app.settings import Settings
from app.vocabulary import new_id

ACR_PASSWORD = "urn:deputy:acr:password"
"""`acr` of a sign-in with a password alone (OIDC Core §2)."""

AMR_PASSWORD = ("pwd",)
"""`amr` of it (RFC 8176 §2)."""

ADDRESS_WIDTH, BROWSER_WIDTH = 45, 60

MOST = 100
"""Open sessions shown at once."""

SEEN_EVERY = 60
"""Seconds between two writes of `last_seen`."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """A human who is signed in, since when and how well. Times in seconds since 1970."""

    id: str
    human: Human
    auth_time: int
    acr: str
    amr: tuple[str, ...]
    expires_at: int
    """When the session ends at the latest: nothing that hangs on it should be promised for longer."""


class From(NamedTuple):
    """Where somebody signs in from: so that she can tell a stranger's session from her own."""

    address: str
    browser: str
    """In a few words: `Firefox on Linux`."""


@dataclass(frozen=True, slots=True)
class Open:
    """An open session as its owner sees it. Times in seconds since 1970."""

    id: str
    auth_time: int
    last_seen: int
    expires_at: int
    acr: str
    place: From


class Sessions:
    """Sign-in sessions by the secret in the cookie, and the deeds on them."""

    def __init__(self, live: Live, deeds: Deeds, settings: Settings) -> None:
        self._live = live
        self._deeds = deeds
        self._idle = settings.session_idle
        self._lifetime = settings.session_lifetime

    def start(
        self,
        human: Human,
        *,
        acr: str = ACR_PASSWORD,
        amr: Sequence[str] = AMR_PASSWORD,
        replacing: SignIn | None = None,
        place: From | None = None,
    ) -> tuple[SignIn, str]:
        """Begin a session with a fresh secret, which is returned once and kept nowhere.

        `replacing` is the session the browser had. The same human who proves herself again keeps it, with what hangs
        on it, under the new secret and `auth_time`; anybody else's ends. Raises `Refused` for a disabled human.
        """
        secret = secrets.token_urlsafe(32)
        now = clock.timestamp()
        with self._deeds.deed() as deed:
            holder = deed.session.get(HumanRow, human.id)
            if holder is None or not holder.enabled:
                raise Refused("this account cannot sign in")
            row = self._renewed(deed, human, replacing)
            row.secret_hash, row.auth_time, row.last_seen = _hash(secret), now, now
            row.expires_at, row.acr, row.amr = now + self._lifetime, acr, list(amr)
            if place is not None:
                row.address, row.browser = place.address[:ADDRESS_WIDTH], place.browser[:BROWSER_WIDTH]
            record(deed.session, SignedIn(who=Who(human=human.id), session=row.id, acr=acr, amr=list(amr)))
            return _sign_in(row, holder), secret

    def read(self, secret: str, *, present: bool = True) -> SignIn | None:
        """Who is signed in under that secret, or None: ended, idle too long, too old, or the human is disabled.

        `present`: she did something just now, so that she is not idle.
        """
        now = clock.timestamp()
        statement = (
            select(SessionRow, HumanRow)
            .join(HumanRow, HumanRow.id == SessionRow.human)
            .where(SessionRow.secret_hash == _hash(secret), SessionRow.ended_at.is_(None))
            .where(SessionRow.expires_at > now, SessionRow.last_seen > now - self._idle)
            .where(HumanRow.enabled.is_(True))
        )
        with self._live.database.reading() as session:
            found = session.execute(statement).one_or_none()
        if found is None:
            return None
        row, human = found
        if present and now - row.last_seen >= SEEN_EVERY:
            self._seen(row.id, now)
        return _sign_in(row, human)

    def of(self, human_id: str) -> list[Open]:
        """A human's open sessions, the one seen last first."""
        now = clock.timestamp()
        statement = (
            select(SessionRow)
            .where(SessionRow.human == human_id, SessionRow.ended_at.is_(None))
            .where(SessionRow.expires_at > now, SessionRow.last_seen > now - self._idle)
            .order_by(SessionRow.last_seen.desc(), SessionRow.id)
            .limit(MOST)
        )
        with self._live.database.reading() as session:
            return [
                Open(row.id, row.auth_time, row.last_seen, row.expires_at, row.acr, From(row.address, row.browser))
                for row in session.scalars(statement)
            ]

    def end(self, session_id: str, by: Who) -> None:
        """End a session, and what was allowed for as long as it lasts. Raises `NotFound`; again is no harm."""
        with self._deeds.deed() as deed:
            row = deed.session.get(SessionRow, session_id)
            if row is None:
                raise NotFound(f"no session {session_id}")
            row.ended_at = row.ended_at or clock.timestamp()
            _end(deed, session_id, by.over(row.human))

    def end_all(self, human_id: str, by: Who) -> int:
        """End every open session of a human. Returns how many there were."""
        with self._deeds.deed() as deed:
            ended = end_sessions(deed, human_id)
            for session_id in ended:
                _end(deed, session_id, by.over(human_id))
        return len(ended)

    def end_everything(self, *, by: Who) -> None:
        """End every token, family, consent and sign-in of the deployment. Registrations stay."""
        with self._deeds.deed() as deed:
            end_deployment(deed, by)

    def _renewed(self, deed: Deed, human: Human, old: SignIn | None) -> SessionRow:
        """The row to sign in on: the browser's own when it is the same human's, else a new one."""
        held = None if old is None else deed.session.get(SessionRow, old.id)
        if held is not None and held.ended_at is None:
            if held.human == human.id:
                return held
            held.ended_at = clock.timestamp()
            _end(deed, held.id, Who(human=held.human))
        row = SessionRow(id=new_id("ses"), human=human.id)
        deed.session.add(row)
        return row

    def _seen(self, session_id: str, now: int) -> None:
        with self._live.database.transaction() as session:
            row = session.get(SessionRow, session_id)
            if row is not None:
                row.last_seen = now


def end_deployment(deed: Deed, by: Who) -> None:
    """End every token, family, consent and sign-in, inside a deed. Registrations stay."""
    # All that hangs on a session hangs on the deployment too: its one epoch is enough.
    _close(deed.session)
    deed.end(DEPLOYMENT)
    record(deed.session, Revoked(who=by, kind=DEPLOYMENT.kind.value, target=DEPLOYMENT.id, reason="revoked"))


def end_everybodys(deed: Deed) -> None:
    """End every open session and what hangs on it, inside a deed: nobody can say any more who has signed out."""
    for session_id in _close(deed.session):
        deed.end(Thing(Kind.SESSION, session_id))


def _close(session: Session) -> Sequence[str]:
    statement = update(SessionRow).where(SessionRow.ended_at.is_(None)).values(ended_at=clock.timestamp()).returning(SessionRow.id)
    return session.scalars(statement).all()


def _end(deed: Deed, session_id: str, by: Who) -> None:
    deed.end(Thing(Kind.SESSION, session_id))
    record(deed.session, SignedOut(who=by, session=session_id))


def _sign_in(row: SessionRow, human: HumanRow) -> SignIn:
    return SignIn(
        id=row.id,
        human=snapshot(human),
        auth_time=row.auth_time,
        acr=row.acr,
        amr=tuple(row.amr),
        expires_at=row.expires_at,
    )


def _hash(secret: str) -> str:
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
