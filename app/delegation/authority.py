"""What one token may do, and the only way to change that: `narrow`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from app.delegation.chain import Actor, ActorChain
from app.delegation.limits import Amount, exceeds
from app.errors import InvalidAuthorizationDetails, InvalidCertificate, InvalidDPoPProof, OAuthError
from app.vocabulary import Confirmation, ConfirmationMethod, Pairs, ScopeSet


@dataclass(frozen=True, slots=True)
class Authority:
    """(resource, scope) pairs, until when, for which chain of actors, how deep it may still grow, bound to what, and how much."""

    pairs: Pairs
    end: int
    """Seconds since 1970."""
    chain: ActorChain = field(default_factory=ActorChain)
    depth: int = 0
    """`act` objects allowed at most."""
    confirmation: Confirmation | None = None
    """The key or certificate it is bound to; None is a bearer's."""
    amount: Amount | None = None
    """What all amounts of its task may add up to when it is used; None is no limit of its own."""

    def narrow(
        self, *, pairs: Pairs | None = None, end: int | None = None, depth: int | None = None, amount: Amount | None = None
    ) -> Authority:
        """The same authority made smaller, or as it is. Whatever is passed, the result never exceeds this one.

        Raises InvalidAuthorizationDetails for an amount that cannot be compared with the one there is.
        """
        kept = self.pairs if pairs is None or self.pairs <= pairs else self.pairs & pairs
        sooner = self.end if end is None else min(self.end, end)
        shallower = self.depth if depth is None else min(self.depth, depth)
        less = self.amount if amount is None else least(self.amount, amount)
        if kept is self.pairs and sooner == self.end and shallower == self.depth and less == self.amount:
            return self
        return Authority(kept, sooner, self.chain, shallower, self.confirmation, less)

    def for_scope(self, scope: ScopeSet) -> Authority:
        """Narrowed to these scopes at every resource."""
        return self.narrow(pairs=frozenset(pair for pair in self.pairs if pair.scope in scope))

    def at(self, resource: str) -> Authority:
        """Narrowed to one resource."""
        return self.narrow(pairs=frozenset(pair for pair in self.pairs if pair.resource == resource))

    def acting(self, actor: Actor) -> Authority:
        """The same authority in the hands of this actor: the chain grows at its front, nothing else changes."""
        return Authority(self.pairs, self.end, self.chain.acting(actor), self.depth, self.confirmation, self.amount)

    def by_instance(self, instance: str) -> Authority:
        """The same authority in the hands of one running copy of its current actor, which the chain then names."""
        current = self.chain.current
        return self if current is None else self.acting(replace(current, instance=instance))

    def bound(self, proven: Collection[Confirmation], *, new_actor: bool) -> Authority:
        """The same authority, held by whoever proved this, the most meant first (protocol §5.11, RFC 9449 §5, RFC 8705 §3).

        What is bound stays bound: to what it is bound to, or to what a new actor proved. What is not is bound to the
        first that was proven. Raises InvalidDPoPProof, InvalidCertificate.
        """
        held = self.confirmation
        if held is not None and (not proven or not (new_actor or held in proven)):
            raise not_proven(held, proven)
        chosen = next(iter(proven), None) if held is None or new_actor else held
        if chosen == held:
            return self
        return Authority(self.pairs, self.end, self.chain, self.depth, chosen, self.amount)

    @property
    def resources(self) -> frozenset[str]:
        """The resources within reach."""
        return frozenset(pair.resource for pair in self.pairs)

    @property
    def scope(self) -> ScopeSet:
        """The union of scopes over all resources."""
        return frozenset(pair.scope for pair in self.pairs)

    def within(self, other: Authority) -> bool:
        """Whether this exceeds the other in nothing: the order that every exchange must respect."""
        return (
            self.pairs <= other.pairs
            and self.end <= other.end
            and self.depth <= other.depth
            and self.chain.extends(other.chain)
            and self._keeps_binding(other)
            and not exceeds(self.amount, other.amount)
        )

    def _keeps_binding(self, other: Authority) -> bool:
        """Whether this is bound as the other is, or is the first to be bound, or bound anew in the hands of a new actor."""
        if self.confirmation == other.confirmation:
            return True
        return self.confirmation is not None and (other.confirmation is None or self.chain.depth > other.chain.depth)


def not_proven(held: Confirmation, proven: Collection[Confirmation]) -> OAuthError:
    """The refusal of whoever did not prove what something is bound to."""
    other = any(one.method is held.method for one in proven)
    if held.method is ConfirmationMethod.JKT:
        return InvalidDPoPProof("bound to another key" if other else "bound to a key, and none was proven")
    return InvalidCertificate("bound to another certificate" if other else "bound to a certificate, and none was used")


def least(held: Amount | None, amount: Amount) -> Amount:
    """The smaller of two. Raises InvalidAuthorizationDetails: what cannot be compared cannot be delegated (RFC 9396 §6)."""
    if held is not None and held.currency != amount.currency:
        raise InvalidAuthorizationDetails("an amount in another currency than the limit's", layer="limit")
    return amount if held is None or amount.units < held.units else held
