"""CSRF: a form of ours is accepted from the browser it was shown in, for the thing it was shown for, and from there only.

Flask-WTF keeps its token in `flask.session`, a cookie that is not the sign-in and does not change with it: a token
fetched before the sign-in would be good after it. Here the token is an HMAC over the sign-in cookie, or over a random
cookie where nobody is signed in yet (login CSRF), and over what the form is about, so that it dies with either.
Protocol endpoints take no cookie and need none of this.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from hashlib import sha256

from flask import request
from werkzeug.exceptions import Forbidden

from app.rim.cookies import FormCookie, SignInCookie

FIELD = "csrf_token"
SALT = 16
"""Characters before the dot. They make every rendering differ, so that compression gives nothing away."""


class FormRefused(Forbidden):
    """403: the form is not one we showed in this browser for this purpose, or the sign-in it was shown under is gone."""

    description = "This form is no longer valid. Go back, reload the page, and try again."


class CSRF:
    """Makes and checks the token of each form."""

    def __init__(self, key: bytes, sign_in: SignInCookie, form: FormCookie) -> None:
        """`key`: 32 secret bytes, from `KeyEncryption.derive("csrf")`."""
        self._key = key
        self._sign_in = sign_in
        self._form = form

    def token(self, purpose: str) -> str:
        """The token for one form. `purpose` names the form and what it is about: `login`, `consent:<ticket>`."""
        salt = secrets.token_urlsafe(SALT * 3 // 4)
        return f"{salt}.{self._mac(salt, purpose, self.browser())}"

    def check(self, form: Mapping[str, str], purpose: str) -> None:
        """Raises `FormRefused` unless the form carries the token of this browser and this purpose."""
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            raise FormRefused
        salt, _, mac = form.get(FIELD, "").partition(".")
        binding = self._binding() or self._form.value()
        if binding is None or len(salt) != SALT:
            raise FormRefused
        expected = self._mac(salt, purpose, binding)
        if not hmac.compare_digest(mac.encode("utf-8", "surrogatepass"), expected.encode()):
            raise FormRefused

    def browser(self) -> str:
        """What ties anything shown to this browser, as the tokens are: its sign-in, or a value of its own."""
        return self._binding() or self._form.ensure()

    def _binding(self) -> str | None:
        return self._sign_in.cookie.value(request)

    def _mac(self, salt: str, purpose: str, binding: str) -> str:
        message = f"{salt}\0{binding}\0{purpose}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, message, sha256).hexdigest()
