"""The policies that come with Deputy, for the combinations most houses forbid. None is in force until an operator activates it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

DIRECTORY = Path(__file__).parent / "ready_made"


class ReadyMade(NamedTuple):
    """A policy to start from."""

    name: str
    rule: str
    """The sentence it carries out: its first line."""
    text: str


def ready_made() -> list[ReadyMade]:
    """All of them, by name."""
    found = ((path.stem, path.read_text("utf-8")) for path in sorted(DIRECTORY.glob("*.cedar")))
    return [ReadyMade(name, text.partition("\n")[0].removeprefix("// "), text) for name, text in found]
