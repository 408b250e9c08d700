"""What one token may do, and the only way to change that: `narrow`."""

from __future__ import annotations

from dataclasses import dataclass, field

from app.delegation.chain import Actor, ActorChain
from app.vocabulary import Pairs, ScopeSet


@dataclass(frozen=True, slots=True)
class Authority:
    """(resource, scope) pairs, until when, for which chain of actors, how deep it may still grow, bound to which key."""

    pairs: Pairs
    end: int
    """Seconds since 1970."""
    chain: ActorChain = field(default_factory=ActorChain)
    depth: int = 0
    """`act` objects allowed at most."""
    key: str | None = None
    """RFC 7638 thumbprint of the key it is bound to; None is a bearer's."""

    def narrow(self, *, pairs: Pairs | None = None, end: int | None = None, depth: int | None = None) -> Authority:
        """The same authority made smaller, or as it is. Whatever is passed, the result never exceeds this one."""
        kept = self.pairs if pairs is None or self.pairs <= pairs else self.pairs & pairs
        sooner = self.end if end is None else min(self.end, end)
        shallower = self.depth if depth is None else min(self.depth, depth)
        if kept is self.pairs and sooner == self.end and shallower == self.depth:
            return self
        return Authority(kept, sooner, self.chain, shallower, self.key)

    def for_scope(self, scope: ScopeSet) -> Authority:
        """Narrowed to these scopes at every resource."""
        return self.narrow(pairs=frozenset(pair for pair in self.pairs if pair.scope in scope))

    def at(self, resource: str) -> Authority:
        """Narrowed to one resource."""
        return self.narrow(pairs=frozenset(pair for pair in self.pairs if pair.resource == resource))

    def acting(self, actor: Actor) -> Authority:
        """The same authority in the hands of this actor: the chain grows at its front, nothing else changes."""
        return Authority(self.pairs, self.end, self.chain.acting(actor), self.depth, self.key)

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
            and (other.key is None or self.key is not None)
        )
