"""Other people's programs from the npm registry: installed as locked, with their checksums, and kept for the next run."""

from __future__ import annotations

import shutil
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import NoReturn

import pytest

from tests.journeys.conftest import REQUIRED

FILES = ("package.json", "package-lock.json")
HANG = 120
"""Seconds after which something is stuck."""


def leave_out(reason: str) -> NoReturn:
    """Leave a test out, or fail where nothing may be left out."""
    pytest.fail(reason, pytrace=False) if REQUIRED else pytest.skip(reason)


def installed(request: pytest.FixtureRequest, here: Path) -> Path:
    """A folder with the modules that the lock file in `here` names."""
    if not shutil.which("node") or not shutil.which("npm"):
        leave_out("no node or no npm")
    kind = sha256(b"".join((here / name).read_bytes() for name in FILES)).hexdigest()[:12]
    path = Path(request.config.cache.mkdir(f"{here.name.replace('_', '-')}-{kind}"))  # type: ignore[union-attr]
    if not (path / "node_modules" / ".package-lock.json").exists():
        for name in FILES:
            shutil.copy(here / name, path)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(command, cwd=path, capture_output=True, text=True, timeout=HANG, check=False)
        if done.returncode:
            leave_out(f"npm could not install what {here.name} needs: {done.stderr[-300:]}")
    return path
