"""The kill switch: what the preview says is what the deed ends, and the deed counts what introspection saw die."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import clock
from app.keys.verifier import JWTRefused
from app.oversight.counting import Count
from app.oversight.target import Target, What
from app.vocabulary import JWTType
from tests.world import BY, CONSENT, Api, Browser, Party, Person, World, claims_of

RANDOM = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


@dataclass
class Quiet:
    """A world in which nothing happens any more: what was issued in it, and to whom."""

    world: World
    people: list[Person] = field(default_factory=list)
    apis: list[Api] = field(default_factory=list)
    agents: list[Party] = field(default_factory=list)
    consents: list[tuple[str, Party, str]] = field(default_factory=list)
    """Consent, agent, task."""
    tokens: list[str] = field(default_factory=list)

    def alive(self) -> set[str]:
        return {token for token in self.tokens if is_alive(self.world, token)}


def is_alive(world: World, unverified_jwt: str) -> bool:
    """What introspection asks, of any kind of token."""
    server = world.server
    for typ in (JWTType.ACCESS_TOKEN, JWTType.HANDOVER):
        try:
            token = server.tokens.read(unverified_jwt, typ, now=clock.timestamp())
        except JWTRefused:
            continue
        return server.live.still(token.lineage.generation, token.lineage.epochs, token.denied_by)[0]
    return False


def random_world(world: World, rng: random.Random) -> Quiet:
    made = Quiet(world)
    browsers: dict[str, Browser] = {}
    for _ in range(rng.randint(1, 2)):
        person = world.human()
        made.people.append(person)
        browsers[person.id] = world.signed_in(person)
    made.apis = [world.resource("read", "write") for _ in range(rng.randint(1, 2))]
    both = [(api, scope) for api in made.apis for scope in ("read", "write")]
    for _ in range(rng.randint(1, 3)):
        receivers = [agent for agent in made.agents if rng.random() < 0.7]
        made.agents.append(world.agent(rng.choice(made.people), ceiling=both, own=both[:1], hands_to=receivers))
    for _ in range(rng.randint(1, 3)):
        agent, person = rng.choice(made.agents), rng.choice(made.people)
        answer = world.consented(browsers[person.id], agent, *made.apis, scope="read write", away=rng.random() < 0.6)
        made.consents.append((answer["consent_id"], agent, answer["task_id"]))
        made.tokens.append(answer["access_token"])
    for _ in range(rng.randint(2, 8)):
        random_step(made, rng)
    return made


def random_step(made: Quiet, rng: random.Random) -> None:
    world = made.world
    consent, agent, _task = rng.choice(made.consents)
    match rng.choice(("away", "onward", "own", "deny", "hand")):
        case "away":
            keep(made, world.exchange(agent, consent, CONSENT, resource=rng.choice(made.apis).uri))
        case "own":
            keep(made, world.own_token(agent, resource=made.apis[0].uri))
        case "onward":
            token = rng.choice(made.tokens)
            keep(made, world.exchange(rng.choice(made.agents), token, resource=rng.choice(made.apis).uri))
        case "hand":
            token = rng.choice(made.tokens)
            keep(made, world.exchange(agent, token, audience=rng.choice(made.agents).uri))
        case "deny":
            token = rng.choice(made.tokens)
            if rng.random() < 0.5:
                world.server.revocation.token(claims_of(token)["jti"], claims_of(token)["exp"], by=BY)
            else:
                world.server.consents.withdraw(rng.choice(made.consents)[0], by=BY)


def keep(made: Quiet, answer: object) -> None:
    if answer.status == 200:  # type: ignore[attr-defined]
        made.tokens.append(answer.json["access_token"])  # type: ignore[attr-defined]


def some_target(made: Quiet, rng: random.Random) -> Target:
    claims = claims_of(rng.choice(made.tokens))
    consent, agent, task = rng.choice(made.consents)
    what, reference = rng.choice(
        [
            (What.TOKEN, claims["jti"]),
            (What.TASK, task),
            (What.CONSENT, consent),
            (What.AGENT, agent.uri),
            (What.CLIENT, rng.choice(made.agents).client_id),
            (What.OWNER, rng.choice(made.people).username),
            (What.HUMAN, rng.choice(made.people).username),
            (What.RESOURCE, rng.choice(made.apis).uri),
        ]
    )
    return made.world.server.targets.find(what, reference)


def check_quiet_world(world: World, rng: random.Random) -> None:
    made = random_world(world, rng)
    target, kill = some_target(made, rng), world.server.kill
    before = made.alive()
    said = kill.preview(target)
    assert made.alive() == before
    done = kill.end(target, by=BY)
    ended = before - made.alive()
    assert said.complete and done.complete
    assert said.sizes == done.sizes, target
    assert done.tokens == len(ended), target
    assert done.entry >= said.entry
    assert kill.preview(target).tokens == 0
    assert kill.end(target, by=BY).sizes == (0, 0, 0, 0, 0)


@settings(RANDOM, max_examples=15)
@given(seed=st.integers(0, 2**32))
def test_the_preview_says_what_the_deed_ends_and_introspection_agrees(world: World, seed: int) -> None:
    check_quiet_world(world, random.Random(seed))


@pytest.mark.soak
@settings(RANDOM, max_examples=1000)
@given(seed=st.integers(0, 2**32))
def test_so_it_is_in_a_thousand_quiet_worlds(world: World, seed: int) -> None:
    check_quiet_world(world, random.Random(seed))


# One world, looked at closely


@dataclass
class Story:
    """Alice owns an assistant that hands work to Bob's clerk, at one API."""

    world: World
    alice: Person
    bob: Person
    api: Api
    assistant: Party
    clerk: Party
    consent: str
    task: str
    token: str
    handed: str
    onward: str

    def count(self, what: What, reference: str) -> Count:
        return self.world.server.kill.preview(self.world.server.targets.find(what, reference))

    def end(self, what: What, reference: str, *, keep_out: bool = False) -> Count:
        return self.world.server.kill.end(self.world.server.targets.find(what, reference), keep_out=keep_out, by=BY)


