"""Platforms that attest workloads: each with keys of its own, and tokens as GitHub, Kubernetes and SPIFFE write them."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from app.keys.jwk import thumbprint
from app.vocabulary import SigningAlg
from tests.copies import Copy
from tests.dpop import left
from tests.forge import forge, pair
from tests.world import BY, Answer, Party, World

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Issuer:
    """One platform."""

    def __init__(self, name: str = "", alg: SigningAlg = SigningAlg.RS256, **jwk: Any) -> None:
        self.name = name or f"https://issuer-{secrets.token_hex(4)}.example"
        self.alg = alg
        self.key, _, public = pair(alg, **jwk)
        self.jwk = {**public, **jwk}
        self.kid = str(self.jwk.get("kid", ""))

    @property
    def jwks(self) -> dict[str, Any]:
        return {"keys": [self.jwk]}

    def says(self, world: World, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A token of a job. What is `...` is left out."""
        now = int(time.time())
        head = {"typ": "JWT", "alg": self.alg.value, "kid": self.kid, **(header or {})}
        body = {
            "iss": self.name, "aud": world.issuer, "sub": "repo:acme/agents:ref:refs/heads/main", "repository": "acme/agents",
            "iat": now, "nbf": now, "exp": now + 300, "jti": secrets.token_urlsafe(12), **claims,
        }  # fmt: skip
        return forge(left(head), left(body), self.key)

    def trusted(self, world: World, agent: Party, **asked: Any) -> str:
        """Take its word for that agent. Gives the trust's id."""
        claims = asked.pop("claims", {"repository": "acme/agents"})
        if "jwks_uri" not in asked:
            asked.setdefault("jwks", self.jwks)
        return world.server.trusts.add(self.name, agent.client_id, claims=claims, by=BY, **asked).id


def attest(world: World, assertion: str, copy: Copy | None = None, proof: str | None = None, **form: str) -> Answer:
    """What a workload sends: the word of its platform, and the proof of its key."""
    copy = copy or Copy()
    headers = {"DPoP": proof or copy.proof(world)}
    return world.post("/oauth/token", {"grant_type": JWT_BEARER, "assertion": assertion, **form}, headers)


def born(world: World, issuer: Issuer, **claims: Any) -> Copy:
    """A copy that its platform attested."""
    copy = Copy()
    copy.told = attest(world, issuer.says(world, **claims), copy).ok()
    return copy


@contextmanager
def served(document: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The document as JSON at a loopback address, and the paths that were asked for. Change it while it is served."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/keys", asked
        finally:
            server.shutdown()
            thread.join()


__all__ = ["JWT_BEARER", "Issuer", "attest", "born", "served", "thumbprint"]
