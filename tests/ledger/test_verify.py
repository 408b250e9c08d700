"""Tampering is found, and the first bad entry is named."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, text, update

from app.ledger.chain import GENESIS, chained
from app.ledger.models import CheckpointRow, EntryRow, RelayRow
from tests.ledger.conftest import Small

ENTRIES = 12


@pytest.fixture
def written(small: Small) -> Small:
    """Some batches of entries, each with its checkpoint."""
    for batch in range(4):
        for n in range(3):
            small.deed(batch * 3 + n)
        small.relay.step()
    assert small.verify(small.checkpoints).sound
    return small


def first_bad(small: Small, *files: Path) -> int | None:
    bad = small.verify(*files).bad
    return None if bad is None else bad.seq


def last(small: Small) -> int:
    return small.verify().entries


def test_a_sound_ledger_says_how_much_it_looked_at(written: Small) -> None:
    verdict = written.verify(written.checkpoints)
    assert verdict.sound
    assert verdict.entries >= ENTRIES
    assert verdict.checkpoints == verdict.outside >= 4


COLUMNS = ["id", "at", "event", "outcome", "human", "agent", "client_id", "consent", "task", "jti", "hash", "record"]


@pytest.mark.parametrize("column", COLUMNS)
def test_an_edit_of_any_column_names_the_entry(written: Small, column: str) -> None:
    seq = last(written) - 4
    with written.server.database.transaction() as session:
        row = session.get_one(EntryRow, seq)
        held = getattr(row, column)
        changed = (
            held + 1 if isinstance(held, int) else held + b" " if isinstance(held, bytes) else "0" * 64 if column == "hash" else f"{held}x"
        )
        session.execute(update(EntryRow).where(EntryRow.seq == seq).values({column: changed}))
    assert first_bad(written) == seq


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_single_change_is_found_where_it_was_made(written: Small, data: st.DataObject) -> None:
    end = last(written)
    seq = data.draw(st.integers(1, end))
    kind = data.draw(st.sampled_from(["edit", "delete", "swap"]))
    with written.server.database.transaction() as session:
        rows = {row.seq: (row.id, row.record, row.hash) for row in session.scalars(select(EntryRow))}
        if kind == "edit":
            facts = orjson.loads(rows[seq][1])
            facts["at"] += data.draw(st.integers(1, 1000))
            session.execute(update(EntryRow).where(EntryRow.seq == seq).values(record=orjson.dumps(facts)))
        elif kind == "delete":
            session.execute(delete(EntryRow).where(EntryRow.seq == seq))
        else:
            other = data.draw(st.integers(1, end).filter(lambda n: n != seq))
            session.execute(update(EntryRow).where(EntryRow.seq == seq).values(record=rows[other][1]))
            session.execute(update(EntryRow).where(EntryRow.seq == other).values(record=rows[seq][1]))
            seq = min(seq, other)
        session.flush()
        bad = _bad_within(written, session)
        session.rollback()
    assert bad == seq


def _bad_within(small: Small, session: object) -> int | None:
    """Verify inside the open transaction, so that it can be taken back."""
    from app.ledger.chain import Head
    from app.ledger.verify import Finding, _walk

    found: list[Finding] = []
    head, _ = _walk(session, set(), found)  # type: ignore[arg-type]
    relay = session.get(RelayRow, 1)  # type: ignore[attr-defined]
    if not found and Head(relay.seq, relay.hash) != head:
        return head.seq + 1
    return found[0].seq if found else None


def cut(small: Small, keep: int) -> None:
    """Remove the tail, and make everything in the database agree with that."""
    with small.server.database.transaction() as session:
        session.execute(delete(EntryRow).where(EntryRow.seq > keep))
        session.execute(delete(CheckpointRow).where(CheckpointRow.seq > keep))
        row = session.get_one(EntryRow, keep)
        session.execute(update(RelayRow).values(seq=row.seq, hash=row.hash))


def test_a_cut_tail_is_found_by_the_checkpoints_outside(written: Small) -> None:
    end = last(written)
    cut(written, end - 3)
    assert written.verify().sound
    assert first_bad(written, written.checkpoints) == end - 2


def test_a_cut_tail_that_forgot_the_relay_is_found_without_them(written: Small) -> None:
    end = last(written)
    with written.server.database.transaction() as session:
        session.execute(delete(EntryRow).where(EntryRow.seq > end - 2))
    assert first_bad(written) == end - 1


def test_a_chain_computed_anew_is_found_by_the_checkpoints_outside(written: Small) -> None:
    with written.server.database.transaction() as session:
        session.execute(delete(CheckpointRow))
        before = GENESIS
        for row in session.scalars(select(EntryRow).order_by(EntryRow.seq)):
            facts = orjson.loads(row.record)
            if row.seq == 2:
                facts["id"] = row.id = "00000000-0000-7000-8000-000000000000"
            row.record = orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)
            row.hash = before = chained(before, row.seq, row.record)
            head = row.seq
        session.execute(update(RelayRow).values(seq=head, hash=before))
    assert written.verify().sound
    bad = written.verify(written.checkpoints).bad
    assert bad is not None
    assert "computed anew" in bad.what


def test_a_checkpoint_of_somebody_else_is_no_checkpoint(written: Small, tmp_path: Path) -> None:
    line = json.loads(written.checkpoints.read_text().splitlines()[-1])
    head, body, signature = line["jws"].split(".")
    forged = tmp_path / "forged.jsonl"
    for jws in (f"{head}.{body}.{signature[::-1]}", f"{head}.{body}.", "x", ""):
        forged.write_text(json.dumps(line | {"jws": jws}) + "\n")
        assert not written.verify(forged).sound
    with written.server.database.transaction() as session:
        session.execute(text("UPDATE checkpoint SET jws = 'x' WHERE seq = (SELECT min(seq) FROM checkpoint)"))
    assert not written.verify().sound


def test_a_half_written_last_line_is_no_tampering_but_one_in_the_middle_is(written: Small, tmp_path: Path) -> None:
    text_ = written.checkpoints.read_text()
    half = tmp_path / "half.jsonl"
    half.write_text(text_ + '{"seq": 99, "ha')
    assert written.verify(half).sound
    half.write_text('{"seq": 99, "ha\n' + text_)
    assert not written.verify(half).sound


def test_a_rotated_ledger_key_leaves_the_ledger_verifiable(written: Small) -> None:
    from app.vocabulary import SigningAlg

    written.server.keys.rotate(SigningAlg.ES256)
    written.deed()
    written.relay.step()
    assert written.verify(written.checkpoints).sound


def test_an_export_is_verified_by_the_program_in_the_documentation(written: Small, tmp_path: Path) -> None:
    import re
    import subprocess
    import sys

    from app.ledger.queries import Queries

    docs = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", docs, re.DOTALL)
    (tmp_path / "check.py").write_text(program)
    export = tmp_path / "ledger.jsonl"
    export.write_bytes(b"".join(Queries(written.server.database).export()))

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, tmp_path / "check.py", export], capture_output=True, text=True, check=False)

    head = written.verify().head
    assert run().stdout.split() == [str(head.seq), head.hash]
    lines = export.read_text().splitlines(keepends=True)
    entry = json.loads(lines[head.seq - 2])
    entry["record"] = entry["record"].replace("test", "best")
    lines[head.seq - 2] = json.dumps(entry) + "\n"
    export.write_text("".join(lines))
    assert run().returncode == 1
    assert f"entry {head.seq - 1}" in run().stderr


def test_custody_tells_how_a_token_came_to_be(small: Small) -> None:
    from app.audit import serialize
    from app.audit.events import NOBODY, TokenIssued
    from app.ledger.queries import Filter, Queries
    from app.live.commit import Commit

    for jti, parent in (("a", None), ("b", "a"), ("c", "b"), ("d", "a")):
        event = TokenIssued(
            who=NOBODY, grant_type="x", token="access_token", jti=jti, audience="", scope={}, asked={}, expires_at=1, parent=parent
        )
        small.server.live.commit(Commit(record=serialize(event)[1]))
    small.relay.step()
    queries = Queries(small.server.database)
    assert [entry.record["jti"] for entry in queries.custody("c")] == ["c", "b", "a"]
    assert queries.custody("x") == []
    assert [entry.record["jti"] for entry in queries.newest(2, Filter(event="token.issued"))] == ["c", "d"]
