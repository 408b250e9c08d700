"""One scene for a file: attacks leave it as it was."""

from __future__ import annotations

import pytest
from flask import Flask

from app.wiring import Server
from tests.attacks.scene import Scene, set_scene
from tests.world import InProcess, World


@pytest.fixture(scope="module")
def scene(server: Server, app: Flask) -> Scene:
    """People and things to attack, over the wire in this process."""
    return set_scene(World(server, InProcess(app)))
