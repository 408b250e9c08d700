"""Decide on a snapshot, commit if nothing moved: the one writer on the token path, and the one reader of liveness."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple, Protocol

from app import clock
from app.database import Database
from app.errors import TemporarilyUnavailable, TooManyRequests
from app.live import scripts
from app.live.connection import Connections, Reply
from app.live.generation import (
    READY,
    STREAM,
    Generation,
    denied_key,
    epoch_key,
    prefix,
    read_generation,
    version_key,
)
from app.live.models import read_thing
from app.live.things import Kind, Thing

MINUTE = 60


class Moved(Exception):
    """Something the decision was based on is no longer so. Reload, decide again."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class UsedTwice(Exception):
    """A once-mark was there already. Not "moved": whoever comes second is an attacker or a bug."""

    def __init__(self, mark: str) -> None:
        super().__init__("used twice")
        self.mark = mark

    def within(self, namespace: str) -> bool:
        """Whether the mark is of that namespace."""
        return f":once:{namespace}:" in self.mark


@dataclass(frozen=True, slots=True)
class Once:
    """A mark set at most once: a namespace, what is marked, and for how many seconds it must be remembered."""

    namespace: str
    value: str
    seconds: int

    @property
    def name(self) -> str:
        """The mark's key below the generation. The namespace keeps a code from passing as an assertion."""
        return f"once:{self.namespace}:{sha256(self.value.encode('utf-8', 'surrogatepass')).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Put:
    """A value kept for some seconds, under a namespace and the hash of its secret handle."""

    namespace: str
    handle: str
    value: bytes
    seconds: int

    @property
    def name(self) -> str:
        """The value's key below the generation."""
        return held_name(self.namespace, self.handle)


def held_name(namespace: str, handle: str) -> str:
    """Where a `Put` is kept: the handle itself never reaches Redis."""
    return f"{namespace}:{sha256(handle.encode('utf-8', 'surrogatepass')).hexdigest()}"


class Exhausted(Exception):
    """A counter has not enough left, or as many live tokens as allowed are there already. Certain, whatever else moved."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Touch(NamedTuple):
    """What a task does to its history: the size it was read at (None: whatever it is), and labels new to it."""

    task: str
    size: int | None
    labels: Sequence[str]
    until: int
    """Seconds since 1970 until which it must be remembered."""

    @property
    def name(self) -> str:
        """The history's key below the generation. Labels are only ever added: the size of the set is its version."""
        return history_name(self.task)


def history_name(task: str) -> str:
    """Where the history of a task is kept."""
    return f"h:{task}"


class Take(NamedTuple):
    """So much from a counter that begins at `base`, may reach `limit` and is kept until a second since 1970. Integers below 2**53."""

    name: str
    amount: int
    limit: int
    until: int
    base: int = 0


class Born(NamedTuple):
    """One more live token among at most `limit` under a name; it counts until it expires."""

    name: str
    limit: int
    jti: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Commit:
    """What must still be true, and what then becomes true."""

    generation: Generation | None = None
    """The generation in which the evidence was read; None where it rests on none that an earlier one could have used up."""
    epochs: Mapping[Thing, int] = field(default_factory=dict)
    versions: Mapping[Thing, int] = field(default_factory=dict)
    undenied: Sequence[str] = ()
    once: Sequence[Once] = ()
    put: Sequence[Put] = ()
    rate: Sequence[tuple[str, int]] = ()
    """(client_id, requests a minute) pairs to count against."""
    touch: Touch | None = None
    take: Sequence[Take] = ()
    born: Sequence[Born] = ()
    record: bytes = b""
    stream: str = STREAM
    """Which stream takes the record: when its oldest has waited for too long, what goes there stops, and nothing else."""


class Forgetful(Protocol):
    """A cache of rows by version."""

    def forget(self, thing: Thing) -> None:
        """Drop what is held of the thing."""


