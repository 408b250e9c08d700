"""Questions to humans: asked once, answered once, used once. SQL holds them, so they outlast a flush of Redis (protocol §5)."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from app import clock
from app.audit import record
from app.audit.events import (
    ApprovalAllowed,
    ApprovalAsked,
    ApprovalDenied,
    ApprovalExpired,
    ApprovalRedeemed,
    ApprovalReturned,
    Who,
)
from app.errors import AccessDenied, NotFound, Refused
from app.live.commit import Live
from app.live.deeds import Deeds
from app.live.models import unmoved
from app.policy.access import AccessRequest, SignedInAs
from app.policy.asks import Approved
from app.tokens.kept import HangsOn, Parameters, parse_sign_in, stored_sign_in
from app.tokens.models import ApprovalRow
from app.vocabulary import Pair, Pairs, by_resource, new_id

PREFIX = "arq_"
INTERVAL = 5
"""Seconds between two polls (CIBA Core §7.3)."""
REDEEM = 300
"""Seconds an approval is good for once it was given."""
MOMENT = 10
"""Seconds within which a sign-in is one for this answer, however fresh it must be."""
PER_AGENT = 20
"""Questions of one agent that may wait for one human, or did within `STICKY` seconds and were not answered."""
PER_HUMAN = 100
"""The same for all agents."""
STICKY = 600
"""Seconds that a no stands: exactly the same is not asked again."""
KEPT = 90 * 86_400
"""Seconds that a question is shown to her after its end; the ledger keeps the record for good."""
MAX_DENIED = 5
"""Questions of one agent that one human may say no to within `STICKY` seconds before it must leave her alone."""


class State(StrEnum):
    """What became of a question. It only goes forward; `REDEEMED` goes back when no token came of it."""

    WAITING = "waiting"
    ALLOWED = "allowed"
    DENIED = "denied"
    REDEEMED = "redeemed"
    EXPIRED = "expired"


class Asking(NamedTuple):
    """How a human is asked."""

    lifetime: int
    """Seconds she has."""
    policies: tuple[str, ...] = ()
    max_age: int | None = None
    """Seconds since her sign-in at most, for these policies."""
    layers: tuple[Mapping[str, Any], ...] = ()
    question: Mapping[str, Any] | None = None
    """What they were asked."""
    evidence: Mapping[str, Any] | None = None
    """What the request began with."""
    binding_message: str = ""
    wanted_max_age: int | None = None
    """The same for the agent."""

    @property
    def freshest(self) -> int | None:
        """Seconds since her sign-in at most when she says yes."""
        return min((age for age in (self.max_age, self.wanted_max_age) if age is not None), default=None)


class Pending(NamedTuple):
    """The agent's half of a question."""

    auth_req_id: str
    expires_in: int
    audit_id: str | None
    """The record of the question; None when it was asked before."""

    def answer(self) -> dict[str, str | int]:
        """The members of CIBA Core §7.3."""
        return {"auth_req_id": self.auth_req_id, "expires_in": self.expires_in, "interval": INTERVAL}

    def __repr__(self) -> str:
        return "Pending(…)"


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """One question, as SQL has it."""

    id: str
    state: State
    parameters: Parameters
    hangs_on: HangsOn
    policies: tuple[str, ...]
    max_age: int | None
    asked_at: int
    expires_at: int
    decided_at: int | None
    granted: Pairs
    """What she allowed of it; empty before."""
    decided_as: SignedInAs | None
    """How she had signed in when she did."""
    intact: bool
    """Whether the parameters are those whose hash was kept."""

    @property
    def approved(self) -> Approved:
        """Her answer to the policies."""
        age = (self.decided_at or 0) - self.decided_as.auth_time if self.decided_as is not None else 0
        return Approved(frozenset(self.policies), max(0, age))

    @property
    def signed_in(self) -> SignedInAs:
        """How she signed in, as its token says it: for this very answer, where that was asked of her."""
        fresh = self.max_age is not None and self.decided_as is not None
        return self.decided_as if fresh and self.decided_as is not None else self.hangs_on.signed_in

    def covers(self, asking: Asking) -> bool:
        """Whether her answer to this will do for all who want her now."""
        fresh = asking.freshest is None or (self.max_age is not None and self.max_age <= asking.freshest)
        return fresh and frozenset(asking.policies) <= frozenset(self.policies)

    def expired(self, now: int) -> bool:
        """Whether the time to answer it, or to use the answer, is over."""
        if self.state is State.ALLOWED:
            return now >= (self.decided_at or 0) + REDEEM
        return self.state is State.EXPIRED or (self.state is State.WAITING and now >= self.expires_at)


