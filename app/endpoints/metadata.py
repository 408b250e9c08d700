"""Both metadata documents (RFC 8414 §2, OIDC Discovery §3), computed from what is registered, so that they cannot lie."""

from __future__ import annotations

import threading
from typing import Any

import orjson
from flask import Blueprint, Response
from sqlalchemy import select

from app import clock
from app.clients.authentication import METHODS
from app.clients.proof import ALGORITHMS
from app.database import Database
from app.endpoints.evaluation import PATH as EVALUATION
from app.endpoints.guards import Guards
from app.grants import GRANTS
from app.keys.store import KeyStore
from app.resources.models import ResourceRow
from app.settings import Settings
from app.vocabulary import OPENID_SCOPES, RESOURCE_ACCESS, AuthMethod, SigningAlg

FRESH = 10
"""Seconds a document is served before the registers are asked again."""

PATHS = {
    "authorization_endpoint": "/oauth/authorize",
    "token_endpoint": "/oauth/token",
    "pushed_authorization_request_endpoint": "/oauth/par",
    "backchannel_authentication_endpoint": "/oauth/bc-authorize",
    "introspection_endpoint": "/oauth/introspect",
    "revocation_endpoint": "/oauth/revoke",
    "userinfo_endpoint": "/oauth/userinfo",
    "end_session_endpoint": "/logout",
    "jwks_uri": "/oauth/jwks",
}

MTLS = (
    "token_endpoint",
    "pushed_authorization_request_endpoint",
    "introspection_endpoint",
    "revocation_endpoint",
    "userinfo_endpoint",
    "backchannel_authentication_endpoint",
)
"""What is also there where clients are asked for certificates (RFC 8705 §5)."""


class Metadata:
    """Makes the document and keeps it for a few seconds."""

    def __init__(self, database: Database, keys: KeyStore, settings: Settings) -> None:
        self._database = database
        self._keys = keys
        self._settings = settings
        self._held: tuple[float, bytes] = (0.0, b"")
        self._lock = threading.Lock()

    def document(self) -> bytes:
        """The JSON document."""
        made, body = self._held
        if body and clock.monotonic() - made < FRESH:
            return body
        with self._lock:
            body = orjson.dumps(self._make(), option=orjson.OPT_SORT_KEYS)
            self._held = (clock.monotonic(), body)
        return body

    def decision_point(self) -> bytes:
        """The metadata of the policy decision point (AuthZEN Authorization API 1.0 §9)."""
        issuer = self._settings.issuer
        return orjson.dumps({"policy_decision_point": issuer, "access_evaluation_endpoint": issuer + EVALUATION})

    def _make(self) -> dict[str, Any]:
        issuer = self._settings.issuer
        with self._database.reading() as session:
            rows = session.execute(
                select(ResourceRow.uri, ResourceRow.scopes).where(ResourceRow.enabled.is_(True)).order_by(ResourceRow.uri)
            )
            registered = [(uri, scopes) for uri, scopes in rows]
        signing = sorted({key["alg"] for key in self._keys.public_jwks()["keys"]})
        offered = [method for method in METHODS if method is not AuthMethod.TLS_CLIENT_AUTH or self._settings.mutual_tls]
        methods = [method.value for method in offered]
        proving = [method.value for method in offered if method is not AuthMethod.NONE]
        algorithms = [alg.value for alg in SigningAlg]
        document: dict[str, Any] = {"issuer": issuer} | {name: issuer + path for name, path in PATHS.items()}
        document |= {
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": [grant.value for grant in GRANTS],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
            "request_parameter_supported": False,
            "request_uri_parameter_supported": False,
            "claims_parameter_supported": False,
            "token_endpoint_auth_methods_supported": methods,
            "token_endpoint_auth_signing_alg_values_supported": algorithms,
            "revocation_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
            "introspection_endpoint_auth_methods_supported": proving,
            "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
            "introspection_signing_alg_values_supported": [SigningAlg.ES256.value],
            "dpop_signing_alg_values_supported": [alg.value for alg in ALGORITHMS],
            "backchannel_token_delivery_modes_supported": ["poll"],
            "backchannel_user_code_parameter_supported": False,
            "authorization_details_types_supported": [RESOURCE_ACCESS],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": signing,
            "claims_supported": [
                "iss", "sub", "aud", "iat", "exp", "auth_time", "nonce", "acr", "amr", "at_hash",
                "name", "preferred_username", "email", "email_verified",
            ],
            "scopes_supported": sorted(OPENID_SCOPES.union(*(scopes for _uri, scopes in registered))),
            "prompt_values_supported": ["none", "login", "consent", "select_account"],
            "protected_resources": [uri for uri, _scopes in registered],
            "ui_locales_supported": ["en"],
        }  # fmt: skip
        if self._settings.mutual_tls:
            document["tls_client_certificate_bound_access_tokens"] = True
        if self._settings.mtls_url:
            document["mtls_endpoint_aliases"] = {name: self._settings.mtls_url + PATHS[name] for name in MTLS}
        # What has no elements is left out (RFC 8414 §3.2).
        return {name: value for name, value in document.items() if value != []}


def blueprint(metadata: Metadata, keys: KeyStore, guards: Guards) -> Blueprint:
    """The metadata documents and the JWK Set."""
    endpoint = Blueprint("metadata", __name__)

    @endpoint.get("/.well-known/oauth-authorization-server")
    @endpoint.get("/.well-known/openid-configuration")
    def document() -> Response:
        return _cached(metadata.document(), "application/json")

    @endpoint.get("/.well-known/authzen-configuration")
    def decision_point() -> Response:
        return _cached(metadata.decision_point(), "application/json")

    @endpoint.get("/oauth/jwks")
    def jwks() -> Response:
        return _cached(keys.public_jwks_bytes(), "application/jwk-set+json")

    guards.open_to_browsers(endpoint)
    return endpoint


def _cached(body: bytes, mimetype: str) -> Response:
    response = Response(body, mimetype=mimetype)
    response.headers["Cache-Control"] = "public, max-age=60"
    return response
