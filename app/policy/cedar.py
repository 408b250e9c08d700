"""Cedar, asked strictly: always with the schema, and whatever is not a clean "allow" is a denial.

A policy can only forbid, or forbid unless a human says otherwise. The one `permit` is ours: our own rules have decided
before, and nothing here widens them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import cedarpy

from app.policy.asks import ANNOTATION, Approved, Ask, met, parse_ask

SCHEMA_TEXT = """
entity Agent = { "owner": String };
entity Resource = { "labels": Set<String> };
type Task = { "id": String, "default": Bool, "age": Long };
type Asked = {
  "human": String, "away": Bool, "sign_in_age": Long, "acr": String,
  "actors": Set<String>, "first_actor": String, "depth": Long, "task": Task,
  "scopes": Set<String>, "labels": Set<String>, "touched": Set<String>, "combined": Set<String>, "other_tasks": Set<String>,
  "first_time": Bool, "now": Long, "hour": Long, "weekday": Long,
  "operation": String, "instance_age": Long,
  "object"?: { "type": String, "id": String }, "amount"?: { "currency": String, "value": decimal },
};
action "issue", "call" appliesTo { principal: Agent, resource: Resource, context: Asked };
action "hand_over" appliesTo { principal: Agent, resource: Agent, context: Asked };
"""
"""What a policy can look at; docs/policies.md says what each name means. Times in seconds, hour and weekday in UTC."""

SCHEMA = cedarpy.Schema.from_str(SCHEMA_TEXT)

OURS = "/permit"
"""Id of the one permit. No policy has it: their names begin with a letter."""

NO_INSTANCE = -1
"""`instance_age` where no running copy is told apart: the agent acts with a registered key."""

SINCE: dict[str, Any] = {"instance_age": NO_INSTANCE}
"""What the schema has gained, as it was before: questions recorded then lack it."""

OTHERS = "other_tasks"
CONTEXT = {"Var": "context"}
"""All of the context, in Cedar's JSON form of policies."""

REMEMBERED = 4096
"""Answers of one policy set that are remembered at most."""

MAX_NESTING = 40
"""Brackets inside each other in a policy: Cedar's parser calls itself for each, and at a thousand the process is gone."""

TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n\r]*|[()\[\]{}]', re.DOTALL)
"""Strings and comments, whose brackets are none, and brackets."""

TOO_LONG = "a condition is too long: divide it among several policies"

ERROR = "policy-error"
"""What a refusal names when the engine did not answer cleanly."""


class PolicyError(ValueError):
    """A policy that is not accepted. The message is for whoever wrote it."""


