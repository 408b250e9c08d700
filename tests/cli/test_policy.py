"""`deputy policy`, as an operator types it: write, try on the past, activate, retire."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli import cli
from app.wiring import Server, build
from tests.protocol.test_tasks import Story, story
from tests.world import claims_of

__all__ = ["story"]

Deputy = Callable[..., Result]


@pytest.fixture
def deputy(server: Server) -> Iterator[Deputy]:
    def run(*words: str, of: Server = server, stdin: str | None = None) -> Result:
        return CliRunner().invoke(cli, list(words), obj=lambda: of, input=stdin)

    yield run
    for row in server.policies.list():
        if row.state == "active":
            run("policy", "retire", row.name)


def said(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def forbidding(story: Story, scope: str) -> str:
    return f'forbid (principal, action, resource == Resource::"{story.mail.uri}") when {{ context.scopes.contains("{scope}") }};'


def add(deputy: Deputy, story: Story, name: str, text: str, *more: str) -> Result:
    return deputy("policy", "add", name, "-", "--owner", story.alice.username, "--rule", "House rule 7", *more, "--json", stdin=text)


def test_from_ready_made_to_in_force_and_out_again(deputy: Deputy, story: Story) -> None:
    listed = said(deputy("policy", "ready-made", "--json"))
    assert {row["policy"] for row in listed} == {"confidential-then-external", "four-eyes", "hr-data-and-finance"}
    name = "confidential-then-external"
    made = said(deputy("policy", "add", name, "--ready-made", "--owner", story.alice.username, "--json"))
    assert (made["state"], made["owner"]) == ("draft", story.alice.id)
    story.token(story.calendar)
    story.token(story.mail)
    assert said(deputy("policy", "activate", name, "--json"))["state"] == "active"
    assert story.exchange(story.mail).error == "access_denied"
    shown = deputy("policy", "show", name)
    assert "external-send" in shown.output
    said(deputy("policy", "retire", name, "--json"))
    assert story.exchange(story.mail).status == 200
    assert deputy("policy", "retire", name).exit_code == 1


def test_a_policy_that_is_wrong_is_not_saved_and_the_message_says_why(deputy: Deputy, story: Story) -> None:
    before = len(said(deputy("policy", "list", "--json")))
    for text, why in (
        ("forbid (principal, action, resource) when { context.color == 1 };", "color"),
        ("permit (principal, action, resource);", "only forbid"),
        ("forbid", "parse"),
    ):
        result = add(deputy, story, "wrong", text)
        assert result.exit_code == 1
        assert why in result.output
    for words in (["No-Name", "-"], ["ok"], ["nobody-has-this", "--ready-made"]):
        assert deputy("policy", "add", *words, "--owner", story.alice.username, "--rule", "r", stdin="x").exit_code == 1
    assert deputy("policy", "add", "ok", "-", "--owner", "nobody", "--rule", "r", stdin=forbidding(story, "x")).exit_code == 1
    assert len(said(deputy("policy", "list", "--json"))) == before


def test_replay_lists_exactly_the_decisions_that_would_differ(deputy: Deputy, story: Story) -> None:
    sends = [claims_of(story.token(story.mail, scope="mail:send"))["jti"] for _ in range(2)]
    story.token(story.mail, scope="mail:read")
    story.exchange(story.mail, scope="mail:nothing")
    assert story.world.ledger(jti=sends[-1])

    def differing() -> list[dict[str, Any]]:
        """What a trial of the newest version lists of this story; the ledger has other tests' decisions too."""
        tried = said(deputy("policy", "replay", "no-sending", "--json"))
        assert tried["decisions"] >= 3
        records = {r["id"] for r in story.world.ledger() if r["who"].get("human") == story.alice.id}
        return [row for row in tried["differences"] if row["id"] in records]

    assert add(deputy, story, "no-sending", forbidding(story, "mail:send")).exit_code == 0
    tried = differing()
    # Also the tokens that came with the code and for the mail at large would have been refused, had there been any.
    assert [row["id"] for row in tried] == [story.world.ledger(jti=jti)[0]["id"] for jti in sends]
    assert {row["would_be"] for row in tried} == {"refused by no-sending"}
    assert story.exchange(story.mail, scope="mail:send").status == 200, "a trial changes nothing"
    said(deputy("policy", "activate", "no-sending", "--json"))
    refusal = story.exchange(story.mail, scope="mail:send").json["audit_id"]
    assert story.world.ledger(id=refusal)
    # The other direction: what it refused would be permitted by a version that lets it.
    add(deputy, story, "no-sending", forbidding(story, "mail:nothing"))
    assert [(row["id"], row["would_be"]) for row in differing()] == [(refusal, "permitted")]
    nothing = deputy("policy", "replay", "no-sending", "--version", "7")
    assert (nothing.exit_code, "no version 7" in nothing.output) == (1, True)


def test_a_second_person_activates_where_the_setting_says_so(deputy: Deputy, story: Story, tmp_path: Path) -> None:
    strict = build(story.world.server.settings.model_copy(update={"policy_second_person": True}))
    writer, second = story.world.human(operator=True), story.world.human(operator=True)
    text = forbidding(story, "mail:nothing")
    add(deputy, story, "reviewed", text, "--by", writer.username)
    for by in ([writer.username], [story.alice.username], ["nobody"]):
        result = deputy("policy", "activate", "reviewed", "--by", *by, of=strict)
        assert result.exit_code == 1, result.output
    assert deputy("policy", "activate", "reviewed", "--by", second.username, of=strict).exit_code == 0
    add(deputy, story, "alone", text)
    result = deputy("policy", "activate", "alone", of=strict)
    assert (result.exit_code, "second person" in result.output) == (1, True)
    (moved,) = story.world.ledger(event="policy.moved", policy="reviewed", move="activated")
    assert moved["who"]["operator"] == second.id
    strict.database.close()


def test_labels_of_scopes_are_registered_and_shown(deputy: Deputy, story: Story) -> None:
    uri = story.mail.uri + "/two"
    words = [
        "--name",
        "Mail",
        "--scope",
        "mail:send=Send mail",
        "--scope-label",
        "mail:send=external-send",
        "--scope-label",
        "mail:send=slow",
    ]
    said(deputy("resource", "add", uri, *words, "--json"))
    assert said(deputy("resource", "show", uri, "--json"))["scope_labels"] == {"mail:send": "external-send slow"}
    for wrong in ("mail:send", "mail:read=x", "mail:send=No Label"):
        result = deputy("resource", "add", uri + "/x", "--name", "M", "--scope", "mail:send=Send", "--scope-label", wrong)
        assert result.exit_code == 1, wrong
