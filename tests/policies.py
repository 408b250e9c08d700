"""Policies in force while a test runs, and no longer."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from app.audit.events import Who
from app.errors import NotFound
from app.policy.ready import ready_made
from app.wiring import Server

WRITER, SECOND = Who(operator="writer"), Who(operator="second")


@contextmanager
def in_force(server: Server, text: str, name: str = "") -> Iterator[str]:
    """Add and activate a policy; retire it at the end. Gives its name."""
    name = name or "test-" + secrets.token_hex(4)
    server.policies.add(name, text, owner="hum_test", rule="A rule of the tests", by=WRITER)
    server.policies.activate(name, None, by=SECOND)
    try:
        yield name
    finally:
        try:
            server.policies.retire(name, by=SECOND)
        except NotFound:
            pass


def text_of(name: str) -> str:
    """The text of a ready-made policy."""
    return next(one.text for one in ready_made() if one.name == name)
