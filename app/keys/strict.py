"""Strict parsing: one meaning per byte string, so that no other parser can read something else in it."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

MAX_DEPTH = 16
"""Objects and arrays within each other."""

MAX_INTEGER = 2**53 - 1
"""Largest integer that every JSON reader keeps exact (RFC 8259 §6)."""

MAX_NUMBER = 32
"""Characters of one number: more is an attack on the conversion, not a number."""

_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_LAST_CHARACTERS = {2: "AQgw", 3: "AEIMQUYcgkosw048"}


class Malformed(ValueError):
    """Not what it should be, syntactically. The message says which rule and never quotes the input."""


def base64url(text: str) -> bytes:
    """Decode canonical, unpadded base64url (RFC 7515 §2): no padding, white space or stray trailing bits.

    Raises `Malformed`.
    """
    if not _BASE64URL.fullmatch(text):
        raise Malformed("not base64url")
    remainder = len(text) % 4
    if remainder == 1 or (remainder and text[-1] not in _LAST_CHARACTERS[remainder]):
        raise Malformed("base64url is not canonical")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def json_object(data: bytes) -> dict[str, Any]:
    """Parse one JSON object: strict UTF-8 without BOM, no duplicate key at any depth, depth at most 16.

    Also no NUL or lone surrogate in any string, no NaN or Infinity, integers exact in every reader.
    Raises `Malformed`.
    """
    value = json_value(data)
    if not isinstance(value, dict):
        raise Malformed("not a JSON object")
    return value


def json_value(data: bytes) -> Any:
    """As `json_object`, for any JSON value."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("not UTF-8") from None
    # The parser recurses: depth is counted first, and only where there are brackets enough to matter.
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        raise Malformed("JSON is nested too deeply")
    try:
        value = _DECODER.decode(text)
    except Malformed:
        raise
    except ValueError:
        raise Malformed("not JSON") from None
    # Raw NUL and surrogates cannot get this far; escaped they can.
    if "\\u" in text and not all(map(_clean, _strings(value))):
        raise Malformed("a string has a NUL or a lone surrogate")
    return value


def _depth(data: bytes) -> int:
    deepest = depth = 0
    for match in _BRACKETS.finditer(data):
        bracket = match.group()
        if bracket in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif bracket in b"]}":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("duplicate key")
    return found


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER or abs(number := int(text)) > MAX_INTEGER:
        raise Malformed("integer out of range")
    return number


def _float(text: str) -> float:
    if len(text) > MAX_NUMBER or not math.isfinite(number := float(text)):
        raise Malformed("number out of range")
    return number


def _constant(_text: str) -> NoReturn:
    raise Malformed("NaN or Infinity")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _clean(text: str) -> bool:
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)
