"""`/login`: a username, a password, a new session."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, request

from app.errors import Refused, TooManyRequests
from app.humans.accounts import Accounts, Human
from app.humans.sessions import Sessions
from app.rim.cookies import FormCookie
from app.rim.csrf import FormRefused
from app.rim.headers import allow_form_action
from app.web.forms import internal, single
from app.web.pages import Pages, see_other

CSRF_PURPOSE = "login"
WRONG = "That username and password do not belong together."
STALE = "This page had been open for too long. Please sign in again."
TOO_MANY = "Too many wrong passwords. Wait five minutes, then try again."

Landing = Callable[[str], str | None]
"""From an internal path to the redirect URI it may end at without stopping: an authorization request that was
consented to before. Browsers hold the form's `form-action` against every redirect that follows it."""


def blueprint(
    pages: Pages,
    accounts: Accounts,
    sessions: Sessions,
    form_cookie: FormCookie,
    landing: Landing = lambda _: None,
) -> Blueprint:
    """The sign-in page."""
    login = Blueprint("login", __name__)

    def show(target: str, status: int = 200, *, username: str = "", problem: str = "") -> Response:
        if (redirect_uri := landing(target)) is not None:
            allow_form_action(redirect_uri)
        return pages.render("login.html", status, next=target, username=username, problem=problem)

    @login.get("/login")
    def ask() -> Response:
        target = internal(single(request.args, "next"))
        current = pages.sign_in.current()
        if current is not None and target is None:
            return see_other("/")
        return show(target or "/", username=current.human.username if current else "")

    @login.post("/login")
    def sign_in() -> Response:
        target = internal(single(request.form, "next")) or "/"
        username = single(request.form, "username")
        try:
            pages.csrf.check(request.form, CSRF_PURPOSE)
            human = accounts.verify_password(username, single(request.form, "password"), request.remote_addr or "")
            return show(target, 401, username=username, problem=WRONG) if human is None else begin(human, target)
        except FormRefused:
            return show(target, 403, username=username, problem=STALE)
        except TooManyRequests as refused:
            response = show(target, 429, username=username, problem=TOO_MANY)
            response.headers["Retry-After"] = str(refused.retry_after)
            return response
        except Refused:
            return show(target, 401, username=username, problem=WRONG)

    def begin(human: Human, target: str) -> Response:
        _, secret = sessions.start(human, replacing=pages.sign_in.current())
        response = see_other(target)
        pages.sign_in.begin(response, secret)
        form_cookie.cookie.remove(response)
        return response

    return login
