"""Things that authority hangs on, each with an epoch and a version."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple


class Kind(StrEnum):
    """Kinds of things. A token is dead once the epoch of any thing it hangs on has moved."""

    DEPLOYMENT = "deployment"
    HUMAN = "human"
    SESSION = "session"
    AGENT = "agent"
    INSTANCE = "instance"
    CLIENT = "client"
    CONSENT = "consent"
    TASK = "task"
    FAMILY = "family"
    RESOURCE = "resource"
    POLICIES = "policies"
    """The policy set as a whole: it has only a version."""
    KEY = "key"
    KEYS = "keys"
    """The key store as a whole: it has only a version."""


class Thing(NamedTuple):
    """One thing, by kind and opaque id."""

    kind: Kind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"

    @staticmethod
    @lru_cache(maxsize=65_536)
    def parse(text: str) -> Thing:
        """The inverse of `str`. Raises ValueError for anything else."""
        kind, separator, identifier = text.partition(":")
        if not separator or not identifier:
            raise ValueError("not a thing")
        return Thing(Kind(kind), identifier)


DEPLOYMENT = Thing(Kind.DEPLOYMENT, "1")
KEYS = Thing(Kind.KEYS, "1")
POLICIES = Thing(Kind.POLICIES, "1")


class Reading(NamedTuple):
    """What a thing's epoch and version were when it was read."""

    epoch: int
    version: int


NEVER_MOVED = Reading(0, 0)
"""A thing that was never changed has no row and no key: absence means this and nothing else."""
