"""What a piece of the server costs in operations: an oracle by time is one by work, and work can be counted."""

from __future__ import annotations

import hmac
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from argon2 import PasswordHasher
from sqlalchemy.engine.default import DefaultDialect

from app.keys.algorithms import IMPLEMENTATIONS
from app.keys.jwk import import_public_key
from app.live.connection import Connections


def _code(function: Callable[..., Any]) -> CodeType:
    return function.__code__  # type: ignore[attr-defined,no-any-return]


WATCHED: dict[CodeType, str] = {
    _code(hmac.new): "hmac",
    **{_code(type(implementation).verify): "signature" for implementation in IMPLEMENTATIONS.values()},
    _code(import_public_key): "import",
    _code(PasswordHasher.verify): "password",
    _code(DefaultDialect.do_execute): "sql",
    _code(DefaultDialect.do_commit): "commit",
    _code(Connections.call): "redis",
}


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Counts the operations of this thread: hashes, signatures, passwords, statements, calls of Redis."""
    found: Counter[str] = Counter()

    def watch(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and (name := WATCHED.get(frame.f_code)) is not None:
            found[name] += 1

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield found
    finally:
        sys.setprofile(before)
