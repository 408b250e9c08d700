"""Requests of nobody known: limited by address, counted, and entered in the ledger as a summary a minute."""

from __future__ import annotations

import threading
from collections import Counter

from app import clock
from app.audit import record
from app.audit.events import NOBODY, NoiseCounted
from app.errors import AuthorizationPending, InvalidClient, OAuthError, TemporarilyUnavailable, TooManyRequests
from app.humans.accounts import origin
from app.live.commit import Live
from app.settings import Settings

MINUTE = 60
MAX_ADDRESSES = 50_000


class Noise:
    """Counts of one worker. Its memory is bounded; a flood from many addresses falls back to the limits behind it."""

    def __init__(self, live: Live, settings: Settings) -> None:
        self._live = live
        self._rate = settings.rate_address
        self._failures = settings.rate_failures
        self._window = 0
        self._requests: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._lock = threading.Lock()

    def admit(self, address: str) -> None:
        """Let a request in, or raise TooManyRequests: too many from there this minute, or too many that failed."""
        address, now = origin(address), clock.timestamp()
        window = now // MINUTE
        with self._lock:
            if window != self._window:
                self._turn(window)
            if len(self._requests) < MAX_ADDRESSES:
                self._requests[address] += 1
            over = self._rate and self._requests[address] > self._rate
            over = over or self._failed[address] >= self._failures
        if over:
            raise TooManyRequests("address", retry_after=MINUTE - now % MINUTE)

    def count(self, error: OAuthError) -> None:
        """Count an error nobody else records. Whoever waits for a human is known, and so is what it asked."""
        if isinstance(error, (TemporarilyUnavailable, AuthorizationPending)) or "audit_id" in error.extra:
            return
        with self._lock:
            self._errors[str(error.error)] += 1

    def failed(self, address: str, error: OAuthError) -> None:
        """Remember a failed client authentication of an address."""
        if isinstance(error, InvalidClient):
            address = origin(address)
            with self._lock:
                if len(self._failed) < MAX_ADDRESSES:
                    self._failed[address] += 1

    def _turn(self, window: int) -> None:
        counts = dict(self._errors)
        self._window = window
        self._requests.clear()
        self._failed.clear()
        self._errors.clear()
        if counts:
            threading.Thread(target=self._enter, args=(counts,), daemon=True).start()

    def _enter(self, counts: dict[str, int]) -> None:
        try:
            with self._live.database.transaction() as session:
                record(session, NoiseCounted(who=NOBODY, counts=counts))
        except TemporarilyUnavailable:
            with self._lock:
                self._errors.update(counts)