@pytest.fixture
def story(world: World) -> Story:
    alice, bob = world.human(), world.human()
    api = world.resource("read", "write")
    clerk = world.agent(bob, ceiling=[(api, "read")])
    assistant = world.agent(alice, ceiling=[(api, "read"), (api, "write")], hands_to=[clerk])
    answer = world.consented(world.signed_in(alice), assistant, api, scope="read", away=True)
    token = answer["access_token"]
    handed = world.exchange(assistant, token, audience=clerk.uri).ok()["access_token"]
    onward = world.exchange(clerk, handed, resource=api.uri).ok()["access_token"]
    return Story(world, alice, bob, api, assistant, clerk, answer["consent_id"], answer["task_id"], token, handed, onward)


def test_a_preview_tells_how_much_and_whose(story: Story) -> None:
    count = story.count(What.CONSENT, story.consent)
    assert count.sizes == (3, 1, 1, 2, 1)
    assert count.complete
    assert count.human_names == (f"Name of {story.alice.username}",)
    assert len(count.agent_names) == 2


def test_an_agent_in_the_middle_of_a_chain_counts_what_went_through_its_hands(story: Story) -> None:
    # What was handed to the clerk hangs on it too.
    assert story.count(What.AGENT, story.clerk.uri).sizes == (2, 0, 1, 2, 1)
    assert story.count(What.OWNER, story.bob.username).sizes == (2, 0, 1, 2, 1)
    assert story.count(What.AGENT, story.assistant.uri).tokens == 3


def test_a_token_counts_what_was_derived_from_it(story: Story) -> None:
    assert story.count(What.TOKEN, claims_of(story.token)["jti"]).sizes == (3, 0, 1, 2, 1)
    assert story.count(What.TOKEN, claims_of(story.onward)["jti"]).tokens == 1
    assert story.end(What.TOKEN, claims_of(story.handed)["jti"]).tokens == 2
    assert story.count(What.TOKEN, claims_of(story.token)["jti"]).tokens == 1
    assert story.world.active(story.api, story.token)


