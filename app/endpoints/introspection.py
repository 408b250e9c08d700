"""`/oauth/introspect` (RFC 7662, RFC 9701)."""

from __future__ import annotations

from flask import Blueprint, Response

from app import clock
from app.endpoints.guards import Guards
from app.keys.signer import sign
from app.keys.store import KeyStore
from app.rim.form import parse_form
from app.rim.problems import json_response
from app.tokens.introspection import Introspection
from app.vocabulary import JWTType, SigningAlg

SIGNED = "application/token-introspection+jwt"


def blueprint(introspection: Introspection, keys: KeyStore, issuer: str, guards: Guards) -> Blueprint:
    """The introspection endpoint."""
    endpoint = Blueprint("introspection", __name__)

    @endpoint.post("/oauth/introspect")
    def introspect() -> Response:
        with guards.admitted() as incoming:
            form = parse_form(incoming)
            answer, caller = introspection.introspect(form)
        if SIGNED not in form.headers["accept"].lower():
            return json_response(answer)
        # No top-level sub or exp, so that it cannot pass as a token (RFC 9701 §5).
        claims = {"iss": issuer, "aud": caller, "iat": clock.timestamp(), "token_introspection": answer}
        return Response(sign(claims, JWTType.INTROSPECTION, keys.signing_key(SigningAlg.ES256)), mimetype=SIGNED)

    return endpoint
