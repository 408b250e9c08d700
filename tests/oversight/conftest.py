"""Time that these tests may move."""

from tests.protocol.conftest import later as later  # noqa: PLC0414
