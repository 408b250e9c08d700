"""Tampering is found, and the first bad entry is named."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from app.ledger import checkpoints, verify
from app.ledger.chain import chained
from app.ledger.relay import columns_of
from app.vocabulary import KeyState, KeyUse, SigningAlg
from tests.ledger.conftest import Small
from tests.ledger.paper import ISSUER, SIGNING, Paper, fact, find_key, written

ENTRY = ["id", "at", "event", "outcome", "human", "agent", "client_id", "consent", "task", "jti", "record", "hash"]
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
VALUES = st.one_of(WORDS, st.integers(-(2**63), 2**63 - 1), st.binary(max_size=8), st.none())
"""What somebody at a shell may put into a column: SQLite takes anything."""


@contextmanager
def paper(*sizes: int, **more: Any) -> Iterator[Paper]:
    """A ledger of batches of these sizes."""
    directory = Path(tempfile.mkdtemp(prefix="dpp"))
    made = Paper(directory / "checkpoints.jsonl")
    number = iter(range(1, sum(sizes) + 1))
    made.write([[fact(next(number), **more) for _ in range(size)] for size in sizes])
    yield made
    made.database.close()
    shutil.rmtree(directory)


@st.composite
def ledgers(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """One to four batches of records with whatever in them."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    number = iter(range(1, sum(sizes) + 1))
    optional = st.fixed_dictionaries({}, optional={"task": WORDS, "jti": WORDS, "n": st.integers(0, 9), "reason": WORDS})
    return [[fact(next(number)) | draw(optional) for _ in range(size)] for size in sizes]


def first_bad(verdict: verify.Verdict) -> int | None:
    return None if verdict.bad is None else verdict.bad.seq


CHANGES = st.sampled_from(["edit", "delete", "swap", "insert before", "insert after", "cut", "repeat"])


@settings(max_examples=300, deadline=None)
@given(batches=ledgers(), change=CHANGES, data=st.data())
def test_any_single_change_of_any_ledger_is_found_where_it_was_made(batches: list[Any], change: str, data: st.DataObject) -> None:
    with paper() as made:
        made.write(batches)
        end = sum(map(len, batches))
        sound = made.verify(made.file)
        assert sound.sound and sound.entries == end
        assert sound.covered.until == sound.covered_outside[0].until == end
        assert sound.checkpoints == sound.outside == len(batches)

        seq = _change(made, change, end, data)
        for verdict in (made.verify(), made.verify(made.file)):
            assert first_bad(verdict) == seq, (change, verdict.findings)
            assert verdict.entries == seq - 1 or change == "insert after"


def _change(made: Paper, change: str, end: int, data: st.DataObject) -> int:
    """Change something; returns the first entry that is bad then."""
    seq = data.draw(st.integers(1, end), label="seq")
    match change:
        case "edit":
            column = data.draw(st.sampled_from(ENTRY), label="column")
            before = made.ask(f"SELECT typeof({column}), {column} FROM ledger WHERE seq = {seq}")
            try:
                made.do(f"UPDATE ledger SET {column} = :value WHERE seq = :seq", value=data.draw(VALUES, label="value"), seq=seq)
            except IntegrityError:
                assume(False)
            assume(made.ask(f"SELECT typeof({column}), {column} FROM ledger WHERE seq = {seq}") != before)
        case "delete":
            made.do("DELETE FROM ledger WHERE seq = :seq", seq=seq)
        case "swap":
            assume(end > 1)
            other = data.draw(st.integers(1, end).filter(lambda n: n != seq), label="other")
            for source, target in ((seq, -1), (other, seq), (-1, other)):
                made.do("UPDATE ledger SET seq = :target WHERE seq = :source", source=source, target=target)
            seq = min(seq, other)
        case "insert before":
            at = data.draw(st.integers(-(2**63), 0), label="at")
            made.do(f"INSERT INTO ledger SELECT {at}, 'x', {', '.join(ENTRY[1:])} FROM ledger WHERE seq = :seq", seq=seq)
            seq = 1
        case "insert after":
            # With the right hash, and the relay's row in step: all that somebody without the ledger's key can do.
            body = written(fact(end + 1))
            head = made.head.extended(body)
            facts = columns_of(fact(end + 1)) | {"seq": end + 1, "record": body, "hash": head.hash}
            made.do(f"INSERT INTO ledger ({', '.join(facts)}) VALUES ({', '.join(f':{name}' for name in facts)})", **facts)
            if data.draw(st.booleans(), label="in step"):
                made.do("UPDATE relay SET seq = :seq, hash = :hash", seq=head.seq, hash=head.hash)
            seq = end + 1
        case "cut":
            made.do("DELETE FROM ledger WHERE seq >= :seq", seq=seq)
        case "repeat":
            made.do("UPDATE ledger SET seq = seq + 1000 WHERE seq > :seq", seq=seq)
            made.do("UPDATE ledger SET seq = seq - 999 WHERE seq > 1000")
            made.do(f"INSERT INTO ledger SELECT seq + 1, 'x', {', '.join(ENTRY[1:])} FROM ledger WHERE seq = :seq", seq=seq)
            seq += 1
        case _:
            raise AssertionError(change)
    return seq


