"""`deputy explain`: every layer of a decision, how a token came to be and what became of it, in JSON and in plain words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app import create_app
from app.cli import cli
from app.database import Database, db
from app.ledger.queries import Entry, Filter, Queries
from app.oversight.custody import Records, _ends
from app.oversight.explain import ORDER, layers_of, missing_of
from app.oversight.words import LAYERS
from app.policy.rules import RULES
from tests.cli.conftest import Deployment, deployment, empty, folder
from tests.policies import in_force
from tests.protocol.test_tasks import Story, story
from tests.world import BY, CONSENT, Answer, InProcess, Party, World, basic, claims_of

__all__ = ["deployment", "empty", "folder", "story"]


class Teller:
    """An operator at the shell, who waits until the relay has written what she asks about."""

    def __init__(self, story: Story) -> None:
        self.world = story.world

    def run(self, reference: str, *more: str) -> Result:
        return CliRunner().invoke(cli, ["explain", reference, *more], obj=lambda: self.world.server)

    def json(self, reference: str) -> dict[str, Any]:
        result = self.run(reference, "--json")
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def said(self, reference: str) -> str:
        result = self.run(reference)
        assert result.exit_code == 0, result.output
        return result.stdout

    def token(self, token: str) -> dict[str, Any]:
        jti = claims_of(token)["jti"]
        assert self.world.ledger(jti=jti)
        return self.json(jti)

    def refusal(self, answer: Answer) -> dict[str, Any]:
        assert answer.status == 400, answer.text
        assert self.world.ledger(id=answer.json["audit_id"])
        return self.json(answer.json["audit_id"])


@pytest.fixture
def teller(story: Story) -> Teller:
    return Teller(story)


def layers(told: Mapping[str, Any]) -> dict[str, Any]:
    return {layer["name"]: layer for layer in told["layers"]}


def refuser(told: Mapping[str, Any]) -> str:
    """The one layer that refused, and the last that was passed."""
    refused = [layer["name"] for layer in told["layers"] if layer["refused"]]
    assert len(refused) == 1, told["layers"]
    assert told["layers"][-1]["name"] == refused[0]
    return str(refused[0])


def events(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["record"]["event"] for entry in entries]


@pytest.fixture
def chain(story: Story) -> tuple[str, str, str, Party]:
    """Alice's assistant hands the mail to a clerk, who may only read it: three tokens, and the clerk."""
    world = story.world
    clerk = world.agent(story.alice, ceiling=[(story.mail, "mail:read")], name="Clerk")
    assistant = world.agent(
        story.alice,
        ceiling=[(story.mail, "mail:read"), (story.mail, "mail:send"), (story.calendar, "calendar:read")],
        hands_to=[clerk],
        name="Head assistant",
    )
    given = world.consented(story.browser, assistant, story.mail, story.calendar, scope="mail:read mail:send calendar:read")
    passed = world.exchange(assistant, given["access_token"], audience=clerk.uri).ok()["access_token"]
    last = world.exchange(clerk, passed, resource=story.mail.uri, scope="mail:read").ok()["access_token"]
    return given["access_token"], passed, last, clerk


def test_a_chain_of_two_is_told_from_the_sign_in_to_the_last_exchange(
    story: Story, teller: Teller, chain: tuple[str, str, str, Party]
) -> None:
    first, passed, last, clerk = chain
    assert story.world.active(story.mail, last)
    assert story.world.ledger(event="token.first_used", jti=claims_of(last)["jti"])
    told = teller.token(last)
    assert told["state"] == "alive"
    assert told["complete"]
    # Consent, task and code are of one deed, and of one moment.
    assert events(told["custody"])[0] == "human.signed_in"
    assert set(events(told["custody"])[1:4]) == {"consent.given", "task.opened", "code.issued"}
    assert events(told["custody"])[4:] == ["token.issued"] * 3
    tokens = [entry["record"] for entry in told["custody"] if entry["record"]["event"] == "token.issued"]
    assert [token["jti"] for token in tokens] == [claims_of(token)["jti"] for token in (first, passed, last)]
    assert [token.get("parent") for token in tokens] == [None, tokens[0]["jti"], tokens[1]["jti"]]
    signed_in = told["custody"][0]["record"]
    assert signed_in["who"]["human"] == story.alice.id
    assert all(entry["seq"] for entry in told["custody"])
    assert events(told["seen"]) == ["token.first_used"]
    assert told["names"][clerk.uri] == "Clerk"
    assert told["names"][story.alice.id] == f"Name of {story.alice.username}"

    middle = teller.token(passed)
    assert [entry["record"]["jti"] for entry in middle["derived"]] == [claims_of(last)["jti"]]
    # The clerk cannot send mail nor see the calendar: that went when it was handed over, by the ceiling.
    assert set(layers(middle)["ceiling"]["pairs"]) == {f"{story.mail.uri} mail:send", f"{story.calendar.uri} calendar:read"}
    assert [layer["name"] for layer in middle["layers"]] == list(ORDER)


