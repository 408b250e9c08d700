"""What every page shares: who is signed in, the token of its form, and an answer when something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial, wraps
from hashlib import sha256
from pathlib import Path
from typing import Concatenate, ParamSpec
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, g, make_response, redirect, render_template
from werkzeug.exceptions import HTTPException

from app.errors import OAuthError, TemporarilyUnavailable
from app.humans.sessions import SignIn
from app.live.deeds import NotYetInForce
from app.rim.cookies import SignInCookie
from app.rim.csrf import CSRF
from app.settings import Settings
from app.web.text import FILTERS

P = ParamSpec("P")

WORDS = {
    400: ("That did not work", "The request was not one we can read."),
    403: ("Not from here", "This form is no longer valid. Go back, reload the page, and try again."),
    404: ("Nothing here", "There is no such page, or it is not yours to see."),
    405: ("Nothing here", "This address does not answer to that."),
    413: ("Too much", "The request was too large."),
    429: ("Too many requests", "Wait a little, then try again."),
    500: ("Something went wrong", "The fault is ours. Nothing was allowed that you did not allow."),
    503: ("Not just now", "We cannot answer safely at the moment. Try again in a few seconds."),
}

NOT_YET = "Recorded, not yet in force"
NOT_YET_TEXT = """What you asked for is written down, but we could not confirm that it holds everywhere yet.
It will be applied without you; to make sure, do it again in a few seconds."""


class Pages:
    """Renders the pages."""

    def __init__(self, sign_in: SignInCookie, csrf: CSRF, settings: Settings) -> None:
        self.sign_in = sign_in
        self.csrf = csrf
        self._host = urlsplit(settings.issuer).netloc
        self._badges: dict[str, Callable[[str], int]] = {}

    def install(self, app: Flask) -> None:
        """Give the application the filters of `text`."""
        app.jinja_env.filters.update(FILTERS, static=partial(_versioned, Path(app.static_folder or "")))
        app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True

    def badge(self, entry: str, count: Callable[[str], int]) -> None:
        """Put a number beside an entry of the navigation: how much of it waits for a human, by her id."""
        self._badges[entry] = count

    def render(self, template: str, status: int = 200, **context: object) -> Response:
        """A page, under the name of whoever is signed in."""
        signed_in = self.sign_in.current()
        badges = {entry: count(signed_in.human.id) for entry, count in self._badges.items()} if signed_in is not None else {}
        return self._render(template, status, signed_in=signed_in, badges=badges, **context)

    def error(self, status: int, heading: str = "", text: str = "", *, retry_after: int | None = None) -> Response:
        """A page for what went wrong. It asks neither SQL nor Redis anything: they may be what went wrong."""
        words = WORDS.get(status, WORDS[400 if status < 500 else 500])
        response = self._render(
            "error.html",
            status,
            signed_in=g.get("sign_in"),
            badges={},
            heading=heading or words[0],
            text=text or words[1],
            status=status,
        )
        if retry_after is not None:
            response.headers["Retry-After"] = str(retry_after)
        return response

    def of(self, error: Exception) -> Response:
        """The page for an exception: an HTTP error of Flask's, or one of ours that reached a page."""
        if isinstance(error, NotYetInForce):
            return self.error(503, NOT_YET, NOT_YET_TEXT, retry_after=error.retry_after)
        if isinstance(error, OAuthError):
            known = error.status_code in WORDS
            return self.error(error.status_code if known else 400, retry_after=error.retry_after)
        if isinstance(error, HTTPException):
            return self.error(error.code or 500)
        return self.error(500)

    def guard(self, blueprint: Blueprint) -> Blueprint:
        """Have the errors of a blueprint answered with pages."""
        for kind in (HTTPException, OAuthError, TemporarilyUnavailable):
            blueprint.register_error_handler(kind, self.of)
        return blueprint

    def signed_in(self, here: str) -> Callable[[Callable[Concatenate[SignIn, P], Response]], Callable[P, Response]]:
        """Give a view who is signed in; whoever is not goes to the sign-in and from there to `here`."""

        def around(view: Callable[Concatenate[SignIn, P], Response]) -> Callable[P, Response]:
            @wraps(view)
            def guarded(*args: P.args, **kwargs: P.kwargs) -> Response:
                current = self.sign_in.current()
                return see_other(f"/login?next={here}") if current is None else view(current, *args, **kwargs)

            return guarded

        return around

    def _render(self, template: str, code: int, **context: object) -> Response:
        body = render_template(template, csrf=self.csrf.token, host=self._host, **context)
        return make_response(body, code)


@cache
def _versioned(folder: Path, name: str) -> str:
    """The address of a static file, with a piece of its hash: a new version is fetched anew."""
    return f"/static/{name}?v={sha256((folder / name).read_bytes()).hexdigest()[:12]}"


def see_other(location: str) -> Response:
    """303 (RFC 9110 §15.4.4): the form was taken, go and look there. Never 307, which would send it on."""
    return make_response(redirect(location, 303))