class Question(NamedTuple):
    """One question to the policies, in values that JSON holds: the ledger keeps it, and replay asks it again."""

    action: str
    agent: str
    owner: str
    target: str
    target_owner: str
    """Who answers for the agent it is handed to; empty for a resource."""
    target_labels: tuple[str, ...]
    context: dict[str, Any]
    approved: Approved | None = None
    """What the human has answered to this very request; the policies that ask are told, Cedar is not."""

    def recorded(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        recorded = self._asdict()
        del recorded["approved"]
        return recorded if self.approved is None else recorded | {"approved": self.approved.recorded()}

    @classmethod
    def parse(cls, recorded: Mapping[str, Any]) -> Question:
        """The inverse of `recorded`. Raises TypeError or KeyError for anything else."""
        fields = {name: recorded[name] for name in cls._fields if name != "approved"}
        fields["context"] = {**SINCE, **fields["context"]}
        approved = Approved.parse(recorded["approved"]) if "approved" in recorded else None
        return cls(**{**fields, "target_labels": tuple(fields["target_labels"]), "approved": approved})

    def asking(self, **changed: Any) -> Question:
        """The same question with some of its context different."""
        return self._replace(context={**self.context, **changed})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the policies said: allowed, or which of them forbade it."""

    allowed: bool
    policies: tuple[str, ...] = ()
    asks: tuple[Ask, ...] = ()
    """What each of these policies wants of the human; empty where one of them wants nothing but a no."""


ALLOWED = Verdict(allowed=True)


@dataclass(frozen=True, slots=True)
class PolicySet:
    """The policies in force, compiled. Empty: nothing is asked."""

    compiled: Any = None
    size: int = 0
    asks: Mapping[str, Ask] = field(default_factory=dict)
    """The policies that forbid unless a human says otherwise."""
    looks_at: tuple[str, ...] | None = None
    """What of the context a policy looks at; None where that cannot be told."""
    beside: PolicySet | None = None
    """Of the policies that look at the agent's other tasks, what they say without that; None where none does."""
    _answers: dict[Any, tuple[str, ...]] = field(default_factory=dict, repr=False, compare=False)
    """Who forbade questions that differed in nothing any policy looks at: asking Cedar takes longer than most of the rest."""

    @classmethod
    def compile(cls, texts: Iterable[tuple[str, str]]) -> PolicySet:
        """From (name, Cedar text) pairs. Raises `PolicyError` naming what is wrong."""
        policies: dict[str, Any] = {}
        for name, text in texts:
            policies |= _parsed(name, text)
        try:
            looking = {name: _without(OTHERS, policy) for name, policy in policies.items() if _looks(OTHERS, policy)}
            return cls._of(policies, cls._of(looking) if looking else None)
        except RecursionError:
            raise PolicyError(TOO_LONG) from None

    @classmethod
    def _of(cls, policies: Mapping[str, Any], beside: PolicySet | None = None) -> PolicySet:
        if not policies:
            return cls()
        ours = {OURS: _static("permit(principal, action, resource);")[0]}
        document = {"staticPolicies": {**policies, **ours}, "templates": {}, "templateLinks": []}
        seen = _context_of(list(policies.values()))
        try:
            return cls(
                cedarpy.PolicySet.from_json_str(json.dumps(document)),
                len(policies),
                {name: ask for name, policy in policies.items() if (ask := _ask(policy)) is not None},
                tuple(sorted(seen)) if seen is not None else None,
                beside,
            )
        except ValueError as error:
            raise PolicyError(f"the policies do not fit together: {error}") from None

    def looks_beside(self, question: Question) -> bool:
        """Whether what the agent's other tasks have touched can make a difference: to read it takes as long as to decide."""
        return self.beside is not None and not self.beside.ask(question).allowed

    def ask(self, question: Question) -> Verdict:
        """Whether no policy forbids it. An error, a missing answer or an unknown one forbids."""
        if not self.size:
            return ALLOWED
        key = self._key(question)
        named = self._answers.get(key) if key is not None else None
        if named is None:
            named = self._forbidden_by(question)
            if key is not None and named != (ERROR,):
                if len(self._answers) >= REMEMBERED:
                    self._answers.clear()
                self._answers[key] = named
        if not named:
            return ALLOWED
        return self._answered(named, question) if named != (ERROR,) else Verdict(allowed=False, policies=named)

    def _key(self, question: Question) -> tuple[Any, ...] | None:
        """Everything that the answer to a question depends on: also its shape, for what does not fit the schema is a no."""
        if self.looks_at is None:
            return None
        context = question.context
        return (*question[:6], _shape(context), *(_frozen(context.get(name)) for name in self.looks_at))

    def _forbidden_by(self, question: Question) -> tuple[str, ...]:
        """The policies that forbid it, none if it is allowed; `ERROR` for every answer that is neither."""
        kind = "Agent" if question.action == "hand_over" else "Resource"
        request = {
            "principal": f"Agent::{json.dumps(question.agent)}",
            "action": f'Action::"{question.action}"',
            "resource": f"{kind}::{json.dumps(question.target)}",
            "context": question.context,
        }
        try:
            entities = _entities(question.agent, question.owner, kind, question.target, question.target_owner, question.target_labels)
            answer = cedarpy.is_authorized(request, self.compiled, entities, SCHEMA)
        except (ValueError, TypeError):
            return (ERROR,)
        if answer.diagnostics.errors:
            return (ERROR,)
        if answer.decision == cedarpy.Decision.Allow:
            return ()
        named = tuple(sorted(answer.diagnostics.reasons)) if answer.decision == cedarpy.Decision.Deny else ()
        return named or (ERROR,)

    def _answered(self, named: tuple[str, ...], question: Question) -> Verdict:
        """What is left of a denial by these policies, after what the human has said and done. A plain no outweighs every ask."""
        plain = tuple(name for name in named if name not in self.asks)
        if plain:
            return Verdict(allowed=False, policies=plain)
        left = tuple(name for name in named if not met(self.asks[name], name, question.context, question.approved))
        if not left:
            return ALLOWED
        return Verdict(allowed=False, policies=left, asks=tuple(self.asks[name] for name in left) if question.context["human"] else ())


def check(name: str, text: str) -> None:
    """Whether a policy may be saved: it parses, fits the schema, only forbids, and asks as we know. Raises `PolicyError`."""
    for policy in _parsed(name, text).values():
        _check_annotations(policy)
    PolicySet.compile([(name, text)])
    found = cedarpy.validate_policies(text, SCHEMA)
    if not found.validation_passed:
        raise PolicyError("; ".join(str(getattr(error, "error", error)) for error in found.errors)[:1000])


def _parsed(name: str, text: str) -> dict[str, Any]:
    """The policies of a text by id: its name, or its name and their own @id where there are several."""
    policies = _static(text)
    if not policies:
        raise PolicyError("there is no policy in it")
    if any(policy.get("effect") != "forbid" for policy in policies):
        raise PolicyError("a policy can only forbid: what is allowed is decided by consents, ceilings and tasks")
    if len(policies) == 1:
        return {name: policies[0]}
    named = {f"{name}/{(policy.get('annotations') or {}).get('id', at)}": policy for at, policy in enumerate(policies, 1)}
    if len(named) != len(policies):
        raise PolicyError("two policies with the same @id")
    return named


def _check_annotations(policy: Mapping[str, Any]) -> None:
    annotations = policy.get("annotations") or {}
    if unknown := annotations.keys() - {"id", ANNOTATION}:
        raise PolicyError(f"an annotation that means nothing here: @{', @'.join(sorted(unknown))}")
    if ANNOTATION in annotations:
        try:
            parse_ask(annotations[ANNOTATION])
        except ValueError as error:
            raise PolicyError(str(error)) from None


def _context_of(policy: Any) -> frozenset[str] | None:
    """The attributes of `context` in Cedar's JSON form of policies; None where one takes all of it."""
    if isinstance(policy, list):
        found = [_context_of(part) for part in policy]
    elif isinstance(policy, dict):
        if policy == CONTEXT:
            return None
        got = policy.get(".") or policy.get("has")
        if isinstance(got, dict) and got.get("left") == CONTEXT and isinstance(got.get("attr"), str):
            return frozenset({got["attr"]})
        found = [_context_of(part) for part in policy.values()]
    else:
        return frozenset()
    return None if None in found else frozenset().union(*(one for one in found if one is not None))


def _looks(name: str, policy: Any) -> bool:
    """Whether a policy, or a part of one, reads an attribute of `context`."""
    seen = _context_of(policy)
    return seen is None or name in seen


def _without(name: str, policy: Mapping[str, Any]) -> dict[str, Any]:
    """The policy without the conditions that read an attribute: it forbids all that the policy does, and more."""
    conditions = []
    for condition in policy.get("conditions", ()):
        if not _looks(name, condition):
            conditions.append(condition)
        elif condition["kind"] == "when":
            conditions += ({"kind": "when", "body": part} for part in _conjuncts(condition["body"]) if not _looks(name, part))
    return {**policy, "conditions": conditions, "annotations": {}}


def _conjuncts(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parts of a condition that must all be true."""
    both = body.get("&&")
    if both is None:
        yield body
    else:
        yield from _conjuncts(both["left"])
        yield from _conjuncts(both["right"])


def _shape(value: Any) -> Any:
    """Names and types all the way down."""
    if isinstance(value, dict):
        return tuple((name, _shape(inner)) for name, inner in value.items())
    return frozenset(map(type, value)) if isinstance(value, list) else type(value)


def _frozen(value: Any) -> Any:
    """A value of a context as one that has a hash. Types are kept apart: 1 is not true."""
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return tuple((name, _frozen(value[name])) for name in sorted(value))
    return (type(value), value)


def _ask(policy: Mapping[str, Any]) -> Ask | None:
    """What a policy asks. One that came to be in force with an `@ask` that means nothing is a plain no."""
    annotations = policy.get("annotations") or {}
    try:
        return parse_ask(annotations[ANNOTATION]) if ANNOTATION in annotations else None
    except ValueError:
        return None


def _static(text: str) -> list[dict[str, Any]]:
    if _nesting(text) > MAX_NESTING:
        raise PolicyError(f"brackets are at most {MAX_NESTING} deep")
    try:
        document = json.loads(cedarpy.policies_to_json_str(text))
    except ValueError as error:
        raise PolicyError(f"it does not parse: {error}") from None
    except RecursionError:
        raise PolicyError(TOO_LONG) from None
    if document.get("templates") or document.get("templateLinks"):
        raise PolicyError("templates are not supported")
    return list(document["staticPolicies"].values())


def _nesting(text: str) -> int:
    """How many brackets are inside each other at most."""
    depth = deepest = 0
    for token in TOKENS.findall(text):
        if token in {"(", "[", "{"}:
            depth += 1
            deepest = max(deepest, depth)
        elif token in {")", "]", "}"}:
            # One too many takes nothing from those that follow.
            depth = max(0, depth - 1)
    return deepest


@lru_cache(maxsize=4096)
def _entities(agent: str, owner: str, kind: str, target: str, target_owner: str, labels: tuple[str, ...]) -> Any:
    entities = [{"uid": {"type": "Agent", "id": agent}, "attrs": {"owner": owner}, "parents": []}]
    if kind == "Resource":
        entities.append({"uid": {"type": kind, "id": target}, "attrs": {"labels": list(labels)}, "parents": []})
    elif target != agent:
        entities.append({"uid": {"type": kind, "id": target}, "attrs": {"owner": target_owner}, "parents": []})
    return cedarpy.Entities.from_json_str(json.dumps(entities), SCHEMA)
