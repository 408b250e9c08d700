"""What a human allowed: given on a page, narrowed, paused or withdrawn at any moment, in force at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from app import clock
from app.audit import record
from app.audit.events import ConsentGiven, ConsentNarrowed, ConsentPaused, ConsentResumed, ConsentWithdrawn, Who
from app.delegation import reserves
from app.delegation.limits import NO_LIMITS, Limits
from app.delegation.models import ConsentRow
from app.delegation.task import open_default_task
from app.errors import NotFound, Refused
from app.live.cache import Cache, Held, beside
from app.live.commit import Live
from app.live.deeds import Deed, Deeds
from app.live.footing import Footing, write
from app.live.models import ThingRow, parse_epochs, read_epochs, reading_of, stored_epochs, unmoved
from app.live.things import DEPLOYMENT, Kind, Thing
from app.vocabulary import Pair, Pairs, by_resource, new_id

CONSENT_PREFIX = "con_"
"""What the id of every consent begins with."""


@dataclass(frozen=True, slots=True)
class Consent:
    """A human x a client (agent or application) x (resource, scope) pairs x until, with a re-delegation depth."""

    id: str
    human: str
    client_id: str
    agent: str | None
    pairs: Pairs
    depth: int
    away: bool
    session: str | None
    given_at: int
    until: int
    ended: bool
    auth_time: int
    acr: str
    amr: tuple[str, ...]
    born: Mapping[Thing, int]
    """The epochs it was given under; what is derived from it is born under them too."""
    redirect_uri: str = ""
    """Where the page said the browser would go."""
    paused: bool = False
    limits: Limits = NO_LIMITS
    """What all tasks under it may use up together."""
    receivers: frozenset[str] = frozenset()
    """Ids of the agents that could come to act beside its own when it was given."""

    def names(self, agent: str) -> bool:
        """Whether the agent of that id may act under it: its own, or one that the human was told of."""
        return agent == self.agent or agent in self.receivers

    def live(self, now: int) -> bool:
        """Whether it is neither withdrawn nor paused nor run out; `now` in seconds since 1970."""
        return not self.ended and not self.paused and now < self.until


@dataclass(frozen=True, slots=True)
class Approval:
    """What a human approved on the consent page."""

    human: str
    client_id: str
    agent: str | None
    pairs: Pairs
    depth: int
    away: bool
    session: str
    until: int
    auth_time: int
    acr: str
    amr: Sequence[str]
    redirect_uri: str
    shown: str
    app: str | None = None
    owner: str | None = None
    limits: Limits = NO_LIMITS
    receivers: frozenset[str] = frozenset()


class Consents:
    """Consents by id, and the deeds on them."""

    def __init__(self, live: Live, deeds: Deeds) -> None:
        self._live = live
        self._deeds = deeds
        self._cache = Cache(live, lambda session, key: _load(session, ConsentRow.id == key))

    def find(self, consent_id: str) -> Held[Consent] | None:
        """The consent, or None. That it is paused is asked of SQL each time: no refusal is told from memory."""
        held = self._cache.find(consent_id)
        if held is not None and held.value.paused:
            self._cache.drop(consent_id)
            held = self._cache.find(consent_id)
        return held

    def standing(self, human: str, client_id: str) -> list[Held[Consent]]:
        """The live consents of that human for that client as SQL has them, the newest first. A paused one is not live."""
        now = clock.timestamp()
        statement = (
            select(ConsentRow.id, ConsentRow.born)
            .where(ConsentRow.human == human, ConsentRow.client_id == client_id)
            .where(ConsentRow.ended_at.is_(None), ConsentRow.paused_at.is_(None), ConsentRow.until > now)
            .order_by(ConsentRow.given_at.desc(), ConsentRow.id)
        )
        with self._live.database.reading() as session:
            ids = [consent_id for consent_id, born in session.execute(statement) if unmoved(session, born)]
            return [held for consent_id in ids if (held := _load(session, ConsentRow.id == consent_id)) is not None]

    def every(self, human: str | None = None) -> list[Consent]:
        """Every consent that stands, paused ones too, or that human's; the newest first."""
        statement = (
            select(ConsentRow)
            .where(ConsentRow.ended_at.is_(None), ConsentRow.until > clock.timestamp())
            .order_by(ConsentRow.given_at.desc(), ConsentRow.id)
        )
        if human is not None:
            statement = statement.where(ConsentRow.human == human)
        with self._live.database.reading() as session:
            return [_snapshot(row) for row in session.scalars(statement) if unmoved(session, row.born)]

    def give(self, deed: Deed, approval: Approval) -> tuple[Consent, str | None]:
        """Write down what was approved and open its default task, inside the deed. Returns both (no task for an app)."""
        row = ConsentRow(
            id=new_id("con"),
            human=approval.human,
            client_id=approval.client_id,
            agent=approval.agent,
            pairs=stored(approval.pairs),
            depth=approval.depth,
            receivers=sorted(approval.receivers),
            away=approval.away,
            session=None if approval.away else approval.session,
            app=approval.app,
            given_at=clock.timestamp(),
            until=approval.until,
            auth_time=approval.auth_time,
            acr=approval.acr,
            amr=list(approval.amr),
            redirect_uri=approval.redirect_uri,
            shown=approval.shown,
            limits=approval.limits.stored(),
            born=stored_epochs(read_epochs(deed.session, _hangs_on(approval))),
        )
        footing = Footing(row.born, 0, row.until)
        write(deed.session, (footing,))
        row.footing = footing.id
        deed.session.add(row)
        consent = _snapshot(row)
        task = None
        if consent.agent is not None:
            generation = self._live.reload_generation().number
            task = open_default_task(deed.session, consent, generation, "consent")
            reserves.begin(deed.session, consent.id, consent.limits, generation)
        record(
            deed.session,
            ConsentGiven(
                who=Who(human=consent.human, client=consent.client_id, owner=approval.owner),
                consent=consent.id,
                scope=by_resource(consent.pairs),
                until=consent.until,
                away=consent.away,
                depth=consent.depth,
                shown=approval.shown,
                task=task,
                app=approval.app,
                session=approval.session,
                limits=consent.limits.stored() or None,
            ),
        )
        return consent, task

    def withdraw(self, consent_id: str, *, by: Who) -> None:
        """End a consent and everything under it, refresh tokens too. Raises NotFound; again is no harm."""
        with self._deeds.deed() as deed:
            end_consent(deed, consent_id, by)

    def narrow(self, consent_id: str, *, pairs: Pairs, until: int, by: Who, limits: Limits | None = None) -> None:
        """Make a consent smaller: tokens under it die, refresh tokens go on within what is left. Raises Refused, NotFound.

        `limits`: in place of those it has, None leaves them.
        """
        with self._deeds.deed() as deed:
            row = _row(deed, consent_id)
            held = frozenset(Pair(*pair) for pair in row.pairs)
            if row.ended_at is not None or not pairs or not pairs <= held or until > row.until:
                raise Refused("a consent can only be made smaller")
            row.pairs, row.until = stored(pairs), until
            if limits is not None:
                if not limits.within(Limits.parse(row.limits)):
                    raise Refused("a consent can only be made smaller")
                row.limits = limits.stored()
                reserves.lower(deed.session, consent_id, limits, self._live.reload_generation().number)
            deed.end(Thing(Kind.CONSENT, consent_id))
            left = row.limits or None
            event = ConsentNarrowed(who=_over(by, row), consent=consent_id, scope=by_resource(pairs), until=until, limits=left)
            record(deed.session, event)

    def pause(self, human: str, client_id: str, *, by: Who) -> int:
        """Keep all that human allowed a client from being used: tokens under it die, nothing is issued until `resume`.

        Returns how many consents that were; again is no harm. What runs out meanwhile runs out.
        """
        with self._deeds.deed() as deed:
            rows = [row for row in _standing_rows(deed, human, client_id) if row.paused_at is None]
            for row in rows:
                row.paused_at = clock.timestamp()
                deed.end(Thing(Kind.CONSENT, row.id))
                record(deed.session, ConsentPaused(who=_over(by, row), consent=row.id))
        return len(rows)

    def resume(self, human: str, client_id: str, *, by: Who) -> int:
        """Let what was paused be used again. Tokens of before stay dead. Returns how many consents that were."""
        with self._deeds.deed() as deed:
            rows = [row for row in _standing_rows(deed, human, client_id) if row.paused_at is not None]
            for row in rows:
                row.paused_at = None
                deed.change(Thing(Kind.CONSENT, row.id))
                record(deed.session, ConsentResumed(who=_over(by, row), consent=row.id))
        return len(rows)


