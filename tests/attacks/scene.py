"""What attacks are tried on: people, agents, applications and APIs, and what an honest one of them holds."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from flask import Flask
from joserfc import jwt

from app import create_app
from app.database import db
from app.keys.signer import sign
from app.settings import Settings, load_settings
from app.vocabulary import SigningAlg
from app.wiring import Server
from tests.world import ACCESS_TOKEN, ASSERTION, Answer, Api, Browser, InProcess, Party, Person, World, basic, claims_of

FORM = "application/x-www-form-urlencoded"
ID_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:id_token"
REFRESH_TYPE = "urn:ietf:params:oauth:token-type:refresh_token"
SAYABLE = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]*")
"""RFC 6749 §5.2: what an error_description may be made of."""
VERIFIER = "v" * 64


@dataclass
class Scene:
    """Alice and Bob, two APIs, an agent with a key, one with a secret, three applications; each made honestly."""

    world: World
    alice: Person
    bob: Person
    api: Api
    other: Api
    agent: Party
    helper: Party
    second: Party
    keyless: Party
    app: Party
    posting: Party
    public: Party
    given: dict[str, Any] = field(repr=False, default_factory=dict)

    @property
    def posting_form(self) -> dict[str, str]:
        """How the application that posts its secret authenticates."""
        return {"client_id": self.posting.client_id, "client_secret": str(self.posting.secret)}

    @property
    def handover(self) -> str:
        """What the agent got for Alice's consent, for both APIs."""
        return str(self.given["access_token"])

    def token(self, **form: str) -> str:
        """A delegated token for the first API."""
        return str(self.world.exchange(self.agent, self.handover, **{"resource": self.api.uri, **form}).ok()["access_token"])

    def raw(self, path: str, body: bytes, headers: Mapping[str, str] | None = None, method: str = "POST") -> Answer:
        """Bytes as they are, as a form unless the headers say otherwise."""
        return self.world.http.send(method, path, body, {"Content-Type": FORM, **(headers or {})})

    def alive(self) -> None:
        """The honest way still works: nothing of what was tried did any harm."""
        assert self.world.own_token(self.agent).status == 200


def set_scene(world: World) -> Scene:
    """Register everybody."""
    alice, bob = world.human(), world.human()
    api, other = world.resource("read", "write"), world.resource("read", "send")
    helper = world.agent(alice, ceiling=[(api, "read")])
    pairs = [(api, "read"), (api, "write"), (other, "read")]
    agent = world.agent(alice, ceiling=pairs, own=[(api, "read")], hands_to=[helper])
    second = world.agent(bob, ceiling=[(api, "read")], own=[(api, "read")])
    keyless = world.agent(bob, ceiling=[(api, "read")], own=[(api, "read")], auth="client_secret_basic", jwks=None)
    app = world.app(pairs=[(api, "read")])
    posting = world.app(auth="client_secret_post")
    public = world.app(pairs=[(api, "read")], auth="none")
    given = world.consented(world.signed_in(alice), agent, api, other, scope="read write", away=True)
    return Scene(world, alice, bob, api, other, agent, helper, second, keyless, app, posting, public, given)


def refused(answer: Answer, error: str, status: int = 400) -> None:
    """An error of the protocol: the code, in RFC 6749's letters, kept by nobody, with nothing else in it."""
    assert (answer.status, answer.error) == (status, error), (answer.status, answer.body)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"
    assert SAYABLE.fullmatch(answer.json["error_description"])
    assert answer.json.keys() <= {"error", "error_description", "audit_id", "layer"}
    if status == 401:
        assert answer.headers["WWW-Authenticate"]


def error_page(answer: Answer, status: int = 400) -> None:
    """A page for a human, and no way on."""
    assert answer.status == status, (answer.status, answer.text[:300])
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "Location" not in answer.headers


def sent_back(answer: Answer, redirect_uri: str, issuer: str) -> dict[str, str]:
    """The parameters of a redirect to the client; each once, `iss` always."""
    assert answer.status == 303, (answer.status, answer.text[:500])
    location = answer.headers["Location"]
    assert location.startswith(redirect_uri + ("&" if "?" in redirect_uri else "?")), location
    found = parse_qs(urlsplit(location).query, strict_parsing=True)
    assert all(len(values) == 1 for values in found.values())
    assert found["iss"] == [issuer]
    return {name: values[0] for name, values in found.items()}


def assertion_of(client: Party, claims: Mapping[str, Any], **header: Any) -> dict[str, str]:
    """Form members with an assertion of exactly these claims, signed with the client's key."""
    assert client.key is not None
    made = jwt.encode({"alg": "ES256", "kid": client.key.thumbprint(), **header}, dict(claims), client.key)
    return {"client_assertion_type": ASSERTION, "client_assertion": made}


def resign(server: Server, token: str, typ: str = "at+jwt", **changed: Any) -> str:
    """The same claims but for some, truly signed by the server's own key: what only a bug could give out."""
    claims = {**claims_of(token), **changed}
    claims = {name: value for name, value in claims.items() if value is not None}
    return sign(claims, typ, server.keys.signing_key(SigningAlg.ES256))


@contextmanager
def another_app(settings: Settings, **changed: Any) -> Iterator[Flask]:
    """The same server under other settings: same SQL, same Redis, another worker."""
    made = create_app(load_settings(**{**settings.model_dump(), **changed}))
    try:
        yield made
    finally:
        with made.app_context():
            db.engine.dispose()


def world_of(server: Server, made: Flask) -> World:
    return World(server, InProcess(made))


def elsewhere(world: World) -> Browser:
    """A browser at an address of its own: its wrong passwords count against nobody else's."""
    browser = world.browser()
    browser.http._client.environ_base["REMOTE_ADDR"] = f"198.18.{secrets.randbelow(256)}.{secrets.randbelow(256)}"  # type: ignore[attr-defined]
    return browser


def unique(prefix: str = "x") -> str:
    return f"{prefix}-{secrets.token_hex(6)}"


def as_json(**members: Any) -> bytes:
    return json.dumps(members).encode()


__all__ = [
    "ACCESS_TOKEN", "FORM", "ID_TOKEN_TYPE", "REFRESH_TYPE", "VERIFIER", "Scene", "another_app", "as_json", "assertion_of", "basic", "elsewhere",
    "error_page", "refused", "resign", "sent_back", "set_scene", "unique", "world_of",
]  # fmt: skip
