"""Public keys of others that are fetched: a JWK Set by its URI, kept for minutes, asked for again when a `kid` is new (RFC 7517 §5)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from app import clock
from app.errors import TemporarilyUnavailable
from app.fetch import FetchFailed
from app.keys.jwk import VerificationKey, import_foreign_keys
from app.keys.strict import json_object

FRESH = 300.0
"""Seconds a set is used without asking again."""

STALE = 3600.0
"""Seconds after which a set that cannot be asked for again is used no more."""

PAUSE = 30.0
"""Seconds between two fetches of one set, whatever `kid`s are named and whatever came of the first."""

PATIENCE = 1.5
"""Seconds a request waits for a fetch; the fetch goes on, and the next request has it."""

log = structlog.get_logger("deputy.keys")


@dataclass(slots=True)
class _Set:
    keys: tuple[VerificationKey, ...] = ()
    fetched_at: float | None = None
    next_at: float = 0.0
    flight: threading.Event | None = None


class RemoteKeys:
    """JWK Sets by URI. One fetch at a time for each, in a thread of its own, so that a slow one holds nobody up for long."""

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        self._fetch = fetch
        self._sets: dict[str, _Set] = {}
        self._lock = threading.Lock()

    def of(self, uri: str, kid: str | None) -> tuple[VerificationKey, ...]:
        """The keys there. Raises `TemporarilyUnavailable` when none that are young enough can be had."""
        with self._lock:
            held = self._sets.setdefault(uri, _Set())
            wanted = self._is_old(held, FRESH) or (kid is not None and all(key.kid != kid for key in held.keys))
            flight = self._begin(uri, held) if wanted else None
        if flight is not None:
            flight.wait(PATIENCE)
        with self._lock:
            if self._is_old(held, STALE):
                raise TemporarilyUnavailable("the keys of an issuer cannot be fetched", retry_after=int(PAUSE))
            return held.keys

    def _begin(self, uri: str, held: _Set) -> threading.Event | None:
        """The fetch under way, or a new one if the last is long enough ago."""
        if held.flight is None and clock.monotonic() >= held.next_at:
            held.flight = threading.Event()
            threading.Thread(target=self._load, args=(uri, held, held.flight), daemon=True).start()
        return held.flight

    def _load(self, uri: str, held: _Set, flight: threading.Event) -> None:
        keys: tuple[VerificationKey, ...] = ()
        reason = "no usable keys"
        try:
            keys = import_foreign_keys(json_object(self._fetch(uri)))
        except FetchFailed as failed:
            reason = failed.reason
        except ValueError:
            reason = "not a JWK Set"
        finally:
            with self._lock:
                now = clock.monotonic()
                if keys:
                    held.keys, held.fetched_at = keys, now
                held.next_at, held.flight = now + PAUSE, None
            flight.set()
        if not keys:
            log.warning("keys not fetched", uri=uri, reason=reason)

    @staticmethod
    def _is_old(held: _Set, seconds: float) -> bool:
        return held.fetched_at is None or clock.monotonic() - held.fetched_at > seconds
