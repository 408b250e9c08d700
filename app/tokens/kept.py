"""What is kept of a request while a human is asked: the parameters she answers to, and what they hang on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from app.delegation.chain import ActorChain
from app.delegation.limits import Amount, parse_amount
from app.live.models import parse_epochs, stored_epochs
from app.live.things import Thing
from app.policy.access import AccessRequest, SignedInAs, TokenKind
from app.vocabulary import Confirmation, Pair, Pairs, ScopeSet


@dataclass(frozen=True, slots=True)
class Parameters:
    """The one token that is asked for. Another value in any of these is another question."""

    client_id: str
    agent: str
    human: str
    consent: str
    task: str
    default: bool
    """Whether the task is the consent's default one."""
    audience: str
    kind: TokenKind
    pairs: Pairs
    chain: ActorChain
    depth: int
    confirmation: Confirmation | None
    openid: ScopeSet = frozenset()
    actor_token: bool = False
    """Whether an `actor_token` was shown, and must be shown again."""
    binding_message: str = ""
    max_age: int | None = None
    """How fresh her sign-in must be for the agent, in seconds."""
    amount: Amount | None = None
    """What all amounts of its task may add up to when it is used."""

    @classmethod
    def of(cls, access: AccessRequest, binding_message: str = "", max_age: int | None = None) -> Parameters:
        """What a request asks for, after every rule has narrowed it. Raises ValueError for one that acts for nobody."""
        if access.agent is None or access.human is None or access.consent is None or access.task is None:
            raise ValueError("nobody to ask")
        authority = access.authority
        return cls(
            client_id=access.client.value.client_id,
            agent=access.agent.value.id,
            human=access.human,
            consent=access.consent.value.id,
            task=access.task.value.id,
            default=access.task.value.default,
            audience=access.target.audience,
            kind=access.target.kind,
            pairs=authority.pairs,
            chain=authority.chain,
            depth=authority.depth,
            confirmation=authority.confirmation,
            openid=access.openid,
            actor_token=bool(access.evidence),
            binding_message=binding_message,
            max_age=max_age,
            amount=authority.amount,
        )

    def stored(self) -> dict[str, Any]:
        """As a JSON column holds it."""
        limits = {} if self.amount is None else {"amount": self.amount.stored()}
        return limits | {
            "client_id": self.client_id,
            "agent": self.agent,
            "human": self.human,
            "consent": self.consent,
            "task": self.task,
            "default": self.default,
            "audience": self.audience,
            "kind": self.kind.value,
            "pairs": [list(pair) for pair in sorted(self.pairs)],
            "act": self.chain.claim(),
            "depth": self.depth,
            "cnf": self.confirmation.claim() if self.confirmation is not None else None,
            "openid": sorted(self.openid),
            "actor_token": self.actor_token,
            "binding_message": self.binding_message,
            "max_age": self.max_age,
        }

    @classmethod
    def parse(cls, stored: Mapping[str, Any]) -> Parameters:
        """The inverse of `stored`."""
        return cls(
            client_id=stored["client_id"],
            agent=stored["agent"],
            human=stored["human"],
            consent=stored["consent"],
            task=stored["task"],
            default=stored["default"],
            audience=stored["audience"],
            kind=TokenKind(stored["kind"]),
            pairs=frozenset(Pair(*pair) for pair in stored["pairs"]),
            chain=ActorChain.parse(stored["act"]),
            depth=stored["depth"],
            confirmation=Confirmation.parse(stored["cnf"]) if stored["cnf"] is not None else None,
            openid=frozenset(stored["openid"]),
            actor_token=stored["actor_token"],
            binding_message=stored["binding_message"],
            max_age=stored["max_age"],
            amount=parse_amount(stored["amount"], "value") if "amount" in stored else None,
        )

    @property
    def digest(self) -> str:
        """SHA-256 of all of it, in canonical order."""
        return sha256(orjson.dumps(self.stored(), option=orjson.OPT_SORT_KEYS)).hexdigest()


@dataclass(frozen=True, slots=True)
class HangsOn:
    """What the question was born under and came from: it is as dead as that."""

    born: Mapping[Thing, int]
    parents: tuple[str, ...]
    family: str | None
    session: str | None
    signed_in: SignedInAs

    @classmethod
    def of(cls, access: AccessRequest) -> HangsOn:
        """What a request hangs on. Raises ValueError for one that acts for nobody."""
        if access.signed_in is None:
            raise ValueError("nobody signed in")
        lineage = access.lineage
        return cls(lineage.epochs, lineage.parents, lineage.family, lineage.session, access.signed_in)

    def stored(self) -> dict[str, Any]:
        """As a JSON column holds it."""
        return {
            "born": stored_epochs(self.born),
            "parents": list(self.parents),
            "family": self.family,
            "session": self.session,
            "signed_in": stored_sign_in(self.signed_in),
        }

    @classmethod
    def parse(cls, stored: Mapping[str, Any]) -> HangsOn:
        """The inverse of `stored`."""
        return cls(
            born=parse_epochs(stored["born"]),
            parents=tuple(stored["parents"]),
            family=stored["family"],
            session=stored["session"],
            signed_in=parse_sign_in(stored["signed_in"]),
        )


def stored_sign_in(signed_in: SignedInAs) -> list[Any]:
    """How somebody signed in, as JSON."""
    return [signed_in.auth_time, signed_in.acr, list(signed_in.amr)]


def parse_sign_in(stored: list[Any]) -> SignedInAs:
    """The inverse of `stored_sign_in`."""
    auth_time, acr, amr = stored
    return SignedInAs(auth_time, acr, tuple(amr))
