"""A running copy of an agent with no stored secret: it makes a key, has it registered, and works with that. One file, to be copied.

    python instance.py https://as.example --github --resource https://calendar.example [--call https://calendar.example/…]

`--github` inside a GitHub Actions job with `permissions: id-token: write`; `--file PATH` where the platform writes its word into a
file (a Kubernetes service account token, a SPIFFE JWT-SVID); `--code` for a code of `deputy agent enrol`, read from standard input.
Needs requests and joserfc.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any

import requests
from joserfc import jwt
from joserfc.jwk import ECKey

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TIMEOUT = 10


class Instance:
    """One running copy. Its key is in memory, and nowhere else."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.key = ECKey.generate_key("P-256")
        self.told: dict[str, Any] = {}
        self.nonce: str | None = None

    def attested(self, word: str) -> None:
        """Register with the word of the platform that runs it (RFC 7523 §2.1)."""
        self.told = self._send("/oauth/token", lambda: {"data": {"grant_type": JWT_BEARER, "assertion": word}})

    def enrolled(self, code: str) -> None:
        """Register with a one-time code."""
        self.told = self._send("/agents/instances", lambda: {"json": {"enrolment_code": code}})

    def token(self, **form: str) -> dict[str, Any]:
        """A token, bound to its key: `client_credentials`, or any other grant its agent may use."""
        return self._send("/oauth/token", lambda: {"data": {"grant_type": "client_credentials", **self._assertion(), **form}})

    def call(self, method: str, url: str, token: str) -> requests.Response:
        """Call an API with a token of its own (RFC 9449 §7)."""
        return self._proving(method, url, lambda: {"headers": {"Authorization": "DPoP " + token}}, token)

    def done(self) -> None:
        """End itself, and all it got."""
        _answer(self.call("POST", f"{self.server}/agents/instances/{self.told['instance_id']}/end", self.token()["access_token"]))

    def _send(self, path: str, making: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return _answer(self._proving("POST", self.server + path, making))

    def _proving(self, method: str, url: str, making: Callable[[], dict[str, Any]], token: str | None = None) -> requests.Response:
        """Send what is made for it, with a proof; once more with the nonce that was asked for (RFC 9449 §8)."""
        for last in (False, True):
            sent = making()
            headers = {**sent.pop("headers", {}), "DPoP": self.proof(method, url, token)}
            answer = requests.request(method, url, headers=headers, timeout=TIMEOUT, **sent)
            nonce, self.nonce = self.nonce, answer.headers.get("DPoP-Nonce", self.nonce)
            if last or answer.ok or nonce == self.nonce:
                break
        return answer

    def _assertion(self) -> dict[str, str]:
        """`private_key_jwt` (RFC 7523 §2.2): one for each request."""
        client, now = self.told["client_id"], int(time.time())
        claims = {"iss": client, "sub": client, "aud": self.server, "iat": now, "exp": now + 60, "jti": secrets.token_urlsafe(16)}
        signed = jwt.encode({"alg": "ES256", "kid": self.told["kid"]}, claims, self.key)
        return {"client_assertion_type": ASSERTION, "client_assertion": signed}

    def proof(self, method: str, url: str, token: str | None = None) -> str:
        """A DPoP proof for one request (RFC 9449 §4.2)."""
        header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": self.key.as_dict(private=False)}
        claims: dict[str, Any] = {"htm": method, "htu": url.partition("?")[0], "iat": int(time.time()), "jti": secrets.token_urlsafe(16)}
        if self.nonce is not None:
            claims["nonce"] = self.nonce
        if token is not None:
            claims["ath"] = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).rstrip(b"=").decode()
        return jwt.encode(header, claims, self.key)


def github(server: str) -> str:
    """What GitHub says of this job, for this server alone."""
    url, bearer = os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"], os.environ["ACTIONS_ID_TOKEN_REQUEST_TOKEN"]
    said = requests.get(url, params={"audience": server}, headers={"Authorization": "Bearer " + bearer}, timeout=TIMEOUT)
    return str(_answer(said)["value"])


def from_file(path: str) -> str:
    """The word in a file: the token itself, or what `spire-agent api fetch jwt -output json` prints."""
    with open(path, encoding="utf-8") as file:
        text = file.read().strip()
    return str(json.loads(text)[0]["svids"][0]["svid"]) if text.startswith("[") else text


def _answer(answer: requests.Response) -> dict[str, Any]:
    if not answer.ok:
        sys.exit(f"{answer.url}: {answer.status_code} {answer.text[:300]}")
    return dict(answer.json())


def main() -> None:
    """Register, take a token for an API, call it, and be gone."""
    asked = argparse.ArgumentParser(description="A running copy of an agent.")
    asked.add_argument("server", help="the issuer, exactly as it is spelled")
    how = asked.add_mutually_exclusive_group(required=True)
    how.add_argument("--github", action="store_true")
    how.add_argument("--file")
    how.add_argument("--code", action="store_true")
    asked.add_argument("--resource", required=True)
    asked.add_argument("--scope")
    asked.add_argument("--call", metavar="URL")
    given = asked.parse_args()
    instance = Instance(given.server)
    if given.code:
        instance.enrolled(sys.stdin.readline().strip())
    else:
        instance.attested(github(given.server) if given.github else from_file(given.file))
    form = {"resource": given.resource} | ({"scope": given.scope} if given.scope else {})
    token = instance.token(**form)
    print(f"{instance.told['instance_id']} has {token['scope']} at {given.resource} for {token['expires_in']} s")
    if given.call:
        answer = instance.call("GET", given.call, token["access_token"])
        print(answer.status_code, answer.text[:1000])
    instance.done()


if __name__ == "__main__":
    main()
