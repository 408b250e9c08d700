"""A world to test in: people, agents, applications and APIs, and the protocol spoken over HTTP as they would speak it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from typing import Any, Protocol
from urllib.parse import parse_qs, urlencode, urlsplit

import requests
from flask import Flask
from joserfc import jwt
from joserfc.jwk import ECKey

from app import create_app
from app.audit.events import Who
from app.database import db
from app.settings import Settings
from app.vocabulary import Pair, Role
from app.wiring import Server

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
JWT = "urn:ietf:params:oauth:token-type:jwt"
CONSENT = "urn:deputy:params:oauth:token-type:consent"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
PASSWORD = "correct horse battery staple"
BY = Who(operator="test")
REDIRECT = "https://agent.example/callback"

Form = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def error(self) -> str | None:
        return self.json.get("error")

    def ok(self) -> dict[str, Any]:
        assert self.status == 200, (self.status, self.body[:500])
        return self.json


class Http(Protocol):
    """One caller with its own cookies."""

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer: ...
    def fresh(self) -> Http: ...


@contextmanager
def worker(settings: Settings) -> Iterator[Flask]:
    """An application in this process: one worker, with a memory of its own."""
    made = create_app(settings)
    yield made
    with made.app_context():
        db.engine.dispose()


class InProcess:
    """Through the WSGI application, in this process."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._client = app.test_client()

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        response = self._client.open(path, method=method, data=body, headers=dict(headers))
        return Answer(response.status_code, response.headers, response.data)

    def fresh(self) -> Http:
        return InProcess(self._app)


