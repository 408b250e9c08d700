"""The catalogue of events is closed, documented, and holds ids only."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import orjson
import pytest
import rfc8785

from app.audit import serialize
from app.audit.events import CATALOGUE, NOBODY, Event, NoiseCounted, TokenIssued, Who

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
