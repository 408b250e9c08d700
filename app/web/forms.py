"""Forms of pages, read strictly: a field that belongs once is there once."""

from __future__ import annotations

from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest

MAX_FIELD = 8192


def single(form: MultiDict[str, str], name: str, default: str = "") -> str:
    """The one value of a field, or `default`. Raises `BadRequest` when it came twice or is absurdly long."""
    values = form.getlist(name)
    if len(values) > 1 or (values and len(values[0]) > MAX_FIELD):
        raise BadRequest("A field of the form came more than once, or is too long.")
    return values[0] if values else default


def internal(target: str) -> str | None:
    """The path to go on to, if it leads nowhere but to ourselves; None otherwise.

    One slash and then no second one, no backslash, nothing a browser would drop: what it reads is what we read.
    """
    safe = target.startswith("/") and not target.startswith("//") and len(target) <= MAX_FIELD
    return target if safe and all("!" <= char <= "~" and char != "\\" for char in target) else None