def test_each_layers_share_adds_up_to_what_was_given(story: Story, teller: Teller) -> None:
    for scope in (None, "mail:read"):
        told = teller.token(story.token(story.mail, **({"scope": scope} if scope else {})))
        record = told["decision"]["record"]
        began = {f"{uri} {one}" for uri, scopes in record["evidence"]["scope"].items() for one in scopes}
        given = {f"{uri} {one}" for uri, scopes in record["scope"].items() for one in scopes}
        taken = [pair for layer in told["layers"] for pair in layer["pairs"]]
        assert began - set(taken) == given
        assert len(taken) == len(set(taken))
        assert record["evidence"]["end"] - sum(layer["seconds"] for layer in told["layers"]) == record["expires_at"]
        assert (f"{story.mail.uri} mail:send" in layers(told)["scope_asked"]["pairs"]) is (scope is not None)


def test_it_is_told_in_plain_words_with_names(story: Story, teller: Teller, chain: tuple[str, str, str, Party]) -> None:
    _, _, last, clerk = chain
    teller.token(last)
    said = teller.said(claims_of(last)["jti"])
    alice = f"Name of {story.alice.username}"
    for words in (
        f"Clerk ({clerk.uri}), for Head assistant", f", owned by {alice}, in the name of {alice}", f"mail:read at An API ({story.mail.uri})",
        "How it came to be", f"{alice} ({story.alice.id}) signed in (pwd)", "took nothing", "Nothing in the ledger ended the token",
    ):  # fmt: skip
        assert words in said, (words, said)


def test_a_token_dead_by_withdrawal_says_by_whom_and_its_refused_exchange_says_so_too(
    story: Story, teller: Teller, chain: tuple[str, str, str, Party]
) -> None:
    first, _, last, _ = chain
    consent = teller.token(first)["decision"]["record"]["consent"]
    story.world.server.consents.withdraw(consent, by=BY)
    assert story.world.ledger(event="consent.withdrawn", consent=consent)
    told = teller.token(last)
    assert told["state"] == "ended"
    assert (told["ended_by"]["record"]["event"], told["ended_by"]["record"]["consent"]) == ("consent.withdrawn", consent)
    said = teller.said(claims_of(last)["jti"])
    assert "The token is dead since" in said and f"withdrew consent {consent}" in said
    clerk = chain[3]
    refused = teller.refusal(story.world.exchange(clerk, last))
    assert refused["state"] == "refused"
    assert refused["layers"] == [{"name": "subject_token", "pairs": [], "seconds": 0, "depth": 0, "refused": True}]
    record = refused["decision"]["record"]
    assert (record["parent"], record["consent"], record["who"]["human"]) == (claims_of(last)["jti"], consent, story.alice.id)
    assert refused["ended_by"]["record"]["event"] == "consent.withdrawn"
    assert "What ended the token it rested on" in teller.said(record["id"])


Ending = Callable[[Story, dict[str, Any]], None]


