"""Authority only narrows: whatever is passed, in whatever order, the result never exceeds what there was."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.delegation.authority import Authority
from app.delegation.chain import Actor, ActorChain
from app.delegation.limits import Amount, Limits
from app.errors import InvalidAuthorizationDetails, InvalidCertificate, InvalidDPoPProof
from app.vocabulary import Confirmation, ConfirmationMethod, Pair

CASES = 4_000

bindings = st.builds(Confirmation, st.sampled_from(ConfirmationMethod), st.sampled_from(["first", "second"]))

resources = st.sampled_from(["https://a.example", "https://b.example", "https://a.example/b"])
scopes = st.sampled_from(["read", "write", "a", "b:c", "read:all"])
pairs = st.frozensets(st.builds(Pair, resources, scopes), max_size=8)
actors = st.builds(Actor, st.just("https://as.example"), st.sampled_from(["x", "y", "z"]))
ends = st.integers(0, 2**33)
depths = st.integers(0, 8)
amounts = st.builds(Amount, st.sampled_from(["EUR", "EUR", "USD"]), st.integers(0, 10**9))
authorities = st.builds(
    Authority,
    pairs=pairs,
    end=ends,
    chain=st.builds(ActorChain, st.lists(actors, max_size=4).map(tuple)),
    depth=depths,
    confirmation=st.none() | bindings,
    amount=st.none() | amounts,
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("narrow"), st.none() | pairs, st.none() | ends, st.none() | depths, st.none() | amounts),
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
        try:
            authority = _take(authority, step)
        except InvalidAuthorizationDetails:
            # Another currency: what cannot be compared is refused, and nothing is changed.
            assert authority.amount is not None
            assert authority.amount.currency != step[4].currency  # type: ignore[attr-defined]
        assert authority.within(before)
        assert _is_within(authority.amount, before.amount)
        assert authority.pairs <= before.pairs
        assert authority.end <= before.end
        assert authority.depth <= before.depth
        assert authority.confirmation == before.confirmation
        assert authority.chain.actors[authority.chain.depth - before.chain.depth :] == before.chain.actors


@settings(deadline=None)
@given(authorities, st.builds(Pair, st.just("https://c.example"), scopes))
def test_within_sees_every_way_of_being_larger(authority: Authority, pair: Pair) -> None:
    assert not replace(authority, pairs=authority.pairs | {pair}).within(authority)
    assert not replace(authority, end=authority.end + 1).within(authority)
    assert not replace(authority, depth=authority.depth + 1).within(authority)
    if authority.confirmation is not None:
        assert not replace(authority, confirmation=None).within(authority)
    if authority.amount is not None:
        currency, units = authority.amount
        for larger in (None, Amount(currency, units + 1), Amount("JPY", units), Amount("JPY", 0)):
            assert not replace(authority, amount=larger).within(authority)
    if authority.chain.depth:
        cut = ActorChain(authority.chain.actors[:-1])
        assert not replace(authority, chain=cut).within(authority)


@settings(max_examples=CASES, deadline=None)
@given(authorities, st.lists(st.tuples(actors, st.lists(bindings, max_size=2).map(tuple)), max_size=6))
def test_from_hand_to_hand_what_is_bound_stays_bound(before: Authority, hands: list[tuple[Actor, tuple[Confirmation, ...]]]) -> None:
    """Bearers may be bound; only a new actor brings another key or certificate; nobody ever strips one (protocol §5.11)."""
    authority = before
    for actor, proven in hands:
        new, held = authority.chain.current != actor, authority.confirmation
        try:
            authority = authority.acting(actor).bound(proven, new_actor=new)
        except (InvalidDPoPProof, InvalidCertificate) as refused:
            assert held is not None
            assert not proven or (not new and held not in proven)
            assert isinstance(refused, InvalidDPoPProof) is (held.method is ConfirmationMethod.JKT)
            continue
        bound = authority.confirmation
        assert bound in proven if bound is not None else held is None and not proven
        assert held in {None, bound} or new
        # Where both were proven, what is bound anew is bound to what was proven on purpose.
        assert bound == held or bound == proven[0]
        assert authority.within(before)


@given(authorities.filter(lambda authority: authority.confirmation is not None))
def test_another_binding_in_the_same_hands_is_not_within(authority: Authority) -> None:
    other = Confirmation(ConfirmationMethod.JKT, "third")
    assert not replace(authority, confirmation=other).within(authority)
    assert authority.acting(Actor("https://as.example", "new")).bound((other,), new_actor=True).within(authority)


@given(bindings)
def test_the_same_thumbprint_of_a_key_and_of_a_certificate_are_two_things(one: Confirmation) -> None:
    (other,) = (Confirmation(method, one.thumbprint) for method in ConfirmationMethod if method is not one.method)
    held = Authority(frozenset(), 1, confirmation=one)
    with pytest.raises((InvalidDPoPProof, InvalidCertificate)):
        held.bound((other,), new_actor=False)
    assert not replace(held, confirmation=other).within(held)


@given(st.lists(actors, max_size=6))
def test_the_chain_says_each_actor_in_order_and_never_one_twice_in_a_row(acted: list[Actor]) -> None:
    chain = ActorChain()
    for actor in acted:
        chain = chain.acting(actor)
    expected = [actor for i, actor in enumerate(acted) if i == 0 or acted[i - 1] != actor]
    assert chain.actors == tuple(reversed(expected))
    assert ActorChain.parse(chain.claim()) == chain


@given(authorities, st.lists(amounts, max_size=5))
def test_an_amount_passed_on_is_the_least_there_was(before: Authority, asked: list[Amount]) -> None:
    authority, least = before, before.amount
    for amount in asked:
        if least is None or (amount.currency == least.currency and amount.units < least.units):
            least = amount
        try:
            authority = authority.narrow(amount=amount).acting(Actor("https://as.example", "next"))
        except InvalidAuthorizationDetails:
            assert least is not None and amount.currency != least.currency
    assert authority.amount == least


counts = st.none() | st.integers(1, 5)
limits = st.builds(Limits, counts, st.booleans(), counts, st.none() | st.builds(Amount, st.sampled_from(["EUR", "USD"]), st.integers(0, 5)))


@given(limits, limits, limits)
def test_limits_are_ordered_and_come_back_from_what_is_stored(one: Limits, two: Limits, three: Limits) -> None:
    assert one.within(one)
    if one.within(two) and two.within(three):
        assert one.within(three)
    stored = Limits.parse(one.stored())
    assert stored.within(one) and one.within(stored)
    assert one.within(Limits())
    assert Limits().within(one) == (one.stored() == {})


def _is_within(amount: Amount | None, bound: Amount | None) -> bool:
    return bound is None or (amount is not None and amount.currency == bound.currency and amount.units <= bound.units)


def _take(authority: Authority, step: tuple[object, ...]) -> Authority:
    match step:
        case ("narrow", kept, end, depth, amount):
            return authority.narrow(pairs=kept, end=end, depth=depth, amount=amount)  # type: ignore[arg-type]
        case ("scope", scope):
            return authority.for_scope(scope)  # type: ignore[arg-type]
        case ("at", resource):
            return authority.at(resource)  # type: ignore[arg-type]
        case ("acting", actor):
            return authority.acting(actor)  # type: ignore[arg-type]
        case _:
            raise AssertionError(step)
