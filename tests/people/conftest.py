"""What tests of the pages share with those of the protocol, and a way to read a page as a person does."""

from __future__ import annotations

from tests.protocol.conftest import Later, later

__all__ = ["Later", "later"]
