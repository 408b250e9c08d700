"""`/login`: a username and a password, or a passkey; a new session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from flask import Blueprint, Response, request

from app.errors import Refused, TooManyRequests
from app.humans.accounts import Accounts, Human
from app.humans.passkeys import ACR_PASSKEY, Passkeys
from app.humans.sessions import ACR_PASSWORD, AMR_PASSWORD, Sessions
from app.rim.cookies import FormCookie
from app.rim.csrf import FormRefused
from app.rim.headers import allow_form_action
from app.web.forms import internal, single
from app.web.pages import Pages, see_other
from app.web.place import place

CSRF_PURPOSE = "login"
WRONG = "That username and password do not belong together."
STALE = "This page had been open for too long. Please sign in again."
TOO_MANY = "Too many wrong passwords. Wait five minutes, then try again."
TOO_MANY_TRIES = "Too many wrong sign-ins from here. Wait five minutes, then try again."


class Onward(NamedTuple):
    """What a sign-in leads to when that is an authorization request."""

    redirect_uri: str
    """Where it may end without stopping, when it was consented to before: browsers hold the form's `form-action` against every
    redirect that follows it."""
    asker: str
    """The agent's or application's name."""
    agent: bool


Landing = Callable[[str], Onward | None]
"""From an internal path to what it leads to."""


def blueprint(
    pages: Pages,
    accounts: Accounts,
    sessions: Sessions,
    passkeys: Passkeys,
    form_cookie: FormCookie,
    landing: Landing = lambda _: None,
) -> Blueprint:
    """The sign-in page."""
    login = Blueprint("login", __name__)

    def show(target: str, status: int = 200, *, username: str = "", problem: str = "") -> Response:
        onward = landing(target)
        if onward is not None:
            allow_form_action(onward.redirect_uri)
        request_options = passkeys.request(pages.csrf.browser()) if passkeys.available else ""
        return pages.render("login.html", status, next=target, username=username, problem=problem, passkey=request_options, onward=onward)

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

    @login.post("/login/passkey")
    def sign_in_with_passkey() -> Response:
        target = internal(single(request.form, "next")) or "/"
        try:
            pages.csrf.check(request.form, CSRF_PURPOSE)
            proven = passkeys.verify(pages.csrf.browser(), single(request.form, "response"), request.remote_addr or "")
            return begin(proven.human, target, acr=ACR_PASSKEY, amr=proven.amr)
        except FormRefused:
            return show(target, 403, problem=STALE)
        except TooManyRequests as refused:
            response = show(target, 429, problem=TOO_MANY_TRIES)
            response.headers["Retry-After"] = str(refused.retry_after)
            return response
        except Refused as refused:
            return show(target, 401, problem=str(refused))

    def begin(human: Human, target: str, *, acr: str = ACR_PASSWORD, amr: Sequence[str] = AMR_PASSWORD) -> Response:
        _, secret = sessions.start(human, acr=acr, amr=amr, replacing=pages.sign_in.current(), place=place())
        response = see_other(target)
        pages.sign_in.begin(response, secret)
        form_cookie.cookie.remove(response)
        return response

    return login
