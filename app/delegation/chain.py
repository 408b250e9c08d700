"""Who acts: the chain of agents, the current one first, as `act` nests them (RFC 8693 §4.1, OAuth Actor Profile)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.vocabulary import ACTOR_PROFILE_AGENT


class Actor(NamedTuple):
    """One actor. `iss` is the namespace of `sub`; the two together are its name."""

    iss: str
    sub: str


@dataclass(frozen=True, slots=True)
class ActorChain:
    """A linear history. The first authorizes; those behind it inform."""

    actors: tuple[Actor, ...] = ()

    @property
    def depth(self) -> int:
        """How many `act` objects the claim nests; 1 is one agent alone."""
        return len(self.actors)

    @property
    def current(self) -> Actor | None:
        """The outermost actor, who acts now."""
        return self.actors[0] if self.actors else None

    def acting(self, actor: Actor) -> ActorChain:
        """The chain with this actor outermost. The same actor again is not doubled; nothing behind it is touched."""
        return self if self.current == actor else ActorChain((actor, *self.actors))

    def extends(self, other: ActorChain) -> bool:
        """Whether the other is this chain's tail, whole and untouched."""
        return self.depth >= other.depth and self.actors[self.depth - other.depth :] == other.actors

    def claim(self) -> dict[str, Any] | None:
        """The `act` claim; None for an empty chain."""
        nested: dict[str, Any] | None = None
        for actor in reversed(self.actors):
            outer: dict[str, Any] = {"iss": actor.iss, "sub": actor.sub, "sub_profile": ACTOR_PROFILE_AGENT}
            if nested is not None:
                outer["act"] = nested
            nested = outer
        return nested

    @classmethod
    def parse(cls, claim: object) -> ActorChain:
        """The chain of an `act` claim that our own signature covers. Raises ValueError for any other shape."""
        actors: list[Actor] = []
        while claim is not None:
            if not isinstance(claim, Mapping) or not isinstance(claim.get("iss"), str) or not isinstance(claim.get("sub"), str):
                raise ValueError("malformed act")
            actors.append(Actor(claim["iss"], claim["sub"]))
            claim = claim.get("act")
        return cls(tuple(actors))
