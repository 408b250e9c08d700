"""Where a request comes from, in words that a person knows her own devices by."""

from __future__ import annotations

from flask import request

from app.humans.sessions import From

BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"), ("curl/", "curl"))
SYSTEMS = (
    ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS X", "Mac"), ("CrOS", "Chromebook"),
    ("Linux", "Linux"),
)  # fmt: skip


def place() -> From:
    """Of this request. What the browser says of itself is only its word: it is matched against known ones, never shown."""
    said = request.headers.get("User-Agent", "")[:400]
    browser = next((name for mark, name in BROWSERS if mark in said), "A program")
    system = next((name for mark, name in SYSTEMS if mark in said), "")
    return From(request.remote_addr or "", f"{browser} on {system}" if system else browser)
