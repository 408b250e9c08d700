"""`/healthz`, `/readyz`, `/metrics`: for operations. Details and figures on loopback or by token only."""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from flask import Blueprint, Response, request
from prometheus_client import CONTENT_TYPE_LATEST

from app.errors import OAuthError, TemporarilyUnavailable
from app.keys.store import KeyStore
from app.live.commit import Live
from app.live.generation import STREAM
from app.rim.metrics import Metrics
from app.rim.problems import json_response
from app.settings import Settings
from app.vocabulary import SigningAlg

PROXIED = ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via")
"""Headers of a proxy. From one that nobody told us of, loopback is its own address and says nothing of who asks."""


class NotFoundHere(OAuthError):
    """What is not for this caller is not there."""

    error = "not_found"
    status_code = 404
    default_description = "Nothing here."


def blueprint(live: Live, keys: KeyStore, metrics: Metrics, settings: Settings) -> Blueprint:
    """The operations endpoints."""
    endpoint = Blueprint("health", __name__)

    def trusted() -> bool:
        token = settings.operations_token.get_secret_value()
        presented = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and hmac.compare_digest(presented.encode("utf-8", "surrogatepass"), token.encode()):
            return True
        if not settings.trusted_proxies and any(name in request.headers for name in PROXIED):
            return False
        try:
            return ip_address(request.remote_addr or "").is_loopback
        except ValueError:
            return False

    @endpoint.get("/healthz")
    def healthz() -> Response:
        return json_response({"status": "ok"})

    @endpoint.get("/readyz")
    def readyz() -> Response:
        missing = not_ready(live, keys, settings)
        response = json_response(
            {"status": "not ready" if missing else "ready"} | ({"missing": missing} if missing and trusted() else {}),
            503 if missing else 200,
        )
        if missing:
            response.headers["Retry-After"] = "1"
        return response

    @endpoint.get("/metrics")
    def figures() -> Response:
        if not trusted():
            raise NotFoundHere
        return Response(metrics.render(), content_type=CONTENT_TYPE_LATEST)

    return endpoint


def not_ready(live: Live, keys: KeyStore, settings: Settings) -> dict[str, str]:
    """What keeps the server from issuing just now, by part; empty when nothing does."""
    missing: dict[str, str] = {}
    try:
        live.reload_generation()
    except TemporarilyUnavailable as trouble:
        missing["sql"] = trouble.reason
    try:
        live.read(())
        if (waiting := _oldest(live)) > settings.stream_stall:
            missing["ledger"] = f"the oldest record has waited {waiting:.0f} s"
    except TemporarilyUnavailable as trouble:
        missing["live state"] = trouble.reason
    try:
        keys.signing_key(SigningAlg.ES256)
    except TemporarilyUnavailable as trouble:
        missing["keys"] = trouble.reason
    return missing


def _oldest(live: Live) -> float:
    """Seconds the oldest record in the stream has waited for the ledger."""
    oldest = live.redis.call("XRANGE", STREAM, "-", "+", "COUNT", 1)
    if not oldest:
        return 0.0
    seconds, microseconds = live.redis.call("TIME")
    return int(seconds) + int(microseconds) / 1e6 - int(oldest[0][0].split(b"-")[0]) / 1e3
