"""`/my/security`: where I am signed in, my password, my passkeys; and signing in with one."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound as NothingHere

from app import clock
from app.audit.events import Who
from app.errors import NotFound, Refused, TooManyRequests
from app.humans.accounts import Accounts
from app.humans.passkeys import Passkeys
from app.humans.sessions import Sessions, SignIn
from app.live.deeds import NotYetInForce
from app.oversight.activity import Activity, Wanted
from app.oversight.telling import SECURITY
from app.web.forms import single
from app.web.pages import Pages, see_other
from app.web.place import place

HERE = "/my/security"
FRESH = 600
"""Seconds for which a sign-in is fresh enough to add a way to sign in."""

LATEST = 12
WRONG = "That password is not yours."
TOO_MANY = "Too many wrong passwords. Wait five minutes, then try again."
NOT_TWICE = "The two new passwords are not the same."


def blueprint(pages: Pages, accounts: Accounts, sessions: Sessions, passkeys: Passkeys, activity: Activity) -> Blueprint:
    """The page of a human's own account."""
    security = Blueprint("security", __name__, url_prefix=HERE)
    signed_in = pages.signed_in(HERE)

    def show(current: SignIn, status: int = 200, **problems: str) -> Response:
        fresh = _is_fresh(current)
        return pages.render(
            "security.html",
            status,
            here="security",
            sessions=sessions.of(current.human.id),
            passkeys=passkeys.of(current.human.id),
            available=passkeys.available,
            fresh=fresh,
            creation=passkeys.creation(current.human, pages.csrf.browser()) if fresh and passkeys.available else "",
            latest=activity.page(Wanted(current.human.id, events=SECURITY), LATEST).lines,
            done=single(request.args, "done"),
            problems=problems,
        )

    @security.get("")
    @signed_in
    def overview(current: SignIn) -> Response:
        return show(current)

    @security.post("/sessions/<session_id>/end")
    @signed_in
    def end(current: SignIn, session_id: str) -> Response:
        pages.csrf.check(request.form, f"end:{session_id}")
        if session_id not in {one.id for one in sessions.of(current.human.id)}:
            return see_other(HERE)
        onward = "/logout" if session_id == current.id else f"{HERE}?done=ended"
        return _ending(
            pages, see_other(onward), lambda: sessions.end(session_id, Who(human=current.human.id)), here=session_id == current.id
        )

    @security.post("/sessions/end")
    @signed_in
    def end_all(current: SignIn) -> Response:
        pages.csrf.check(request.form, "end everywhere")
        return _ending(pages, see_other("/logout"), lambda: sessions.end_all(current.human.id, Who(human=current.human.id)), here=True)

    @security.post("/password")
    @signed_in
    def change_password(current: SignIn) -> Response:
        pages.csrf.check(request.form, "password")
        new = single(request.form, "new")
        if new != single(request.form, "again"):
            return show(current, 400, password=NOT_TWICE)
        try:
            human = accounts.verify_password(current.human.username, single(request.form, "current"), request.remote_addr or "")
            if human is None or human.id != current.human.id:
                return show(current, 401, password=WRONG)
            accounts.set_password(human.id, new, by=Who(human=human.id), keep=current.id)
        except TooManyRequests as refused:
            response = show(current, 429, password=TOO_MANY)
            response.headers["Retry-After"] = str(refused.retry_after)
            return response
        except Refused as refused:
            return show(current, 400, password=f"{str(refused).capitalize()}.")
        _, secret = sessions.start(human, replacing=current, place=place())
        response = see_other(f"{HERE}?done=password")
        pages.sign_in.begin(response, secret)
        return response

    @security.post("/passkeys")
    @signed_in
    def add(current: SignIn) -> Response:
        pages.csrf.check(request.form, "passkey")
        if not _is_fresh(current):
            return see_other(f"/login?next={HERE}")
        try:
            passkeys.register(current.human, pages.csrf.browser(), single(request.form, "response"), single(request.form, "name").strip())
        except Refused as refused:
            return show(current, 400, passkey=str(refused))
        return see_other(f"{HERE}?done=added")

    @security.post("/passkeys/<passkey_id>/rename")
    @signed_in
    def rename(current: SignIn, passkey_id: str) -> Response:
        pages.csrf.check(request.form, f"rename:{passkey_id}")
        try:
            passkeys.rename(current.human.id, passkey_id, single(request.form, "name").strip())
        except NotFound:
            raise NothingHere from None
        except Refused as refused:
            return show(current, 400, passkey=str(refused))
        return see_other(f"{HERE}?done=renamed")

    @security.post("/passkeys/<passkey_id>/remove")
    @signed_in
    def remove(current: SignIn, passkey_id: str) -> Response:
        pages.csrf.check(request.form, f"remove:{passkey_id}")
        try:
            passkeys.remove(current.human.id, passkey_id)
        except NotFound:
            raise NothingHere from None
        return see_other(f"{HERE}?done=removed")

    return pages.guard(security)


def _is_fresh(current: SignIn) -> bool:
    return clock.timestamp() - current.auth_time < FRESH


def _ending(pages: Pages, onward: Response, deed: Callable[[], object], *, here: bool) -> Response:
    """Do it, and take the cookie away where this session ends too."""
    try:
        deed()
    except NotYetInForce as trouble:
        # SQL has it: the cookie is dead. What hung on the session may live until Redis hears of it.
        onward = pages.of(trouble)
    if here:
        pages.sign_in.forget(onward)
    return onward