@settings(max_examples=100, deadline=None)
@given(batches=ledgers(), data=st.data())
def test_a_tail_cut_with_care_is_found_by_the_checkpoints_outside(batches: list[Any], data: st.DataObject) -> None:
    with paper() as made:
        made.write(batches)
        end = made.head.seq
        keep = data.draw(st.integers(0, end - 1), label="keep")
        between = keep not in {0, *made.covered}
        made.cut(keep)
        # Between two checkpoints it shows without them too: every batch ends with one.
        assert made.verify().sound is not between
        verdict = made.verify(made.file)
        assert any(finding.seq == keep + 1 and "the tail is cut" in finding.what for finding in verdict.findings)
        assert first_bad(verdict) == max([seq for seq in made.covered if seq <= keep], default=0) + 1


@settings(max_examples=100, deadline=None)
@given(batches=ledgers(), data=st.data(), sign=st.booleans())
def test_a_chain_computed_anew_is_found(batches: list[Any], data: st.DataObject, sign: bool) -> None:
    with paper() as made:
        made.write(batches)
        first = data.draw(st.integers(1, made.head.seq), label="first")
        good = max([seq for seq in made.covered if seq < first], default=0)
        facts = made.facts[first - 1 :]
        facts[0] |= {"reason": "another"}
        made.compute_anew(first, facts, sign=sign)
        # Who has not the ledger's key has no checkpoint for what it made; who has, is contradicted from outside.
        inside = made.verify()
        assert inside.sound is sign
        if not sign:
            assert first_bad(inside) == good + 1
        verdict = made.verify(made.file)
        assert first_bad(verdict) == good + 1
        assert any("computed anew" in finding.what for finding in verdict.findings)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_an_edit_of_a_checkpoint_or_of_the_relays_row_is_found(data: st.DataObject) -> None:
    with paper(2, 1, 3) as made:
        table, column = data.draw(st.sampled_from([("checkpoint", "at"), ("checkpoint", "jws"), ("relay", "seq"), ("relay", "hash")]))
        where = f"seq = {data.draw(st.sampled_from(made.covered))}" if table == "checkpoint" else "id = 1"
        before = made.ask(f"SELECT typeof({column}), {column} FROM {table} WHERE {where}")
        try:
            made.do(f"UPDATE {table} SET {column} = :value WHERE {where}", value=data.draw(VALUES))
        except IntegrityError:
            assume(False)
        assume(made.ask(f"SELECT typeof({column}), {column} FROM {table} WHERE {where}") != before)
        assert not made.verify().sound


def test_a_checkpoint_moved_swapped_or_taken_away_at_the_end_is_found() -> None:
    for sql in (
        "UPDATE checkpoint SET seq = 4 WHERE seq = 3",
        "UPDATE checkpoint SET seq = 0 WHERE seq = 3",
        "UPDATE checkpoint SET seq = 99 WHERE seq = 6",
        "UPDATE checkpoint SET jws = (SELECT jws FROM checkpoint WHERE seq = 2) WHERE seq = 3",
        "DELETE FROM checkpoint WHERE seq = 6",
        "DELETE FROM checkpoint",
        "DELETE FROM relay",
    ):
        with paper(2, 1, 3) as made:
            made.do(sql)
            assert not made.verify().sound, sql


def test_what_the_driver_cannot_read_is_named_too() -> None:
    for table, column, seq in (("ledger", "human", 4), ("ledger", "record", 4), ("ledger", "hash", 1), ("checkpoint", "jws", 3)):
        with paper(2, 1, 3) as made:
            made.do(f"UPDATE {table} SET {column} = CAST(x'ff22' AS TEXT) WHERE seq = :seq", seq=seq)
            assert first_bad(made.verify()) == seq, (table, column)


