"""Cookies: the one of the sign-in, and the one that ties a form to a browser nobody has signed in with yet."""

from __future__ import annotations

import re
import secrets

from flask import Request, Response, after_this_request, g, request

from app.humans.sessions import Sessions, SignIn
from app.settings import Settings

SECRET = re.compile(r"[A-Za-z0-9_-]{43}")
"""What `secrets.token_urlsafe(32)` makes; anything else in a cookie is nothing."""


class Cookie:
    """A cookie of this host alone: `__Host-` and Secure on https, HttpOnly, SameSite=Lax, Path=/, gone with the browser."""

    def __init__(self, name: str, *, secure: bool) -> None:
        self.name = f"__Host-{name}" if secure else name
        self._secure = secure

    def value(self, incoming: Request) -> str | None:
        """The one well-formed value, or None. Two of one name are none: one of them was put there by somebody else."""
        values = incoming.cookies.getlist(self.name)
        return values[0] if len(values) == 1 and SECRET.fullmatch(values[0]) else None

    def put(self, response: Response, value: str) -> None:
        """Set it."""
        response.set_cookie(self.name, value, path="/", secure=self._secure, httponly=True, samesite="Lax")

    def remove(self, response: Response) -> None:
        """Take it away."""
        response.delete_cookie(self.name, path="/", secure=self._secure, httponly=True, samesite="Lax")


class SignInCookie:
    """Who is signed in, by the cookie. It is set at sign-in only, with a secret that never was a cookie before."""

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self._sessions = sessions
        self.cookie = Cookie("deputy", secure=settings.secure)

    def current(self, *, present: bool = True) -> SignIn | None:
        """Who is signed in, asked of SQL once a request. Raises `TemporarilyUnavailable` when SQL cannot say.

        `present`: a person did something. A page that asks by itself keeps nobody signed in.
        """
        if "sign_in" not in g:
            secret = self.cookie.value(request)
            g.sign_in = None if secret is None else self._sessions.read(secret, present=present)
        found: SignIn | None = g.sign_in
        return found

    def begin(self, response: Response, secret: str) -> None:
        """Give the browser the new session's secret in place of whatever it held."""
        self.cookie.put(response, secret)

    def forget(self, response: Response) -> None:
        """Take the cookie away."""
        self.cookie.remove(response)
        g.sign_in = None


class FormCookie:
    """A random value for a browser without a sign-in, so that the sign-in form too is tied to it (login CSRF)."""

    def __init__(self, settings: Settings) -> None:
        self.cookie = Cookie("deputy-form", secure=settings.secure)

    def value(self) -> str | None:
        """What the browser sent."""
        return self.cookie.value(request)

    def ensure(self) -> str:
        """What the browser sent, or a new value that the answer to this request will set."""
        if "form_cookie" not in g:
            sent = self.value()
            g.form_cookie = sent or secrets.token_urlsafe(32)
            if sent is None:
                after_this_request(self._deliver)
        value: str = g.form_cookie
        return value

    def _deliver(self, response: Response) -> Response:
        self.cookie.put(response, g.form_cookie)
        return response
