"""The relay: each record once, whatever happens between its steps."""

from __future__ import annotations

import errno
import importlib
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any
from uuid import uuid4

import orjson
import pytest
from sqlalchemy import delete, func, insert, select, update

from app import clock
from app.audit import record, serialize
from app.audit.events import NOBODY, Changed, SignInFailed, TokenIssued, Who
from app.database import Database
from app.delegation.models import TaskRow
from app.errors import TemporarilyUnavailable
from app.ledger import checkpoints
from app.ledger import relay as relay_module
from app.ledger.models import CheckpointRow, EntryRow, RelayRow
from app.ledger.queries import Filter, Queries
from app.ledger.relay import BATCH_BYTES, LEASE, MAX_RECORD, LostLease, Relay
from app.live.commit import Commit
from app.live.generation import STREAM, applied_key
from app.live.models import MovementRow
from app.live.things import DEPLOYMENT
from tests.ledger.conftest import Small


def test_what_was_decided_and_done_is_entered_once_and_forgotten_elsewhere(small: Small) -> None:
    made = [small.deed(1), small.streamed(2), small.deed(3), small.streamed(4)]
    small.relay.step()
    assert sorted(small.ids()[-4:]) == sorted(made)
    assert small.waiting() == 0
    small.relay.step()
    assert len(small.ids()) == len(set(small.ids()))
    assert small.verify(small.checkpoints).sound


