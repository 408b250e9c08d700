"""`deputy serve`: what a node needs, started, watched, started again, and stopped in order."""

from __future__ import annotations

import ctypes
import fcntl
import http.client
import multiprocessing
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import IO

import click
import structlog

from app import clock
from app.cli.certificates import last_day
from app.cli.embedded import embedded_command, set_aside
from app.cli.readiness import readiness
from app.errors import ConfigurationError
from app.rim import logs
from app.settings import Settings, load_settings

DRAIN = 15.0
"""Seconds a process has to end by itself."""

BRIEF = 5.0
"""A process that lived shorter than this many seconds is started again only after a pause."""

LONGEST_PAUSE = 5.0
TICK = 0.1
READY_WITHIN = 60.0
PR_SET_PDEATHSIG = 1
NOT_ITS_FAULT = frozenset({0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT})
"""Ends of a process that somebody else decided."""

log = structlog.get_logger("serve")


class Child:
    """One process of the node. It holds a locked file for as long as it lives, so that nobody starts a second one."""

    def __init__(
        self, name: str, command: Callable[[], list[str]], settings: Settings, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._command = command
        self._lock = settings.var_dir.resolve() / f"{name}.lock"
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._pause = 0.0
        self._not_before = 0.0
        self._clearing = 0.0
        self.short_lives = 0

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> bool:
        """Start it, unless somebody is left of the one before. Returns whether it was started."""
        with self._lock.open("a+b") as held:
            if not self._is_clear(held):
                return False
            held.truncate(0)
            self._process = subprocess.Popen(  # noqa: S603  # our own command
                self._command(),
                stdin=subprocess.DEVNULL,
                env=self._environment,
                start_new_session=True,
                pass_fds=(held.fileno(),),
                preexec_fn=partial(_begin, held.fileno(), os.getpid()),  # noqa: PLW1509  # the node is single-threaded
            )
        self._began = clock.monotonic()
        return True

    def clear(self) -> bool:
        """Whether nothing is left of the one before; what is left is told to end."""
        with self._lock.open("a+b") as held:
            return self._is_clear(held)

    def mend(self) -> None:
        """Start it again if it died; one that dies at once is given pauses, up to five seconds."""
        if self.running:
            return
        now = clock.monotonic()
        if self._process is not None:
            code = self._process.returncode
            brief = now - self._began < BRIEF
            self.short_lives = self.short_lives + (code not in NOT_ITS_FAULT) if brief else 0
            self._pause = min(max(2 * self._pause, TICK), LONGEST_PAUSE) if brief else 0.0
            self._not_before = now + self._pause
            log.warning("died", process=self.name, code=code, again_in=round(self._pause, 1))
            self._process = None
        if now < self._not_before:
            return
        try:
            self.start()
        except (OSError, subprocess.SubprocessError) as error:
            log.warning("not started", process=self.name, reason=str(error))
            self._not_before = now + LONGEST_PAUSE

    def stop(self) -> None:
        """Ask it to end, and wait; kill it after `DRAIN` seconds, with all it started."""
        if self._process is not None and self.running:
            self._process.terminate()
            try:
                self._process.wait(DRAIN)
            except subprocess.TimeoutExpired:
                log.warning("killed", process=self.name)
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        with suppress(ConfigurationError):
            self.wait_until_clear()

    def wait_until_clear(self) -> None:
        """Wait until nothing is left of the one before. Raises `ConfigurationError` when that takes too long."""
        end = clock.monotonic() + 2 * DRAIN
        while not self.clear():
            if clock.monotonic() > end:
                raise ConfigurationError(f"an earlier {self.name} does not end; end the processes that have {self._lock} open by hand")
            time.sleep(TICK)

    def _is_clear(self, held: IO[bytes]) -> bool:
        """Whether its lock could be taken. Whoever has it is told to end, and made to after `DRAIN` seconds.

        All of a child's processes inherit the lock and are in the process group whose number is written there: as long
        as somebody holds the one, the other is nobody else's.
        """
        if _locked(held):
            self._clearing = 0.0
            return True
        now = clock.monotonic()
        held.seek(0)
        group = held.read()
        told = self._clearing
        if not told:
            self._clearing = now
            log.warning("left behind", process=self.name, group=group.decode("ascii", "replace"))
        if group.isdigit() and int(group) > 1 and (not told or now - told > DRAIN):
            with suppress(ProcessLookupError):
                os.killpg(int(group), signal.SIGKILL if told else signal.SIGTERM)
        return False


@click.command()
def serve() -> None:
    """Start a node: web workers, relay, and the embedded Valkey where no Redis is set."""
    settings = load_settings()
    settings.var_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (settings.var_dir / "deputy.lock").open("a+b") as lock:
        if not _locked(lock):
            lock.seek(0)
            raise click.ClickException(f"Deputy is running already (process {lock.read().decode() or 'unknown'}).")
        lock.truncate(0)
        lock.write(str(os.getpid()).encode())
        lock.flush()
        _Node(settings).run()


class _Node:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = False
        self._valkey = None if settings.redis_url else Child("valkey", lambda: embedded_command(settings), settings)
        python = [sys.executable, "-m"]
        self._relay = Child("relay", lambda: [*python, "app", "relay", "--holder", _node_name(settings)], settings)
        metrics = _metrics(settings)
        self._web = Child("web", lambda: [*python, "gunicorn", *_gunicorn(settings)], settings, environment=metrics)
        mtls = Child("mtls", lambda: [*python, "gunicorn", *_gunicorn_mtls(settings)], settings, environment=metrics)
        self._mtls = mtls if settings.mtls_port else None

    def run(self) -> None:
        logs.configure()
        for received in (signal.SIGTERM, signal.SIGINT):
            signal.signal(received, self._stop)
        children = [child for child in (self._valkey, self._relay, self._web, self._mtls) if child is not None]
        # Those who ask first, as when stopping: what a killed node left behind still works as long as it can.
        for child in reversed(children):
            child.wait_until_clear()
        _prepare()
        _check_port(self._settings.bind_host, self._settings.port, "PORT=… make run, or DEPUTY_PORT, names another")
        if self._mtls is not None:
            _check_port(self._settings.mtls_bind_host, self._settings.mtls_port, "DEPUTY_MTLS_PORT names another")
            last_day(self._settings)
        try:
            self._mend(children)
            self._announce(children)
            while not self._stopping:
                self._mend(children)
                time.sleep(TICK)
        finally:
            # First those who ask, then the one who writes down, then what both stand on.
            for child in reversed(children):
                child.stop()
        click.echo("Deputy has stopped.")

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _announce(self, children: list[Child]) -> None:
        end = clock.monotonic() + READY_WITHIN
        while not self._stopping and clock.monotonic() < end:
            if _is_ready(self._settings):
                click.echo(f"Deputy is ready: {self._settings.issuer}  (Ctrl-C stops it)")
                return
            self._mend(children)
            time.sleep(TICK)
        if not self._stopping:
            click.echo("Deputy is not ready yet; `deputy doctor` says why. It goes on trying.", err=True)

    def _mend(self, children: list[Child]) -> None:
        for child in children:
            child.mend()
            self._mend_file(child)

    def _mend_file(self, child: Child) -> None:
        """An append-only file cut or spoiled so that Valkey cannot load it: what was in it is dead, begin anew."""
        if child is self._valkey and child.short_lives >= 3 and not child.running:
            aside = set_aside(self._settings, clock.timestamp())
            child.short_lives = 0
            log.warning("append-only file unreadable", put_aside=str(aside))


def _prepare() -> None:
    # In a process of its own: the node forks children and holds no connection of theirs.
    preparing = multiprocessing.get_context("fork").Process(target=_prepare_here)
    preparing.start()
    preparing.join()
    if preparing.exitcode:
        raise click.exceptions.Exit(preparing.exitcode)


def _prepare_here() -> None:
    for received in (signal.SIGTERM, signal.SIGINT):
        # Whoever does not want to wait for a migration may still say so.
        signal.signal(received, signal.SIG_DFL)
    # The wiring is above the commands.
    import_module("app.wiring").prepare_from_environment()


def _gunicorn(settings: Settings) -> list[str]:
    options = _options(settings.bind_host, settings.port, settings.workers) | {
        "config": "python:app.warm",
        "worker-class": "asgi",
        "asgi-loop": "uvloop",
        "asgi-lifespan": "off",
        "http-parser": "python",
        "http-protocols": "h1",
        # Nothing is answered after the deadline anyway, and this worker waits for idle connections too.
        "graceful-timeout": "3",
    }
    return _command("app.serving:door()", options)


def _gunicorn_mtls(settings: Settings) -> list[str]:
    """A second gunicorn: one cannot have TLS on one port and none on another (RFC 8705).

    Its threaded workers leave the connection, which has the certificate, to the application.
    """
    options = _options(settings.mtls_bind_host, settings.mtls_port, settings.mtls_workers) | {
        "worker-class": "gthread",
        "threads": str(settings.threads),
        "graceful-timeout": "10",
        "config": "python:app.rim.tls",
        "certfile": str(settings.mtls_certificate),
        "keyfile": str(settings.mtls_key),
        "ca-certs": str(settings.mtls_client_ca),
        # One that is sent must be good; who has none is asked for the proof of something else.
        "cert-reqs": str(int(ssl.CERT_OPTIONAL)),
    }
    return _command("app:create_app(mutual_tls=True)", options)


def _options(bind_host: str, port: int, workers: int) -> dict[str, str]:
    host = f"[{bind_host}]" if ":" in bind_host else bind_host
    options = {
        "bind": f"{host}:{port}",
        "workers": str(workers),
        "timeout": "30",
        "keep-alive": "15",
        "limit-request-line": "8190",
        "log-level": "warning",
    }
    if Path("/dev/shm").is_dir():  # noqa: S108  # the heartbeat file is gunicorn's, with a name of its own
        options["worker-tmp-dir"] = "/dev/shm"  # noqa: S108
    return options


def _command(factory: str, options: Mapping[str, str]) -> list[str]:
    return [factory, "--no-control-socket", *(f"--{name}={value}" for name, value in options.items())]


def _metrics(settings: Settings) -> Mapping[str, str]:
    directory = settings.var_dir.resolve() / "metrics"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
    return {"PROMETHEUS_MULTIPROC_DIR": str(directory)}


def _node_name(settings: Settings) -> str:
    """A name that outlives the node's processes, so that its relay takes its own lease over at once."""
    path = settings.var_dir / "node"
    with suppress(FileExistsError):
        path.open("x").write(secrets.token_hex(8))
    return path.read_text("ascii")


def _check_port(host: str, port: int, remedy: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(f"cannot listen on {host}:{port} ({error.strerror}); {remedy}") from None


def _is_ready(settings: Settings) -> bool:
    try:
        return readiness(settings, 2) == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False


def _locked(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _begin(lock: int, parent: int) -> None:
    """In the child, before it is anything: whoever holds the lock has written down who it is.

    On Linux the kernel ends a child whose parent was killed; elsewhere the next start does.
    """
    with suppress(OSError):
        os.write(lock, str(os.getpid()).encode())
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
