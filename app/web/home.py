"""`/`: what this is, and where to go."""

from __future__ import annotations

from flask import Blueprint, Response

from app.web.pages import Pages


def blueprint(pages: Pages) -> Blueprint:
    """The front page."""
    home = Blueprint("home", __name__)

    @home.get("/")
    def index() -> Response:
        return pages.render("home.html")

    return home
