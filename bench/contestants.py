"""Who is measured: Deputy as `deputy serve` runs it, oidc-provider on node, and Authlib with SQL.

Each starts itself, says which process serves and which stand beside it, and builds the requests of an operation.
Everything that can be the same is: ES256, client authentication, keep-alive, loopback, the core, SQLite for those with
SQL, a Valkey of one's own with the same options for those with Redis.
"""

import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from joserfc import jwt
from joserfc.jwk import ECKey
from load import Load, drive, post
from machine import Child, Cores, command_of, free_port, listens, node_of, tree, wait_for

HERE = Path(__file__).resolve().parent
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CC, XCHG, INTROSPECT, REVOKE, FIRST = "client_credentials", "exchange", "introspection", "revocation", "first-use"
OPERATIONS = (CC, XCHG, INTROSPECT, REVOKE)
EXTRA = (FIRST,)
SUBJECTS = 100
PEOPLE = 20
"""Subject tokens in rotation."""
INTROSPECTED = 1000
"""Tokens in rotation that are asked about; a first look at each is part of the warm-up."""
CONNECTIONS = 16


class Missing(Exception):
    """A peer that cannot be had on this machine."""


@dataclass(frozen=True)
class Caller:
    """A client, and how it proves itself: by a secret, or by an assertion that is new with each request."""

    client_id: str
    secret: str = field(default="", repr=False)
    key: ECKey | None = field(default=None, repr=False)

    def bodies(self, issuer: str, forms: list[dict[str, str]], count: int) -> list[str]:
        """Form bodies, by rotation over `forms`: as many as there are forms, or `count` where each needs its own assertion."""
        if self.key is None:
            return [urlencode(form) for form in forms]
        now = int(time.time())
        claims = {"iss": self.client_id, "sub": self.client_id, "aud": issuer, "iat": now, "exp": now + 240}
        header = {"alg": "ES256", "kid": self.key.kid}
        encoded = [urlencode(form) for form in forms]
        prefix = urlencode({"client_assertion_type": ASSERTION}) + "&client_assertion="
        return [
            f"{encoded[i % len(encoded)]}&{prefix}{jwt.encode(header, claims | {'jti': secrets.token_hex(12)}, self.key)}"
            for i in range(count)
        ]

    @property
    def headers(self) -> dict[str, str]:
        if self.key is not None:
            return {}
        return {"Authorization": "Basic " + base64.b64encode(f"{self.client_id}:{self.secret}".encode()).decode()}

    def registration(self) -> dict[str, object]:
        """As RFC 7591 has it."""
        if self.key is None:
            return {"client_id": self.client_id, "client_secret": self.secret, "token_endpoint_auth_method": "client_secret_basic"}
        public = self.key.as_dict(private=False) | {"kid": self.key.kid, "use": "sig", "alg": "ES256"}
        return {
            "client_id": self.client_id,
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": "ES256",
            "jwks": {"keys": [public]},
        }


def new_key() -> ECKey:
    key = ECKey.generate_key("P-256")
    return ECKey.import_key(key.as_dict(private=True) | {"kid": key.thumbprint(), "use": "sig", "alg": "ES256"})


class Ends(NamedTuple):
    """Where a server does what."""

    token: str
    introspect: str
    revoke: str


