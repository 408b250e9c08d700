"""The demo's people and things."""
from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.wiring import Server
def fill(server: Server) -> list[str]:
    """Placeholder."""
    return []
