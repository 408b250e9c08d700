"""What a method needs beside the credentials."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.live.generation import Generation


@dataclass(frozen=True, slots=True)
class Authenticating:
    """The moment (seconds since 1970), the generation, and what assertions may be addressed to."""

    now: int
    generation: Generation
    issuer: str
    token_endpoint: str
    pepper: bytes = field(repr=False)