@pytest.mark.parametrize(
    ("what", "end"),
    [
        ("token", lambda s, r: s.world.server.revocation.token(r["parent"], r["expires_at"], by=BY)),
        ("family", lambda s, r: s.world.server.revocation.family(r["family"], by=BY)),
        ("task", lambda s, r: s.world.server.tasks.end(r["task"], by=BY)),
        ("session", lambda s, r: s.world.server.sessions.end(r["session"], by=BY)),
        ("agent", lambda s, r: s.world.server.agent_registry.suspend(r["who"]["actors"][-1], by=BY)),
        ("human", lambda s, r: s.world.server.accounts.disable(r["who"]["human"], by=BY)),
        ("password", lambda s, r: s.world.server.accounts.set_password(r["who"]["human"], "another correct battery", by=BY)),
        ("resource", lambda s, r: s.world.server.resource_registry.disable(r["audience"], by=BY)),
    ],
)
def test_whatever_ends_a_token_is_found(story: Story, teller: Teller, chain: tuple[str, str, str, Party], what: str, end: Ending) -> None:
    last = chain[2]
    record = teller.token(last)["decision"]["record"]
    end(story, record)
    assert not story.world.active(story.mail, last)
    event = {"session": "human.signed_out", "password": "changed"}.get(what, "revoked")
    told: dict[str, Any] = {}
    for _ in range(100):
        told = teller.json(record["jti"])
        if told["state"] == "ended":
            break
    assert told["ended_by"]["record"]["event"] == event
    assert told["ended_by"]["record"]["who"]["operator"] == "test"
    assert told["ended_by"]["record"].get("kind", what) in {what, "human"}


# Refusals


def test_a_scope_above_the_ceiling_names_the_ceiling(story: Story, teller: Teller) -> None:
    world = story.world
    clerk = world.agent(story.alice, ceiling=[(story.mail, "mail:read")])
    head = world.agent(story.alice, ceiling=[(story.mail, "mail:read"), (story.mail, "mail:send")], hands_to=[clerk])
    given = world.consented(story.browser, head, story.mail, scope="mail:read mail:send", away=True)
    told = teller.refusal(world.exchange(head, given["consent_id"], CONSENT, audience=clerk.uri, scope="mail:send"))
    assert refuser(told) == "scope_asked"
    assert told["missing"] == {"mail:send": "ceiling"}
    assert "mail:send: taken away by the operator's ceiling" in teller.said(told["decision"]["record"]["id"])


def test_a_scope_that_was_never_there_says_so(story: Story, teller: Teller) -> None:
    told = teller.refusal(story.exchange(story.mail, scope="mail:read mail:delete"))
    assert refuser(told) == "scope_asked"
    assert told["missing"] == {"mail:delete": "evidence"}
    assert "mail:delete: was not in what it had" in teller.said(told["decision"]["record"]["id"])


def test_a_task_that_is_narrower_names_the_task(story: Story, teller: Teller) -> None:
    task = story.task(resources=[story.mail.uri], scopes=["mail:read"])
    told = teller.refusal(story.exchange(story.mail, task, scope="mail:send"))
    assert told["missing"] == {"mail:send": "task_runs"}
    assert set(layers(told)["task_runs"]["pairs"]) >= {f"{story.mail.uri} mail:send"}
    assert [e["record"]["task"] for e in told["custody"] if e["record"]["event"] == "task.opened"] == [task]


def test_a_withdrawn_consent_names_the_consent_and_who_withdrew_it(story: Story, teller: Teller) -> None:
    story.world.server.consents.withdraw(story.consent, by=BY)
    told = teller.refusal(story.exchange(story.mail))
    assert [layer["name"] for layer in told["layers"]] == ["consent"]
    assert told["decision"]["record"]["consent"] == story.consent
    assert "consent.given" in events(told["custody"])


def test_an_ended_task_names_the_task(story: Story, teller: Teller) -> None:
    task = story.task()
    token = story.token(story.mail, task)
    story.end(task)
    told = teller.refusal(story.exchange(story.mail, task))
    assert told["layers"][-1]["refused"] and told["layers"][-1]["name"] in {"task", "task_runs"}
    dead = teller.refusal(story.world.exchange(story.assistant, token))
    assert dead["ended_by"]["record"]["kind"] == "task"
    assert dead["ended_by"]["record"]["who"]["actors"] == [story.assistant.uri]