class Approvals:
    """Questions by `auth_req_id` and by human, and the deeds on them."""

    def __init__(self, live: Live, deeds: Deeds, key: bytes) -> None:
        """`key`: 32 secret bytes that make an `auth_req_id` of an id, so that only its hash is kept and it can be told again."""
        self._live = live
        self._deeds = deeds
        self._key = key

    # The agent's side

    def ask(self, access: AccessRequest, asking: Asking, by: Who) -> Pending:
        """Put a question to a human, or find the same waiting. Raises AccessDenied when too many wait, or she has just said no."""
        parameters, hangs_on = Parameters.of(access, asking.binding_message, asking.wanted_max_age), HangsOn.of(access)
        now = clock.timestamp()
        with self._deeds.deed() as deed:
            # The deed's lock orders all who ask: a bound is not passed by asking at once, nor one thing asked twice.
            found = self._same(deed.session, parameters, asking, now)
            if found is not None:
                until = found.expires_at if found.state is State.WAITING else (found.decided_at or 0) + REDEEM
                return Pending(self._auth_req_id(found.id), until - now, None)
            _check_bounds(deed.session, parameters, now)
            old = (ApprovalRow.human == parameters.human, ApprovalRow.expires_at < now - KEPT)
            deed.session.execute(delete(ApprovalRow).where(*old))
            approval = new_id("apr")
            value = self._auth_req_id(approval)
            until = min(now + asking.lifetime, *_ends(access))
            deed.session.add(
                ApprovalRow(
                    id=approval,
                    hash=_hash(value),
                    state=State.WAITING.value,
                    client_id=parameters.client_id,
                    agent=parameters.agent,
                    human=parameters.human,
                    parameters=parameters.stored(),
                    digest=parameters.digest,
                    hangs_on=hangs_on.stored(),
                    policies=list(asking.policies),
                    max_age=asking.freshest,
                    asked_at=now,
                    expires_at=until,
                )
            )
            event = ApprovalAsked(
                who=by,
                approval=approval,
                grant_type=access.grant_type.value,
                audience=parameters.audience,
                scope=by_resource(parameters.pairs),
                consent=parameters.consent,
                task=parameters.task,
                until=until,
                parameters=parameters.digest,
                forbidden_by=asking.policies or None,
                policies=access.policies,
                max_age=asking.freshest,
                layers=asking.layers,
                question=asking.question,
                evidence=asking.evidence,
            )
            return Pending(value, until - now, record(deed.session, event))

    def find(self, auth_req_id: str) -> ApprovalRequest | None:
        """The question behind an `auth_req_id`; None for one that never was."""
        if not auth_req_id.startswith(PREFIX):
            return None
        with self._live.database.reading() as session:
            row = session.scalar(select(ApprovalRow).where(ApprovalRow.hash == _hash(auth_req_id)))
            return _snapshot(row) if row is not None else None

    def redeem(self, approval: ApprovalRequest, by: Who) -> bool:
        """Use an answer up, by one conditional UPDATE. False: somebody was first, or it is too late."""
        now = clock.timestamp()
        statement = (
            update(ApprovalRow)
            .where(ApprovalRow.id == approval.id, ApprovalRow.state == State.ALLOWED.value, ApprovalRow.decided_at > now - REDEEM)
            .values(state=State.REDEEMED.value, redeemed_at=now)
            .returning(ApprovalRow.id)
        )
        with self._live.database.transaction() as session:
            if session.execute(statement).one_or_none() is None:
                return False
            record(session, ApprovalRedeemed(who=by, approval=approval.id))
            return True

    def give_back(self, approval: ApprovalRequest, by: Who) -> None:
        """Take `redeem` back: whoever used it up was given no token."""
        statement = (
            update(ApprovalRow)
            .where(ApprovalRow.id == approval.id, ApprovalRow.state == State.REDEEMED.value)
            .values(state=State.ALLOWED.value, redeemed_at=None)
            .returning(ApprovalRow.id)
        )
        with self._live.database.transaction() as session:
            if session.execute(statement).one_or_none() is not None:
                record(session, ApprovalReturned(who=by, approval=approval.id))

    def expire(self, approval: ApprovalRequest, by: Who, reason: str, *, redeemed: bool = False) -> None:
        """Close a question whose time is over, or that hangs on what has ended. Recorded once.

        `redeemed`: by whoever closes it, and no token came of it.
        """
        closed = [State.WAITING.value, State.ALLOWED.value] + ([State.REDEEMED.value] if redeemed else [])
        statement = (
            update(ApprovalRow)
            .where(ApprovalRow.id == approval.id, ApprovalRow.state.in_(closed))
            .values(state=State.EXPIRED.value)
            .returning(ApprovalRow.id)
        )
        with self._live.database.transaction() as session:
            if session.execute(statement).one_or_none() is not None:
                record(session, ApprovalExpired(who=by, approval=approval.id, reason=reason))

    def answered(self, approval_id: str) -> Approved | None:
        """What a human said to the policies about the token that was issued on that approval."""
        with self._live.database.reading() as session:
            row = session.get(ApprovalRow, approval_id)
            return _snapshot(row).approved if row is not None and row.decided_at is not None else None

    # The human's side

    def waiting(self, human: str | None = None) -> list[ApprovalRequest]:
        """What waits for that human, or for anybody, the oldest first. What hangs on something that has ended does not wait."""
        statement = select(ApprovalRow).where(ApprovalRow.state == State.WAITING.value, ApprovalRow.expires_at > clock.timestamp())
        if human is not None:
            statement = statement.where(ApprovalRow.human == human)
        with self._live.database.reading() as session:
            rows = session.scalars(statement.order_by(ApprovalRow.asked_at, ApprovalRow.id)).all()
            return [_snapshot(row) for row in rows if unmoved(session, row.hangs_on["born"])]

    def recent(self, human: str, limit: int = 20) -> list[ApprovalRequest]:
        """What that human was asked lately and is asked no more, the newest first."""
        over = (ApprovalRow.state != State.WAITING.value) | (ApprovalRow.expires_at <= clock.timestamp())
        statement = select(ApprovalRow).where(ApprovalRow.human == human, over).order_by(ApprovalRow.asked_at.desc(), ApprovalRow.id)
        with self._live.database.reading() as session:
            return [_snapshot(row) for row in session.scalars(statement.limit(limit))]

    def get(self, approval_id: str, human: str) -> ApprovalRequest:
        """One question to that human. Raises NotFound, for another's too."""
        with self._live.database.reading() as session:
            row = session.get(ApprovalRow, approval_id) if "\x00" not in approval_id else None
            if row is None or row.human != human:
                raise NotFound("no such question")
            request = _snapshot(row)
            if request.state is State.WAITING and not unmoved(session, row.hangs_on["born"]):
                return replace(request, state=State.EXPIRED)
            return request

    def allow(self, request: ApprovalRequest, *, pairs: Pairs, signed_in: SignedInAs, session_id: str, shown: str) -> None:
        """She says yes, to all or to less. Raises Refused when it is too late, too much, or her sign-in too old."""
        now = clock.timestamp()
        parameters = request.parameters
        if not pairs or not pairs <= parameters.pairs:
            raise Refused("only what was asked can be allowed")
        if request.max_age is not None and now - signed_in.auth_time > max(request.max_age, MOMENT):
            raise Refused("the sign-in is too old")
        decision = {"pairs": [list(pair) for pair in sorted(pairs)], "signed_in": stored_sign_in(signed_in), "shown": shown}
        with self._deeds.deed() as deed:
            row = deed.session.get(ApprovalRow, request.id)
            # Behind the deed's lock no consent can be withdrawn between this look and the answer.
            if row is None or not unmoved(deed.session, row.hangs_on["born"]):
                raise Refused("what it hangs on has ended")
            if not _decide(deed.session, request.id, State.ALLOWED, now, decision):
                raise Refused("it no longer waits for an answer")
            record(
                deed.session,
                ApprovalAllowed(
                    who=Who(human=parameters.human, client=parameters.client_id),
                    approval=request.id,
                    scope=by_resource(pairs),
                    shown=shown,
                    parameters=parameters.digest,
                    session=session_id,
                    auth_time=signed_in.auth_time,
                ),
            )

    def deny(self, approval_id: str, *, by: Who) -> None:
        """Somebody says no. Raises NotFound, or Refused when it no longer waits for an answer."""
        now = clock.timestamp()
        with self._deeds.deed() as deed:
            row = deed.session.get(ApprovalRow, approval_id)
            if row is None or by.human not in {None, row.human}:
                raise NotFound(f"no approval {approval_id}")
            if not _decide(deed.session, approval_id, State.DENIED, now, None):
                raise Refused("it no longer waits for an answer")
            record(deed.session, ApprovalDenied(who=replace(by, human=row.human, client=row.client_id), approval=approval_id))

    def _same(self, session: Session, parameters: Parameters, asking: Asking, now: int) -> ApprovalRequest | None:
        """The same question, where it waits or its answer does. Raises AccessDenied where the answer was no, just now."""
        statement = select(ApprovalRow).where(ApprovalRow.digest == parameters.digest).order_by(ApprovalRow.asked_at.desc()).limit(5)
        for row in session.scalars(statement):
            request = _snapshot(row)
            if request.state is State.DENIED and now < (request.decided_at or 0) + STICKY:
                raise AccessDenied("a human has just said no to exactly this", layer="human")
            open_ = request.state in {State.WAITING, State.ALLOWED} and not request.expired(now)
            if open_ and request.covers(asking) and unmoved(session, row.hangs_on["born"]) and self._undenied(request):
                return request
        return None

    def _undenied(self, request: ApprovalRequest) -> bool:
        """Whether none of the tokens it came from was revoked alone: from one that lives the same can be asked anew."""
        return self._live.still(self._live.generation().number, {}, request.hangs_on.parents)[0]

    def _auth_req_id(self, approval_id: str) -> str:
        mac = hmac.new(self._key, approval_id.encode(), sha256).digest()
        return PREFIX + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()


