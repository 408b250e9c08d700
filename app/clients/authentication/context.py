"""What a method needs beside the credentials."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Authenticating:
    """The moment, the generation's beginning (both seconds since 1970), and what assertions may be addressed to."""

    now: int
    since: int
    issuer: str
    token_endpoint: str
    pepper: bytes = field(repr=False)