def test_an_edit_by_sqls_own_replace_is_named() -> None:
    with paper(5, n=1) as made:
        made.do("UPDATE ledger SET record = replace(record, :old, :new) WHERE seq = 3", old='"n":1', new='"n":2')
        assert first_bad(made.verify()) == 3


def test_a_long_ledger_is_walked_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "BATCH", 3)
    monkeypatch.setattr(verify, "MANY", 3)
    with paper(*([2] * 10)) as made:
        verdict = made.verify(made.file)
        assert verdict.sound and verdict.entries == 20 and verdict.checkpoints == verdict.outside == 10
        made.do("UPDATE ledger SET human = CAST(x'ff' AS TEXT) WHERE seq = 14")
        assert first_bad(made.verify(made.file)) == 14


def test_it_says_what_the_checkpoints_cover(tmp_path: Path) -> None:
    with paper(2, 3) as made:
        older = tmp_path / "older.jsonl"
        shutil.copy(made.file, older)
        made.write([[fact(6)]])
        verdict = made.verify(older, made.file)
        assert verdict.sound
        assert [(one.where, one.checkpoints, one.until) for one in (verdict.covered, *verdict.covered_outside)] == [
            ("the database", 3, 6), (str(older), 2, 5), (str(made.file), 3, 6),
        ]  # fmt: skip
        assert verdict.outside == 5
        made.cut(5)
        assert made.verify(older).sound
        assert first_bad(made.verify(older, made.file)) == 6


def test_an_empty_ledger_is_sound_until_a_file_says_it_was_not_empty() -> None:
    with paper() as made:
        assert made.verify().sound
    with paper(1) as made:
        made.cut(0)
        assert made.verify().sound
        assert first_bad(made.verify(made.file)) == 1


# The file outside


def test_a_line_that_says_another_thing_than_its_signature_is_no_checkpoint(tmp_path: Path) -> None:
    with paper(2, 1) as made:
        line = json.loads(made.file.read_text().splitlines()[-1])
        head, body, signature = line["jws"].split(".")
        file = tmp_path / "forged.jsonl"
        for edit in (
            {"jws": f"{head}.{body}.{signature[::-1]}"}, {"jws": f"{head}.{body}."}, {"jws": "x"}, {"jws": ""}, {"jws": None},
            {"seq": 2}, {"at": 1}, {"hash": "0" * 64}, {"more": 1},
        ):  # fmt: skip
            file.write_text(json.dumps(line | edit) + "\n")
            verdict = made.verify(file)
            assert verdict.bad is not None and str(file) in verdict.bad.what, edit
        file.write_text(json.dumps(line) + "\n")
        assert made.verify(file).sound


def test_a_bad_line_does_not_hide_a_bad_entry(tmp_path: Path) -> None:
    with paper(2, 1, 3) as made:
        junk = tmp_path / "junk.jsonl"
        junk.write_text("junk\n" * 50 + made.file.read_text())
        verdict = made.verify(junk)
        assert first_bad(verdict) == 0
        assert len(verdict.findings) == 1 and "line 1 of" in verdict.findings[0].what and "49 more" in verdict.findings[0].what
        made.cut(3)
        verdict = made.verify(junk)
        assert first_bad(verdict) == 4
        made.do("UPDATE ledger SET human = 'x' WHERE seq = 2")
        assert first_bad(made.verify(junk)) == 2


def test_the_pieces_a_torn_write_leaves_are_no_tampering(tmp_path: Path) -> None:
    with paper(2, 1, 3) as made:
        whole = made.file.read_bytes().splitlines(keepends=True)
        for at in range(1, len(whole[1])):
            made.file.write_bytes(whole[0] + whole[1][:at])
            assert made.verify(made.file).sound, at
            with made.file.open("ab") as file:
                file.write(b"\n" + whole[1] + whole[2])
            verdict = made.verify(made.file)
            assert verdict.sound and verdict.outside >= 3 and verdict.covered_outside[0].until == 6, at


