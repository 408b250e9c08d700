"""What all pages under `/admin` share: who is there, what she may, and what becomes of a refusal."""

from __future__ import annotations

import re
from urllib.parse import quote

from flask import Blueprint, Flask, Response, g, request
from werkzeug.exceptions import NotFound as NoSuchPage

from app.errors import NotFound, Refused, TemporarilyUnavailable
from app.oversight.governance import Duty, NotYours, Officer, Officers, StaleSignIn
from app.web.forms import single
from app.web.pages import Pages, see_other

HERE = "/admin"
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Our identifiers; PostgreSQL refuses to be asked about anything with a NUL."""

NO_OFFICE = "This part of Deputy is for those who administer it."
DONE = {
    "registered": "Registered.",
    "changed": "Changed. Nothing had to end for it.",
    "narrowed": "Changed. What was issued under more than this has ended, and will be asked for anew.",
    "active": "It may work from now on.",
    "retired": "Retired for ever; all that it held has ended.",
    "key": "The keys are changed.",
    "open": "Open again. What ended stays ended.",
    "saved": "Saved. It is in force once it is activated.",
    "activated": "In force. Tokens that are out already are judged by it at their next use.",
    "withdrawn": "Out of force.",
    "role": "The role is changed; it holds at the next request.",
    "enabled": "May sign in again. What ended stays ended.",
}
"""What a page says after a deed, by a word in its address."""


class Desk:
    """Renders pages for an officer, and keeps everybody else out."""

    def __init__(self, pages: Pages, officers: Officers) -> None:
        self.pages = pages
        self._officers = officers

    def officer(self) -> Officer:
        """Who is there. Raises `NotYours` for whoever holds no office and owns no agent."""
        found: Officer | None = g.get("officer")
        if found is None:
            raise NotYours
        return found

    def admit(self) -> Response | None:
        """Before each page: to the sign-in who is not signed in; nobody without an office comes further."""
        current = self.pages.sign_in.current()
        if current is None:
            return see_other(sign_in_for(_here()))
        if not all(ID.fullmatch(value) for value in (request.view_args or {}).values() if isinstance(value, str)):
            return self.pages.error(404)
        g.officer = self._officers.of(current)
        if g.officer is None:
            return self.pages.error(403, "Not for you", NO_OFFICE)
        return None

    def render(self, template: str, status: int = 200, **context: object) -> Response:
        """A page, with what a deed before it has to say."""
        said = DONE.get(single(request.args, "done"), "") if request.method == "GET" else ""
        return self.pages.render(f"admin/{template}", status, officer=self.officer(), Duty=Duty, said=said, **context)

    def checked(self, form: str, page: str) -> Officer:
        """The officer who sent a form of ours, which stood on that page: whoever has to sign in again comes back there."""
        g.page = page
        self.pages.csrf.check(request.form, f"admin:{form}")
        return self.officer()

    def blueprint(self, name: str, module: str) -> Blueprint:
        """A blueprint whose pages are all behind the desk."""
        made = Blueprint(f"admin_{name}", module, url_prefix=HERE)
        made.before_request(self.admit)
        made.register_error_handler(NotYours, lambda _: self.pages.error(403, "Not for you", NO_OFFICE))
        made.register_error_handler(StaleSignIn, lambda _: see_other(sign_in_for(_here())))
        made.register_error_handler(NotFound, lambda _: self.pages.error(404))
        made.register_error_handler(Refused, lambda refused: self.pages.error(400, "Not done", f"Nothing was changed: {refused}."))
        return self.pages.guard(made)

    def install(self, app: Flask) -> None:
        """Let every page know whether to show the way here."""
        app.jinja_env.globals["administers"] = self._administers

    def _administers(self) -> bool:
        current = self.pages.sign_in.current()
        if current is None:
            return False
        try:
            return self._officers.of(current) is not None
        except TemporarilyUnavailable:
            return False


def sign_in_for(path: str) -> str:
    """The sign-in page that leads back to a path."""
    return f"/login?next={quote(path, safe='')}"


def back(path: str, said: str) -> Response:
    """On to a page that says what was done."""
    return see_other(f"{path}{'&' if '?' in path else '?'}done={said}")


def text(name: str, longest: int = 500) -> str:
    """A field of the address, as something to look for. Raises a 404 for what nobody could have typed."""
    value = single(request.args, name).strip()
    if len(value) > longest or not value.isprintable():
        raise NoSuchPage
    return value


def number(name: str) -> int | None:
    """A field of the address that is a number."""
    value = single(request.args, name)
    return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else None


def _here() -> str:
    """The page to come back to: of a form, the page it stood on."""
    if request.method == "GET" and request.query_string:
        return f"{request.path}?{request.query_string.decode('ascii', 'replace')}"
    page: str = g.get("page", request.path)
    return page