class OverHttp:
    """Over a socket, to a running server."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._session = requests.Session()
        self._session.trust_env = False

    def send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        response = self._session.request(method, self._base + path, data=body, headers=dict(headers), allow_redirects=False, timeout=30)
        return Answer(response.status_code, response.headers, response.content)

    def fresh(self) -> Http:
        return OverHttp(self._base)


def again(ask: Callable[[], Answer], times: int = 10, pause: float = 0.0) -> Answer:
    """As a caller does who is told to come again (503): at most so many times, so many seconds apart. Gives the last answer."""
    for _ in range(times - 1):
        answer = ask()
        if answer.status != 503:
            return answer
        time.sleep(pause)
    return ask()


def encoded(form: Form) -> bytes:
    return urlencode(list(form.items()) if isinstance(form, Mapping) else list(form)).encode()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": "Bearer " + token}


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


def header_of(token: str) -> dict[str, Any]:
    payload = token.split(".", maxsplit=1)[0]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


@dataclass(frozen=True)
class Person:
    id: str
    username: str


@dataclass(frozen=True)
class Api:
    uri: str
    id: str
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True)
class Party:
    """An agent or application, with what it proves itself by."""

    client_id: str
    key: ECKey | None = field(repr=False, default=None)
    secret: str | None = field(repr=False, default=None)
    id: str = ""
    uri: str = ""
    redirect_uri: str = REDIRECT


class World:
    """Registers things and speaks the protocol."""

    __test__ = False

    def __init__(self, server: Server, http: Http) -> None:
        self.server = server
        self.http = http
        self.issuer = server.settings.issuer

    # Who and what there is

    def human(self, *, operator: bool = False, auditor: bool = False) -> Person:
        username = "human-" + secrets.token_hex(4)
        role = Role.OPERATOR if operator else Role.AUDITOR if auditor else Role.MEMBER
        human_id = self.server.accounts.add(username, f"Name of {username}", f"{username}@example.com", PASSWORD, role=role, by=BY)
        return Person(human_id, username)

    def resource(self, *scopes: str, **more: Any) -> Api:
        uri = more.pop("uri", f"https://api-{secrets.token_hex(4)}.example")
        made = self.server.resource_registry.add(
            uri, name=more.pop("name", "An API"), scopes={scope: f"Do {scope}" for scope in scopes or ("read",)}, by=BY, **more
        )
        return Api(uri, made.id, made.client_id, made.client_secret)

    def agent(
        self,
        owner: Person,
        *,
        ceiling: Iterable[tuple[Api, str]] = (),
        own: Iterable[tuple[Api, str]] = (),
        hands_to: Iterable[Party] = (),
        **more: Any,
    ) -> Party:
        key = ECKey.generate_key("P-256")
        public = key.as_dict(private=False) | {"kid": key.thumbprint(), "use": "sig", "alg": "ES256"}
        made = self.server.agent_registry.add(
            more.pop("name", "Agent " + secrets.token_hex(3)),
            owner=owner.id,
            purpose=more.pop("purpose", "Tests things"),
            ceiling=frozenset(Pair(resource.uri, scope) for resource, scope in ceiling),
            own=frozenset(Pair(resource.uri, scope) for resource, scope in own),
            hands_to=frozenset(agent.id for agent in hands_to),
            redirect_uris=more.pop("redirect_uris", (REDIRECT,)),
            jwks=more.pop("jwks", {"keys": [public]}),
            by=BY,
            **more,
        )
        return Party(made.client_id, key=key, id=made.id, uri=made.uri, secret=made.client_secret)

    def app(self, *, pairs: Iterable[tuple[Api, str]] = (), auth: str = "client_secret_basic", **more: Any) -> Party:
        made = self.server.apps.add(
            more.pop("name", "App " + secrets.token_hex(3)),
            redirect_uris=more.pop("redirect_uris", (REDIRECT,)),
            auth=auth,
            pairs=frozenset(Pair(resource.uri, scope) for resource, scope in pairs),
            by=BY,
            **more,
        )
        return Party(made.client_id, secret=made.client_secret)

    # The wire

    def post(self, path: str, form: Form, headers: Mapping[str, str] | None = None) -> Answer:
        sent = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
        return self.http.send("POST", path, encoded(form), sent)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return self.http.send("GET", path, None, headers or {})

    def assertion(self, client: Party, **claims: Any) -> str:
        assert client.key is not None
        now = int(time.time())
        body = {
            "iss": client.client_id, "sub": client.client_id, "aud": self.issuer,
            "iat": now, "exp": now + 60, "jti": secrets.token_urlsafe(12), **claims,
        }  # fmt: skip
        body = {name: value for name, value in body.items() if value is not None}
        return jwt.encode({"alg": "ES256", "kid": client.key.thumbprint()}, body, client.key)

    def credentials(self, client: Party) -> tuple[dict[str, str], dict[str, str]]:
        """Form members and headers that authenticate a client."""
        if client.key is not None and client.secret is None:
            return {"client_assertion_type": ASSERTION, "client_assertion": self.assertion(client)}, {}
        if client.secret is not None:
            return {}, basic(client.client_id, client.secret)
        return {"client_id": client.client_id}, {}

    def token(self, client: Party, form: Form) -> Answer:
        members, headers = self.credentials(client)
        pairs = list(form.items()) if isinstance(form, Mapping) else list(form)
        return self.post("/oauth/token", [*pairs, *members.items()], headers)

    def own_token(self, client: Party, **form: str) -> Answer:
        return self.token(client, {"grant_type": "client_credentials", **form})

    def exchange(self, client: Party, subject_token: str, kind: str = ACCESS_TOKEN, **form: str) -> Answer:
        return self.token(client, {"grant_type": EXCHANGE, "subject_token": subject_token, "subject_token_type": kind, **form})

    def introspect(self, resource: Api, token: str) -> dict[str, Any]:
        return self.post("/oauth/introspect", {"token": token}, basic(resource.client_id, resource.client_secret)).ok()

    def active(self, resource: Api, token: str) -> bool:
        found = self.introspect(resource, token)
        if not found["active"]:
            assert found == {"active": False}
        return bool(found["active"])

    def revoke(self, client: Party, token: str) -> Answer:
        members, headers = self.credentials(client)
        return self.post("/oauth/revoke", {"token": token, **members}, headers)

    # A human at her browser

    def browser(self) -> Browser:
        return Browser(self, self.http.fresh())

    def signed_in(self, human: Person) -> Browser:
        browser = self.browser()
        answer = browser.sign_in(human.username)
        assert answer.status == 303, answer.text
        return browser

    def consented(
        self,
        browser: Browser,
        client: Party,
        *resources: Api | str,
        scope: str | None = None,
        away: bool = False,
        asked: Mapping[str, str] | None = None,
        redeem: Mapping[str, str] | None = None,
        **chosen: Any,
    ) -> dict[str, Any]:
        """From consent to the token endpoint's answer. `asked`: more parameters of the authorization request."""
        verifier = secrets.token_urlsafe(48)
        query = self.authorization(client, verifier, *resources, scope=scope, away=away, **(asked or {}))
        code = browser.code(query, away=away, **chosen)
        return self.redeem(client, code, verifier, **(redeem or {})).ok()

    def authorization(
        self, client: Party, verifier: str, *resources: Api | str, scope: str | None = None, away: bool = False, **more: str
    ) -> list[tuple[str, str]]:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        query = [
            ("response_type", "code"), ("client_id", client.client_id), ("redirect_uri", client.redirect_uri),
            ("state", "xyz"), ("code_challenge", challenge), ("code_challenge_method", "S256"),
        ]  # fmt: skip
        query += [("resource", r if isinstance(r, str) else r.uri) for r in resources]
        if away:
            scope = f"{scope or ''} offline_access".strip()
        if scope is not None:
            query.append(("scope", scope))
        return [*query, *more.items()]

    def redeem(self, client: Party, code: str, verifier: str, **form: str) -> Answer:
        members = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier, "redirect_uri": client.redirect_uri}
        return self.token(client, {**members, **form})

    # What the ledger says

    def opened(self, own_token: str, consent: str, **more: Any) -> str:
        """A named task of an agent."""
        body = json.dumps({"consent_id": consent, "purpose": "A piece of work", **more}).encode()
        answer = again(lambda: self.http.send("POST", "/tasks", body, {**bearer(own_token), "Content-Type": "application/json"}), pause=1)
        assert answer.status == 201, answer.text
        return str(answer.json["task_id"])

    def ended(self, own_token: str, task: str) -> None:
        again(lambda: self.http.send("POST", f"/tasks/{task}/end", None, bearer(own_token)), pause=1).ok()

    def ledger(self, *, wait: float = 60.0, **having: Any) -> list[dict[str, Any]]:
        """Records with these top-level members, once the relay has taken all there is. The limit only catches a relay that stands still."""
        from sqlalchemy import select

        from app.ledger.models import EntryRow

        end = time.monotonic() + wait
        while not self._is_taken() and time.monotonic() < end:
            time.sleep(0.02)
        # The ledger of a whole run is long: what has a column is looked for there.
        which = [
            getattr(EntryRow, name) == value
            for name, value in having.items()
            if name in {"id", "event", "outcome", "jti", "task", "consent"}
        ]
        with self.server.database.reading() as session:
            records = [json.loads(row) for row in session.scalars(select(EntryRow.record).where(*which).order_by(EntryRow.seq))]
        return [record for record in records if all(record.get(name) == value for name, value in having.items())]

    def _is_taken(self) -> bool:
        """Whether nothing is on its way to the ledger."""
        from sqlalchemy import select

        from app.audit.models import OutboxRow
        from app.live.generation import STREAMS

        with self.server.database.reading() as session:
            waiting = session.scalar(select(OutboxRow.id).limit(1))
        return waiting is None and not any(self.server.live.redis.call("XLEN", stream) for stream in STREAMS)


