"""The register of policies: versions are added, tried, activated by a second person, retired; never overwritten."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app import clock
from app.audit import record
from app.audit.events import PolicyMoved, Who
from app.errors import NotFound, Refused, TemporarilyUnavailable
from app.live.cache import Cache, Held
from app.live.commit import Live
from app.live.deeds import Deed, Deeds
from app.live.models import read_thing
from app.live.things import POLICIES
from app.policy.cedar import PolicyError, PolicySet, check
from app.policy.models import PolicyRow, PolicySetRow
from app.vocabulary import is_plain, new_id

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
MAX_VERSION = 2**31 - 1
MAX_TEXT = 20_000
MAX_RULE = 300

Members = list[tuple[str, int]]
"""Name and version of each policy of a set."""

NOBODY = frozenset({"", "command line"})
"""Who is no person in particular, and so no second one."""

DRAFT, ACTIVE, RETIRED = "draft", "active", "retired"


class Policies:
    """Policies by name and version, and the set in force."""

    def __init__(self, live: Live, deeds: Deeds, *, second_person: bool) -> None:
        self._live = live
        self._deeds = deeds
        self._second_person = second_person
        self._cache = Cache(live, _load)

    def current(self, *, certain: bool = False) -> Held[PolicySet]:
        """The set in force with its version; `certain`: as SQL has it now, which a refusal needs, for no commit compares it.

        Raises TemporarilyUnavailable when one of them cannot be trusted.
        """
        if certain and (kept := self._cache.recall(POLICIES.id)) is not None:
            with self._live.database.reading() as session:
                if read_thing(session, POLICIES) != kept.reading:
                    self._cache.drop(POLICIES.id)
        held = self._cache.find(POLICIES.id)
        if held is None:
            raise TemporarilyUnavailable("no policy set")
        return held

    def trial(self, name: str, version: int | None) -> PolicySet:
        """The set as it would be with that version (None: the newest) in place of the active one. Raises NotFound, Refused."""
        with self._live.database.reading() as session:
            row = _version(session, name, version)
            texts = [(one.name, one.text) for one in _active(session) if one.name != name]
            return _compiled([*texts, (name, row.text)])

    def add(self, name: str, text: str, *, owner: str, rule: str, by: Who) -> PolicyRow:
        """Save the next version of a policy; it is in force once activated. Raises Refused with what is wrong."""
        if not NAME.fullmatch(name):
            raise Refused("a policy's name is lower-case letters, digits and dashes")
        if not is_plain(rule, MAX_RULE):
            raise Refused("say which law, contract or rule of conduct it carries out, on one line")
        if len(text) > MAX_TEXT:
            raise Refused(f"a policy has at most {MAX_TEXT} characters")
        try:
            check(name, text)
        except PolicyError as error:
            raise Refused(str(error)) from None
        with self._deeds.deed() as deed:
            newest = deed.session.scalar(select(func.max(PolicyRow.version)).where(PolicyRow.name == name)) or 0
            row = PolicyRow(
                id=new_id("pol"),
                name=name,
                version=newest + 1,
                text=text,
                owner=owner,
                rule=rule,
                made_by=_person(by),
                made_at=clock.timestamp(),
            )
            deed.session.add(row)
            record(deed.session, PolicyMoved(who=by, policy=name, version=row.version, move="added", rule=rule))
            deed.session.flush()
            deed.session.expunge(row)
        return row

    def activate(self, name: str, version: int | None, *, by: Who) -> PolicyRow:
        """Put a version (None: the newest) in force, in place of the one before. Raises NotFound, Refused."""
        with self._deeds.deed() as deed:
            row = _version(deed.session, name, version)
            if self._second_person and row.made_by == _person(by):
                raise Refused("a second person activates it: whoever wrote it does not")
            if self._second_person and {row.made_by, _person(by)} & NOBODY:
                raise Refused("a second person activates it: both are named, on the command line with --by")
            for one in _active(deed.session):
                if one.name == name:
                    one.state = RETIRED
            row.state, row.activated_by, row.activated_at = ACTIVE, _person(by), clock.timestamp()
            deed.session.flush()
            _compiled([(one.name, one.text) for one in _active(deed.session)])
            number = _changed(deed)
            moved = PolicyMoved(who=by, policy=name, version=row.version, move="activated", rule=row.rule, policies=number)
            record(deed.session, moved)
            deed.session.expunge(row)
        return row

    def retire(self, name: str, *, by: Who) -> None:
        """Take a policy out of force. Raises NotFound when it is not active."""
        with self._deeds.deed() as deed:
            row = next((one for one in _active(deed.session) if one.name == name), None)
            if row is None:
                raise NotFound(f"no active policy {name}")
            row.state = RETIRED
            number = _changed(deed)
            record(deed.session, PolicyMoved(who=by, policy=name, version=row.version, move="retired", rule=row.rule, policies=number))

    def get(self, name: str, version: int | None = None) -> PolicyRow:
        """That version, or the newest. Raises NotFound."""
        with self._live.database.reading() as session:
            return _version(session, name, version)

    def members(self, version: int) -> Members | None:
        """Name and version of each policy that the set of that version had; None for a set that never was."""
        with self._live.database.reading() as session:
            row = session.get(PolicySetRow, version)
        if row is None:
            return None if version else []
        return [(name, number) for name, number in row.members]

    def rules(self, policies: Iterable[str]) -> Sequence[tuple[str, str]]:
        """What each of these carries out, as the versions in force say it; a policy is named as refusals name it."""
        with self._live.database.reading() as session:
            rules = {row.name: row.rule for row in _active(session)}
        return [(policy, rules.get(policy.partition("/")[0], "")) for policy in policies]

    def list(self) -> list[PolicyRow]:
        """Every version of every policy, by name, the newest first."""
        with self._live.database.reading() as session:
            return list(session.scalars(select(PolicyRow).order_by(PolicyRow.name, PolicyRow.version.desc())))


def _person(by: Who) -> str:
    """Who did it; for an agent that administers as itself, who answers for it: a person and her agent are not two."""
    operator = by.operator or ""
    return by.owner or "" if operator.startswith("agt_") else operator


def _changed(deed: Deed) -> int:
    """The set is another one now; write down which policies it has. Returns its version."""
    deed.session.flush()
    number = deed.change(POLICIES)
    deed.session.merge(PolicySetRow(version=number, members=[[row.name, row.version] for row in _active(deed.session)]))
    return number


def _active(session: Session) -> list[PolicyRow]:
    return list(session.scalars(select(PolicyRow).where(PolicyRow.state == ACTIVE).order_by(PolicyRow.name)))


def _version(session: Session, name: str, version: int | None) -> PolicyRow:
    statement = select(PolicyRow).where(PolicyRow.name == name).order_by(PolicyRow.version.desc()).limit(1)
    if version is not None:
        statement = statement.where(PolicyRow.version == version)
    # What no column holds is no version, rather than an error of the database.
    row = session.scalar(statement) if version is None or version <= MAX_VERSION else None
    if row is None:
        raise NotFound(f"no policy {name}" if version is None else f"no version {version} of policy {name}")
    return row


def _compiled(texts: list[tuple[str, str]]) -> PolicySet:
    try:
        return PolicySet.compile(texts)
    except PolicyError as error:
        raise Refused(str(error)) from None


def _load(session: Session, _key: str) -> Held[PolicySet]:
    # The version first: rows that are newer than it are decided again at the commit, never the other way round.
    reading = read_thing(session, POLICIES)
    try:
        policies = PolicySet.compile([(row.name, row.text) for row in _active(session)])
    except PolicyError:
        raise TemporarilyUnavailable("a policy in force cannot be read") from None
    return Held(policies, POLICIES, reading)