def end_consent(deed: Deed, consent_id: str, by: Who) -> None:
    """End a consent and everything under it, inside a deed. Raises NotFound; again is no harm."""
    row = _row(deed, consent_id)
    row.ended_at = row.ended_at or clock.timestamp()
    deed.end(Thing(Kind.CONSENT, consent_id))
    record(deed.session, ConsentWithdrawn(who=_over(by, row), consent=consent_id))


def stored(pairs: Iterable[Pair]) -> list[list[str]]:
    """Pairs as a JSON column holds them."""
    return [list(pair) for pair in sorted(pairs)]


def _row(deed: Deed, consent_id: str) -> ConsentRow:
    row = deed.session.get(ConsentRow, consent_id)
    if row is None:
        raise NotFound(f"no consent {consent_id}")
    return row


def _over(by: Who, row: ConsentRow) -> Who:
    """Who did it, over whose consent for whom: what an operator does to it is told to her too."""
    return replace(by.over(row.human), client=row.client_id)


def _standing_rows(deed: Deed, human: str, client_id: str) -> Sequence[ConsentRow]:
    statement = select(ConsentRow).where(ConsentRow.human == human, ConsentRow.client_id == client_id)
    return deed.session.scalars(statement.where(ConsentRow.ended_at.is_(None), ConsentRow.until > clock.timestamp())).all()