class Contestant:
    """One server. `auth`: `secret` or `key`."""

    name: str
    ends: Ends
    issuer: str
    port: int

    def __init__(self, work: Path, cores: Cores, auth: str) -> None:
        self.work = work
        self.cores = cores
        self.auth = auth
        self.children: list[Child] = []
        self.caller: Caller
        self.introspector: Caller

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        for child in reversed(self.children):
            child.stop()

    def say_how_it_is(self) -> None:
        """What is left of it, when something went wrong."""
        for child in self.children:
            state = "lives" if child.alive else "has ended"
            print(f"{self.name}, {child.log.name}: {state}\n{child.tail()}".rstrip(), file=sys.stderr)

    @property
    def serving(self) -> int:
        """The process whose tree does the work."""
        raise NotImplementedError

    @property
    def beside(self) -> dict[str, int]:
        """Processes that do part of it on the other core."""
        return {}

    def version(self) -> str:
        raise NotImplementedError

    # What differs from server to server

    def own_form(self) -> dict[str, str]:
        """A client_credentials request for a JWT."""
        raise NotImplementedError

    def exchange_forms(self) -> list[dict[str, str]]:
        """Exchanges, over fresh subject tokens."""
        raise NotImplementedError

    def tokens(self, count: int) -> list[str]:
        """As many fresh tokens that can be introspected and revoked."""
        raise NotImplementedError

    # What does not

    def load(self, operation: str, count: int) -> Load:
        """The requests of an operation, about `count` where each is good only once."""
        if operation in {CC, XCHG}:
            forms = [self.own_form()] if operation == CC else self.exchange_forms()
            return self._load(self.ends.token, self.caller, forms, count, expect=b'"access_token"')
        if operation == REVOKE:
            forms = [{"token": token} for token in self.tokens(count)]
            return self._load(self.ends.revoke, self.caller, forms, len(forms), total=len(forms))
        tokens = self.tokens(count if operation == FIRST else INTROSPECTED)
        total = len(tokens) if operation == FIRST else None
        return self._load(self.ends.introspect, self.introspector, [{"token": t} for t in tokens], count, total=total, expect=b"true")

    def _load(
        self,
        path: str,
        caller: Caller,
        forms: list[dict[str, str]],
        count: int,
        *,
        total: int | None = None,
        expect: bytes = b"",
        keep: bool = False,
    ) -> Load:
        requests = [post(path, body, caller.headers) for body in caller.bodies(self.issuer, forms, count)]
        if caller.key is not None:
            total = len(requests)
        return Load(requests, total, expect, keep)

    def issue(self, forms: list[dict[str, str]], count: int) -> list[str]:
        """Have `count` tokens issued, quickly. Raises RuntimeError when it does not go."""
        load = self._load(self.ends.token, self.caller, forms, count, total=count, expect=b'"access_token"', keep=True)
        outcome = drive(self.port, load, seconds=120, connections=CONNECTIONS, core=self.cores.other)
        if len(outcome.tokens) < count:
            raise RuntimeError(f"{self.name}: {len(outcome.tokens)} of {count} tokens, wrong answers: {outcome.wrong}")
        return outcome.tokens

    def ask(self, path: str, form: dict[str, str], caller: Caller) -> tuple[int, bytes]:
        """One request, outside any measurement."""
        body = caller.bodies(self.issuer, [form], 1)[0]
        headers = {"Content-Type": "application/x-www-form-urlencoded", **caller.headers}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body.encode(), headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def check(self) -> None:
        """Once through the life of a token: alive, then given back, then dead. Raises RuntimeError."""
        (token,) = self.tokens(1)
        for step, want in ((None, True), ({"token": token}, False)):
            if step is not None and (status := self.ask(self.ends.revoke, step, self.caller)[0]) != 200:
                raise RuntimeError(f"{self.name}: revocation answered {status}")
            status, body = self.ask(self.ends.introspect, {"token": token}, self.introspector)
            if status != 200 or json.loads(body).get("active") is not want:
                raise RuntimeError(f"{self.name}: a token that should be {'alive' if want else 'dead'}: {status} {body[:300]!r}")


def valkey(folder: Path) -> tuple[Child, Path]:
    """A Valkey with the options that Deputy gives its own."""
    from app.cli.embedded import embedded_command, embedded_socket
    from app.settings import load_settings

    folder.mkdir(parents=True, exist_ok=True)
    settings = load_settings(var_dir=folder)
    child = Child(embedded_command(settings), folder / "out.log")
    path = embedded_socket(settings)
    wait_for(child, path.exists, "Valkey")
    return child, path


