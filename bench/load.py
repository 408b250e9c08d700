"""The load: requests built beforehand, sent over connections that are kept alive, answered before the next is sent.

One process with one epoll loop, forked from the bench and pinned to the core that does not serve. It costs about
20 microseconds a request, so it is never what limits a server here.
"""

import gc
import multiprocessing
import os
import re
import select
import socket
import time
from dataclasses import dataclass, field

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
TOKEN = re.compile(rb'"access_token": ?"([^"]+)"')
PATIENCE = 20.0
"""Seconds without any answer after which the run is given up."""


@dataclass(frozen=True)
class Load:
    """What to send. `total`: stop after so many; without it the requests are sent in rotation until the time is up."""

    requests: list[bytes]
    total: int | None = None
    expect: bytes = b""
    """What a good answer's body holds."""
    keep: bool = False
    """Keep the access tokens answered."""


@dataclass
class Outcome:
    """What came back. Times in seconds."""

    answers: int = 0
    seconds: float = 0.0
    wrong: dict[str, int] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Connection:
    """One caller: sends, waits, sends again."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket: socket.socket | None = None
        self.buffer = b""
        self.sent = 0.0
        self.busy = False
        self.open()

    def open(self) -> None:
        if self.socket is not None:
            self.socket.close()
        self.socket = socket.create_connection(("127.0.0.1", self.port), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, request: bytes) -> None:
        self.busy = True
        self.sent = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> tuple[bytes, bytes, bool] | None:
        """Head, body and whether the server closes, once all of it is there. Raises OSError when it closed before."""
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionResetError
        self.buffer += part
        head, split, body = self.buffer.partition(b"\r\n\r\n")
        if not split:
            return None
        length = LENGTH.search(head)
        if length is None:
            complete = body.endswith(b"0\r\n\r\n")
        else:
            complete = len(body) >= int(length[1])
        if not complete:
            return None
        self.buffer = b""
        self.busy = False
        return head, body, CLOSES.search(head) is not None


def drive(port: int, load: Load, *, seconds: float, connections: int, core: int | None) -> Outcome:
    """Send the load from a process of its own and wait for what came of it."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(there, port, load, seconds, connections, core), daemon=True)
    process.start()
    there.close()
    try:
        outcome = here.recv()
    except EOFError:
        raise RuntimeError("the load generator died") from None
    finally:
        process.join(5)
        if process.is_alive():
            process.kill()
    if isinstance(outcome, str):
        raise RuntimeError(f"the load generator failed: {outcome}")
    return outcome


def _child(pipe, port: int, load: Load, seconds: float, connections: int, core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(0, {core})
    gc.disable()
    try:
        pipe.send(_run(port, load, seconds, connections))
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


def _run(port: int, load: Load, seconds: float, count: int) -> Outcome:
    outcome = Outcome()
    poll = select.epoll()
    callers: dict[int, Connection] = {}
    for _ in range(count):
        caller = Connection(port)
        callers[caller.socket.fileno()] = caller
        poll.register(caller.socket, select.EPOLLIN)
    requests, limit, sent = load.requests, load.total, 0
    began = time.perf_counter()
    end = began + seconds

    def wrong(why: str) -> None:
        outcome.wrong[why] = outcome.wrong.get(why, 0) + 1

    def reopen(caller: Connection) -> None:
        callers.pop(caller.socket.fileno())
        caller.open()
        callers[caller.socket.fileno()] = caller
        poll.register(caller.socket, select.EPOLLIN)

    def next_one(caller: Connection) -> bool:
        nonlocal sent
        if (limit is not None and sent >= limit) or time.perf_counter() >= end:
            return False
        sent += 1
        caller.send(requests[(sent - 1) % len(requests)])
        return True

    working = sum(next_one(caller) for caller in list(callers.values()))
    while working:
        events = poll.poll(PATIENCE)
        if not events:
            wrong("no answer")
            break
        for descriptor, _ in events:
            caller = callers[descriptor]
            try:
                answer = caller.receive()
            except OSError:
                if caller.busy:
                    wrong("connection closed")
                    caller.busy = False
                    working -= 1
                reopen(caller)
                working += next_one(caller)
                continue
            if answer is None:
                continue
            head, body, closes = answer
            outcome.times.append(time.perf_counter() - caller.sent)
            if not head.startswith(b"HTTP/1.1 2"):
                wrong(head[9:12].decode("ascii", "replace"))
            elif load.expect not in body:
                wrong("unexpected body")
            elif load.keep and (found := TOKEN.search(body)):
                outcome.tokens.append(found[1].decode())
            if closes:
                reopen(caller)
            if not next_one(caller):
                working -= 1
    outcome.seconds = time.perf_counter() - began
    outcome.answers = len(outcome.times)
    return outcome


def post(path: str, body: str, headers: dict[str, str]) -> bytes:
    """An HTTP request as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", body]).encode("ascii")