def test_a_file_that_is_written_meanwhile_is_read_as_it_was_at_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    with paper(2, 1) as made:
        walk, later = verify.Verifier._walk, checkpoints.sign(made.head.extended(b"{}"), 1, ISSUER, SIGNING)

        def and_then_more(*given: Any) -> Any:
            found = walk(*given)
            checkpoints.append(made.file, [later])
            return found

        monkeypatch.setattr(verify.Verifier, "_walk", and_then_more)
        assert made.verify(made.file).sound
        # Looked at again it speaks of an entry that is not there.
        assert first_bad(made.verify(made.file)) == 4


def test_an_issuer_that_moved_keeps_its_past() -> None:
    with paper(2, 1) as made:
        assert verify.Verifier(made.database, find_key, "https://elsewhere.example").verify([made.file]).sound
        made.compute_anew(2, [fact(2, reason="x"), fact(3)], sign=True)
        bad = verify.Verifier(made.database, find_key, "https://elsewhere.example").verify([made.file]).bad
        assert bad is not None and "signed for https://deputy.example" in bad.what


# With a server


def test_a_live_ledger_is_sound_at_every_moment(small: Small) -> None:
    stop = threading.Event()
    relay = threading.Thread(target=small.relay.run, args=(stop,))

    def work() -> None:
        number = 0
        while not stop.is_set():
            small.deed(number := number + 1)

    feeder = threading.Thread(target=work)
    relay.start()
    feeder.start()
    verdicts = [small.verify(small.checkpoints)]
    # The limit only catches a relay that stands still.
    end = time.monotonic() + 30
    while len(verdicts) < 40 or (verdicts[-1].entries == verdicts[0].entries and time.monotonic() < end):
        verdicts.append(small.verify(small.checkpoints))
    stop.set()
    relay.join(30)
    feeder.join(30)
    assert [verdict.findings for verdict in verdicts if not verdict.sound] == []
    assert verdicts[-1].entries > verdicts[0].entries


@pytest.mark.parametrize("column", ["at", "event", "outcome", "human", "agent", "client_id", "consent", "task", "jti", "hash", "record"])
def test_an_edit_is_named_on_this_database_too(small: Small, column: str) -> None:
    for number in range(4):
        small.deed(number)
        small.relay.step()
    seq = small.verify().entries - 2
    from sqlalchemy import update

    from app.ledger.models import EntryRow

    with small.server.database.transaction() as session:
        held = getattr(session.get_one(EntryRow, seq), column)
        other = held + 1 if isinstance(held, int) else held + b" " if isinstance(held, bytes) else "0" * 64 if column == "hash" else "other"
        session.execute(update(EntryRow).where(EntryRow.seq == seq).values({column: other}))
    assert first_bad(small.verify()) == seq
    assert first_bad(small.verify(small.checkpoints)) == seq


def test_whatever_became_of_the_keys_the_ledger_is_verifiable(small: Small) -> None:
    keys = small.server.keys

    def revoke(use: KeyUse) -> None:
        for one in keys.list():
            if one.use is use and one.state is KeyState.ACTIVE:
                keys.revoke(one.kid)

    moves: list[Callable[[], object]] = [
        lambda: keys.rotate(SigningAlg.ES256),
        keys.rotate_ledger,
        lambda: revoke(KeyUse.TOKEN),
        lambda: revoke(KeyUse.LEDGER),
    ]
    for move in moves:
        small.deed()
        small.relay.step()
        move()
        small.deed()
        small.relay.step()
        verdict = small.verify(small.checkpoints)
        assert verdict.sound, verdict.findings
        assert verdict.covered.until == verdict.covered_outside[0].until == verdict.entries
    assert len({json.loads(line)["jws"].split(".")[0] for line in small.checkpoints.read_text().splitlines()}) == 3


def test_a_ledger_key_that_is_gone_leaves_its_checkpoints_without_weight(small: Small) -> None:
    small.deed()
    small.relay.step()
    assert verify.Verifier(small.server.database, lambda _kid: None, "x").verify([small.checkpoints]).checkpoints == 0
    assert not verify.Verifier(small.server.database, lambda _kid: None, "x").verify().sound


def test_the_chains_formula_is_what_the_documentation_says() -> None:
    import hashlib

    for seq, before, record in ((1, "0" * 64, b"{}"), (2**40, "ab" * 32, "é".encode())):
        expected = hashlib.sha256(bytes.fromhex(before) + seq.to_bytes(8, "big") + record).hexdigest()
        assert chained(before, seq, record) == expected
