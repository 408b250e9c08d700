"""People, agents and an API that do not stop while things break, and a model of what they may be told."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.faults.node import HANG, Node, until
from tests.world import CONSENT, Answer, Api, Browser, OverHttp, Party, Person, World, claims_of

SAME = ("iss", "sub", "act", "scope", "aud", "client_id", "exp", "iat", "jti", "txn", "auth_time", "acr")
"""What the token and the answer about it both say."""

PAUSE = 0.01
"""Seconds between two requests of one thread: continuous, and something is left for the server."""


@dataclass
class Cast:
    """Who takes part: an agent with a secret and a standing consent, one with a key that acts as itself, and an API."""

    node: Node
    world: World
    alice: Person
    browser: Browser
    api: Api
    runner: Party
    keyed: Party
    consent: str = ""
    refresh_token: str = ""

    def renew(self) -> None:
        """A consent for while Alice is away, and a refresh token under it."""
        given = self.world.consented(self.browser, self.runner, self.api, away=True)
        self.consent, self.refresh_token = given["consent_id"], given["refresh_token"]


def cast(node: Node) -> Cast:
    world = node.world()
    alice = world.human()
    api = world.resource("read", "write")
    runner = world.agent(alice, ceiling=[(api, "read"), (api, "write")], auth="client_secret_basic", jwks=None)
    keyed = world.agent(alice, own=[(api, "read")])
    made = Cast(node, world, alice, world.signed_in(alice), api, runner, keyed)
    made.renew()
    return made


@dataclass(eq=False)
class Issued:
    """A token somebody was given, and what is known of its end. Times are of the monotonic clock."""

    token: str
    claims: dict[str, Any]
    at: float
    parent: Issued | None = None
    revoking: float | None = None
    """When somebody first asked for its revocation."""
    revoked: float | None = None
    """When that was acknowledged."""
    seen_dead: float | None = None
    """When somebody had been told that it is not active."""

    @property
    def generation(self) -> int:
        return int(self.claims["deputy"]["g"])

    def line(self) -> Iterator[Issued]:
        one: Issued | None = self
        while one is not None:
            yield one
            one = one.parent


class Lost(Exception):
    """The connection broke: nothing is known of the answer."""


@dataclass
class Load:
    """Threads that issue, exchange, refresh, revoke and introspect; every answer is held against the model."""

    cast: Cast
    wrong: list[str] = field(default_factory=list)
    issued: list[Issued] = field(default_factory=list)
    told: Counter[str] = field(default_factory=Counter)
    unreachable_allowed: bool = False
    """Only while the web process itself is being killed may a connection break."""
    lossy: bool = False
    """While the live state is being lost, a token may die without anybody's doing."""
    lost_until: float = 0.0
    refresh_known: bool = True

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._well: dict[str, float] = {}
        self._newest = 0
        self._random = random.Random(5)

    OPERATIONS = ("own token", "exchange", "child", "refresh", "revoke", "introspect")

    # Running

    @contextmanager
    def running(self) -> Iterator[Load]:
        works: list[Callable[[World], None]] = [
            self._own,
            self._exchange,
            self._exchange,
            self._refresh,
            self._revoke,
            self._ask,
            self._ask,
        ]
        threads = [threading.Thread(target=self._run, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        try:
            self.until_well(0.0)
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(HANG)
        assert not any(thread.is_alive() for thread in threads), "a request hangs"
        self.check()

    def check(self) -> None:
        assert not self.wrong, "\n".join(self.wrong[:10])

    def until_well(self, since: float) -> None:
        """Every operation succeeded, with a request sent after `since`."""

        def well() -> bool:
            self.check()
            return all(self._well.get(name, -1.0) > since for name in self.OPERATIONS if name != "refresh" or self.refresh_known)

        try:
            until(well, "well again")
        except AssertionError as error:
            late = [name for name in self.OPERATIONS if self._well.get(name, -1.0) <= since]
            raise AssertionError(f"{error}; not well: {late}; answers: {dict(self.told)}\n{self.cast.node.said()[-5000:]}") from None

    def settle(self) -> None:
        """Wait until all is well again by itself."""
        self.until_well(time.monotonic())
        if self.lossy:
            self.lost_until, self.lossy = time.monotonic(), False
            self.until_well(self.lost_until)
        self.unreachable_allowed = False

    def _run(self, work: Callable[[World], None]) -> None:
        world = World(self.cast.world.server, OverHttp(self.cast.node.url))
        while not self._stop.is_set():
            try:
                work(world)
            except Lost:
                pass
            except Exception:
                self._say(traceback.format_exc())
            self._stop.wait(PAUSE)

    # The work

    def _own(self, world: World) -> None:
        cast = self.cast
        if (got := self._issue("own token", lambda: world.own_token(cast.keyed, resource=cast.api.uri))) is not None:
            self._expect(got.claims, sub=cast.keyed.uri, scope="read")
            self._introspect(world, got)

    def _exchange(self, world: World) -> None:
        cast = self.cast
        got = self._issue("exchange", lambda: world.exchange(cast.runner, cast.consent, kind=CONSENT, resource=cast.api.uri))
        if got is None:
            return
        self._expect(got.claims, sub=cast.alice.id, scope="read write")
        self._introspect(world, got)
        child = self._issue("child", lambda: world.exchange(cast.runner, got.token, resource=cast.api.uri, scope="read"), parent=got)
        if child is not None:
            self._expect(child.claims, sub=cast.alice.id, scope="read", txn=got.claims["txn"])
            self._introspect(world, child)

    def _refresh(self, world: World) -> None:
        cast = self.cast
        if not self.refresh_known:
            return
        form = {"grant_type": "refresh_token", "refresh_token": cast.refresh_token, "resource": cast.api.uri}

        def ask() -> Answer:
            answer = world.token(cast.runner, form)
            if answer.status == 200:
                cast.refresh_token = answer.json["refresh_token"]
            return answer

        try:
            got = self._issue("refresh", ask)
        except Lost:
            # Used up or not, nobody can say.
            self.refresh_known = False
            return
        if got is not None:
            self._introspect(world, got)
        self._stop.wait(0.1)

    def _revoke(self, world: World) -> None:
        cast = self.cast
        got = self._issue("exchange", lambda: world.exchange(cast.runner, cast.consent, kind=CONSENT, resource=cast.api.uri))
        if got is None:
            return
        child = self._issue("child", lambda: world.exchange(cast.runner, got.token, resource=cast.api.uri, scope="read"), parent=got)
        self._introspect(world, got)
        got.revoking = began = time.monotonic()
        answer = self._send("revoke", lambda: world.revoke(cast.runner, got.token))
        if answer.status == 200:
            got.revoked = time.monotonic()
            self._well["revoke"] = began
            for one in (got, child):
                if one is not None:
                    self._introspect(world, one)
        elif answer.status != 503:
            self._say(f"revoke: {answer.status} {answer.body!r}")

    def _ask(self, world: World) -> None:
        with self._lock:
            known = self.issued[-300:]
        if known:
            self._introspect(world, self._random.choice(known))

    # One request, held against the model

    def _send(self, operation: str, ask: Callable[[], Answer]) -> Answer:
        try:
            answer = ask()
        except requests.RequestException as error:
            self._count(operation, "unreachable")
            if not self.unreachable_allowed:
                self._say(f"{operation}: {error!r}")
            raise Lost from None
        self._count(operation, answer.status)
        if answer.status == 503:
            if "Retry-After" not in answer.headers or answer.json["error"] != "temporarily_unavailable":
                self._say(f"{operation}: 503 with {dict(answer.headers)} {answer.body!r}")
        elif answer.status >= 500:
            self._say(f"{operation}: {answer.status} {answer.body!r}")
        return answer

    def _issue(self, operation: str, ask: Callable[[], Answer], parent: Issued | None = None) -> Issued | None:
        began = time.monotonic()
        answer = self._send(operation, ask)
        if answer.status == 200:
            token = answer.json["access_token"]
            got = Issued(token, claims_of(token), time.monotonic(), parent)
            with self._lock:
                self.issued.append(got)
                self._newest = max(self._newest, got.generation)
            self._expect(got.claims, iss=self.cast.world.issuer, aud=self.cast.api.uri)
            self._well[operation] = began
            return got
        if answer.status == 503:
            return None
        if parent is not None and answer.status == 400 and answer.error == "invalid_request" and self._may_be_dead(parent):
            return None
        self._say(f"{operation}: {answer.status} {answer.body!r}")
        return None

    def _introspect(self, world: World, one: Issued) -> None:
        began, newest, dead = time.monotonic(), self._newest, one.seen_dead
        answer = self._send("introspect", lambda: introspection(world, self.cast.api, one.token))
        ended = time.monotonic()
        if answer.status != 200:
            if answer.status != 503:
                self._say(f"introspect: {answer.status} {answer.body!r}")
            return
        told = answer.json
        if told["active"]:
            self._expect(told, **{name: one.claims[name] for name in SAME if name in one.claims})
            if any(it.revoked is not None and it.revoked < began for it in one.line()):
                self._say(f"{one.claims['jti']} is active though its revocation was acknowledged before")
            if dead is not None and dead < began:
                self._say(f"{one.claims['jti']} is active though somebody had been told that it is dead")
            if one.generation < newest:
                self._say(f"{one.claims['jti']} of generation {one.generation} is active in {newest}")
            self._well["introspect"] = began
        else:
            one.seen_dead = ended if one.seen_dead is None else min(ended, one.seen_dead)
            if told != {"active": False}:
                self._say(f"inactive, and more: {told}")
            if not self._may_be_dead(one):
                self._say(f"{one.claims['jti']} (generation {one.generation} of {self._newest}) is dead and nobody ended it")

    def _may_be_dead(self, one: Issued) -> bool:
        ended = any(it.revoking is not None for it in one.line())
        return ended or self.lossy or one.at <= self.lost_until or one.claims["exp"] <= time.time() + 2

    def _expect(self, found: dict[str, Any], **facts: Any) -> None:
        for name, value in facts.items():
            if found.get(name) != value:
                self._say(f"{name} is {found.get(name)!r}, not {value!r}")

    def _count(self, operation: str, status: object) -> None:
        with self._lock:
            self.told[f"{operation} {status}"] += 1

    def _say(self, what: str) -> None:
        with self._lock:
            self.wrong.append(what)


def introspection(world: World, api: Api, token: str) -> Answer:
    from tests.world import basic

    return world.post("/oauth/introspect", {"token": token}, basic(api.client_id, api.client_secret))