def test_a_used_up_limit_names_the_limit_and_counts(story: Story, teller: Teller) -> None:
    task = story.task(limits={"uses": 2})
    tokens = [story.token(story.mail, task) for _ in range(2)]
    told = teller.refusal(story.exchange(story.mail, task))
    assert refuser(told) == "limit"
    assert [layer["name"] for layer in told["layers"]] == list(ORDER)
    assert (told["limits"]["stated"]["uses"], told["limits"]["tokens_so_far"]) == (2, 2)
    assert teller.token(tokens[0])["limits"]["tokens_so_far"] == 1
    assert "2 tokens of the task so far" in teller.said(told["decision"]["record"]["id"])


def test_a_policy_that_forbade_is_named_with_its_rule_and_the_question(story: Story, teller: Teller) -> None:
    text = f'forbid (principal, action, resource == Resource::"{story.mail.uri}") when {{ context.scopes.contains("mail:send") }};'
    with in_force(story.world.server, text) as name:
        refused = story.exchange(story.mail, scope="mail:send")
        permitted = story.token(story.mail, scope="mail:read")
    told = teller.refusal(refused)
    assert refuser(told) == "policy"
    asked = told["policies"]
    assert asked["forbidden_by"] == [name]
    assert {"policy": name, "version": 1, "rule": "A rule of the tests", "owner": "hum_test"} in asked["asked"]
    assert asked["question"]["context"]["scopes"] == ["mail:send"]
    assert f"forbidden by {name}" in teller.said(told["decision"]["record"]["id"])
    allowed = teller.token(permitted)["policies"]
    assert allowed["forbidden_by"] == []
    assert allowed["version"] == asked["version"]
    assert name not in [one["policy"] for one in teller.token(story.token(story.mail))["policies"]["asked"] or ()]


def test_a_token_that_a_changed_policy_forbids_tells_that(story: Story, teller: Teller) -> None:
    token = story.token(story.mail, scope="mail:send")
    text = f'forbid (principal, action, resource == Resource::"{story.mail.uri}") when {{ context.scopes.contains("mail:send") }};'
    with in_force(story.world.server, text) as name:
        assert not story.world.active(story.mail, token)
    (forbidden,) = story.world.ledger(event="token.forbidden", jti=claims_of(token)["jti"])
    assert "token.forbidden" in events(teller.token(token)["seen"])
    told = teller.json(forbidden["id"])
    assert told["state"] == "refused"
    assert told["policies"]["forbidden_by"] == [name]


def test_a_refused_task_is_told(story: Story, teller: Teller) -> None:
    answer = story.asked(scopes=["mail:delete"])
    told = teller.refusal(answer)
    assert (told["decision"]["record"]["event"], told["layers"]) == ("task.refused", [])
    assert "No token came of it." in teller.said(answer.json["audit_id"])


def test_a_new_generation_is_an_end(story: Story) -> None:
    """Pure: the flush itself is the business of other tests."""
    token = {"generation": 3}
    assert _ends({"event": "generation.opened", "generation": 4}, {}, token)
    assert not _ends({"event": "generation.opened", "generation": 3}, {}, token)


def test_nothing_is_known_of_what_never_was(teller: Teller) -> None:
    for reference in ("tok_" + "x" * 22, "01a20b3e-1698-7094-b374-e083ca070797", "nonsense"):
        result = teller.run(reference)
        assert result.exit_code == 1
        assert "knows" in result.output


