"""Deputy: the authorization server for AI agents that act for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from app.settings import Settings


def create_app(settings: Settings | None = None, *, mutual_tls: bool = False) -> Flask:
    """The WSGI application. gunicorn calls it in each worker: `app:create_app()`.

    `mutual_tls`: for where gunicorn asks for client certificates (RFC 8705); it has only what takes them.
    """
    # Imported here, so that importing one part of the package does not import every other.
    from app.application import application  # noqa: PLC0415

    return application(settings, mutual_tls=mutual_tls)
