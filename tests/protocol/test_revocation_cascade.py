"""Whatever is revoked, everything that hangs on it is dead before the answer, and its siblings live (protocol, section 9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from app.live.things import Kind, Thing
from tests.protocol.answers import refresh, refused, signed_in_tokens
from tests.world import BY, CONSENT, Api, Browser, Party, Person, World, claims_of, header_of, hidden


@dataclass
class Story:
    """Two humans, two agents, an application, two APIs; and every way in which a token can come about."""

    world: World
    alice: Person
    bob: Person
    calendar: Api
    travel: Api
    assistant: Party
    booking: Party
    app: Party
    browser: Browser
    handover: str
    piece: str
    refresh_token: str
    consent: str
    task: str
    tokens: dict[str, tuple[Api | None, str]] = field(default_factory=dict)

    @property
    def claims(self) -> dict[str, dict[str, object]]:
        return {name: claims_of(token) for name, (_, token) in self.tokens.items()}

    def alive(self) -> set[str]:
        return {name for name, (api, token) in self.tokens.items() if self.lives(api, token)}

    def lives(self, api: Api | None, token: str) -> bool:
        if api is None:
            return self.world.get("/oauth/userinfo", {"Authorization": f"Bearer {token}"}).status == 200
        return self.world.active(api, token)


@pytest.fixture
def story(world: World) -> Story:
    alice, bob = world.human(), world.human()
    calendar, travel = world.resource("calendar:read"), world.resource("travel:book")
    booking = world.agent(bob, ceiling=[(travel, "travel:book")], own=[(travel, "travel:book")])
    assistant = world.agent(
        bob, ceiling=[(calendar, "calendar:read"), (travel, "travel:book")], own=[(calendar, "calendar:read")], hands_to=[booking]
    )
    app = world.app(pairs=[(calendar, "calendar:read")])
    browser = world.signed_in(alice)
    given = world.consented(browser, assistant, calendar, travel, away=True)
    second = refresh(world, assistant, given["refresh_token"], resource=calendar.uri).ok()
    piece = world.exchange(assistant, given["access_token"], audience=booking.uri).ok()["access_token"]
    made = Story(
        world, alice, bob, calendar, travel, assistant, booking, app, browser,
        given["access_token"], piece, second["refresh_token"], given["consent_id"], given["task_id"],
    )  # fmt: skip
    exchanged = world.exchange(assistant, given["access_token"], resource=calendar.uri).ok()["access_token"]
    made.tokens = {
        "exchanged": (calendar, exchanged),
        "exchanged again": (calendar, world.exchange(assistant, exchanged).ok()["access_token"]),
        "handed on": (travel, world.exchange(booking, piece).ok()["access_token"]),
        "refreshed": (calendar, second["access_token"]),
        "by consent": (calendar, world.exchange(assistant, given["consent_id"], CONSENT, resource=calendar.uri).ok()["access_token"]),
        "signed in": (calendar, world.consented(browser, assistant, calendar)["access_token"]),
        "bob's": (calendar, world.consented(world.signed_in(bob), assistant, calendar)["access_token"]),
        "own": (calendar, world.own_token(assistant, resource=calendar.uri).ok()["access_token"]),
        "booking's own": (travel, world.own_token(booking, resource=travel.uri).ok()["access_token"]),
        "app's": (calendar, world.consented(browser, app, calendar, scope="calendar:read")["access_token"]),
        "userinfo": (None, signed_in_tokens(world, app, browser)["access_token"]),
    }
    assert made.alive() == set(made.tokens)
    return made


def _token(name: str) -> Callable[[Story], None]:
    def deed(story: Story) -> None:
        token = {"handover": story.handover, "piece": story.piece}.get(name) or story.tokens[name][1]
        claims = claims_of(token)
        story.world.server.revocation.token(claims["jti"], claims["exp"], by=BY)

    return deed


def _family(story: Story) -> None:
    story.world.server.revocation.family(claims_of(story.handover)["deputy"]["f"], by=BY)


def _task(story: Story) -> None:
    story.world.server.tasks.end(story.task, by=BY)


def _consent(story: Story) -> None:
    story.world.server.consents.withdraw(story.consent, by=BY)


def _session(story: Story) -> None:
    story.world.server.sessions.end(claims_of(story.tokens["signed in"][1])["deputy"]["s"], by=BY)


def _sign_out(story: Story) -> None:
    if story.browser.get("/my/agents").status == 200:
        story.browser.post("/logout", hidden(story.browser.get("/logout")))


def _suspend(story: Story) -> None:
    story.world.server.agent_registry.suspend(story.assistant.id, by=BY)


def _retire_booking(story: Story) -> None:
    story.world.server.agent_registry.retire(story.booking.id, by=BY)


def _agent(story: Story) -> None:
    story.world.server.revocation.end(Thing(Kind.AGENT, story.assistant.id), Thing(Kind.CLIENT, story.assistant.client_id), by=BY)


def _client(story: Story) -> None:
    story.world.server.revocation.end(Thing(Kind.CLIENT, story.assistant.client_id), by=BY)


def _disable_human(story: Story) -> None:
    story.world.server.accounts.disable(story.alice.id, by=BY)


def _human(story: Story) -> None:
    story.world.server.revocation.end(Thing(Kind.HUMAN, story.alice.id), by=BY)


def _disable_app(story: Story) -> None:
    story.world.server.apps.disable(story.app.client_id, by=BY)


def _disable_resource(story: Story) -> None:
    story.world.server.resource_registry.disable(story.calendar.id, by=BY)


def _resource(story: Story) -> None:
    story.world.server.revocation.end(Thing(Kind.RESOURCE, story.calendar.id), by=BY)


def _key(story: Story) -> None:
    story.world.server.keys.revoke(str(header_of(story.handover)["kid"]))


def _everything(story: Story) -> None:
    story.world.server.sessions.end_everything(by=BY)


UNDER_CONSENT = {"exchanged", "exchanged again", "handed on", "refreshed", "by consent"}
ALICES = UNDER_CONSENT | {"signed in", "app's", "userinfo"}
ASSISTANTS = UNDER_CONSENT | {"signed in", "bob's", "own"}
AT_CALENDAR = {"exchanged", "exchanged again", "refreshed", "by consent", "signed in", "bob's", "own", "app's"}
ALL = ALICES | ASSISTANTS | {"booking's own"}

Deed = Callable[[Story], None]
CASCADE: list[tuple[str, Deed, set[str]]] = [
    ("one token", _token("exchanged again"), {"exchanged again"}),
    ("a token and its child", _token("exchanged"), {"exchanged", "exchanged again"}),
    ("a hand-over", _token("piece"), {"handed on"}),
    ("the first hand-over", _token("handover"), {"exchanged", "exchanged again", "handed on"}),
    ("family", _family, {"exchanged", "exchanged again", "handed on", "refreshed"}),
    ("task", _task, UNDER_CONSENT),
    ("consent", _consent, UNDER_CONSENT),
    ("session", _session, {"signed in", "app's", "userinfo"}),
    ("signing out", _sign_out, {"signed in", "app's", "userinfo"}),
    ("agent suspended", _suspend, ASSISTANTS),
    ("agent", _agent, ASSISTANTS),
    ("agent further down retired", _retire_booking, {"handed on", "booking's own"}),
    ("client", _client, ASSISTANTS),
    ("human disabled", _disable_human, ALICES),
    ("human", _human, ALICES),
    ("application disabled", _disable_app, {"app's", "userinfo"}),
    ("resource disabled", _disable_resource, AT_CALENDAR),
    ("resource", _resource, AT_CALENDAR),
    ("signing key", _key, ALL),
    ("everything", _everything, ALL),
]


@pytest.mark.parametrize(("deed", "dead"), [pytest.param(deed, dead, id=name) for name, deed, dead in CASCADE])
def test_all_below_is_dead_and_all_beside_it_lives(story: Story, deed: Deed, dead: set[str]) -> None:
    deed(story)
    assert story.alive() == set(story.tokens) - dead
    # Again is no harm.
    deed(story)
    assert story.alive() == set(story.tokens) - dead


REFRESHES = {"one token", "a token and its child", "a hand-over", "the first hand-over", "session", "signing out", "agent further down retired",
             "application disabled", "resource disabled", "resource", "signing key"}  # fmt: skip


@pytest.mark.parametrize(("name", "deed"), [pytest.param(name, deed, id=name) for name, deed, _ in CASCADE])
def test_a_refresh_token_ends_with_what_it_hangs_on_and_with_nothing_else(story: Story, name: str, deed: Deed) -> None:
    deed(story)
    answer = refresh(story.world, story.assistant, story.refresh_token, resource=story.travel.uri)
    if name in REFRESHES:
        assert story.world.active(story.travel, answer.ok()["access_token"])
    else:
        assert (answer.status, answer.error) in {(400, "invalid_grant"), (401, "invalid_client")}


SUBJECTS = {"one token", "a token and its child", "a hand-over", "session", "signing out", "agent further down retired", "application disabled",
            "resource disabled", "resource"}  # fmt: skip


@pytest.mark.parametrize(("name", "deed"), [pytest.param(name, deed, id=name) for name, deed, _ in CASCADE])
def test_a_hand_over_ends_with_what_it_hangs_on_and_with_nothing_else(story: Story, name: str, deed: Deed) -> None:
    deed(story)
    answer = story.world.exchange(story.assistant, story.handover, resource=story.travel.uri)
    if name in SUBJECTS:
        assert story.world.active(story.travel, answer.ok()["access_token"])
    else:
        assert (answer.status, answer.error) in {(400, "invalid_request"), (401, "invalid_client")}


ALONE = SUBJECTS | {"the first hand-over", "family", "signing key"}


@pytest.mark.parametrize(("name", "deed"), [pytest.param(name, deed, id=name) for name, deed, _ in CASCADE])
def test_a_consent_ends_with_what_it_hangs_on_and_with_nothing_else(story: Story, name: str, deed: Deed) -> None:
    deed(story)
    answer = story.world.exchange(story.assistant, story.consent, CONSENT, resource=story.travel.uri)
    if name in ALONE:
        assert story.world.active(story.travel, answer.ok()["access_token"])
    else:
        assert (answer.status, answer.error) in {(400, "invalid_request"), (401, "invalid_client")}


BACK: list[tuple[str, Deed, Deed]] = [
    ("agent", _suspend, lambda story: story.world.server.agent_registry.resume(story.assistant.id, by=BY)),
    ("human", _disable_human, lambda story: story.world.server.accounts.enable(story.alice.id, by=BY)),
    ("application", _disable_app, lambda story: story.world.server.apps.enable(story.app.client_id, by=BY)),
    ("resource", _disable_resource, lambda story: story.world.server.resource_registry.enable(story.calendar.id, by=BY)),
]


@pytest.mark.parametrize(("stop", "back"), [pytest.param(stop, back, id=name) for name, stop, back in BACK])
def test_enabling_again_revives_nothing(story: Story, stop: Deed, back: Deed) -> None:
    stop(story)
    dead = set(story.tokens) - story.alive()
    assert dead
    back(story)
    assert set(story.tokens) - story.alive() == dead


def test_after_the_human_is_enabled_again_she_must_sign_in_and_consent_anew(story: Story) -> None:
    world = story.world
    _disable_human(story)
    assert story.browser.sign_in(story.alice.username).status == 401
    world.server.accounts.enable(story.alice.id, by=BY)
    assert story.browser.get("/my/agents").status == 303
    refused(world.exchange(story.assistant, story.consent, CONSENT, resource=story.travel.uri), "invalid_request")
    refused(refresh(world, story.assistant, story.refresh_token, resource=story.travel.uri), "invalid_grant")
    body = world.consented(world.signed_in(story.alice), story.assistant, story.calendar)
    assert world.active(story.calendar, body["access_token"])


def test_after_the_agent_is_resumed_it_must_be_consented_to_anew(story: Story) -> None:
    world = story.world
    _suspend(story)
    world.server.agent_registry.resume(story.assistant.id, by=BY)
    refused(world.exchange(story.assistant, story.consent, CONSENT, resource=story.travel.uri), "invalid_request")
    refused(refresh(world, story.assistant, story.refresh_token, resource=story.travel.uri), "invalid_grant")
    body = world.consented(story.browser, story.assistant, story.calendar)
    assert world.active(story.calendar, body["access_token"])


def test_a_retired_agent_does_not_come_back(story: Story) -> None:
    from app.errors import Refused

    registry = story.world.server.agent_registry
    registry.retire(story.assistant.id, by=BY)
    with pytest.raises(Refused):
        registry.resume(story.assistant.id, by=BY)
    with pytest.raises(Refused):
        registry.suspend(story.assistant.id, by=BY)
    refused(story.world.own_token(story.assistant), "invalid_client", 401)


def test_a_child_that_is_born_after_its_ancestor_died_is_dead(story: Story) -> None:
    """The order of the deeds does not matter: what hangs on a revoked node is refused, and what was made of it stays so."""
    piece = claims_of(story.piece)
    story.world.server.revocation.token(piece["jti"], piece["exp"], by=BY)
    refused(story.world.exchange(story.booking, story.piece), "invalid_request")
    other = story.world.exchange(story.assistant, story.handover, audience=story.booking.uri).ok()["access_token"]
    assert story.world.exchange(story.booking, other).status == 200


def test_everything_ends_the_sign_ins_too_and_leaves_the_registrations(story: Story) -> None:
    world = story.world
    _everything(story)
    assert story.browser.get("/my/agents").status == 303
    assert world.own_token(story.assistant, resource=story.calendar.uri).status == 200
    body = world.consented(world.signed_in(story.alice), story.assistant, story.calendar)
    assert world.active(story.calendar, body["access_token"])


def test_every_deed_leaves_its_record(story: Story) -> None:
    world = story.world
    _family(story)
    _task(story)
    _agent(story)
    _disable_human(story)
    _disable_app(story)
    _disable_resource(story)
    for kind, target in (
        ("family", claims_of(story.handover)["deputy"]["f"]),
        ("task", story.task),
        ("agent", story.assistant.id),
        ("human", story.alice.id),
        ("client", story.app.client_id),
        ("resource", story.calendar.id),
    ):
        (record,) = world.ledger(event="revoked", kind=kind, target=target)
        assert record["who"]["operator"] == "test"