def test_a_relay_that_died_between_sql_and_redis_enters_nothing_twice(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [small.streamed(n) for n in range(3)]
    small.slipped_in(b"{")
    connections = type(small.server.live.redis)
    call = connections.call

    def dead(redis: Any, *command: Any) -> Any:
        if command[0] == "XDEL":
            raise TemporarilyUnavailable("killed")
        return call(redis, *command)

    with monkeypatch.context() as killed:
        killed.setattr(connections, "call", dead)
        with pytest.raises(TemporarilyUnavailable):
            small.relay.step()
    # SQL has them, Redis still has them too.
    assert set(made) <= set(small.ids())
    assert small.waiting() == 4
    before = small.ids()
    made.append(small.streamed())
    small.another_relay("one").step()
    assert small.ids() == [*before, made[-1]]
    assert small.waiting() == 0
    assert small.verify(small.checkpoints).sound


def test_what_a_restored_stream_brings_again_is_entered_once(small: Small) -> None:
    made = small.streamed()
    (entry,) = small.server.live.redis.call("XRANGE", STREAM, "-", "+")
    small.relay.step()
    small.server.live.redis.call("XADD", STREAM, "*", *entry[1])
    small.server.live.redis.call("XADD", STREAM, "*", *entry[1])
    small.another_relay("one").step()
    assert small.ids().count(made) == 1
    assert small.waiting() == 0
    assert small.verify(small.checkpoints).sound


def test_the_same_id_with_other_words_is_neither_taken_nor_swallowed(small: Small) -> None:
    made = small.streamed(1)
    other = [orjson.dumps(json.loads(serialize(small.event(n))[1]) | {"id": made}, option=orjson.OPT_SORT_KEYS) for n in (2, 3)]
    small.slipped_in(other[0])
    small.relay.step()
    small.slipped_in(other[1])
    small.slipped_in(other[1])
    small.relay.step()
    assert small.ids().count(made) == 1
    found = [record["sha256"] for record in small.records("record.unreadable")]
    assert found == [sha256(other[0]).hexdigest(), sha256(other[1]).hexdigest(), sha256(other[1]).hexdigest()]
    assert next(r for r in small.records("changed") if r["id"] == made)["target"] == "t1"
    assert small.verify(small.checkpoints).sound


def test_only_the_holder_of_the_lease_writes(small: Small) -> None:
    other = small.another_relay("two")
    made = small.deed()
    assert other.step() is False
    assert made not in small.ids()
    small.relay.step()
    assert made in small.ids()


def test_a_stopped_relay_gives_the_lease_back_and_a_dead_ones_runs_out(small: Small) -> None:
    stop = threading.Event()
    stop.set()
    small.relay.run(stop)
    made = small.deed()
    other = small.another_relay("two")
    other.step()
    assert made in small.ids()
    # Now it dies: nobody gives the lease back, until its time is over.
    third = small.another_relay("three")
    made = small.deed()
    third.step()
    assert made not in small.ids()
    with small.server.database.transaction() as session:
        session.execute(update(RelayRow).values(until=RelayRow.until - LEASE - 1000))
    third.step()
    assert made in small.ids()


def test_the_same_holder_takes_over_at_once_after_a_crash(small: Small) -> None:
    made = small.deed()
    small.another_relay("one").step()
    assert made in small.ids()


def test_a_relay_that_lost_its_lease_loses_its_batch_too(small: Small) -> None:
    made = small.deed()
    taken = small.relay._take()
    with small.server.database.transaction() as session:
        session.execute(update(RelayRow).values(holder="two"))
    with pytest.raises(LostLease):
        small.relay._enter(taken)
    assert made not in small.ids()
    assert small.verify(small.checkpoints).sound


@pytest.mark.parametrize("names", [("one", "one"), ("one", "two")])
def test_of_two_relays_with_the_same_batch_one_enters_it(small: Small, names: tuple[str, str]) -> None:
    for turn in range(5):
        made = [small.streamed(turn), small.deed(turn)]
        relays = [small.another_relay(name) for name in names]
        batches = [relay._take() for relay in relays]
        outcomes: list[object] = []
        barrier = threading.Barrier(2)

        def enter(relay: Relay, batch: list[Any], outcomes: list[object] = outcomes, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(10)
            try:
                relay._enter(batch)
                outcomes.append("entered")
            except (LostLease, TemporarilyUnavailable) as lost:
                outcomes.append(type(lost))

        threads = [threading.Thread(target=enter, args=pair) for pair in zip(relays, batches, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(outcomes) == 2 and "entered" in outcomes
        assert [small.ids().count(one) for one in made] == [1, 1]
        assert small.verify().sound


def test_who_stands_by_does_not_ask_to_write(small: Small) -> None:
    other = small.another_relay("two")
    with small.server.database.transaction() as session:
        session.execute(update(RelayRow).values(seq=RelayRow.seq))
        # It would have to wait for this transaction, and give up.
        assert other.step() is False


def test_a_lease_that_a_wrong_clock_set_is_not_waited_for(small: Small) -> None:
    with small.server.database.transaction() as session:
        session.execute(update(RelayRow).values(until=RelayRow.until + 3_600_000))
    made = small.deed()
    small.another_relay("two").step()
    assert made in small.ids()


def test_a_relay_that_gets_the_lease_back_makes_its_file_good(small: Small) -> None:
    other = small.another_relay("two")
    object.__setattr__(other, "_settings", small.server.settings.model_copy(update={"var_dir": small.server.settings.var_dir / "two"}))
    (small.server.settings.var_dir / "two").mkdir()
    for relay in (small.relay, other, small.relay):
        with small.server.database.transaction() as session:
            session.execute(update(RelayRow).values(holder="", until=0))
        for waits in (small.relay, other):
            waits._renew_at = 0.0
        small.deed()
        relay.step()
        (other if relay is small.relay else small.relay).step()
    verdict = small.verify(small.checkpoints, small.server.settings.var_dir / "two" / "checkpoints.jsonl")
    assert verdict.sound
    assert verdict.covered_outside[0] == verdict.covered_outside[0].__class__(str(small.checkpoints), verdict.checkpoints, verdict.entries)
    assert verdict.covered_outside[1].checkpoints == verdict.checkpoints - 1


def test_two_relays_at_once_make_one_chain(small: Small) -> None:
    stop = threading.Event()
    relays = [small.relay, small.another_relay("two"), small.another_relay("one")]
    threads = [threading.Thread(target=relay.run, args=(stop,)) for relay in relays]
    for thread in threads:
        thread.start()
    made = [small.deed(n) if n % 2 else small.streamed(n) for n in range(200)]
    deadline = time.monotonic() + 30
    while set(made) - set(small.ids()) and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join(20)
    found = small.ids()
    assert len(found) == len(set(found))
    assert set(made) <= set(found)
    assert small.verify(small.checkpoints).sound


def test_a_record_nobody_of_ours_wrote_stops_nothing_and_is_not_swallowed(small: Small) -> None:
    for junk in (b"", b"{", b"[1]", b'{"v":1}', b"\xff\xfe", b'"' + b"x" * 70_000 + b'"'):
        small.server.live.redis.call("XADD", STREAM, "*", "r", junk)
    small.server.live.redis.call("XADD", STREAM, "*", "other", "field")
    made = small.streamed()
    small.relay.step()
    assert made in small.ids()
    assert len(small.records("record.unreadable")) == 7
    assert small.waiting() == 0
    assert small.verify(small.checkpoints).sound


GOOD: dict[str, Any] = {
    "v": 1,
    "id": "00000000-0000-7000-8000-000000000001",
    "at": 1,
    "event": "token.issued",
    "outcome": "done",
    "who": {},
}
BAD: list[dict[str, Any]] = [
    {"id": 5}, {"id": {}}, {"id": None}, {"id": ""}, {"id": "x" * 36}, {"id": GOOD["id"] + "\n"}, {"id": "x" * 99},
    {"at": "1"}, {"at": None}, {"at": True}, {"at": 1.5}, {"at": -1}, {"at": 2**63}, {"at": 1e300},
    {"event": [1]}, {"event": ""}, {"event": "x" * 41}, {"outcome": None}, {"outcome": "x" * 9}, {"outcome": {"a": 1}},
    {"who": "x"}, {"who": None}, {"who": []}, {"who": {"actors": {"a": 1}}}, {"who": {"actors": "x"}}, {"who": {"actors": [1]}},
    {"who": {"human": {}}}, {"who": {"human": "x" * 65}}, {"who": {"client": ["x"]}}, {"who": {"actors": ["x" * 301]}},
    {"task": ["x"]}, {"task": 1}, {"jti": "a\0b"}, {"jti": "\x1b[2J"}, {"consent": "x" * 65},
]  # fmt: skip


def test_what_only_looks_like_a_record_stops_nothing(small: Small) -> None:
    for bad in BAD:
        small.slipped_in(orjson.dumps(GOOD | bad, option=orjson.OPT_NON_STR_KEYS))
    deep = b'{"a":' * 1000 + b"1" + b"}" * 1000
    small.slipped_in(deep)
    made = small.streamed()
    small.relay.step()
    assert made in small.ids()
    assert GOOD["id"] not in small.ids()
    assert len(small.records("record.unreadable")) == len(BAD) + 1
    assert small.waiting() == 0
    assert small.verify(small.checkpoints).sound
    # What has the form of a record can be shown, whatever else is in it.
    odd: dict[str, Any]
    for odd in ({"scope": 1}, {"scope": {"a": 1}}, {"scope": []}, {"reason": {"a": []}}, {"parent": GOOD["id"]}, {"parent": ["x"]}):
        small.slipped_in(orjson.dumps(GOOD | odd | {"id": str(uuid4()), "jti": "tok_odd", "at": 1}))
    small.relay.step()
    show = importlib.import_module("app.cli.ledger")._line
    for entry in Queries(small.server.database).newest(1000, Filter()):
        assert show(entry).isprintable()
    assert Queries(small.server.database).custody("tok_odd")


def test_an_identifier_as_long_as_the_register_allows_is_entered(small: Small) -> None:
    agent = "https://" + "a" * 260 + ".example/agents/agt_1"
    made = small.said(SignInFailed(who=Who(actors=(agent,)), reason="x"))
    small.relay.step()
    assert made in small.ids()
    assert [entry.record["id"] for entry in Queries(small.server.database).newest(5, Filter(agent=agent))] == [made]


def test_a_long_record_of_ours_is_kept_whole(small: Small) -> None:
    long = Changed(
        who=Who(operator="test"), kind="test", target="t", what={"pairs": [f"https://api.example/ scope{n}" for n in range(20_000)]}
    )
    assert 65_536 < len(serialize(long)[1]) < MAX_RECORD
    made = [small.said(long)]
    longer = Changed(who=Who(operator="test"), kind="test", target="t", what={"words": "x" * 2 * MAX_RECORD})
    with small.server.database.transaction() as session:
        made.append(record(session, longer))
    small.slipped_in(serialize(longer)[1])
    small.relay.step()
    assert set(made) <= set(small.ids())
    # Past the server nothing gets in at that length.
    assert small.records("record.unreadable")[-1]["length"] > MAX_RECORD


def test_a_batch_is_bounded_in_bytes_too(small: Small) -> None:
    made = [small.said(Changed(who=Who(), kind="test", target=f"t{n}", what={"words": "x" * 500_000})) for n in range(20)]
    batch = small.relay._take()
    assert sum(len(one.body) for one in batch) < BATCH_BYTES + MAX_RECORD
    assert small.relay.step() is True
    assert 0 < small.waiting() < 20
    small.relay.drain()
    assert small.waiting() == 0
    assert [one for one in small.ids() if one in made] == made
    assert small.verify(small.checkpoints).sound


def test_more_than_a_page_and_more_than_a_batch_keep_their_order(small: Small) -> None:
    made = [small.streamed(n) for n in range(relay_module.BATCH + relay_module.PAGE + 7)]
    assert small.relay.step() is True
    assert small.waiting() == relay_module.PAGE + 7
    assert small.relay.step() is False
    assert [one for one in small.ids() if one in made] == made


def test_within_a_batch_the_older_comes_first_wherever_it_waited(small: Small) -> None:
    made = []
    for n in range(3):
        for leave in (small.deed, small.streamed):
            made.append(leave(n))
            end = clock.milliseconds()
            while clock.milliseconds() == end:
                time.sleep(0.001)
    small.relay.step()
    assert [one for one in small.ids() if one in made] == made


def test_an_entry_that_no_relay_wrote_is_in_the_way_until_somebody_looks(small: Small) -> None:
    end = small.verify().entries
    with small.server.database.transaction() as session:
        session.execute(insert(EntryRow).values(seq=end + 1, id="x", at=1, event="x", outcome="done", record=b"{}", hash="x"))
    made = [small.deed(), small.streamed()]
    for _ in range(3):
        with pytest.raises(TemporarilyUnavailable, match="temporarily"):
            small.relay.step()
    assert small.waiting() == 1
    bad = small.verify(small.checkpoints).bad
    assert bad is not None and bad.seq == end + 1
    with small.server.database.transaction() as session:
        session.execute(delete(EntryRow).where(EntryRow.seq == end + 1))
    small.relay.step()
    assert set(made) <= set(small.ids())
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
    opened = small.records("generation.opened")
    assert opened[-1]["generation"] == before.number + 1
    assert opened[-1]["drained"] == 0
    assert small.verify(small.checkpoints).sound


def test_what_is_left_in_the_stream_is_saved_before_a_new_generation(small: Small) -> None:
    made = [small.streamed(n) for n in range(3)]
    made.append(small.deed())
    small.server.live.redis.call("DEL", "deputy:ready")
    small.relay.step()
    small.relay.step()
    assert set(made) <= set(small.ids())
    assert small.records("generation.opened")[-1]["drained"] == 3


def generations_in_redis(small: Small) -> set[int]:
    return {int(key.split(b":")[1]) for key in small.server.live.redis.call("KEYS", "deputy:[0-9]*")}


def test_keys_of_earlier_generations_are_removed(small: Small) -> None:
    for _ in range(3):
        small.server.live.redis.call("DEL", "deputy:ready")
        small.relay.step()
    assert generations_in_redis(small) <= {small.server.live.reload_generation().number}


def test_keys_of_earlier_generations_are_removed_also_when_the_one_who_opened_died(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_args: object) -> None:
        raise TemporarilyUnavailable("killed")

    small.server.live.redis.call("SET", "deputy:1:v:agent:a", "1")
    small.server.live.redis.call("DEL", "deputy:ready")
    with monkeypatch.context() as died:
        died.setattr(relay_module, "forget_old", killed)
        with pytest.raises(TemporarilyUnavailable):
            small.relay.step()
    assert 1 in generations_in_redis(small)
    small.another_relay("one").step()
    assert generations_in_redis(small) <= {2}


def test_a_movement_that_redis_lacks_is_not_trimmed(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "KEEP_MOVEMENTS", 0)
    number = small.server.live.reload_generation().number
    with small.server.deeds.deed() as deed:
        deed.change(DEPLOYMENT)
    with small.server.database.reading() as session:
        newest = session.scalar(select(func.max(MovementRow.seq))) or 0
    small.server.live.redis.call("SET", applied_key(number), newest - 1)
    small.relay._next_chores = 0.0
    small.relay._do_chores()
    with small.server.database.reading() as session:
        assert session.get(MovementRow, newest) is not None
    small.relay.step()
    assert int(small.server.live.redis.call("GET", applied_key(number))) == newest


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


def in_database(small: Small) -> list[int]:
    with small.server.database.reading() as session:
        return list(session.scalars(select(CheckpointRow.seq).order_by(CheckpointRow.seq)))


def in_file(small: Small) -> list[int]:
    return [
        checkpoints.read_line(line, small.server.keys.ledger_verification_key).head.seq for _, line in checkpoints.lines(small.checkpoints)
    ]


def test_a_crash_before_the_file_was_written_is_made_good_at_once(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_disk(*_args: object) -> None:
        raise OSError

    small.deed()
    with monkeypatch.context() as broken:
        broken.setattr(checkpoints, "append", no_disk)
        with pytest.raises(TemporarilyUnavailable):
            small.relay.step()
    assert in_file(small) == in_database(small)[:-1]
    # No record need come for that.
    small.relay.step()
    assert in_file(small) == in_database(small)
    small.deed()
    with monkeypatch.context() as broken:
        broken.setattr(checkpoints, "append", no_disk)
        with pytest.raises(TemporarilyUnavailable):
            small.relay.step()
    small.another_relay("one").step()
    assert in_file(small) == in_database(small)
    assert small.verify(small.checkpoints).sound


def test_while_the_file_cannot_be_written_nothing_is_forgotten_in_redis(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_disk(*_args: object) -> None:
        raise OSError

    made = [small.streamed(), small.deed()]
    with monkeypatch.context() as broken:
        broken.setattr(checkpoints, "append", no_disk)
        for _ in range(3):
            with pytest.raises(TemporarilyUnavailable):
                small.relay.step()
        assert small.waiting() == 1
    small.relay.step()
    assert small.waiting() == 0
    assert [small.ids().count(one) for one in made] == [1, 1]
    assert in_file(small) == in_database(small)


def test_a_disk_that_takes_half_a_line_spoils_no_other(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    for taken in (0, 1, 7, 40, 300):
        state = {"left": taken}

        def full(handle: int, content: bytes, state: dict[str, int] = state) -> int:
            if not state["left"]:
                raise OSError(errno.ENOSPC, "No space left on device")
            done = write(handle, content[: state["left"]])
            state["left"] -= done
            return done

        small.deed()
        with monkeypatch.context() as broken:
            broken.setattr(os, "write", full)
            with pytest.raises(TemporarilyUnavailable):
                small.relay.step()
        small.deed()
        small.another_relay("one").step()
        assert in_file(small) == in_database(small), taken
    verdict = small.verify(small.checkpoints)
    assert verdict.sound, verdict.findings
    assert verdict.covered_outside[0].until == verdict.entries


def test_a_write_in_pieces_is_completed(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    small.deed()
    with monkeypatch.context() as slow:
        slow.setattr(os, "write", lambda handle, content: write(handle, content[:50]))
        small.relay.step()
    assert in_file(small) == in_database(small)


def test_a_commit_whose_answer_was_lost_has_its_checkpoint_outside(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    transaction = Database.transaction

    @contextmanager
    def unheard(database: Database) -> Iterator[Any]:
        with transaction(database) as session:
            yield session
        raise TemporarilyUnavailable("sql: OperationalError")

    made = small.streamed()
    taken = small.relay._take()
    with monkeypatch.context() as cut:
        cut.setattr(Database, "transaction", unheard)
        with pytest.raises(TemporarilyUnavailable):
            small.relay._enter(taken)
    small.relay.step()
    assert small.ids().count(made) == 1
    assert in_file(small) == in_database(small)
    assert small.verify(small.checkpoints).sound


def test_a_file_that_is_gone_begins_again_with_the_newest(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(6):
        small.deed(n)
        small.relay.step()
    small.checkpoints.rename(small.checkpoints.with_name("kept.jsonl"))
    monkeypatch.setattr(relay_module, "CATCH_UP", 3)
    small.another_relay("one").step()
    assert in_file(small) == in_database(small)[-3:]
    assert small.verify(small.checkpoints, small.checkpoints.with_name("kept.jsonl")).sound


def test_a_checkpoint_that_was_edited_is_not_spread_and_stops_nothing(small: Small) -> None:
    small.deed()
    small.relay.step()
    with small.server.database.transaction() as session:
        last = session.scalar(select(func.max(CheckpointRow.seq)))
        session.execute(update(CheckpointRow).where(CheckpointRow.seq == last).values(jws="x"))
    small.checkpoints.unlink()
    made = small.deed()
    small.another_relay("one").step()
    assert made in small.ids()
    assert in_file(small) == [seq for seq in in_database(small) if seq != last]
    assert not small.verify(small.checkpoints).sound


def test_after_the_database_was_set_back_the_file_goes_on_from_there(small: Small) -> None:
    for n in range(4):
        small.deed(n)
        small.relay.step()
    lost = in_database(small)[-2:]
    with small.server.database.transaction() as session:
        keep = session.get_one(EntryRow, in_database(small)[-3])
        session.execute(delete(EntryRow).where(EntryRow.seq > keep.seq))
        session.execute(delete(CheckpointRow).where(CheckpointRow.seq > keep.seq))
        session.execute(update(RelayRow).values(seq=keep.seq, hash=keep.hash))
    small.deed()
    small.another_relay("one").step()
    assert in_file(small)[-3:-1] == [lost[-1], keep.seq]
    assert in_file(small)[-1] == in_database(small)[-1] == keep.seq + 1
    # What the file says of the lost entries is not forgotten.
    assert not small.verify(small.checkpoints).sound


def test_the_use_of_a_task_is_counted(small: Small) -> None:
    with small.server.database.transaction() as session:
        session.add(TaskRow(id="tsk_x", consent="c", human="h", agent="a", generation=1, opened_at=0, deadline=1))
    for n in range(3):
        event = TokenIssued(
            who=NOBODY, grant_type="x", token="access_token", jti=f"j{n}", audience="a", scope={}, asked={}, expires_at=1, task="tsk_x"
        )
        small.said(event)
    small.relay.step()
    at = max(one["at"] for one in small.records("token.issued"))
    with small.server.database.reading() as session:
        row = session.get_one(TaskRow, "tsk_x")
        assert row.uses == 3
        assert row.last_used_at == at // 1000


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
    assert made not in small.ids()
