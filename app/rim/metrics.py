"""Prometheus figures: how many answers of which kind, and how long they took. No ids, no names."""

from __future__ import annotations

import os
from functools import cache

from flask import Flask, Response
from flask.globals import request_ctx
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, multiprocess

from app import clock
from app.rim.logs import BEGAN

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)


class Metrics:
    """The figures of this process, or of all workers where PROMETHEUS_MULTIPROC_DIR names their common folder."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter("deputy_http_answers", "Answers by endpoint and status", ("endpoint", "status"), registry=self._registry)
        self._seconds = Histogram("deputy_http_seconds", "Seconds to answer", ("endpoint",), buckets=BUCKETS, registry=self._registry)

    def install(self, app: Flask) -> None:
        """Measure every request of the application."""
        # Looked up once: `labels` validates and locks each time.
        answers = cache(self._answers.labels)
        seconds = cache(self._seconds.labels)

        @app.after_request
        def _end(response: Response) -> Response:
            asked = request_ctx.request
            endpoint = asked.endpoint or "none"
            answers(endpoint, response.status_code).inc()
            seconds(endpoint).observe(clock.monotonic() - asked.environ[BEGAN])
            return response

    def render(self) -> bytes:
        """The figures in Prometheus' text form."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
