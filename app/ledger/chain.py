"""The chain: each entry's hash covers the one before it, its number and its record."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

GENESIS = "0" * 64
"""The hash before the first entry."""


class Head(NamedTuple):
    """Where the chain stands: the last entry's number (0 before the first) and hash."""

    seq: int
    hash: str

    def extended(self, record: bytes) -> Head:
        """The head after one more record."""
        return Head(self.seq + 1, chained(self.hash, self.seq + 1, record))


def chained(before: str, seq: int, record: bytes) -> str:
    """Hex SHA-256 over the hash before (32 bytes), the entry's number (8 bytes, big-endian) and its record."""
    return sha256(bytes.fromhex(before) + seq.to_bytes(8, "big") + record).hexdigest()