def test_an_api_counts_the_tokens_for_it_and_no_consent_ends_with_them(story: Story) -> None:
    # The hand-over token is for an agent and not for the API.
    assert story.count(What.RESOURCE, story.api.uri).sizes[:2] == (3, 0)


def test_a_task_that_runs_without_a_token_is_still_a_task(story: Story) -> None:
    own = story.world.own_token(story.assistant).ok()["access_token"]
    task = story.world.opened(own, story.consent)
    assert story.count(What.TASK, task).sizes == (0, 0, 1, 0, 0)
    assert story.end(What.TASK, task).sizes == (0, 0, 1, 0, 0)
    assert story.count(What.TASK, task).sizes == (0, 0, 0, 0, 0)


def test_what_ran_out_is_not_counted(story: Story, later: Callable[[int], None]) -> None:
    later(901)
    assert story.count(What.AGENT, story.assistant.uri).tokens == 0
    assert story.count(What.AGENT, story.assistant.uri).consents == 1


def test_nothing_revives_when_the_thing_is_let_in_again(story: Story) -> None:
    world = story.world
    assert story.end(What.AGENT, story.assistant.uri, keep_out=True).tokens == 3
    assert world.own_token(story.assistant).status == 401
    world.server.agent_registry.resume(story.assistant.uri, by=BY)
    assert not is_alive(world, story.token) and not is_alive(world, story.onward)
    assert world.exchange(story.assistant, story.consent, CONSENT, resource=story.api.uri).status == 400
    assert story.end(What.RESOURCE, story.api.uri, keep_out=True).tokens == 0
    world.server.resource_registry.enable(story.api.uri, by=BY)
    assert story.end(What.HUMAN, story.alice.username, keep_out=True).consents == 0
    world.server.accounts.enable(story.alice.id, by=BY)
    assert not world.active(story.api, story.token)
    assert story.count(What.OWNER, story.alice.username).sizes == (0, 0, 0, 0, 0)


def test_the_deed_and_its_count_are_in_the_ledger(story: Story) -> None:
    count = story.end(What.CONSENT, story.consent)
    (counted,) = story.world.ledger(event="revocation.counted", target=story.consent)
    assert counted["who"] == {"operator": "test"}
    assert [counted[name] for name in ("kind", "tokens", "consents", "tasks", "agents", "humans")] == ["consent", 3, 1, 1, 2, 1]
    assert (counted["entry"], counted["complete"]) == (count.entry, True)
    # At that entry anybody can count again, from the records alone: what each token hangs on is in its own.
    entries = [one for one in story.world.ledger(event="token.issued") if f"consent:{story.consent}" in one["hangs_on"]]
    assert len(entries) == 3
    assert [one["parents"] for one in entries if one["jti"] == claims_of(story.onward)["jti"]] == [
        [claims_of(story.handed)["jti"], claims_of(story.token)["jti"]]
    ]


def test_two_who_stop_the_same_agent_at_once_never_count_a_token_twice(story: Story) -> None:
    counts: list[Count] = []
    start = threading.Barrier(2)

    def stop() -> None:
        start.wait()
        counts.append(story.end(What.AGENT, story.assistant.uri))

    both = [threading.Thread(target=stop) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(count.tokens for count in counts) == [0, 3]


def test_what_is_issued_while_the_agent_is_stopped_is_counted_or_never_lived(story: Story) -> None:
    world, issued = story.world, [story.token, story.handed, story.onward]
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            answer = world.exchange(story.assistant, story.consent, CONSENT, resource=story.api.uri)
            if answer.status == 200:
                issued.append(answer.json["access_token"])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        while len(issued) < 6:
            assert asking.is_alive()
        count = story.end(What.AGENT, story.assistant.uri)
    finally:
        stopped.set()
        asking.join()
    assert count.tokens == len(issued)
    assert not any(is_alive(world, token) for token in issued)