class Live:
    """Live state as a worker sees it. Whatever cannot be trusted is `TemporarilyUnavailable`."""

    def __init__(self, database: Database, url: str, *, timeout: float, stall: float) -> None:
        self.database = database
        self.redis = Connections(url, timeout=timeout, scripts=scripts.ALL)
        self._stall = int(stall * 1000)
        self._generation: Generation | None = None
        self._lock = threading.Lock()
        self.caches: list[Forgetful] = []

    def generation(self) -> Generation:
        """The generation this worker works in; read from SQL once and again whenever Redis disagrees."""
        return self._generation or self.reload_generation()

    def reload_generation(self) -> Generation:
        """Ask SQL which generation is current."""
        with self._lock, self.database.reading() as session:
            self._generation = read_generation(session)
            return self._generation

    def commit(self, commit: Commit) -> None:
        """Apply all of it, or raise and leave everything as it was.

        Raises `Moved`, `UsedTwice`, `Exhausted`, `TooManyRequests`, or `TemporarilyUnavailable` when the copy is not ours, the
        ledger is too far behind, or Redis does not answer.
        """
        generation = commit.generation or self.generation()
        verdict, details = self._commit(commit, generation)
        if verdict == "not ready":
            if self.reload_generation() == generation:
                raise TemporarilyUnavailable("live state is not ready")
            raise Moved("generation")
        match verdict:
            case "ok":
                return
            case "moved" | "denied":
                # All of them at once: the caller comes back a few times, not once for each.
                for thing in {thing for key in details if (thing := _thing_of(key)) is not None}:
                    self.moved(thing)
                raise Moved(details[0])
            case "used":
                raise UsedTwice(details[0])
            case "exhausted":
                raise Exhausted(details[0].split(":", 2)[2])
            case "limited":
                raise TooManyRequests(f"rate of {details[0]}", retry_after=MINUTE - clock.timestamp() % MINUTE)
            case "stalled":
                raise TemporarilyUnavailable("the ledger is too far behind", retry_after=2)
            case _:
                raise TemporarilyUnavailable("unknown answer from the commit script")

    def _commit(self, commit: Commit, generation: Generation) -> tuple[str, list[str]]:
        number = generation.number
        base = prefix(number)
        window = clock.timestamp() // MINUTE
        expected: list[str | int] = []
        for thing, epoch in commit.epochs.items():
            expected += (epoch_key(number, thing), epoch)
        for thing, version in commit.versions.items():
            expected += (version_key(number, thing), version)
        arguments: list[str | bytes | int] = [generation.identity(self.redis.run_id), self._stall, clock.timestamp()]
        arguments += (len(expected) // 2, *expected)
        arguments += (len(commit.undenied), *(denied_key(number, jti) for jti in commit.undenied))
        arguments += (len(commit.once), *(v for mark in commit.once for v in (base + mark.name, mark.seconds)))
        arguments += (len(commit.put), *(v for put in commit.put for v in (base + put.name, put.value, put.seconds)))
        rates = [(client, limit) for client, limit in commit.rate if limit]
        arguments += (len(rates), *(v for who, limit in rates for v in (f"{base}rate:{who}:{window}", 2 * MINUTE, limit)))
        touch = commit.touch
        if touch is None:
            arguments += (0, 0)
        else:
            arguments += (0,) if touch.size is None else (1, base + touch.name, touch.size)
            arguments += (len(touch.labels), *(v for label in touch.labels for v in (base + touch.name, label, touch.until)))
        arguments += (len(commit.take), *(v for take in commit.take for v in (base + take.name, *take[1:])))
        arguments += (len(commit.born), *(v for one in commit.born for v in (base + one.name, one.limit, one.expires_at, one.jti)))
        reply: list[bytes] = self.redis.call("EVALSHA", scripts.COMMIT_SHA, 2, READY, commit.stream, *arguments, commit.record)
        verdict, *details = (part.decode() for part in reply)
        return verdict, details

    def moved(self, thing: Thing) -> None:
        """Forget what is cached of the thing, and raise Redis to what SQL says of it."""
        self.forget(thing)
        generation = self.reload_generation()
        with self.database.reading() as session:
            held = read_thing(session, thing)
        self.redis.call(
            "EVALSHA", scripts.RAISE_SHA, 2, READY, prefix(generation.number) + "loading",
            generation.identity(self.redis.run_id), 0, -1,
            epoch_key(generation.number, thing), held.epoch, 0,
            version_key(generation.number, thing), held.version, 0,
        )  # fmt: skip

    def forget(self, thing: Thing) -> None:
        """Forget what is cached of the thing: SQL was seen to have it otherwise."""
        for cache in self.caches:
            cache.forget(thing)

    def read(self, names: Iterable[str]) -> list[bytes | None]:
        """Values below the current generation, from a copy proven ours in the same read."""
        generation = self.generation()
        base = prefix(generation.number)
        values: list[bytes | None] = self.redis.call("MGET", READY, *(base + name for name in names))
        self._proven(values[0], generation)
        return values[1:]

    def members(self, name: str) -> frozenset[str]:
        """The members of a set below the current generation, from a copy proven ours right after."""
        return self.union([name])

    def union(self, names: Iterable[str]) -> frozenset[str]:
        """The members of one or more sets, all together and in one round trip."""
        generation = self.generation()
        base = prefix(generation.number)
        found, ready = self.redis.pipeline([("SUNION", *(base + name for name in names)), ("GET", READY)])
        self._proven(ready, generation)
        return frozenset(member.decode() for member in found)

    def still(
        self,
        number: int,
        epochs: Mapping[Thing, int],
        undenied: Iterable[str],
        *,
        versions: Iterable[Thing] = (),
        names: Iterable[str] = (),
    ) -> tuple[bool, list[bytes | None]]:
        """Whether a token born in generation `number` under `epochs` still lives, in one read.

        With it come the versions of things and the values of `names`, in that order.

        Raises `TemporarilyUnavailable` when the copy cannot be trusted: without Redis nothing is alive or dead.
        """
        generation = self.generation()
        base = prefix(generation.number)
        denied = [denied_key(generation.number, jti) for jti in undenied]
        held = [epoch_key(generation.number, thing) for thing in epochs]
        beside = [version_key(generation.number, thing) for thing in versions] + [base + name for name in names]
        ready, *values = self.redis.call("MGET", READY, *denied, *held, *beside)
        self._proven(ready, generation)
        now = values[len(denied) : len(denied) + len(held)]
        alive = (
            number == generation.number
            and not any(values[: len(denied)])
            and all(int(found or 0) == epoch for found, epoch in zip(now, epochs.values(), strict=True))
        )
        return alive, values[len(denied) + len(held) :]

    def count(self, name: str, seconds: int) -> int:
        """Count one more failure under `name`; returns how many within the window of `seconds`."""
        key = f"{prefix(self.generation().number)}count:{name}"
        return int(self.redis.call("EVALSHA", scripts.COUNT_SHA, 1, key, seconds))

    def counted(self, name: str) -> int:
        """How many failures stand under `name`."""
        return int(self.redis.call("GET", f"{prefix(self.generation().number)}count:{name}") or 0)

    def clear(self, name: str) -> None:
        """Forget the failures under `name`."""
        self.redis.call("DEL", f"{prefix(self.generation().number)}count:{name}")

    def is_ready(self) -> bool:
        """Whether tokens can be issued and called active just now."""
        try:
            self.read(())
        except TemporarilyUnavailable:
            return False
        return True

    def _proven(self, ready: Reply, generation: Generation) -> None:
        if ready != generation.identity(self.redis.run_id).encode():
            self.reload_generation()
            raise TemporarilyUnavailable("live state is not ready", retry_after=0)


def _thing_of(key: str) -> Thing | None:
    """The thing whose epoch, version or history is kept under a key; None for a denied token."""
    _deputy, _number, axis, *rest = key.split(":", 4)
    if axis == "h":
        return Thing(Kind.TASK, rest[0])
    return Thing(Kind(rest[0]), rest[1]) if axis in {"e", "v"} else None