def close_all(session: Session) -> None:
    """Close every question and every answer that is not used up: nobody can say any more which were."""
    open_ = ApprovalRow.state.in_((State.WAITING.value, State.ALLOWED.value))
    session.execute(update(ApprovalRow).where(open_).values(state=State.EXPIRED.value))


def _check_bounds(session: Session, parameters: Parameters, now: int) -> None:
    """Nobody is worn down by questions. Raises AccessDenied."""
    denied = select(func.count()).where(
        ApprovalRow.human == parameters.human,
        ApprovalRow.state == State.DENIED.value,
        ApprovalRow.agent == parameters.agent,
        ApprovalRow.decided_at > now - STICKY,
    )
    if (session.scalar(denied) or 0) >= MAX_DENIED:
        raise AccessDenied("this human has said no too often just now", layer="limit")
    # A question that nobody answered keeps its place for a while, however short the agent said it would wait.
    unanswered = ApprovalRow.state.in_((State.WAITING.value, State.EXPIRED.value)) & (ApprovalRow.asked_at > now - STICKY)
    open_ = (ApprovalRow.state == State.WAITING.value) & (ApprovalRow.expires_at > now)
    waiting = [ApprovalRow.human == parameters.human, open_ | unanswered]
    counted = session.execute(select(ApprovalRow.agent, func.count()).where(*waiting).group_by(ApprovalRow.agent)).all()
    by_agent = {agent: count for agent, count in counted}  # noqa: C416
    if by_agent.get(parameters.agent, 0) < PER_AGENT and sum(by_agent.values()) < PER_HUMAN:
        return
    # What hangs on something that has ended waits for nobody.
    rows = session.execute(select(ApprovalRow.agent, ApprovalRow.hangs_on).where(*waiting)).all()
    agents = [row.agent for row in rows if unmoved(session, row.hangs_on["born"])]
    if agents.count(parameters.agent) >= PER_AGENT:
        raise AccessDenied("too many questions of this agent wait for this human", layer="limit")
    if len(agents) >= PER_HUMAN:
        raise AccessDenied("too many questions wait for this human", layer="limit")


