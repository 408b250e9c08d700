"""A key that somebody holds, and the DPoP proofs made with it (RFC 9449 §4.2)."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Mapping
from typing import Any

from app.keys.jwk import thumbprint
from app.vocabulary import SigningAlg
from tests.forge import forge, pair
from tests.world import ACCESS_TOKEN, EXCHANGE, Answer, Form, Party, World

TOKEN = "/oauth/token"


class Holder:
    """Holds one key."""

    def __init__(self, alg: SigningAlg = SigningAlg.ES256) -> None:
        self.alg = alg
        self.key, _, self.jwk = pair(alg)
        self.jkt = thumbprint(self.jwk)

    def proof(self, world: World, path: str = TOKEN, header: Mapping[str, Any] | None = None, **changed: Any) -> str:
        """A proof for a POST there; what is `...` is left out."""
        head = {"typ": "dpop+jwt", "alg": self.alg.value, "jwk": dict(self.jwk), **(header or {})}
        claims = {"htm": "POST", "htu": world.issuer + path, "iat": int(time.time()), "jti": secrets.token_urlsafe(12), **changed}
        return forge(left(head), left(claims), self.key)


def left(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not ...}


def ath(token: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()


def ask(world: World, client: Party, form: Form, proof: str | Holder | None = None, path: str = TOKEN) -> Answer:
    """Send a form as that client, with a proof, or with a fresh one of that holder."""
    members, headers = world.credentials(client)
    if proof is not None:
        headers = {**headers, "DPoP": proof if isinstance(proof, str) else proof.proof(world, path)}
    pairs = list(form.items()) if isinstance(form, Mapping) else list(form)
    return world.post(path, [*pairs, *members.items()], headers)


def own(world: World, client: Party, proof: str | Holder | None = None, **form: str) -> Answer:
    return ask(world, client, {"grant_type": "client_credentials", **form}, proof)


def exchange(
    world: World, client: Party, subject_token: str, proof: str | Holder | None = None, kind: str = ACCESS_TOKEN, **form: str
) -> Answer:
    return ask(world, client, {"grant_type": EXCHANGE, "subject_token": subject_token, "subject_token_type": kind, **form}, proof)


def redeem(world: World, client: Party, code: str, verifier: str, proof: str | Holder | None = None, **form: str) -> Answer:
    members = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": client.redirect_uri}
    return ask(world, client, {**members, **form}, proof)


def refresh(world: World, client: Party, refresh_token: str, proof: str | Holder | None = None, **form: str) -> Answer:
    return ask(world, client, {"grant_type": "refresh_token", "refresh_token": refresh_token, **form}, proof)
