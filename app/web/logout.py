"""`/logout`: ends the session, after asking; also for an application that sends its user (OIDC RP-Initiated Logout 1.0)."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

from flask import Blueprint, Response, request

from app.audit.events import Who
from app.humans.sessions import Sessions
from app.live.deeds import NotYetInForce
from app.rim.csrf import FIELD
from app.rim.headers import allow_form_action
from app.web.forms import single
from app.web.pages import Pages, see_other

CSRF_PURPOSE = "logout"
PARAMETERS = ("id_token_hint", "client_id", "post_logout_redirect_uri", "state")
"""What an application may send (RP-Initiated Logout §2); `ui_locales` and `logout_hint` change nothing here."""

Target = Callable[[str, str, str], str | None]
"""(id_token_hint, client_id, post_logout_redirect_uri) -> that URI if it is registered for the client, else None."""


def blueprint(pages: Pages, sessions: Sessions, end_session_target: Target) -> Blueprint:
    """The sign-out page."""
    logout = Blueprint("logout", __name__)

    def landing(asked: dict[str, str]) -> str | None:
        uri = asked["post_logout_redirect_uri"]
        target = end_session_target(asked["id_token_hint"], asked["client_id"], uri) if uri else None
        if target is None or not asked["state"]:
            return target
        return target + ("&" if "?" in target else "?") + urlencode({"state": asked["state"]})

    @logout.get("/logout")
    def ask() -> Response:
        asked = {name: single(request.args, name) for name in PARAMETERS}
        target = landing(asked)
        if pages.sign_in.current() is None:
            return see_other(target) if target else pages.render("signed_out.html")
        if target is not None:
            allow_form_action(target)
        return pages.render("logout.html", asked={name: value for name, value in asked.items() if value})

    @logout.post("/logout")
    def sign_out() -> Response:
        asked = {name: single(request.form, name) for name in PARAMETERS}
        if FIELD not in request.form:
            # An application's own POST comes without our cookie (SameSite): it becomes the question, which has it.
            return see_other("/logout?" + urlencode({name: value for name, value in asked.items() if value}))
        pages.csrf.check(request.form, CSRF_PURPOSE)
        response = end(see_other(landing(asked) or "/logout"))
        pages.sign_in.forget(response)
        return response

    def end(onward: Response) -> Response:
        current = pages.sign_in.current()
        try:
            if current is not None:
                sessions.end(current.id, Who(human=current.human.id))
        except NotYetInForce as trouble:
            # SQL has it: the cookie is dead. What hung on the session may live until Redis hears of it.
            return pages.of(trouble)
        return onward

    return logout