def _load(session: Session, which: ColumnElement[bool]) -> Held[Consent] | None:
    statement = select(ConsentRow, ThingRow.epoch, ThingRow.version).outerjoin(ThingRow, beside(Kind.CONSENT, ConsentRow.id)).where(which)
    found = session.execute(statement).one_or_none()
    if found is None:
        return None
    return Held(_snapshot(found[0]), Thing(Kind.CONSENT, found[0].id), reading_of(found[1], found[2]))


def _snapshot(row: ConsentRow) -> Consent:
    return Consent(
        id=row.id,
        human=row.human,
        client_id=row.client_id,
        agent=row.agent,
        pairs=frozenset(Pair(*pair) for pair in row.pairs),
        depth=row.depth,
        away=row.away,
        session=row.session,
        given_at=row.given_at,
        until=row.until,
        ended=row.ended_at is not None,
        auth_time=row.auth_time,
        acr=row.acr,
        amr=tuple(row.amr),
        born=parse_epochs(row.born),
        redirect_uri=row.redirect_uri,
        paused=row.paused_at is not None,
        limits=Limits.parse(row.limits),
        receivers=frozenset(row.receivers),
    )


def _hangs_on(approval: Approval) -> list[Thing]:
    things = [DEPLOYMENT, Thing(Kind.HUMAN, approval.human), Thing(Kind.CLIENT, approval.client_id)]
    if approval.agent is not None:
        things.append(Thing(Kind.AGENT, approval.agent))
    if approval.app is not None:
        things.append(Thing(Kind.CLIENT, approval.app))
    if not approval.away:
        things.append(Thing(Kind.SESSION, approval.session))
    return things
