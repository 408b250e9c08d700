"""Reading the ledger: its tail, one token's custody, an export that is verified elsewhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.audit.events import Changed, TokenIssued, TokenRefused, Who
from app.cli import cli
from app.ledger import queries as queries_module
from app.ledger.chain import GENESIS, Head
from app.ledger.queries import Filter, Queries
from tests.ledger.conftest import Small

DOCS = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text()
CHAIN, SIGNED = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)


def issued(jti: str, parent: str | None = None, **more: Any) -> TokenIssued:
    who = more.pop("who", Who(actors=("https://deputy.example/agents/agt_1",), human="hum_1"))
    return TokenIssued(
        who=who, grant_type="x", token="access_token", jti=jti, audience="", scope={"https://api": ["read"]}, asked={}, expires_at=1,
        parent=parent, **more,
    )  # fmt: skip


@pytest.fixture
def deputy(small: Small) -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(cli, list(words), obj=lambda: small.server)


def test_the_tail_by_everything_it_can_be_asked_by(small: Small) -> None:
    one, two = Who(actors=("agt_1",), human="hum_1", client="cli_1"), Who(actors=("agt_2", "agt_1"), human="hum_2")
    small.said(issued("tok_1", who=one, task="tsk_1", consent="con_1"))
    small.said(issued("tok_2", who=two, task="tsk_2", consent="con_2"))
    small.said(TokenRefused(who=two, grant_type="x", error="e", layer="l", reason="r", asked={}, task="tsk_2", consent="con_2"))
    small.relay.step()
    queries = Queries(small.server.database)

    def found(**which: str) -> list[tuple[str, str | None]]:
        return [(entry.record["event"], entry.record.get("jti")) for entry in queries.newest(10, Filter(**which))]

    first, second, third = ("token.issued", "tok_1"), ("token.issued", "tok_2"), ("token.refused", None)
    assert (
        found(human="hum_1") == found(agent="agt_1") == found(client_id="cli_1") == found(task="tsk_1") == found(consent="con_1") == [first]
    )
    assert found(human="hum_2") == found(agent="agt_2") == found(task="tsk_2") == found(consent="con_2") == [second, third]
    assert found(jti="tok_2") == [second]
    assert found(event="token.issued") == found(outcome="permit") == [first, second]
    assert found(human="hum_2", outcome="deny") == [third]
    assert found(human="nobody") == []
    assert [entry.record["event"] for entry in queries.newest(2, Filter())] == ["token.issued", "token.refused"]


def test_who_follows_misses_nothing_however_much_is_written(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries_module, "BATCH", 5)
    queries = Queries(small.server.database)
    last = queries.newest(1, Filter())[-1].seq
    made = [small.deed(n) for n in range(23)]
    small.relay.drain()
    seen = []
    while entries := queries.following(last, Filter(event="changed")):
        assert len(entries) <= 5
        seen += [entry.record["id"] for entry in entries]
        last = entries[-1].seq
    assert sorted(seen) == sorted(made)


def test_custody_tells_how_a_token_came_to_be(small: Small) -> None:
    for jti, parent in (("a", None), ("b", "a"), ("c", "b"), ("d", "a")):
        small.said(issued(jti, parent))
    small.relay.step()
    queries = Queries(small.server.database)
    assert [entry.record["jti"] for entry in queries.custody("c")] == ["c", "b", "a"]
    assert [entry.record["jti"] for entry in queries.custody("d")] == ["d", "a"]
    assert queries.custody("x") == []


def test_custody_ends_also_where_records_name_each_other(small: Small) -> None:
    for jti, parent in (("a", "b"), ("b", "a"), ("c", "c"), ("d", "lost")):
        small.said(issued(jti, parent))
    small.relay.step()
    queries = Queries(small.server.database)
    assert [[entry.record["jti"] for entry in queries.custody(jti)] for jti in "abcd"] == [["a", "b"], ["b", "a"], ["c"], ["d"]]


# The export, and the documentation's programs


def run(program: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def exported(small: Small, tmp_path: Path, deputy: Callable[..., Result]) -> Path:
    for n in range(4):
        small.deed(n)
        small.said(Changed(who=Who(operator="test"), kind="test", target="é€😀", what={"n": n}))
        small.relay.step()
    path = tmp_path / "ledger.jsonl"
    assert deputy("ledger", "export", "--output", str(path)).exit_code == 0
    (tmp_path / "keys.json").write_text(deputy("key", "list", "--json").stdout)
    return path


def test_an_export_is_verified_by_the_programs_in_the_documentation(small: Small, exported: Path) -> None:
    head, keys = small.verify().head, exported.with_name("keys.json")
    assert exported.stat().st_mode & 0o777 == 0o600
    assert run(CHAIN, exported).stdout.split() == [str(head.seq), head.hash]
    for kept in ([], [small.checkpoints]):
        assert run(SIGNED, exported, keys, *kept).stdout == f"signed up to entry {head.seq}\n"
    lines = [json.loads(line) for line in exported.read_text().splitlines()]
    assert [line["seq"] for line in lines if "seq" in line] == list(range(1, head.seq + 1))
    assert sum("checkpoint" in line for line in lines) == small.verify().checkpoints


def test_an_export_that_begins_later_is_verified_too(small: Small, exported: Path, deputy: Callable[..., Result]) -> None:
    head, keys, later = small.verify().head, exported.with_name("keys.json"), exported.with_name("later.jsonl")
    for first in (2, 5, head.seq):
        later.write_text(deputy("ledger", "export", "--from", str(first)).stdout)
        assert json.loads(later.read_text().splitlines()[0])["after"]["seq"] == first - 1
        assert run(CHAIN, later).stdout.split() == [str(head.seq), head.hash]
        assert run(SIGNED, later, keys, small.checkpoints).stdout == f"signed up to entry {head.seq}\n"
    assert deputy("ledger", "export", "--from", str(head.seq + 1)).stdout.count("\n") <= 1


def test_a_changed_export_is_found_by_them(small: Small, exported: Path) -> None:
    keys, head = exported.with_name("keys.json"), small.verify().head
    lines = exported.read_text().splitlines(keepends=True)
    at = head.seq - 2
    entry = json.loads(lines[at - 1])

    def changed(*new: str) -> Path:
        path = exported.with_name("changed.jsonl")
        path.write_text("".join(new))
        return path

    edited = json.dumps(entry | {"record": entry["record"].replace("test", "best")}) + "\n"
    for new in (
        [*lines[: at - 1], edited, *lines[at:]],
        [*lines[: at - 1], *lines[at:]],
        [*lines[: at - 1], lines[at], lines[at - 1], *lines[at + 1 :]],
    ):
        outcome = run(CHAIN, changed(*new))
        assert outcome.returncode == 1
        assert f"entry {at} is not" in outcome.stderr
    # Only the first line may say where it begins.
    assert run(CHAIN, changed(*lines[:3], json.dumps({"after": {"seq": 4, "hash": "0" * 64}}) + "\n", *lines[4:])).returncode == 1
    # Cut, or without its last checkpoint: a chain still, but not up to what was signed.
    without = [line for line in lines[:-1] if "checkpoint" in line]
    for new in (lines[: head.seq - 1] + without, lines[: head.seq] + without[:-1]):
        path = changed(*new)
        assert run(CHAIN, path).returncode == 0
        assert "no checkpoint covers" in run(SIGNED, path, keys).stderr
    assert "no such entry" in run(SIGNED, changed(*lines[: head.seq - 1], *without), keys, small.checkpoints).stderr
    # Keys of somebody else.
    other = exported.with_name("other.json")
    listed = json.loads(keys.read_text())
    listed["ledger_jwks"]["keys"] = [listed["ledger_jwks"]["keys"][0] | {"x": listed["ledger_jwks"]["keys"][0]["y"]}]
    other.write_text(json.dumps(listed))
    assert run(SIGNED, exported, other).returncode == 1


@pytest.fixture
def check(deputy: Callable[..., Result], exported: Path) -> Callable[..., tuple[int, dict[str, Any]]]:
    def asked(path: Path, *more: str) -> tuple[int, dict[str, Any]]:
        said = deputy("ledger", "check", str(path), "--keys", str(exported.with_name("keys.json")), *more, "--json")
        return said.exit_code, json.loads(said.stdout)

    return asked


def test_the_command_checks_an_export_with_nothing_of_the_server(small: Small, exported: Path) -> None:
    head = small.verify().head
    keys = ["--keys", str(exported.with_name("keys.json"))]

    def no_server() -> None:
        raise AssertionError("asked for a server")

    said = CliRunner().invoke(
        cli, ["ledger", "check", str(exported), *keys, "--checkpoints", str(small.checkpoints), "--json"], obj=no_server
    )
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout) == {
        "sound": True, "first": 1, "last": head.seq, "hash": head.hash, "checkpoints": 2 * small.verify().checkpoints,
    }  # fmt: skip
    said = CliRunner().invoke(cli, ["ledger", "check", str(exported), "--keys", str(exported)], obj=no_server)
    assert said.exit_code == 1 and "no public keys of a ledger" in said.output


def test_the_command_says_how_far_the_ledger_went_on_after_the_export(small: Small, exported: Path, deputy: Callable[..., Result]) -> None:
    small.said(Changed(who=Who(operator="test"), kind="test", target="later", what={}))
    small.relay.step()
    words = ("ledger", "check", str(exported), "--keys", str(exported.with_name("keys.json")), "--checkpoints", str(small.checkpoints))
    said = deputy(*words)
    assert said.exit_code == 0 and f"go on to entry {small.verify().head.seq}" in said.stdout


def test_the_command_checks_an_export_that_begins_later(
    small: Small, exported: Path, deputy: Callable[..., Result], check: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    later = exported.with_name("later.jsonl")
    for first in (2, 5, small.verify().head.seq):
        later.write_text(deputy("ledger", "export", "--from", str(first)).stdout)
        code, facts = check(later, "--checkpoints", str(small.checkpoints))
        assert (code, facts["first"], facts["last"]) == (0, first, small.verify().head.seq)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("edited", "Entry 5 is not"), ("deleted", "Entry 5 is not"), ("reordered", "Entry 5 is not"), ("a piece", "Line 5 is no line"),
        ("cut", "The end is cut"), ("cut with its checkpoints", "is no line|No checkpoint covers"), ("without the last checkpoint", "No checkpoint covers"),
        ("made up", "another hash at entry"), ("signed by another", "not a checkpoint of ours"), ("something between", "is no line"),
        ("a beginning in the middle", "is no line"), ("a list", "is no line"),
    ],
)  # fmt: skip
def test_the_command_finds_what_was_done_to_an_export(
    what: str, said: str, exported: Path, check: Callable[..., tuple[int, dict[str, Any]]]
) -> None:
    lines = exported.read_text().splitlines(keepends=True)
    entries, signed = [line for line in lines if "record" in json.loads(line)], [line for line in lines if "checkpoint" in json.loads(line)]
    assert len(entries) > 6 and len(signed) > 2
    fifth = json.loads(entries[4])
    head, made_up = Head(0, GENESIS), []
    for line in entries:
        record = json.loads(line)["record"].replace('"n":', '"m":')
        head = head.extended(record.encode())
        made_up.append(json.dumps({"seq": head.seq, "hash": head.hash, "record": record}) + "\n")
    forged = json.loads(signed[0])["checkpoint"]
    changed = {
        "edited": [*entries[:4], json.dumps(fifth | {"record": fifth["record"] + " "}) + "\n", *entries[5:], *signed],
        "deleted": [*entries[:4], *entries[5:], *signed],
        "reordered": [*entries[:4], entries[5], entries[4], *entries[6:], *signed],
        "a piece": [*entries[:4], entries[4][:20], "\n", *entries[5:], *signed],
        "cut": [*entries[:-1], *signed],
        "cut with its checkpoints": [*entries[:-1], *signed[:-1]],
        "without the last checkpoint": [*entries, *signed[:-1]],
        "made up": [*made_up, *signed],
        "signed by another": [*entries, json.dumps({"checkpoint": forged[:-8] + "AAAAAAAA"}) + "\n", *signed],
        "something between": [*entries[:4], '{"note": 1}\n', *entries[4:], *signed],
        "a beginning in the middle": [*entries[:4], json.dumps({"after": {"seq": 4, "hash": "0" * 64}}) + "\n", *entries[4:], *signed],
        "a list": [*entries[:4], "[]\n", *entries[4:], *signed],
    }[what]
    path = exported.with_name("changed.jsonl")
    path.write_text("".join(changed))
    code, facts = check(path)
    assert code == 1
    assert facts["sound"] is False
    assert re.search(said, facts["what"]), facts


def test_what_is_no_text_any_more_is_exported_so_that_it_does_not_fit(small: Small, exported: Path) -> None:
    from sqlalchemy import update

    from app.ledger.models import EntryRow

    with small.server.database.transaction() as session:
        session.execute(update(EntryRow).where(EntryRow.seq == 3).values(record=b"\xff"))
    path = exported.with_name("odd.jsonl")
    path.write_bytes(b"".join(Queries(small.server.database).export()))
    assert "entry 3 is not" in run(CHAIN, path).stderr


# The command line


def test_verify_at_the_shell(small: Small, exported: Path, deputy: Callable[..., Result]) -> None:
    sound = deputy("ledger", "verify")
    assert sound.exit_code == 0
    head = small.verify().head
    assert f"up to entry {head.seq}" in sound.stdout and str(small.checkpoints) in sound.stdout
    facts = json.loads(deputy("ledger", "verify", "--json").stdout)
    assert facts["sound"] is True and facts["entries"] == head.seq and facts["hash"] == head.hash
    assert [one["until"] for one in facts["covered"]] == [head.seq, head.seq]
    # An older copy says how far it reaches.
    copy = exported.with_name("copy.jsonl")
    copy.write_text("".join(small.checkpoints.read_text().splitlines(keepends=True)[:-1]))
    assert "vouch for what is up to entry" in deputy("ledger", "verify", "--checkpoints", str(copy)).stdout

    from sqlalchemy import update

    from app.ledger.models import EntryRow

    with small.server.database.transaction() as session:
        session.execute(update(EntryRow).where(EntryRow.seq == 4).values(human="hum_9"))
    bad = deputy("ledger", "verify")
    assert bad.exit_code == 1
    assert re.search(r"first bad entry +4\n", bad.stdout)
    facts = json.loads(deputy("ledger", "verify", "--json").stdout)
    assert facts["sound"] is False and facts["first_bad_entry"] == 4 and "human" in facts["what"]


def test_verify_says_when_there_is_nothing_from_outside(small: Small, deputy: Callable[..., Result]) -> None:
    small.checkpoints.unlink()
    said = deputy("ledger", "verify")
    assert said.exit_code == 0
    assert f"There is no {small.checkpoints}" in said.stdout
    assert deputy("ledger", "verify", "--checkpoints", str(small.checkpoints)).exit_code == 2


def test_the_tail_in_words_and_in_json(small: Small, deputy: Callable[..., Result]) -> None:
    small.said(issued("tok_1"))
    small.said(TokenRefused(who=Who(client="cli_1"), grant_type="x", error="e", layer="l", reason="\x1b]0;owned\x07\n9 forged", asked={}))
    small.relay.step()
    first, second = deputy("ledger", "tail", "-n", "2").stdout.splitlines()
    assert "agt_1 for hum_1" in first and "token.issued" in first and "permit" in first and "https://api: read" in first
    assert "?]0;owned??9 forged" in second and second.isprintable()
    lines = [json.loads(line) for line in deputy("ledger", "tail", "-n", "2", "--json").stdout.splitlines()]
    assert [line["record"]["event"] for line in lines] == ["token.issued", "token.refused"]
    assert json.loads(deputy("ledger", "custody", "tok_1", "--json").stdout)["record"]["jti"] == "tok_1"
