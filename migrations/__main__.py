"""For developers: `python -m migrations` says whether models and migrations agree, `… revision MESSAGE` writes a migration."""

from __future__ import annotations

import sys

import app.wiring  # noqa: F401  # every model registers itself
from app.schema import differences, revision, upgrade
from app.settings import load_settings

settings = load_settings()
upgrade(settings)
if sys.argv[1:2] == ["revision"]:
    revision(settings, sys.argv[2])
elif found := differences(settings):
    sys.exit("models and migrations differ:\n" + "\n".join(map(str, found)))
