"""One decision explained: what it began with, what each layer took away, what came out, how it came to be, what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from app import clock
from app.agents.registry import AgentRegistry
from app.audit.events import ApprovalAsked, CallRefused, TaskOpened, TokenIssued, TokenRefused
from app.clients.client import Clients
from app.database import Database
from app.delegation.limits import in_words
from app.errors import NotFound, TemporarilyUnavailable
from app.humans.accounts import Accounts
from app.ledger.queries import Entry, Filter, Queries
from app.ledger.waiting import waiting
from app.live.commit import Live
from app.oversight.custody import Afterwards, Custody, Record, Records, afterwards, approval_of, custody_of
from app.policy.access import TokenKind
from app.policy.policies import Policies
from app.policy.rules import RULES
from app.resources.registry import ResourceRegistry

EVIDENCE, POLICY, LIMIT = "evidence", "policy", "limit"
ORDER = (*(rule.__module__.rpartition(".")[2] for rule in RULES), POLICY, LIMIT)
"""The layers, in the order in which each decision passes them."""

REFUSED_BY = {
    "agent": "agent_active", "client": "agent_active", "instance": "instance_live", "target": "target_serves", "proof": "key_bound", "hand-over": "hand_over",
    "consent": "consent_covers", "task": "task_runs", "scope": "scope_asked", "chain": "actor_chain", "lifetime": "lifetime",
    "policy": POLICY, "limit": LIMIT,
}  # fmt: skip
"""A refusal names its layer in its own words; here is the place in the order."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer and what it took away."""

    name: str
    pairs: tuple[str, ...] = ()
    """`resource scope` each."""
    seconds: int = 0
    depth: int = 0
    """By how many agents the chain may now be shorter."""
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything the ledger and the registers say of one decision."""

    entry: Entry
    layers: tuple[Layer, ...]
    missing: Mapping[str, str]
    """Scopes that were asked for and not to be had: which layer took each away; `evidence` where it was never there."""
    policies: Mapping[str, Any] | None
    """The set that was asked: its version, which policies it had, whose they are, the question, and who forbade it."""
    limits: Mapping[str, Any] | None
    """What the task may use up, and how much of it was used with this token."""
    custody: Custody
    afterwards: Afterwards | None
    """Of the token; for a refusal, of the token it rested on."""
    approval: tuple[Entry, ...]
    """The question to a human that it is, or that it rests on, and what became of that."""
    now: int
    complete: bool
    """False: Redis was out of reach, and what is on its way to the ledger could not be looked at."""
    names: Mapping[str, str]
    """What the ids stand for at this moment."""

    @property
    def objections(self) -> list[dict[str, Any]]:
        """The policies that forbade it, or want a human: with the rule each carries out, and its owner, who can be asked about it."""
        if self.policies is None:
            return []
        known = {one["policy"]: one for one in self.policies["asked"] or ()}
        # One statement of several is named after its policy and a slash.
        names = dict.fromkeys(name.partition("/")[0] for name in self.policies["forbidden_by"])
        return [known.get(name, {"policy": name, "version": None, "rule": "", "owner": None}) for name in names]

    @property
    def limits_in_words(self) -> tuple[str, ...]:
        """What the task may use up, as people read it."""
        return in_words(self.limits["stated"]) if self.limits is not None else ()

    @property
    def ended(self) -> Entry | None:
        """What ended the token first, if anything did."""
        return self.afterwards.endings[0] if self.afterwards is not None and self.afterwards.endings else None

    @property
    def state(self) -> str:
        """`ended`, `expired`, or `alive` as far as the ledger tells; `refused` where there never was a token, `asked` where a human was."""
        if self.entry.record["event"] != TokenIssued.name:
            if self.entry.record["event"] == ApprovalAsked.name:
                return "asked"
            return "refused" if self.entry.record["outcome"] == "deny" else "done"
        if self.ended is not None:
            return "ended"
        return "expired" if self.entry.record["expires_at"] <= self.now else "alive"


@dataclass(frozen=True, slots=True)
class Explain:
    """Explains by a token's jti or a record's id."""

    database: Database
    live: Live
    accounts: Accounts
    clients: Clients
    agents: AgentRegistry
    resources: ResourceRegistry
    policies: Policies

    def of(self, reference: str) -> Explanation:
        """The decision about that token, or of that audit id. Raises NotFound."""
        on_the_way, complete = self._waiting()
        records = Records(Queries(self.database), on_the_way)
        line = records.line(reference)
        entry = line[0] if line else records.named(reference)
        if entry is None:
            raise NotFound(f"neither the ledger nor what is on its way to it knows {reference}")
        record = entry.record
        custody = custody_of(records, record)
        after = afterwards(records, custody) if custody.tokens else None
        policies = self._policies(record)
        return Explanation(
            entry=entry,
            layers=tuple(layers_of(record)),
            missing=missing_of(record),
            policies=policies,
            limits=_limits(records, entry),
            custody=custody,
            afterwards=after,
            approval=approval_of(records, record),
            now=clock.timestamp(),
            complete=complete,
            names=dict(self._names(entry, custody, after, policies)),
        )

    def _waiting(self) -> tuple[list[dict[str, Any]], bool]:
        try:
            return waiting(self.live), True
        except TemporarilyUnavailable:
            return [], False

    def _policies(self, record: Record) -> dict[str, Any] | None:
        question = record.get("question")
        if question is None:
            return None
        version = int(record.get("policies") or 0)
        members = self.policies.members(version)
        rows = {(row.name, row.version): row for row in self.policies.list()} if members else {}
        return {
            "version": version,
            "asked": None if members is None else [
                {"policy": name, "version": number, "rule": row.rule if row else "", "owner": row.owner if row else None}
                for name, number, row in ((name, number, rows.get((name, number))) for name, number in members)
            ],
            "question": question,
            "forbidden_by": list(record.get("forbidden_by", ())),
        }  # fmt: skip

    # Names, at the time of showing

    def _names(
        self, entry: Entry, custody: Custody, after: Afterwards | None, policies: Mapping[str, Any] | None
    ) -> Iterator[tuple[str, str]]:
        shown = [entry, *custody.links]
        if after is not None:
            shown += (*after.seen, *after.derived, *after.endings)
        owners = {one["owner"] for one in policies["asked"] or () if one["owner"]} if policies is not None else set()
        for identifier in sorted(owners.union(*(identifiers(one.record) for one in shown))):
            if (name := self._name(identifier)) is not None:
                yield identifier, name

    def _name(self, identifier: str) -> str | None:
        if (human := self.accounts.find(identifier)) is not None:
            return human.name
        with suppress(NotFound):
            return self.agents.get(identifier).name
        with suppress(NotFound):
            return self.resources.get(identifier).name
        client = self.clients.find(identifier)
        return client.value.name if client is not None else None


def layers_of(record: Record) -> Iterator[Layer]:
    """Every layer in its order with what it took away, up to the one that refused. Pure. Of other records: none."""
    began = record.get("evidence")
    if record["event"] == CallRefused.name:
        yield Layer(str(record["layer"]), refused=True)
    if record["event"] not in {TokenIssued.name, TokenRefused.name, ApprovalAsked.name}:
        return
    if began is None:
        yield Layer(record.get("layer", EVIDENCE), refused=True)
        return
    end, depth = int(began["end"]), int(began["depth"])
    took = {layer["layer"]: layer for layer in record.get("layers", ())}
    refuser = REFUSED_BY.get(record.get("layer", ""), record.get("layer"))
    for name in (*ORDER, *(set(took) - set(ORDER))):
        layer = took.get(name, {})
        sooner, shallower = int(layer.get("end", end)), int(layer.get("depth", depth))
        refused = name == refuser
        yield Layer(name, tuple(layer.get("pairs", ())), end - sooner, depth - shallower, refused)
        if refused:
            return
        end, depth = sooner, shallower
    if refuser is not None:
        yield Layer(str(refuser), refused=True)


def missing_of(record: Record) -> dict[str, str]:
    """Which of the scopes that were asked for were not there, and which layer took them away. Pure."""
    began, asked = record.get("evidence"), record.get("asked", {}).get("scope")
    if began is None or record["event"] != TokenRefused.name or not isinstance(asked, str):
        return {}
    where = record.get("audience")
    # What is handed to an agent may be for any resource.
    there = {where: began["scope"][where]} if where in began["scope"] else began["scope"]
    missing = {}
    for scope in asked.split():
        pairs = {f"{uri} {scope}" for uri, scopes in there.items() if scope in scopes}
        gone = [(layer["layer"], pair) for layer in record.get("layers", ()) for pair in layer.get("pairs", ()) if pair in pairs]
        if len(gone) == len(pairs):
            missing[scope] = gone[-1][0] if gone else EVIDENCE
    return missing


def _limits(records: Records, entry: Entry) -> dict[str, Any] | None:
    """What the task of a decision may use up, and how many tokens it had then, this one among them."""
    task = entry.record.get("task")
    opened = records.newest(Filter(task=task, event=TaskOpened.name)) if isinstance(task, str) else []
    limits = opened[0].record.get("limits") if opened else None
    if not limits:
        return None
    issued = records.every(Filter(task=task, event=TokenIssued.name), entry.record["at"])
    return {"stated": limits, "tokens_so_far": sum(one.record["token"] == TokenKind.ACCESS_TOKEN.value for one in issued)}


def identifiers(record: Record) -> set[str]:
    """Everything in a record that may have a name."""
    who = record["who"]
    found: Iterable[Any] = (
        *who.get("actors", ()), who.get("human"), who.get("owner"), who.get("client"), who.get("operator"),
        record.get("audience"), record.get("resource"), record.get("target"), record.get("app"),
        *record.get("scope", ()), *(record.get("evidence") or {}).get("scope", ()),
        *(pair.partition(" ")[0] for layer in record.get("layers", ()) for pair in layer.get("pairs", ())),
    )  # fmt: skip
    return {value for value in found if isinstance(value, str) and value}
