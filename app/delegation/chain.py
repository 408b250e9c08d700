"""Who acts: the chain of agents, the current one first, as `act` nests them (RFC 8693 §4.1, OAuth Actor Profile)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.vocabulary import ACTOR_PROFILE_AGENT


@dataclass(frozen=True, slots=True)
class Actor:
    """One actor. `iss` is the namespace of `sub`; the two together are its name, and all that is compared."""

    iss: str
    sub: str
    instance: str = field(default="", compare=False)
    """Which running copy of it acted; empty where it did with a registered key. Informs, and is no part of its name."""

    @classmethod
    def parse(cls, claim: object) -> Actor:
        """The actor that an `act` or `may_act` object names. Raises ValueError for any other shape: it names nobody."""
        if not isinstance(claim, Mapping) or not isinstance(claim.get("iss"), str) or not isinstance(claim.get("sub"), str):
            raise ValueError("malformed act or may_act")
        return cls(claim["iss"], claim["sub"], claim.get("instance", ""))


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
        """The chain with this actor outermost. The same actor again is not doubled; nothing behind it is touched.

        Of the same actor it may be another running copy that acts now: the chain names that one.
        """
        if self.current is None or self.current != actor:
            return ActorChain((actor, *self.actors))
        return self if self.current.instance == actor.instance else ActorChain((actor, *self.actors[1:]))

    def extends(self, other: ActorChain) -> bool:
        """Whether the other is this chain's tail, whole and untouched."""
        return self.depth >= other.depth and self.actors[self.depth - other.depth :] == other.actors

    def claim(self) -> dict[str, Any] | None:
        """The `act` claim; None for an empty chain."""
        nested: dict[str, Any] | None = None
        for actor in reversed(self.actors):
            outer: dict[str, Any] = {"iss": actor.iss, "sub": actor.sub, "sub_profile": ACTOR_PROFILE_AGENT}
            if actor.instance:
                outer["instance"] = actor.instance
            if nested is not None:
                outer["act"] = nested
            nested = outer
        return nested

    @classmethod
    def parse(cls, claim: object) -> ActorChain:
        """The chain of an `act` claim that our own signature covers. Raises ValueError for any other shape."""
        actors: list[Actor] = []
        while claim is not None:
            actors.append(Actor.parse(claim))
            claim = claim.get("act") if isinstance(claim, Mapping) else None
        return cls(tuple(actors))
