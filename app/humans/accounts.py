"""Accounts: who exists, who may sign in, who administers."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address, ip_network

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError

from app import clock
from app.audit import record
from app.audit.events import Changed, Registered, Revoked, SignInFailed, Who
from app.audit.models import OutboxRow
from app.errors import NotFound, Refused, TooManyRequests
from app.humans.models import HumanRow, SessionRow
from app.humans.passwords import Passwords
from app.live.commit import Live
from app.live.deeds import Deed, Deeds
from app.live.things import Kind, Thing
from app.vocabulary import Role, is_plain, new_id

WINDOW = 300
"""Seconds over which wrong passwords are counted."""

ADDRESS_FACTOR = 5
"""How many times more wrong passwords an address has than a username: households and offices share one."""

MAX_USERNAME = 200
MAX_NAME = 200
MAX_EMAIL = 320


@dataclass(frozen=True, slots=True)
class Human:
    """A person. `id` is the `sub` of every token that acts for her; the username never is."""

    id: str
    username: str
    name: str
    email: str
    role: Role
    enabled: bool

    @property
    def operator(self) -> bool:
        """Whether she administers."""
        return self.role is Role.OPERATOR


@dataclass(frozen=True, slots=True)
class PeoplePage:
    """Some people, and the username after which the next page begins; empty at the end."""

    people: list[Human]
    after: str


class Accounts:
    """Accounts by id and by username, and the deeds on them."""

    def __init__(self, live: Live, deeds: Deeds, *, attempts: int = 10) -> None:
        """`attempts`: wrong passwords for one username within `WINDOW` seconds before it must wait."""
        self._live = live
        self._deeds = deeds
        self._attempts = attempts
        self._passwords = Passwords()

    def find(self, human_id: str) -> Human | None:
        """The human with that id, or None."""
        with self._live.database.reading() as session:
            row = session.get(HumanRow, human_id)
            return None if row is None else snapshot(row)

    def find_by_username(self, username: str) -> Human | None:
        """The human with exactly these bytes for a username, or None."""
        row = self._row(username)
        return None if row is None else snapshot(row)

    def list(self) -> list[Human]:
        """Everybody, by username."""
        with self._live.database.reading() as session:
            return [snapshot(row) for row in session.scalars(select(HumanRow).order_by(HumanRow.username))]

    def named(self, ids: Iterable[str]) -> dict[str, str]:
        """Names by id."""
        with self._live.database.reading() as session:
            return dict(session.execute(select(HumanRow.id, HumanRow.name).where(HumanRow.id.in_(set(ids)))).all())

    def page(self, text: str = "", *, after: str = "", size: int = 50) -> PeoplePage:
        """People by username, those with the text in a name or username, a page at a time."""
        statement = select(HumanRow).where(HumanRow.username > after).order_by(HumanRow.username).limit(size + 1)
        if text:
            statement = statement.where(HumanRow.username.icontains(text, autoescape=True) | HumanRow.name.icontains(text, autoescape=True))
        with self._live.database.reading() as session:
            people = [snapshot(row) for row in session.scalars(statement)]
        return PeoplePage(people[:size], people[size - 1].username if len(people) > size else "")

    def add(self, username: str, name: str, email: str, password: str, *, role: Role = Role.MEMBER, by: Who) -> str:
        """Register a human. Returns her id. Raises `Refused` with a sentence for whoever asked."""
        _check_username(username)
        _check_text(name, "a name", MAX_NAME)
        _check_text(email, "an e-mail address", MAX_EMAIL)
        row = HumanRow(
            id=new_id("hum"),
            username=username,
            name=name,
            email=email,
            password_hash=self._passwords.hash(password),
            role=role.value,
            created_at=clock.timestamp(),
        )
        try:
            with self._deeds.deed() as deed:
                deed.session.add(row)
                deed.session.flush()
                record(
                    deed.session,
                    Registered(who=by, kind=Kind.HUMAN.value, target=row.id, what={"role": role.value}),
                )
        except IntegrityError:
            raise Refused("that username is taken") from None
        return row.id

    def set_role(self, human_id: str, role: Role, *, by: Who) -> None:
        """Give a human an office, or take it from her; it holds at her next request. Raises `NotFound`."""
        with self._deeds.deed() as deed:
            _human(deed, human_id).role = role.value
            deed.change(Thing(Kind.HUMAN, human_id))
            record(deed.session, Changed(who=by, kind=Kind.HUMAN.value, target=human_id, what={"role": role.value}))

    def set_password(self, human_id: str, password: str, *, by: Who, keep: str | None = None) -> None:
        """A new password. Whoever signed in with the old one is signed out, but for the session `keep`.

        Raises `Refused`, `NotFound`.
        """
        encoded = self._passwords.hash(password)
        with self._deeds.deed() as deed:
            row = _human(deed, human_id)
            row.password_hash = encoded
            for session_id in end_sessions(deed, human_id, but=keep):
                deed.end(Thing(Kind.SESSION, session_id))
            record(
                deed.session,
                Changed(who=by.over(human_id), kind=Kind.HUMAN.value, target=human_id, what={"changed": ["password"]}),
            )

    def disable(self, human_id: str, *, by: Who) -> None:
        """End all that acts for this human, and her sessions; she cannot sign in. Raises `NotFound`; again is no harm."""
        with self._deeds.deed() as deed:
            end_human(deed, human_id, keep_out=True, by=by)

    def end_all(self, human_id: str, *, by: Who) -> None:
        """End all that acts for this human, and her sessions; she may sign in again. Raises `NotFound`."""
        with self._deeds.deed() as deed:
            end_human(deed, human_id, keep_out=False, by=by)

    def enable(self, human_id: str, *, by: Who) -> None:
        """Let her sign in again. What ended stays ended. Raises `NotFound`."""
        with self._deeds.deed() as deed:
            _human(deed, human_id).enabled = True
            deed.change(Thing(Kind.HUMAN, human_id))
            record(deed.session, Changed(who=by, kind=Kind.HUMAN.value, target=human_id, what={"enabled": True}))

    def verify_password(self, username: str, password: str, address: str) -> Human | None:
        """The human who signs in from `address`, or None: unknown, wrong and disabled are one answer and one work.

        Raises `TooManyRequests`, before any expensive work, when the username or the address failed too often.
        """
        by_name, by_address = _counter("username", username), _counter("address", origin(address))
        self._throttle(by_name, address)
        row = self._row(username)
        good = self._passwords.verify(None if row is None else row.password_hash, password)
        if row is None or not good or not row.enabled:
            self._live.count(by_address, WINDOW)
            self._record_failure(row, "wrong password" if not good else "disabled")
            return None
        self._live.clear(by_name)
        if self._passwords.outdated(row.password_hash):
            self._rehash(row.id, password)
        return snapshot(row)

    def admit(self, address: str) -> None:
        """Let a sign-in be tried from `address`. Raises `TooManyRequests` when too many from there were wrong."""
        if self._live.counted(_counter("address", origin(address))) >= self._attempts * ADDRESS_FACTOR:
            raise TooManyRequests("wrong sign-ins from one address", retry_after=WINDOW)

    def failed(self, address: str, human_id: str | None, reason: str) -> None:
        """Count a sign-in from `address` that was wrong, and record it where it is known whose it would have been."""
        self._live.count(_counter("address", origin(address)), WINDOW)
        if human_id is not None:
            with self._live.database.transaction() as session:
                record(session, SignInFailed(who=Who(human=human_id), reason=reason))

    def _throttle(self, by_name: str, address: str) -> None:
        self.admit(address)
        # Counted before the password is looked at: a volley of guesses at once gains nothing.
        if self._live.count(by_name, WINDOW) > self._attempts:
            raise TooManyRequests("wrong passwords for one username", retry_after=WINDOW)

    def _record_failure(self, row: HumanRow | None, reason: str) -> None:
        """Record a failure for a known human. For nobody the record is taken back.

        The same work, and no way to fill the ledger from outside.
        """
        with self._live.database.transaction() as session:
            who = Who(human=None if row is None else row.id)
            identifier = record(session, SignInFailed(who=who, reason=reason))
            session.execute(delete(OutboxRow).where(OutboxRow.id == (identifier if row is None else "")))

    def _rehash(self, human_id: str, password: str) -> None:
        encoded = self._passwords.hash(password)
        with self._live.database.transaction() as session:
            session.get_one(HumanRow, human_id).password_hash = encoded

    def _row(self, username: str) -> HumanRow | None:
        if problem(username):
            return None
        with self._live.database.reading() as session:
            return session.scalar(select(HumanRow).where(HumanRow.username == username))


def snapshot(row: HumanRow) -> Human:
    """A human as the rest of the house sees her."""
    return Human(
        id=row.id,
        username=row.username,
        name=row.name,
        email=row.email,
        role=Role(row.role),
        enabled=row.enabled,
    )


def end_human(deed: Deed, human_id: str, *, keep_out: bool, by: Who) -> None:
    """End all that acts for a human, and her sessions, inside a deed; `keep_out`: she cannot sign in. Raises `NotFound`."""
    row = _human(deed, human_id)
    if keep_out:
        row.enabled = False
    end_sessions(deed, human_id)
    # Every token and consent hangs on the human too: one epoch ends what hangs on her sessions.
    deed.end(Thing(Kind.HUMAN, human_id))
    record(deed.session, Revoked(who=by, kind=Kind.HUMAN.value, target=human_id, reason="disabled" if keep_out else "revoked"))


def end_sessions(deed: Deed, human_id: str, *, but: str | None = None) -> list[str]:
    """Mark every open sign-in session of a human ended, inside a deed, all or all but one. Returns their ids."""
    open_ = select(SessionRow).where(SessionRow.human == human_id, SessionRow.ended_at.is_(None))
    rows = deed.session.scalars(open_ if but is None else open_.where(SessionRow.id != but)).all()
    for row in rows:
        row.ended_at = clock.timestamp()
    return [row.id for row in rows]


def problem(username: str) -> str:
    """What is wrong with a username, in words; empty when nothing is. Nothing is folded, trimmed or repaired."""
    if not 1 <= len(username) <= MAX_USERNAME:
        return f"a username has 1 to {MAX_USERNAME} characters"
    if any(unicodedata.category(char)[0] in "CZ" for char in username):
        return "a username holds no spaces, control or invisible characters"
    if not unicodedata.is_normalized("NFC", username):
        return "a username must be in Unicode normal form C"
    return ""


def _check_username(username: str) -> None:
    if found := problem(username):
        raise Refused(found)


def _check_text(text: str, what: str, longest: int) -> None:
    if not is_plain(text, longest):
        raise Refused(f"{what} has 1 to {longest} characters and no control or invisible ones")


def _human(deed: Deed, human_id: str) -> HumanRow:
    row = deed.session.get(HumanRow, human_id)
    if row is None:
        raise NotFound(f"no human {human_id}")
    return row


def _counter(what: str, value: str) -> str:
    return f"login:{what}:{sha256(value.encode('utf-8', 'surrogatepass')).hexdigest()}"


@lru_cache(maxsize=10_000)
def origin(address: str) -> str:
    """The address, or the /64 of an IPv6 one: whoever has one address there has them all."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "unknown"
    return str(ip_network((parsed, 64), strict=False)) if parsed.version == 6 else str(parsed)
