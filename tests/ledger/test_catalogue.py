"""The catalogue of events is closed, documented, and holds ids only."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import orjson
import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from app import clock
from app.audit import serialize
from app.audit.events import CATALOGUE, NOBODY, Event, NoiseCounted, TokenIssued, Who
from tests.world import BY, PASSWORD, World

DOCS = Path(__file__).parents[2] / "docs" / "ledger.md"
RECORD = {"v", "id", "at", "event", "outcome", "who"}


def subclasses(of: type[Event]) -> set[type[Event]]:
    children: list[type[Event]] = of.__subclasses__()
    return {found for child in children for found in (child, *subclasses(child))}


def test_every_event_there_is_is_in_the_catalogue_under_a_name_of_its_own() -> None:
    # Frozen dataclasses with slots are made twice; their names tell them apart from strangers.
    assert {cls.__name__ for cls in subclasses(Event)} == {cls.__name__ for cls in CATALOGUE}
    assert len({cls.name for cls in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("event", CATALOGUE, ids=lambda event: event.name)
def test_no_field_stands_in_the_way_of_the_records_own(event: type[Event]) -> None:
    assert not ({item.name for item in fields(event)} - {"who"}) & RECORD


@pytest.mark.parametrize("event", CATALOGUE, ids=lambda event: event.name)
def test_every_event_and_every_field_is_documented(event: type[Event]) -> None:
    found = re.search(rf"^### `{re.escape(event.name)}`\n(.*?)(?=^##|\Z)", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    assert found, event.name
    for item in fields(event):
        if item.name != "who":
            assert f"`{item.name}`" in found[1], (event.name, item.name)


@pytest.mark.parametrize("event", CATALOGUE, ids=lambda event: event.name)
def test_no_field_is_for_a_name_an_address_or_a_secret(event: type[Event]) -> None:
    names = {item.name for item in fields(event)} | {item.name for item in fields(Who)}
    assert not names & {"name", "username", "email", "password", "secret", "code", "assertion", "ip", "address"}


def test_a_record_is_canonical_json() -> None:
    event = TokenIssued(
        who=Who(actors=("b", "a"), human="h"), grant_type="x", token="access_token", jti="j", audience='https://é.example/"\\\n\x01',
        scope={"https://b": ["z", "a"], "https://a": []}, asked={"scope": frozenset({"b", "a"})}, expires_at=1_800_000_000,
    )  # fmt: skip
    for made in (event, NoiseCounted(who=NOBODY, counts={"b": 1, "a": 2})):
        _, body = serialize(made)
        assert rfc8785.dumps(orjson.loads(body)) == body


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]))
NAMES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
"""Keys of what a record nests: fields, error codes, URIs, all of them ASCII. Beyond it UTF-8 and UTF-16 sort differently."""
NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1)
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


def whatever(kind: Any) -> st.SearchStrategy[Any]:
    """What a field of this type may hold."""
    plain = str(kind)
    if kind is Who:
        return st.builds(Who, actors=st.lists(TEXT, max_size=3), human=st.none() | TEXT, client=st.none() | TEXT)
    if "Mapping[str, int]" in plain:
        return st.dictionaries(NAMES, NUMBERS, max_size=4)
    if "Sequence[collections.abc.Mapping" in plain:
        return st.lists(st.dictionaries(NAMES, ANYTHING, max_size=3), max_size=3)
    if "Mapping[str, collections.abc.Sequence" in plain:
        return st.dictionaries(NAMES, st.lists(TEXT, max_size=3) | st.frozensets(TEXT, max_size=3), max_size=3)
    if "Mapping" in plain:
        return st.dictionaries(NAMES, ANYTHING, max_size=4)
    if "Sequence" in plain:
        return st.lists(TEXT, max_size=4)
    return {str: TEXT, int: NUMBERS, bool: st.booleans()}.get(kind, st.none() | TEXT)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("event", CATALOGUE, ids=lambda event: event.name)
def test_every_record_is_canonical_json_whatever_is_in_it(event: type[Event], data: st.DataObject) -> None:
    hints = get_type_hints(event)
    made = event(**{item.name: data.draw(whatever(hints[item.name]), label=item.name) for item in fields(event)})
    identifier, body = serialize(made)
    record = orjson.loads(body)
    assert rfc8785.dumps(record) == body
    assert RECORD <= record.keys()
    assert (record["v"], record["id"], record["event"], record["outcome"]) == (1, identifier, event.name, event.outcome.value)
    assert record.keys() <= RECORD | {item.name for item in fields(event)}


def test_the_ledger_of_a_whole_story_has_nobodys_name_address_or_secret(world: World) -> None:
    begun = clock.milliseconds()
    alice, api = world.human(operator=True), world.resource("read")
    agent = world.agent(alice, ceiling=[(api, "read")], own=[(api, "read")], name="Zebedee the agent", purpose="Fetches the milk")
    app = world.app(name="Quagga the app")
    browser = world.signed_in(alice)
    given = world.consented(browser, agent, api, away=True)
    token = world.exchange(agent, given["access_token"], resource=api.uri).ok()["access_token"]
    assert world.active(api, token)
    world.exchange(agent, given["access_token"], resource="https://nowhere.example")
    world.browser().sign_in(alice.username, "a wrong password")
    world.own_token(agent, resource=api.uri).ok()
    world.revoke(agent, token)
    world.server.accounts.disable(alice.id, by=BY)
    # The last deed is entered: so is what was before it.
    assert world.ledger(event="revoked", kind="human", target=alice.id)
    records = [orjson.dumps(record).decode() for record in world.ledger() if record["at"] >= begun]
    assert any(agent.id in record for record in records) and any(alice.id in record for record in records)
    secret = [
        alice.username, f"Name of {alice.username}", "@example.com", PASSWORD, "a wrong password", "Zebedee", "Quagga", "milk",
        token, given["access_token"], given["refresh_token"], api.client_secret, app.secret, "eyJ",
    ]  # fmt: skip
    for word in secret:
        assert word is not None
        assert not [record for record in records if word in record], word
