"""Text for people: what others wrote made harmless, and moments and spans in words."""

from __future__ import annotations

import re
import unicodedata

from app import clock

INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Characters that print as nothing although Unicode calls them letters, marks or symbols."""

STACKED = 2
"""Combining marks one letter may carry; more of them write over other lines."""

MINUTE, HOUR, DAY = 60, 3600, 86400


def plain(text: object, limit: int = 200) -> str:
    """What somebody else wrote, fit to stand on a page: no bidi or zero-width characters, one line, cut at `limit`.

    It is still text and not markup; Jinja escapes it.
    """
    kept: list[str] = []
    marks = 0
    for char in unicodedata.normalize("NFC", str(text)[: limit * 8]):
        category = unicodedata.category(char)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        if category in {"Cc", "Zl", "Zp"}:
            kept.append(" ")
        elif category[0] != "C" and char not in INVISIBLE and not _selects(char) and marks <= STACKED:
            kept.append(char)
    line = re.sub(r"\s+", " ", "".join(kept)).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def ascii_host(host: str) -> str:
    """A host as the wire has it: punycode where letters beyond ASCII could imitate others."""
    cleaned = plain(host, 253)
    if cleaned.isascii():
        return cleaned
    try:
        return cleaned.encode("idna").decode()
    except UnicodeError:
        return cleaned.encode("ascii", "backslashreplace").decode()


def moment(seconds: int) -> str:
    """A moment, given in seconds since 1970: `23 December 2026, 14:05 UTC`."""
    at = clock.at(seconds)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


def day(seconds: int) -> str:
    """The day of a moment: `23 December 2026`, or `Today`."""
    at = clock.at(seconds)
    return "Today" if at.date() == clock.now().date() else f"{at.day} {at:%B %Y}"


def hour(seconds: int) -> str:
    """The time of day of a moment: `14:05 UTC`."""
    return f"{clock.at(seconds):%H:%M} UTC"


def to_the_second(seconds: int) -> str:
    """The same moment as a table has it: `2026-12-23 14:05:09`."""
    return f"{clock.at(seconds):%Y-%m-%d %H:%M:%S}"


def stamp(seconds: int) -> str:
    """The same moment for a `datetime` attribute."""
    return f"{clock.at(seconds):%Y-%m-%dT%H:%M:%SZ}"


def distance(seconds: int) -> str:
    """How far a moment is from now: `in 30 days`, `2 hours ago`."""
    away = seconds - clock.timestamp()
    words = span(abs(away))
    if abs(away) < MINUTE:
        return "in a moment" if away > 0 else "just now"
    return f"in {words}" if away > 0 else f"{words} ago"


def span(seconds: int) -> str:
    """A length of time, rounded to its largest unit: `30 days`, `1 hour`."""
    for size, name in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        count = (seconds + size // 2) // size
        if seconds >= size - size // 20 and count:
            return f"{count} {name}{'' if count == 1 else 's'}"
    return "less than a minute"


FILTERS = {
    "plain": plain,
    "ascii_host": ascii_host,
    "moment": moment,
    "day": day,
    "hour": hour,
    "stamp": stamp,
    "clock": to_the_second,
    "distance": distance,
    "span": span,
}


def _selects(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
