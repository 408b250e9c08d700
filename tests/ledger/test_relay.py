"""The relay: each record once, whatever happens between its steps."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import orjson
import pytest
from sqlalchemy import delete, func, select, update

from app.audit.events import NOBODY
from app.delegation.models import TaskRow
from app.errors import TemporarilyUnavailable
from app.ledger import relay as relay_module
from app.ledger.models import CheckpointRow, EntryRow, RelayRow
from app.ledger.relay import LEASE, LostLease
from app.live.commit import Commit
from app.live.generation import STREAM
from tests.ledger.conftest import Small


def ids(small: Small) -> list[str]:
    with small.server.database.reading() as session:
        return list(session.scalars(select(EntryRow.id).order_by(EntryRow.seq)))


def records(small: Small, event: str) -> list[dict[str, Any]]:
    with small.server.database.reading() as session:
        rows = session.scalars(select(EntryRow.record).where(EntryRow.event == event).order_by(EntryRow.seq))
        return [orjson.loads(row) for row in rows]


def waiting(small: Small) -> int:
    return int(small.server.live.redis.call("XLEN", STREAM))


def test_what_was_decided_and_done_is_entered_once_and_forgotten_elsewhere(small: Small) -> None:
    made = [small.deed(1), small.streamed(2), small.deed(3), small.streamed(4)]
    small.relay.step()
    assert sorted(ids(small)[-4:]) == sorted(made)
    assert waiting(small) == 0
    small.relay.step()
    assert len(ids(small)) == len(set(ids(small)))
    assert small.verify(small.checkpoints).sound


def test_a_relay_that_died_between_sql_and_redis_enters_nothing_twice(small: Small) -> None:
    made = small.streamed()
    (entry,) = small.server.live.redis.call("XRANGE", STREAM, "-", "+")
    small.relay.step()
    # As if the trim had not happened: the same record is in the stream again.
    small.server.live.redis.call("XADD", STREAM, "*", *entry[1])
    small.another_relay("one").step()
    assert ids(small).count(made) == 1
    assert waiting(small) == 0
    assert small.verify(small.checkpoints).sound


def test_only_the_holder_of_the_lease_writes(small: Small) -> None:
    other = small.another_relay("two")
    made = small.deed()
    assert other.step() is False
    assert made not in ids(small)
    small.relay.step()
    assert made in ids(small)


def test_a_stopped_relay_gives_the_lease_back_and_a_dead_ones_runs_out(small: Small) -> None:
    stop = threading.Event()
    stop.set()
    small.relay.run(stop)
    made = small.deed()
    other = small.another_relay("two")
    other.step()
    assert made in ids(small)
    # Now it dies: nobody gives the lease back, until its time is over.
    third = small.another_relay("three")
    made = small.deed()
    third.step()
    assert made not in ids(small)
    with small.server.database.transaction() as session:
        session.execute(update(RelayRow).values(until=RelayRow.until - LEASE - 1000))
    third.step()
    assert made in ids(small)


def test_the_same_holder_takes_over_at_once_after_a_crash(small: Small) -> None:
    made = small.deed()
    small.another_relay("one").step()
    assert made in ids(small)


def test_a_relay_that_lost_its_lease_loses_its_batch_too(small: Small) -> None:
    made = small.deed()
    taken = small.relay._take()
    with small.server.database.transaction() as session:
        session.execute(update(RelayRow).values(holder="two"))
    with pytest.raises(LostLease):
        small.relay._enter(taken)
    assert made not in ids(small)
    assert small.verify(small.checkpoints).sound


def test_two_relays_at_once_make_one_chain(small: Small) -> None:
    stop = threading.Event()
    relays = [small.relay, small.another_relay("two"), small.another_relay("one")]
    threads = [threading.Thread(target=relay.run, args=(stop,)) for relay in relays]
    for thread in threads:
        thread.start()
    made = [small.deed(n) if n % 2 else small.streamed(n) for n in range(200)]
    deadline = time.monotonic() + 30
    while set(made) - set(ids(small)) and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join(20)
    found = ids(small)
    assert len(found) == len(set(found))
    assert set(made) <= set(found)
    assert small.verify(small.checkpoints).sound


def test_a_record_nobody_of_ours_wrote_stops_nothing_and_is_not_swallowed(small: Small) -> None:
    for junk in (b"", b"{", b"[1]", b'{"v":1}', b"\xff\xfe", b'"' + b"x" * 70_000 + b'"'):
        small.server.live.redis.call("XADD", STREAM, "*", "r", junk)
    small.server.live.redis.call("XADD", STREAM, "*", "other", "field")
    made = small.streamed()
    small.relay.step()
    assert made in ids(small)
    assert len(records(small, "record.unreadable")) == 7
    assert waiting(small) == 0
    assert small.verify(small.checkpoints).sound


def test_issuance_stops_while_the_oldest_record_waits_too_long(small: Small) -> None:
    small.server.live.redis.call("XADD", STREAM, "1-1", "r", b"{}")
    with pytest.raises(TemporarilyUnavailable):
        small.streamed()
    # What leaves no record is not stopped.
    small.server.live.commit(Commit())
    small.relay.step()
    small.streamed()


def test_after_a_flush_a_new_generation_is_opened_and_recorded(small: Small) -> None:
    before = small.server.live.reload_generation()
    small.server.live.redis.call("FLUSHALL")
    with pytest.raises(TemporarilyUnavailable):
        small.server.live.read(())
    small.relay.step()
    assert small.server.live.reload_generation().number == before.number + 1
    small.server.live.read(())
    small.relay.step()
    opened = records(small, "generation.opened")
    assert opened[-1]["generation"] == before.number + 1
    assert opened[-1]["drained"] == 0
    assert small.verify(small.checkpoints).sound


def test_what_is_left_in_the_stream_is_saved_before_a_new_generation(small: Small) -> None:
    made = [small.streamed(n) for n in range(3)]
    small.server.live.redis.call("DEL", "deputy:ready")
    small.relay.step()
    small.relay.step()
    assert set(made) <= set(ids(small))
    assert records(small, "generation.opened")[-1]["drained"] == 3


def test_keys_of_earlier_generations_are_removed(small: Small) -> None:
    for _ in range(3):
        small.server.live.redis.call("DEL", "deputy:ready")
        small.relay.step()
    number = small.server.live.reload_generation().number
    keys = small.server.live.redis.call("KEYS", "deputy:[0-9]*")
    assert {int(key.split(b":")[1]) for key in keys} <= {number}


def test_a_checkpoint_follows_every_batch_and_the_file_agrees(small: Small) -> None:
    small.deed()
    small.relay.step()
    with small.server.database.reading() as session:
        points = list(session.scalars(select(CheckpointRow).order_by(CheckpointRow.seq)))
        last = session.scalar(select(func.max(EntryRow.seq)))
    assert points[-1].seq == last
    lines = [json.loads(line) for line in small.checkpoints.read_text().splitlines()]
    assert [line["seq"] for line in lines] == [point.seq for point in points]
    assert lines[-1]["jws"] == points[-1].jws
    assert small.checkpoints.stat().st_mode & 0o777 == 0o600


def test_a_crash_before_the_file_was_written_is_made_good(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_disk(*_args: object) -> None:
        raise OSError

    small.deed()
    with monkeypatch.context() as broken:
        broken.setattr(relay_module.checkpoints, "append", no_disk)
        with pytest.raises(TemporarilyUnavailable):
            small.relay.step()
    small.deed()
    small.another_relay("one").step()
    with small.server.database.reading() as session:
        points = list(session.scalars(select(CheckpointRow.seq).order_by(CheckpointRow.seq)))
    assert [json.loads(line)["seq"] for line in small.checkpoints.read_text().splitlines()] == points
    assert small.verify(small.checkpoints).sound


def test_the_use_of_a_task_is_counted(small: Small) -> None:
    from app.audit import serialize
    from app.audit.events import TokenIssued

    with small.server.database.transaction() as session:
        session.add(TaskRow(id="tsk_x", consent="c", human="h", agent="a", generation=1, opened_at=0, deadline=1))
    for n in range(3):
        event = TokenIssued(
            who=NOBODY, grant_type="x", token="access_token", jti=f"j{n}", audience="a", scope={}, asked={}, expires_at=1, task="tsk_x"
        )
        small.server.live.commit(Commit(record=serialize(event)[1]))
    small.relay.step()
    with small.server.database.reading() as session:
        row = session.get_one(TaskRow, "tsk_x")
        assert row.uses == 3
        assert row.last_used_at is not None


def test_a_relay_without_a_ledger_key_writes_nothing_and_says_so(small: Small) -> None:
    from app.keys.models import SigningKeyRow

    with small.server.deeds.deed() as deed:
        deed.session.execute(delete(SigningKeyRow).where(SigningKeyRow.use == "ledger"))
        from app.live.things import KEYS

        deed.change(KEYS)
    made = small.deed()
    from app.wiring import build

    blind = build(small.server.settings)
    relay = relay_module.Relay(blind.database, blind.live, blind.keys, blind.settings, holder="one")
    with pytest.raises(TemporarilyUnavailable):
        relay.step()
    blind.database.close()
    assert made not in ids(small)