def test_what_is_on_its_way_to_the_ledger_is_told_as_such(deployment: Deployment) -> None:
    with deployment.running() as world:
        alice, api = world.human(), world.resource("read")
        agent = world.agent(alice, ceiling=[(api, "read")])
        given = world.consented(world.signed_in(alice), agent, api, away=True)
        first = claims_of(given["access_token"])["jti"]
        assert world.ledger(jti=first)
    # No relay runs: what is permitted now waits in the stream, and what is done in the outbox.
    app = create_app(deployment.settings)
    late = World(world.server, InProcess(app))
    token = late.exchange(agent, given["access_token"], resource=api.uri).ok()["access_token"]
    late.server.consents.withdraw(given["consent_id"], by=BY)
    told = json.loads(deployment.deputy("explain", claims_of(token)["jti"], "--json").stdout)
    assert told["decision"]["seq"] is None
    assert told["decision"]["record"]["parent"] == first
    assert (told["state"], told["ended_by"]["seq"]) == ("ended", None)
    assert [entry["record"]["jti"] for entry in told["custody"] if "jti" in entry["record"]] == [first, claims_of(token)["jti"]]
    said = deployment.deputy("explain", claims_of(token)["jti"]).stdout
    assert "It is on its way to the ledger and not in it yet." in said
    assert "(not in the ledger yet)" in said
    deployment.stop_redis()
    blind = deployment.deputy("explain", first)
    assert "Redis is out of reach" in blind.stdout
    assert deployment.deputy("explain", claims_of(token)["jti"]).exit_code == 1
    late.server.database.close()
    with app.app_context():
        db.engine.dispose()


class Arriving(Queries):
    """A ledger that one record reaches between two looks: `after` looks without it, all later ones with it."""

    def __init__(self, database: Database, late: str, after: int) -> None:
        super().__init__(database)
        self.late, self.looks_left = late, after

    def _seen(self, entries: Iterable[Entry]) -> list[Entry]:
        self.looks_left -= 1
        return [entry for entry in entries if self.looks_left < 0 or entry.record["id"] != self.late]

    def newest(self, count: int, which: Filter, *, until: int | None = None) -> list[Entry]:
        return self._seen(super().newest(count, which, until=until))

    def following(self, after: int, which: Filter) -> list[Entry]:
        return self._seen(super().following(after, which))

    def around(self, events: Collection[str], since: int, until: int, after: int) -> Iterator[Entry]:
        return iter(self._seen(super().around(events, since, until, after)))

    def named(self, identifier: str) -> Entry | None:
        found = super().named(identifier)
        return next(iter(self._seen([found] if found is not None else [])), None)


@pytest.mark.parametrize("looks", range(4))
def test_what_reaches_the_ledger_while_one_looks_is_told_once(story: Story, looks: int) -> None:
    jti = claims_of(story.token(story.calendar))["jti"]
    (record,) = story.world.ledger(jti=jti, event="token.issued")
    which, at = Filter(jti=jti, event="token.issued"), record["at"]
    for look in (
        lambda records: records.newest(which, at),
        lambda records: records.oldest(which, 0),
        lambda records: records.every(which, at),
        lambda records: records.around(frozenset({"token.issued"}), at, at, 0),
    ):
        found = look(Records(Arriving(story.world.server.database, record["id"], looks), [record]))
        assert [entry.record["id"] for entry in found].count(record["id"]) == 1


def test_layers_of_a_record_of_before_are_not_invented() -> None:
    old = {"event": "token.refused", "layer": "consent", "reason": "r", "asked": {"scope": "a"}}
    assert [(layer.name, layer.refused) for layer in layers_of(old)] == [("consent", True)]
    assert missing_of(old) == {}


def test_a_call_that_was_refused_is_explained_by_its_id(story: Story, teller: Teller) -> None:
    token = story.token(story.mail, scope="mail:read")
    form = {"token": token, "action": "mail:send"}
    answer = story.world.post("/oauth/introspect", form, basic(story.mail.client_id, story.mail.client_secret)).ok()
    identifier = answer["context"]["id"]
    assert story.world.ledger(id=identifier)
    found = teller.json(identifier)
    assert found["state"] == "refused"
    assert [layer["name"] for layer in found["layers"] if layer["refused"]] == ["scope"]
    assert "mail:send" in teller.said(identifier)


def test_every_layer_that_the_source_names_has_its_words() -> None:
    app = Path(__file__).parents[2] / "app"
    named = {layer for path in app.rglob("*.py") for layer in re.findall(r'layer="([^"]+)"', path.read_text())}
    assert {"limit", "chain"} <= named
    assert named | {rule.__module__.rpartition(".")[2] for rule in RULES} <= LAYERS.keys()
