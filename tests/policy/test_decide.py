"""`decide` as a pure function: whatever is asked, a permit exceeds nothing, and each refusal names its layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.agents.agent import Agent
from app.clients.client import Client
from app.delegation.authority import Authority
from app.delegation.chain import Actor, ActorChain
from app.delegation.consent import Consent
from app.delegation.task import Task
from app.live.cache import Held
from app.live.things import Kind, Reading, Thing
from app.policy.access import AccessRequest, Asked, Denial, Lineage, Permit, SignedInAs, Target, TokenKind
from app.policy.cedar import PolicySet
from app.policy.decide import decide
from app.resources.resource import Resource
from app.vocabulary import AgentState, AuthMethod, ClientKind, GrantType, Pair, SigningAlg

T = TypeVar("T")
CASES = 20_000
NOW = 1_800_000_000
A, B = "https://a.example", "https://b.example"
SCOPES = ("read", "write", "read:all", "x")
EVERY = frozenset(Pair(uri, scope) for uri in (A, B) for scope in SCOPES)


def held(value: Any, kind: Kind, identifier: str) -> Held[Any]:
    return Held(value, Thing(kind, identifier), Reading(0, 0))


class Numbers:
    """What a request is made of, taken bit by bit from one number: drawn piece by piece it takes ten times as long."""

    def __init__(self, octets: bytes) -> None:
        self._left = int.from_bytes(octets)

    def below(self, end: int) -> int:
        """From 0 to `end - 1`."""
        self._left, number = divmod(self._left, end)
        return number

    def between(self, first: int, last: int) -> int:
        return first + self.below(last - first + 1)

    def mostly(self) -> bool:
        """False once in nine times."""
        return self.below(9) < 8

    def some(self, things: Sequence[T]) -> frozenset[T]:
        """A subset of what is there, maybe of nothing."""
        bits = self.below(2 ** len(things))
        return frozenset(one for n, one in enumerate(things) if bits >> n & 1)

    def pairs(self) -> frozenset[Pair]:
        """Mostly all there are."""
        return EVERY if self.below(4) else self.some(sorted(EVERY))

    def end(self) -> int:
        return self.between(NOW - 10, NOW + 5000)


OCTETS = 48
"""Enough for all that `request` takes."""

requests = st.binary(min_size=OCTETS, max_size=OCTETS).map(lambda octets: request(Numbers(octets)))
pair_sets = st.integers(0, 2 ** len(EVERY) - 1).map(lambda bits: frozenset(p for n, p in enumerate(sorted(EVERY)) if bits >> n & 1))


def client(*, enabled: bool = True) -> Client:
    return Client(
        client_id="c", kind=ClientKind.AGENT, name="c", auth_method=AuthMethod.PRIVATE_KEY_JWT, secret_hash="",
        secret_expires_at=0, keys=(), assertion_audience="issuer", redirect_uris=(), post_logout_redirect_uris=(),
        id_token_alg=SigningAlg.RS256, native=False, pairs=frozenset(), enabled=enabled,
    )  # fmt: skip


def agent_of(numbers: Numbers, name: str = "a") -> Agent:
    return Agent(
        id=name, uri=f"https://as.example/agents/{name}", client_id="c", name=name, owner="o", purpose="p",
        state=AgentState.ACTIVE if numbers.mostly() else (AgentState.SUSPENDED, AgentState.RETIRED)[numbers.below(2)],
        ceiling=numbers.pairs(), own=numbers.pairs(), hands_to=numbers.some(("b",)),
        max_depth=numbers.between(1, 4), serves="",
    )  # fmt: skip


def request(numbers: Numbers) -> AccessRequest:
    agent = agent_of(numbers)
    delegated = bool(numbers.below(2))
    uri = (A, B)[numbers.below(2)]
    resource = Resource(
        id=uri, uri=uri, name="r", scopes=dict.fromkeys(numbers.some(SCOPES) if numbers.below(2) else SCOPES, "w"),
        labels=frozenset(), scope_labels={}, alg=SigningAlg.ES256, client_id="r", enabled=numbers.mostly(),
    )  # fmt: skip
    receiver = agent_of(numbers, "b")
    if numbers.below(4):
        target = Target(uri, TokenKind.ACCESS_TOKEN, resource=held(resource, Kind.RESOURCE, uri))
    else:
        target = Target(receiver.uri, TokenKind.HANDOVER, agent=held(receiver, Kind.AGENT, "b"))
    consent = Consent(
        id="con", human="h", client_id="c", agent="a", pairs=numbers.pairs(), depth=numbers.between(1, 4),
        away=True, session=None, given_at=0, until=numbers.end(), ended=not numbers.mostly(),
        auth_time=1, acr="a", amr=(), born={},
    )  # fmt: skip
    task = Task(
        id="t", consent="con", human="h", agent="a", default=True, generation=1 if numbers.mostly() else 2,
        deadline=numbers.end(), ended=not numbers.mostly(),
    )  # fmt: skip
    chain = ActorChain(tuple(Actor("i", f"x{n}") for n in range(numbers.below(4))))
    authority = Authority(
        pairs=numbers.pairs(), end=numbers.end(), depth=numbers.between(1, 6),
        chain=chain.acting(Actor("i", agent.uri)) if delegated else ActorChain(),
    )  # fmt: skip
    return AccessRequest(
        grant_type=GrantType.TOKEN_EXCHANGE if delegated else GrantType.CLIENT_CREDENTIALS,
        client=held(client(enabled=numbers.mostly()), Kind.CLIENT, "c"),
        agent=held(agent, Kind.AGENT, "a"),
        human="h" if delegated else None,
        authority=authority,
        target=target,
        asked=Asked(numbers.some(SCOPES[: numbers.below(4)]) or None, numbers.pairs() if numbers.below(2) else None),
        lineage=Lineage(1, parents=tuple("p" * numbers.below(10)), consent="con" if delegated else None),
        now=NOW,
        lifetime=numbers.between(1, 900),
        consent=held(consent, Kind.CONSENT, "con") if delegated else None,
        task=held(task, Kind.TASK, "t") if delegated else None,
        signed_in=SignedInAs(1, "a", ()) if delegated else None,
    )


@settings(max_examples=CASES, deadline=None)
@given(requests)
def test_a_permit_exceeds_nothing(access: AccessRequest) -> None:
    verdict = decide(access, PolicySet())
    if isinstance(verdict, Denial):
        assert verdict.error.layer
        assert verdict.error.reason
        return
    left = verdict.access.authority
    agent = access.agent.value if access.agent is not None else None
    assert agent is not None
    assert left.within(access.authority)
    assert left.pairs
    assert left.pairs <= access.authority.pairs
    assert left.chain == access.authority.chain
    assert NOW < left.end <= NOW + access.lifetime
    assert left.end <= access.authority.end
    assert agent.active
    assert access.client.value.enabled
    if access.asked.scope is not None:
        assert left.scope <= access.asked.scope
    if access.asked.pairs is not None:
        assert left.pairs <= access.asked.pairs
    if access.target.resource is not None:
        resource = access.target.resource.value
        assert resource.enabled
        assert left.pairs <= resource.pairs
    if access.target.agent is not None:
        receiver = access.target.agent.value
        assert receiver.active
        assert left.pairs <= receiver.ceiling
        assert access.grant_type is not GrantType.TOKEN_EXCHANGE or receiver.id in agent.hands_to
    if access.human is None:
        assert left.pairs <= agent.own
        return
    assert access.consent is not None
    assert access.task is not None
    consent, task = access.consent.value, access.task.value
    assert left.pairs <= consent.pairs & agent.ceiling
    assert left.end <= min(consent.until, task.deadline)
    assert not consent.ended
    assert not task.ended
    assert task.generation == access.lineage.generation
    assert left.chain.depth <= left.depth <= min(consent.depth, agent.max_depth, access.authority.depth)
    assert len(access.lineage.parents) <= 8


@settings(deadline=None)
@given(requests)
def test_the_same_request_gets_the_same_answer(access: AccessRequest) -> None:
    first, second = decide(access, PolicySet()), decide(access, PolicySet())
    assert type(first) is type(second)
    if isinstance(first, Permit) and isinstance(second, Permit):
        assert first.access == second.access
        assert first.layers == second.layers


@settings(deadline=None)
@given(requests, pair_sets)
def test_asking_for_less_never_gives_more(access: AccessRequest, fewer: frozenset[Pair]) -> None:
    wide, narrow = decide(access, PolicySet()), decide(access.narrowed(access.authority.narrow(pairs=fewer)), PolicySet())
    if isinstance(narrow, Permit) and isinstance(wide, Permit):
        assert narrow.access.authority.pairs <= wide.access.authority.pairs


@given(requests)
def test_nobody_makes_a_permit_by_hand(access: AccessRequest) -> None:
    with pytest.raises((TypeError, AssertionError, ValueError)):
        Permit(access, (), None, access.authority, object())
