"""Where the authorization server is, and what each program was given at its registration."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

SERVER = os.environ.get("DEPUTY_URL", f"http://127.0.0.1:{os.environ.get('PORT', '8000')}").rstrip("/")

DIRECTORY = Path(os.environ.get("DEPUTY_DEMO_DIR") or Path(os.environ.get("DEPUTY_VAR_DIR", "var"), "demo"))


def registered(name: str) -> dict[str, Any]:
    """A program's own registration, `calendar.json` for the calendar. Each program opens its own and no other."""
    return _read(name + ".json")


def private_key(name: str) -> dict[str, Any]:
    """An agent's private key, a JWK."""
    return _read(name + ".jwk")


def _read(file: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((DIRECTORY / file).read_text("utf-8"))
    except OSError:
        sys.exit(f"There is no {DIRECTORY / file}. `make run` makes it, at its first start with an empty database.")
    return found
