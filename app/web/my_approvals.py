"""`/my/approvals`: what agents ask me, one question at a time, and my answer (OIDC CIBA Core §8, protocol §5, RFC 9470)."""

from __future__ import annotations

from urllib.parse import quote

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from app import clock
from app.audit.events import Who
from app.errors import NotFound as Unknown
from app.errors import Refused, TooManyRequests
from app.humans.accounts import Accounts
from app.humans.sessions import Sessions, SignIn
from app.policy.access import SignedInAs
from app.tokens.approvals import REDEEM, ApprovalRequest, Approvals, State
from app.web.approval import ShownApprovals
from app.web.consent import Decision, read_decision
from app.web.forms import single
from app.web.pages import Pages, see_other

HERE = "/my/approvals"
CHANGED = "What is asked has changed since the page was shown. Please look again."
CHOOSE = "Choose at least one thing to allow, or deny the request."
WRONG = "That password is not yours."
TOO_MANY = "Too many wrong passwords. Wait five minutes, then try again."
OVER = "The agent no longer waits for your answer: it took too long, was answered before, or what the agent may do has ended."


def blueprint(pages: Pages, approvals: Approvals, shown: ShownApprovals, accounts: Accounts, sessions: Sessions) -> Blueprint:
    """The inbox of questions, and the page of each."""
    mine = Blueprint("my_approvals", __name__, url_prefix=HERE)
    pages.badge("approvals", lambda human: len(approvals.waiting(human)))

    signed_in = pages.signed_in(HERE)

    @mine.get("")
    @signed_in
    def overview(current: SignIn) -> Response:
        waiting = [shown.of(one) for one in approvals.waiting(current.human.id)]
        recent = [(one, shown.of(one)) for one in approvals.recent(current.human.id)]
        named = single(request.args, "answered")
        answered = next(((one, words) for one, words in recent if one.id == named), None)
        over = OVER if single(request.args, "over") else ""
        return pages.render(
            "my_approvals.html", waiting=waiting, recent=recent, answered=answered, over=over, minutes=REDEEM // 60, says=_says
        )

    @mine.get("/<approval_id>")
    def ask(approval_id: str) -> Response:
        current = pages.sign_in.current()
        if current is None:
            return see_other(f"/login?next={quote(f'{HERE}/{approval_id}', safe='/')}")
        return page(current, _own(approvals, current, approval_id))

    @mine.post("/<approval_id>")
    @signed_in
    def answer(current: SignIn, approval_id: str) -> Response:
        asked = _own(approvals, current, approval_id)
        pages.csrf.check(request.form, _purpose(approval_id))
        decision = read_decision(request.form)
        try:
            if decision.allow:
                return allow(current, asked, decision)
            approvals.deny(asked.id, by=Who(human=current.human.id))
            return see_other(f"{HERE}?answered={asked.id}")
        except Refused:
            return see_other(f"{HERE}?over=1")

    def page(current: SignIn, asked: ApprovalRequest, problem: str = "", status: int = 400) -> Response:
        if not _open(asked):
            return see_other(f"{HERE}?over=1")
        words = shown.of(asked)
        return pages.render(
            "approval.html",
            status if problem else 200,
            asked=words,
            digest=words.digest,
            purpose=_purpose(asked.id),
            minutes=REDEEM // 60,
            stale=_stale(asked, current),
            problem=problem,
        )

    def allow(current: SignIn, asked: ApprovalRequest, decision: Decision) -> Response:
        words = shown.of(asked)
        if single(request.form, "shown") != words.digest:
            return page(current, asked, CHANGED)
        if not decision.pairs:
            return page(current, asked, CHOOSE)
        secret = None
        if _stale(asked, current):
            # A look and a password later it is a fresh sign-in, of the same session: what hangs on it goes on.
            try:
                human = accounts.verify_password(current.human.username, single(request.form, "password"), request.remote_addr or "")
            except TooManyRequests as refused:
                response = page(current, asked, TOO_MANY, 429)
                response.headers["Retry-After"] = str(refused.retry_after)
                return response
            if human is None:
                return page(current, asked, WRONG, 401)
            current, secret = sessions.start(human, replacing=current)
        try:
            approvals.allow(
                asked,
                pairs=decision.pairs,
                signed_in=SignedInAs(current.auth_time, current.acr, current.amr),
                session_id=current.id,
                shown=words.digest,
            )
            response = see_other(f"{HERE}?answered={asked.id}")
        except Refused:
            response = see_other(f"{HERE}?over=1")
        if secret is not None:
            pages.sign_in.begin(response, secret)
        return response

    return pages.guard(mine)


def _own(approvals: Approvals, current: SignIn, approval_id: str) -> ApprovalRequest:
    """The question, if it is put to her; anybody else's is as absent as one that never was."""
    try:
        return approvals.get(approval_id, current.human.id)
    except Unknown:
        raise NotFound from None


def _purpose(approval_id: str) -> str:
    return f"approval:{approval_id}"


def _open(asked: ApprovalRequest) -> bool:
    return asked.state is State.WAITING and not asked.expired(clock.timestamp())


def _stale(asked: ApprovalRequest, current: SignIn) -> bool:
    """Whether she must prove herself anew before she says yes."""
    return asked.max_age is not None and clock.timestamp() - current.auth_time > asked.max_age


def _says(asked: ApprovalRequest) -> str:
    """What became of a question, in words."""
    if asked.expired(clock.timestamp()):
        return "Allowed, not used" if asked.granted else "Not answered in time"
    return {
        State.WAITING: "No longer waits",
        State.ALLOWED: "Allowed, not used yet",
        State.DENIED: "Denied",
        State.REDEEMED: "Allowed, and used",
        State.EXPIRED: "Ended",
    }[asked.state]
