"""The machine: who runs on which core, what each process used of it, and that all of them end with the bench."""

import ctypes
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PR_SET_PDEATHSIG = 1
DRAIN = 20.0


class Cores:
    """Core 0 of those we may use serves, the next does everything else; on one core, or without affinity, no pinning."""

    def __init__(self) -> None:
        usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.serving, self.other = (usable[0], usable[1]) if len(usable) > 1 else (None, None)
        if self.other is not None:
            os.sched_setaffinity(0, {self.other})

    def serve(self, pid: int) -> None:
        """Move a process tree, all of its threads, to the serving core."""
        if self.serving is None:
            return
        for one in tree(pid):
            for thread in _names(f"/proc/{one}/task"):
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(thread), {self.serving})

    def __str__(self) -> str:
        if self.serving is None:
            return "nothing pinned: one core only, or no CPU affinity here"
        return f"server on core {self.serving}; load, Valkey and relay on core {self.other}"


class Child:
    """A process started here, in a group of its own. It is asked to end, then ended; the kernel ends it if we die."""

    def __init__(self, command: list[str], log: Path, *, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        self.log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.pid = self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        if self.alive:
            self._process.terminate()
            try:
                self._process.wait(DRAIN)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def tail(self) -> str:
        return self.log.read_text("utf-8", "replace")[-2000:]


def _die_with_parent() -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(child: Child, ready, what: str, seconds: float = 60.0) -> None:
    """Wait until `ready()`; raises RuntimeError with the end of the child's log."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and child.alive:
        if ready():
            return
        time.sleep(0.1)
    raise RuntimeError(f"{what} did not start:\n{child.tail()}")


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        for thread in _names(f"/proc/{one}/task"):
            with suppress(OSError):
                left += map(int, Path(f"/proc/{one}/task/{thread}/children").read_text().split())
    return found


def _names(directory: str) -> list[str]:
    with suppress(OSError):
        return os.listdir(directory)
    return []


def command_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    return ""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process tree, threads that have ended included."""
    ticks = 0
    for one in tree(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def resident_mib(pid: int) -> int:
    """Memory of a process tree, what is shared counted once."""
    kib = 0
    for one in tree(pid):
        with suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    kib += int(line.split()[1])
    return kib // 1024


def machine_seconds() -> tuple[float, float]:
    """Seconds that all cores together were busy, and that the hypervisor took away (steal)."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq) / TICK, steal / TICK


def own_seconds() -> float:
    """CPU of the bench itself and of the children it has waited for, the load generator among them."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def describe() -> str:
    """The kind of machine, in a line."""
    model = "unknown processor"
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} cores, {model}, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def node_of(folder: Path) -> str | None:
    """The node that was installed beside the peer, else the one of the machine."""
    beside = sorted(folder.glob("node_modules/node-linux-*/bin/node"))
    return str(beside[0]) if beside else shutil.which("node")
