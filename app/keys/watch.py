"""Asking SQL without hanging on it: one question at a time, in the background, with bounded patience."""

from __future__ import annotations

import threading
from collections.abc import Callable

from app import clock
from app.errors import TemporarilyUnavailable

NEVER = float("-inf")

PATIENCE = 0.5
"""Seconds that somebody waits for an answer."""


class Watch:
    """Repeats a question on demand. Nobody waits twice for a database that is away, and nobody waits long.

    Build it after a worker has forked, like the engine whose database it asks.
    """

    def __init__(self, ask: Callable[[], None], *, patience: float | None = None, pause: float = 0.5) -> None:
        """`patience`: instead of `PATIENCE`. `pause`: seconds between two questions while none is answered."""
        self._ask = ask
        self._patience = PATIENCE if patience is None else patience
        self._pause = pause
        self._began = NEVER
        self._busy = False
        self._trouble = False
        self._changed = threading.Condition()
        self.answered = NEVER
        """When the last question that was answered began, in seconds of the monotonic clock."""

    def answered_since(self, moment: float) -> bool:
        """Whether a question that began after `moment` was answered. Asks it, waits `patience` seconds.

        After a failure, until one succeeds: False at once, and it is asked in the background every `pause`.
        """
        deadline = clock.monotonic() + self._patience
        with self._changed:
            while self.answered <= moment:
                if not self._busy and not (self._trouble and clock.monotonic() - self._began < self._pause):
                    self._start()
                if self._trouble:
                    return False
                if not self._changed.wait(deadline - clock.monotonic()):
                    self._trouble = True
            return True

    def _start(self) -> None:
        self._busy = True
        self._began = clock.monotonic()
        threading.Thread(target=self._run, args=(self._began,), name="keys-watch", daemon=True).start()

    def _run(self, began: float) -> None:
        answered = False
        try:
            self._ask()
            answered = True
        except TemporarilyUnavailable:
            pass  # Said by `answered_since`; whoever cannot do without the answer raises it.
        finally:
            with self._changed:
                self._busy = False
                self._trouble = not answered
                self.answered = began if answered else self.answered
                self._changed.notify_all()
