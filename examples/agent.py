"""What every agent does at the authorization server: prove itself with its own key, and exchange what it holds.

The OAuth is Authlib's; nothing here is special to Deputy but one token type.
"""

from __future__ import annotations

import re
from typing import Any

import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT, private_key_jwt_sign
from configuration import SERVER, private_key, registered
from joserfc.jwk import import_key

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
CONSENT = "urn:deputy:params:oauth:token-type:consent"
CIBA = "urn:openid:params:grant-type:ciba"
TIMEOUT = 10


class Assertion(PrivateKeyJWT):
    """Authlib's `private_key_jwt`, for the issuer and for one minute; by itself it signs for an hour."""

    alg = "ES256"

    def sign(self, auth: Any, token_endpoint: str) -> str:
        """A fresh assertion, with a `jti` of its own, for each request."""
        header = {"kid": auth.client_secret.kid}
        return str(private_key_jwt_sign(auth.client_secret, auth.client_id, self.token_endpoint, self.alg, header=header, expires_in=60))


class RefusedByApi(Exception):
    """An API did not take the call. `error` is the code of its challenge (RFC 6750 §3.1)."""

    def __init__(self, answer: requests.Response) -> None:
        code = re.search(r'error="([^"]*)"', answer.headers.get("WWW-Authenticate", ""))
        self.status = answer.status_code
        self.error = code[1] if code else ""
        super().__init__(f"{self.status} {self.error}".strip())


class Agent:
    """An agent: an identity and a key of its own. Its human's password it never sees."""

    def __init__(self, name: str) -> None:
        self.registered = registered(name)
        self.uri: str = self.registered["agent"]
        found = requests.get(SERVER + "/.well-known/oauth-authorization-server", timeout=TIMEOUT)
        found.raise_for_status()
        self.server: dict[str, Any] = found.json()
        if self.server["issuer"] != SERVER:
            raise SystemExit(f"{SERVER} calls itself {self.server['issuer']}; set DEPUTY_URL to that.")
        self.session = OAuth2Session(
            self.registered["client_id"],
            import_key(private_key(name)),
            token_endpoint_auth_method="private_key_jwt",
            code_challenge_method="S256",
            token_endpoint=self.server["token_endpoint"],
            default_timeout=TIMEOUT,
        )
        self.session.register_client_auth_method(Assertion(self.server["issuer"]))
        self.session.register_compliance_hook("access_token_response", self._hear)
        self.heard: dict[str, Any] = {}
        """The last answer of the token endpoint, whole: Authlib's exception keeps two members of a refusal."""

    def exchange(self, held: str, kind: str = ACCESS_TOKEN, **asked: str) -> dict[str, Any]:
        """A token of minutes for what it holds (RFC 8693). Raises Authlib's `OAuthError`."""
        return dict(self.session.fetch_token(grant_type=EXCHANGE, subject_token=held, subject_token_type=kind, **asked))

    def _hear(self, answer: requests.Response) -> requests.Response:
        self.heard = answer.json()
        return answer

    def call(self, token: str, method: str, url: str, **sent: Any) -> dict[str, Any]:
        """Call an API with a token. Raises `RefusedByApi`."""
        answer = requests.request(method, url, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT, **sent)
        if not answer.ok:
            raise RefusedByApi(answer)
        return dict(answer.json())