class Browser:
    """A browser without script: it follows what pages say."""

    def __init__(self, world: World, http: Http) -> None:
        self.world = world
        self.http = http

    def get(self, path: str) -> Answer:
        return self.http.send("GET", path, None, {"Accept": "text/html"})

    def post(self, path: str, form: Form) -> Answer:
        return self.http.send("POST", path, encoded(form), {"Content-Type": "application/x-www-form-urlencoded"})

    def sign_in(self, username: str, password: str = PASSWORD, target: str = "/") -> Answer:
        page = self.get("/login?" + urlencode({"next": target}))
        return self.post("/login", [*hidden(page), ("username", username), ("password", password)])

    def authorize(self, query: Sequence[tuple[str, str]]) -> Answer:
        return self.get("/oauth/authorize?" + urlencode(list(query)))

    def decide(
        self,
        page: Answer,
        *,
        allow: bool = True,
        away: bool = False,
        untick: Iterable[str] = (),
        lifetime: int | None = None,
        limits: Mapping[str, str] | None = None,
    ) -> Answer:
        assert page.status == 200, (page.status, page.text[:2000], page.headers)
        form = hidden(page)
        unticked = set(untick)
        form += [("scope", value) for value in checkboxes(page, "scope") if value not in unticked]
        options = [int(value) for value in re.findall(r'<option value="(\d+)"', page.text)]
        if options or lifetime is not None:
            form.append(("lifetime", str(lifetime if lifetime is not None else max(options))))
        if away:
            form += [("away", value) for value in checkboxes(page, "away")]
        form += list({**typed(page), **(limits or {})}.items())
        form.append(("decision", "allow" if allow else "deny"))
        return self.post("/consent", form)

    def code(self, query: Sequence[tuple[str, str]], **chosen: Any) -> str:
        answer = self.authorize(query)
        if answer.status != 303:
            answer = self.decide(answer, **chosen)
        assert answer.status == 303, (answer.status, answer.text[:2000])
        found = parse_qs(urlsplit(answer.headers["Location"]).query)
        assert found["iss"] == [self.world.issuer], answer.headers["Location"]
        assert "code" in found, found
        return found["code"][0]


def hidden(page: Answer) -> list[tuple[str, str]]:
    """Hidden fields of a page's main form, which is its first."""
    main = page.text[page.text.find("<main") :].partition("</form>")[0]
    found = []
    for tag in re.findall(r"<input[^>]*>", main):
        if 'type="hidden"' in tag:
            found.append((unescape(_attribute(tag, "name")), unescape(_attribute(tag, "value"))))
    return found


def typed(page: Answer) -> dict[str, str]:
    """What stands in a page's text fields."""
    tags = re.findall(r"<input[^>]*>", page.text, re.DOTALL)
    return {unescape(_attribute(tag, "name")): unescape(_attribute(tag, "value")) for tag in tags if 'type="text"' in tag}


def checkboxes(page: Answer, name: str) -> list[str]:
    return [
        unescape(_attribute(tag, "value"))
        for tag in re.findall(r"<input[^>]*>", page.text)
        if 'type="checkbox"' in tag and _attribute(tag, "name") == name
    ]


def _attribute(tag: str, name: str) -> str:
    found = re.search(rf'\b{name}="([^"]*)"', tag)
    return found[1] if found else ""