class OidcProvider(Contestant):
    """node oidc-provider, its state in Redis."""

    name = "oidc-provider"
    ends = Ends("/token", "/token/introspection", "/token/revocation")
    _resource = "https://api.jwt.example"
    _opaque = "https://api.opaque.example"

    def start(self) -> None:
        folder = _installed()
        node = node_of(folder)
        if node is None:
            raise Missing("there is no node")
        self._node = node
        store, path = valkey(self.work / "oidc-valkey")
        self.children.append(store)
        self._store = store
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        by_secret, by_key = Caller("caller", secrets.token_urlsafe(32)), Caller("caller-key", key=new_key())
        self.caller = by_key if self.auth == "key" else by_secret
        # Whoever asks about tokens does so with a secret everywhere: Deputy's resources have no other way.
        self.introspector = by_secret
        setup = self.work / "oidc-setup.json"
        setup.write_text(
            json.dumps(
                {
                    "key": new_key().as_dict(private=True),
                    "callers": [by_secret.registration(), by_key.registration()],
                    "resource": self._resource,
                    "opaque": self._opaque,
                }
            )
        )
        env = {"PORT": str(self.port), "REDIS": str(path), "SETUP": str(setup), "NODE_ENV": "production"}
        self._server = Child([node, str(folder / "server.mjs")], self.work / "oidc.log", env=env, cwd=folder)
        self.children.append(self._server)
        wait_for(self._server, lambda: listens(self.port), self.name)
        self.cores.serve(self._server.pid)

    @property
    def serving(self) -> int:
        return self._server.pid

    @property
    def beside(self) -> dict[str, int]:
        return {"valkey": self._store.pid}

    def version(self) -> str:
        node = subprocess.run([self._node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        package = json.loads((_peers() / "oidc-provider/node_modules/oidc-provider/package.json").read_text())
        return f"oidc-provider {package['version']} on node {node.removeprefix('v')}, ioredis"

    def own_form(self) -> dict[str, str]:
        return {"grant_type": "client_credentials", "scope": "read", "resource": self._resource}

    def exchange_forms(self) -> list[dict[str, str]]:
        more = {"grant_type": EXCHANGE, "subject_token_type": ACCESS_TOKEN, "resource": self._resource, "scope": "read"}
        return [{**more, "subject_token": token} for token in self.tokens(SUBJECTS)]

    def tokens(self, count: int) -> list[str]:
        # Its JWTs are kept nowhere and can be neither introspected nor revoked; opaque ones can.
        return self.issue([{"grant_type": "client_credentials", "scope": "read", "resource": self._opaque}], count)


def _peers() -> Path:
    return HERE / ".peers"


def _installed() -> Path:
    """The peer's folder with its packages, installed from the lock file when they are not there. Raises Missing."""
    source, folder = HERE / "peers/oidc-provider", _peers() / "oidc-provider"
    folder.mkdir(parents=True, exist_ok=True)
    lock = (source / "package-lock.json").read_bytes()
    shutil.copy(source / "server.mjs", folder)
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_bytes() == lock:
        return folder
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("there is no npm to install it with")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(source / name, folder)
    print("Installing oidc-provider into bench/.peers …", flush=True)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise Missing(f"npm could not install it: {(done.stderr or done.stdout).strip()[-300:]}")
    stamp.write_bytes(lock)
    return folder


GUNICORN = ("--worker-class=gthread", "--workers=1", "--threads=4", "--keep-alive=15", "--timeout=30", "--log-level=warning")
"""What Deputy's own gunicorn is given, for the peer that runs under one too."""


class AuthlibSQL(Contestant):
    """Authlib and Flask-SQLAlchemy as their documentation puts them together, under the same gunicorn."""

    name = "Authlib + SQL"
    ends = Ends("/oauth/token", "/oauth/introspect", "/oauth/revoke")

    def start(self) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        by_secret, by_key = Caller("caller", secrets.token_urlsafe(32)), Caller("caller-key", key=new_key())
        self.caller = by_key if self.auth == "key" else by_secret
        self.introspector = by_secret
        setup = self.work / "authlib-setup.json"
        callers = [by_secret.registration(), by_key.registration()]
        key = new_key().as_dict(private=True)
        setup.write_text(json.dumps({"key": key, "callers": callers, "resource": "https://api.example"}))
        env = {
            "PEER_DATABASE": f"sqlite:///{self.work / 'authlib.sqlite'}",
            "PEER_SETUP": str(setup),
            "PEER_ISSUER": self.issuer,
            # Authlib refuses plain HTTP otherwise; here it never leaves the loopback.
            "AUTHLIB_INSECURE_TRANSPORT": "1",
        }
        folder = HERE / "peers"
        subprocess.run([sys.executable, "authlib_sql.py"], cwd=folder, env={**os.environ, **env}, check=True)
        command = [sys.executable, "-m", "gunicorn", "authlib_sql:app", f"--bind=127.0.0.1:{self.port}", "--no-control-socket", *GUNICORN]
        self._server = Child(command, self.work / "authlib.log", env=env, cwd=folder)
        self.children.append(self._server)
        wait_for(self._server, lambda: listens(self.port) and len(tree(self._server.pid)) > 1, self.name)
        time.sleep(1.0)
        self.cores.serve(self._server.pid)

    @property
    def serving(self) -> int:
        return self._server.pid

    def version(self) -> str:
        from importlib.metadata import version

        return ", ".join(f"{name} {version(name)}" for name in ("Authlib", "SQLAlchemy", "Flask", "gunicorn", "joserfc")) + ", SQLite (WAL)"

    def own_form(self) -> dict[str, str]:
        return {"grant_type": "client_credentials", "scope": "read"}

    def exchange_forms(self) -> list[dict[str, str]]:
        more = {"grant_type": EXCHANGE, "subject_token_type": ACCESS_TOKEN, "scope": "read"}
        return [{**more, "subject_token": token} for token in self.tokens(SUBJECTS)]

    def tokens(self, count: int) -> list[str]:
        return self.issue([self.own_form()], count)


class Deputy(Contestant):
    """A whole node as `deputy serve` starts it, but for one worker: liveness, records, limits and relay are on."""

    name = "Deputy"
    ends = Ends("/oauth/token", "/oauth/introspect", "/oauth/revoke")

    def start(self) -> None:
        from app.settings import load_settings
        from app.wiring import build
        from tests.world import OverHttp, World

        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        var = self.work / "var"
        environment = {
            "DEPUTY_PORT": str(self.port),
            "DEPUTY_VAR_DIR": str(var),
            "DEPUTY_KEYS_DIR": str(self.work / "keys"),
            "DEPUTY_WORKERS": "1",
            "DEPUTY_ALLOW_AGENT_SECRETS": "1",
            # Counted like in production, only never reached.
            "DEPUTY_RATE_CLIENT": "1000000000",
            "DEPUTY_RATE_ADDRESS": "1000000000",
        }
        os.environ.update(environment)
        self._node = Child([sys.executable, "-m", "app", "serve"], self.work / "deputy.log", cwd=HERE.parent)
        self.children.append(self._node)
        wait_for(self._node, self._ready, self.name)
        # A tree names parents first: the gunicorn found first is the arbiter, whose tree has the worker.
        parts = {part: pid for pid in reversed(tree(self._node.pid)) for part in ("valkey", "relay", "gunicorn") if _is(part, pid)}
        self._web, self._beside = parts.pop("gunicorn"), parts
        self.cores.serve(self._web)
        self._server = build(load_settings())
        self._world = World(self._server, OverHttp(self.issuer))
        self._people()

    def _ready(self) -> bool:
        with suppress(OSError):
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            return opener.open(f"{self.issuer}/readyz", timeout=2).status == 200
        return False

    def _people(self) -> None:
        """Twenty people, an agent of one of them, three APIs; they consent, and the agent's requests find the consents standing."""
        world = self._world
        self._apis = [world.resource("read", "write") for _ in range(3)]
        pairs = [(api, scope) for api in self._apis for scope in ("read", "write")]
        human = world.human()
        own = [(self._apis[0], "read")]
        if self.auth == "key":
            self._agent = world.agent(human, ceiling=pairs, own=own)
            key = ECKey.import_key(self._agent.key.as_dict(private=True) | {"kid": self._agent.key.thumbprint()})
            self.caller = Caller(self._agent.client_id, key=key)
        else:
            self._agent = world.agent(human, ceiling=pairs, own=own, auth="client_secret_basic", jwks=None)
            self.caller = Caller(self._agent.client_id, self._agent.secret)
        api = self._apis[0]
        self.introspector = Caller(api.client_id, api.client_secret)
        self._browsers = cycle([world.signed_in(one) for one in (human, *(world.human() for _ in range(PEOPLE - 1)))])

    @property
    def serving(self) -> int:
        return self._web

    @property
    def beside(self) -> dict[str, int]:
        return self._beside

    def version(self) -> str:
        with suppress(OSError, subprocess.CalledProcessError):
            git = ["git", "-C", str(HERE.parent), "describe", "--always", "--dirty", "--exclude=*"]
            return f"commit {subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()}, SQLite and Valkey embedded"
        return "SQLite and Valkey embedded"

    def own_form(self) -> dict[str, str]:
        return {"grant_type": "client_credentials", "scope": "read", "resource": self._apis[0].uri}

    def exchange_forms(self) -> list[dict[str, str]]:
        """A hand-over token of a code for three APIs, narrowed to one of them and one scope."""
        more = {"grant_type": EXCHANGE, "subject_token_type": ACCESS_TOKEN, "resource": self._apis[0].uri, "scope": "read"}
        return [{**more, "subject_token": token} for token in self._subjects()]

    def tokens(self, count: int) -> list[str]:
        return self.issue(self.exchange_forms(), count)

    def _subjects(self) -> list[str]:
        return [self._subject() for _ in range(SUBJECTS)]

    def _subject(self, attempts: int = 5) -> str:
        """One hand-over token. Deputy may say 503 while the machine is very busy; then again, as a caller would."""
        try:
            return self._world.consented(next(self._browsers), self._agent, *self._apis)["access_token"]
        except AssertionError:
            if attempts == 1:
                raise
            time.sleep(0.5)
            return self._subject(attempts - 1)

    def records(self) -> dict[str, int]:
        """Records in the ledger by event, once the relay has taken all of them."""
        from sqlalchemy import func, select

        from app.ledger.models import EntryRow

        before: dict[str, int] = {}
        while True:
            time.sleep(1.0)
            with self._server.database.reading() as session:
                rows = session.execute(select(EntryRow.event, func.count()).group_by(EntryRow.event)).all()
            found = {row[0]: row[1] for row in rows}
            if found == before:
                return found
            before = found


class DeputyWithPolicies(Deputy):
    """The same node with ten policies in force, of which each exchange is asked about and none forbids it."""

    name = "Deputy, 10 policies"

    def _people(self) -> None:
        super()._people()
        from app.audit.events import Who
        from app.policy.ready import ready_made

        texts = {one.name: one.text for one in ready_made()} | {f"house-rule-{n}": text for n, text in enumerate(HOUSE_RULES, 1)}
        for name, text in texts.items():
            self._server.policies.add(name, text, owner="hum_bench", rule="A rule of the bench", by=Who(operator="bench"))
            self._server.policies.activate(name, None, by=Who(operator="bench"))


HOUSE_RULES = (
    'forbid (principal, action, resource is Resource) when { context.away && resource.labels.contains("personnel") };',
    'forbid (principal, action, resource) when { context.sign_in_age > 604800 && context.labels.contains("payment-approve") };',
    "forbid (principal, action, resource) when { context.depth > 3 };",
    'forbid (principal, action == Action::"hand_over", resource) when { context.touched.contains("confidential") };',
    'forbid (principal, action, resource) when { (context.hour < 6 || context.weekday > 5) && context.labels.contains("finance") };',
    'forbid (principal, action, resource is Resource) when { context.first_time && context.task.age > 86400 && resource.labels.contains("secret") };',
    '@ask("approval") forbid (principal, action, resource) when { context.combined.containsAll(["hr-data", "external-send"]) };',
)
"""With the ready-made ones, ten; of the kinds that a house would have."""


def _is(part: str, pid: int) -> bool:
    command = command_of(pid).split()
    match part:
        case "valkey":
            return bool(command) and "valkey" in Path(command[0]).name
        case "relay":
            return "relay" in command
        case _:
            return "gunicorn" in command or any("gunicorn" in word for word in command[:2])
