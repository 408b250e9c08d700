"""Authority only narrows: whatever is passed, in whatever order, the result never exceeds what there was."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from app.delegation.authority import Authority
from app.delegation.chain import Actor, ActorChain
from app.vocabulary import Pair

CASES = 4_000

resources = st.sampled_from(["https://a.example", "https://b.example", "https://a.example/b"])
scopes = st.sampled_from(["read", "write", "a", "b:c", "read:all"])
pairs = st.frozensets(st.builds(Pair, resources, scopes), max_size=8)
actors = st.builds(Actor, st.just("https://as.example"), st.sampled_from(["x", "y", "z"]))
ends = st.integers(0, 2**33)
depths = st.integers(0, 8)
authorities = st.builds(
    Authority,
    pairs=pairs,
    end=ends,
    chain=st.builds(ActorChain, st.lists(actors, max_size=4).map(tuple)),
    depth=depths,
    key=st.none() | st.just("thumbprint"),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("narrow"), st.none() | pairs, st.none() | ends, st.none() | depths),
        st.tuples(st.just("scope"), st.frozensets(scopes)),
        st.tuples(st.just("at"), resources),
        st.tuples(st.just("acting"), actors),
    ),
    max_size=6,
)


@settings(max_examples=CASES, deadline=None)
@given(authorities, steps)
def test_no_sequence_of_steps_exceeds_what_there_was(before: Authority, sequence: list[tuple[object, ...]]) -> None:
    authority = before
    for step in sequence:
        authority = _take(authority, step)
        assert authority.within(before)
        assert authority.pairs <= before.pairs
        assert authority.end <= before.end
        assert authority.depth <= before.depth
        assert authority.key == before.key
        assert authority.chain.actors[authority.chain.depth - before.chain.depth :] == before.chain.actors


@settings(deadline=None)
@given(authorities, st.builds(Pair, st.just("https://c.example"), scopes))
def test_within_sees_every_way_of_being_larger(authority: Authority, pair: Pair) -> None:
    assert not replace(authority, pairs=authority.pairs | {pair}).within(authority)
    assert not replace(authority, end=authority.end + 1).within(authority)
    assert not replace(authority, depth=authority.depth + 1).within(authority)
    if authority.key is not None:
        assert not replace(authority, key=None).within(authority)
    if authority.chain.depth:
        cut = ActorChain(authority.chain.actors[:-1])
        assert not replace(authority, chain=cut).within(authority)


@given(st.lists(actors, max_size=6))
def test_the_chain_says_each_actor_in_order_and_never_one_twice_in_a_row(acted: list[Actor]) -> None:
    chain = ActorChain()
    for actor in acted:
        chain = chain.acting(actor)
    expected = [actor for i, actor in enumerate(acted) if i == 0 or acted[i - 1] != actor]
    assert chain.actors == tuple(reversed(expected))
    assert ActorChain.parse(chain.claim()) == chain


def _take(authority: Authority, step: tuple[object, ...]) -> Authority:
    match step:
        case ("narrow", kept, end, depth):
            return authority.narrow(pairs=kept, end=end, depth=depth)  # type: ignore[arg-type]
        case ("scope", scope):
            return authority.for_scope(scope)  # type: ignore[arg-type]
        case ("at", resource):
            return authority.at(resource)  # type: ignore[arg-type]
        case ("acting", actor):
            return authority.acting(actor)  # type: ignore[arg-type]
        case _:
            raise AssertionError(step)