def _decide(session: Session, approval_id: str, state: State, now: int, decision: dict[str, Any] | None) -> bool:
    statement = (
        update(ApprovalRow)
        .where(ApprovalRow.id == approval_id, ApprovalRow.state == State.WAITING.value, ApprovalRow.expires_at > now)
        .values(state=state.value, decided_at=now, decision=decision)
        .returning(ApprovalRow.id)
    )
    return session.execute(statement).one_or_none() is not None


def _ends(access: AccessRequest) -> Iterable[int]:
    """What a question cannot outlast."""
    if access.consent is not None:
        yield access.consent.value.until
    if access.task is not None:
        yield access.task.value.deadline


def _snapshot(row: ApprovalRow) -> ApprovalRequest:
    parameters, decision = Parameters.parse(row.parameters), row.decision or {}
    return ApprovalRequest(
        id=row.id,
        state=State(row.state),
        parameters=parameters,
        hangs_on=HangsOn.parse(row.hangs_on),
        policies=tuple(row.policies),
        max_age=row.max_age,
        asked_at=row.asked_at,
        expires_at=row.expires_at,
        decided_at=row.decided_at,
        granted=frozenset(Pair(*pair) for pair in decision.get("pairs", ())),
        decided_as=parse_sign_in(decision["signed_in"]) if "signed_in" in decision else None,
        intact=parameters.digest == row.digest,
    )


def _hash(value: str) -> str:
    return sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
