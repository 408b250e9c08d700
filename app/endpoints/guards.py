"""What stands before every protocol endpoint: who may come in how often, and from which pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import Blueprint, Request, Response, request
from flask.globals import request_ctx

from app.clients.proof import Proofs
from app.errors import OAuthError
from app.rim.noise import Noise

PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, Accept, DPoP, MCP-Protocol-Version",
    "Access-Control-Max-Age": "600",
}
"""What only the answer to a preflight says (Fetch Standard, CORS protocol)."""


class Guards:
    """Limits by address."""

    def __init__(self, noise: Noise, proofs: Proofs) -> None:
        self._noise = noise
        self._proofs = proofs

    @contextmanager
    def admitted(self) -> Iterator[Request]:
        """Count the request and, when its client authentication fails, the failure. Raises TooManyRequests."""
        incoming = request_ctx.request
        address = incoming.remote_addr or ""
        self._noise.admit(address)
        try:
            yield incoming
        except OAuthError as error:
            self._noise.failed(address, error)
            raise

    def roll_nonces(self, endpoint: Blueprint) -> None:
        """Where proofs must have a nonce, a good one is answered with the next (RFC 9449 §8.2)."""
        if not self._proofs.nonce_required:
            return

        @endpoint.after_request
        def _nonce(response: Response) -> Response:
            if "HTTP_DPOP" in request.environ and response.status_code < 300:
                response.headers["DPoP-Nonce"] = self._proofs.nonce()
            return response

    @staticmethod
    def open_to_browsers(endpoint: Blueprint) -> None:
        """CORS for endpoints without a session: metadata, JWKS, token (protocol §2)."""

        @endpoint.after_request
        def _cors(response: Response) -> Response:
            asked = request_ctx.request
            response.headers["Access-Control-Allow-Origin"] = "*"
            if "HTTP_DPOP" in asked.environ:
                response.headers["Access-Control-Expose-Headers"] = "DPoP-Nonce"
            if asked.method == "OPTIONS":
                response.headers.extend(PREFLIGHT)
            return response
