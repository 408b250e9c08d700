"""Security headers, on every answer there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Flask, Response, g
from secure import (
    ContentSecurityPolicy,
    CrossOriginOpenerPolicy,
    CrossOriginResourcePolicy,
    PermissionsPolicy,
    ReferrerPolicy,
    Secure,
    StrictTransportSecurity,
    XContentTypeOptions,
    XFrameOptions,
)

from app.settings import Settings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CSP = "Content-Security-Policy"
SOURCES = (
    ("default-src", "'none'"),
    ("style-src", "'self'"),
    ("img-src", "'self' data:"),
    ("script-src", "'self'"),
    ("form-action", "'self'"),
    ("frame-ancestors", "'none'"),
    ("base-uri", "'none'"),
)
DENIED_FEATURES = (
    "accelerometer",
    "browsing-topics",
    "camera",
    "display-capture",
    "geolocation",
    "gyroscope",
    "magnetometer",
    "microphone",
    "midi",
    "payment",
    "usb",
)
DATA = frozenset({"X-Content-Type-Options", "Referrer-Policy", "Strict-Transport-Security", "Cross-Origin-Resource-Policy"})
"""Headers that also mean something on an answer that is no page."""
NOT_KEPT = [("Cache-Control", "no-store"), ("Pragma", "no-cache")]
"""RFC 6749 §5.1."""
YEAR = 365 * 86400
AUTHORITY = re.compile(r"(?:(?P<host>[A-Za-z0-9.-]+)|\[[0-9A-Fa-f:.]+\])(?P<port>:[0-9]{1,5})?")
NEVER = frozenset({"javascript", "data", "blob", "filesystem", "about", "vbscript"})
"""Schemes that are no place to go to, whatever is registered."""
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


class Headers:
    """Sets what every answer carries, and what pages carry besides."""

    def __init__(self, settings: Settings) -> None:
        permissions = PermissionsPolicy()
        for feature in DENIED_FEATURES:
            permissions.add_directive(feature)
        self._always = tuple(
            Secure(
                xfo=XFrameOptions().deny(),
                xcto=XContentTypeOptions().nosniff(),
                referrer=ReferrerPolicy().no_referrer(),
                coop=CrossOriginOpenerPolicy().same_origin(),
                corp=CrossOriginResourcePolicy().same_origin(),
                permissions=permissions,
                hsts=StrictTransportSecurity().max_age(YEAR) if settings.secure else None,
            ).header_items()
        )

        self._data = [(name, value) for name, value in self._always if name in DATA] + [(CSP, POLICY)]

    def install(self, app: Flask) -> None:
        """Have every answer of the application pass through here, pages and what is none."""
        app.after_request(self._page)
        app.wsgi_app = self._around(app.wsgi_app)  # type: ignore[method-assign,assignment]

    def _around(self, inner: WSGIApplication) -> WSGIApplication:
        """What is no page gets what keeps a browser from taking it for one; what says nothing of caching is not kept."""

        def outer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Callable[[bytes], object]:
                said = {name for name, _ in headers}
                if CSP not in said:
                    headers.extend(self._data)
                if "Cache-Control" not in said:
                    headers.extend(NOT_KEPT)
                return start_response(status, headers, *more)

            return inner(environ, start)

        return outer

    def _page(self, response: Response) -> Response:
        """The headers of a page. Pages are personal: nothing between us and the browser may keep one."""
        if response.mimetype != "text/html":
            return response
        for name, value in self._always:
            response.headers[name] = value
        form_action, live = g.get("form_action", ""), g.get("live", False)
        response.headers[CSP] = _policy(form_action, live=live) if form_action or live else POLICY
        response.headers["Cache-Control"] = "no-store"
        response.vary.add("Cookie")
        return response


def allow_form_action(redirect_uri: str) -> None:
    """Let the form of this answer end at that redirect URI: browsers hold `form-action` against the redirect as well."""
    g.form_action = source_of(redirect_uri)


def allow_live() -> None:
    """Let the script of this answer ask us, and nobody else, for what is new."""
    g.live = True


def source_of(uri: str) -> str:
    """The CSP source (CSP3 §2.3.1) that covers a redirect URI: its origin, or the scheme of a private-use one.

    An IPv6 address cannot be written as a source, so its port on any host stands in. Empty for what cannot be
    written at all; the form then stays with us.
    """
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"}:
        return f"{parts.scheme}:" if SCHEME.fullmatch(parts.scheme) and parts.scheme not in NEVER else ""
    found = AUTHORITY.fullmatch(parts.netloc)
    if found is None:
        return ""
    return f"{parts.scheme}://{found['host'] or '*'}{found['port'] or ''}"


def _policy(form_action: str = "", *, live: bool = False) -> str:
    policy = ContentSecurityPolicy()
    for directive, sources in SOURCES:
        more = form_action if directive == "form-action" else ""
        policy.custom_directive(directive, *f"{sources} {more}".split())
    if live:
        policy.custom_directive("connect-src", "'self'")
    return policy.header_value


POLICY = _policy()
