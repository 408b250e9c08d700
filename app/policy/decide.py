"""Fold the rules, then ask the policies: the first denial wins, narrowing adds up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.delegation.authority import Authority
from app.errors import AccessDenied
from app.policy.access import AccessRequest, Denial, NeedsHuman, Permit, _permit
from app.policy.call import Call
from app.policy.cedar import PolicySet, Question, Verdict
from app.policy.question import question_of
from app.policy.rules import RULES
from app.vocabulary import ScopeSet


def decide(access: AccessRequest, policies: PolicySet) -> Permit | Denial | NeedsHuman:
    """Permit what every rule left and no policy forbids, or say which layer refused, or that a human must say yes first.

    Pure: the same request, the same answer.
    """
    layers: list[Mapping[str, Any]] = []
    evidence = access.authority
    for rule in RULES:
        before = access.authority
        verdict = rule(access)
        if isinstance(verdict, Denial):
            return replace(verdict, layers=tuple(layers))
        access = verdict
        if access.authority is not before:
            layers.append({"layer": rule.__module__.rpartition(".")[2], **_taken(before, access.authority)})
    question = question_of(access)
    if question is None or (said := policies.ask(question)).allowed:
        return _permit(access, tuple(layers), question, evidence)
    if said.asks:
        return NeedsHuman(access, said.policies, said.asks, _way_out(access, policies, question), tuple(layers), question, evidence)
    return Denial(_forbidden(said, _way_out(access, policies, question)), tuple(layers), question, said.policies)


def decide_call(
    call: Call, granted: ScopeSet, policies: PolicySet, question: Question | None, lacking: AccessDenied | None = None
) -> Denial | None:
    """The same for one call with a token that lives: within its scopes, its task's limits, and the policies. None permits.

    `lacking`: what its limits say, for whoever asked them. Nobody waits for a human here: a policy that asks says no until
    she has signed in or approved the token. Pure as `decide` is.
    """
    if call.scope not in granted:
        return Denial(AccessDenied(f"the token has not the scope {call.scope}", layer="scope"))
    if lacking is not None:
        return Denial(lacking)
    if question is None or (said := policies.ask(question)).allowed:
        return None
    refusal = _forbidden(said, _in_another_task(policies, question))
    ages = [ask.max_age for ask in said.asks if ask.max_age is not None]
    if ages and len(ages) == len(said.asks):
        # A fresh sign-in of the human would do (RFC 9470 §3).
        refusal.extra["max_age"] = min(ages)
    return Denial(refusal, question=question, policies=said.policies)


def _forbidden(said: Verdict, way_out: Mapping[str, str]) -> AccessDenied:
    refusal = AccessDenied("forbidden by " + ", ".join(said.policies))
    refusal.extra |= {"layer": "policy", "policy": " ".join(said.policies), **way_out}
    return refusal


def _way_out(access: AccessRequest, policies: PolicySet, question: Question) -> dict[str, str]:
    """What the agent could ask for instead: as many of the scopes as pass together, or the same in a task of its own."""
    resource = access.target.resource
    kept: set[str] = set()
    if resource is not None:
        known = frozenset(question.context["touched"])
        for scope in question.context["scopes"]:
            trial = frozenset(kept | {scope})
            labels = resource.value.touched_by(trial)
            smaller = question.asking(scopes=sorted(trial), labels=sorted(labels), combined=sorted(known | labels))
            if policies.ask(smaller).allowed:
                kept.add(scope)
    if kept:
        return {"permitted_scope": " ".join(sorted(kept))}
    return _in_another_task(policies, question)


def _in_another_task(policies: PolicySet, question: Question) -> dict[str, str]:
    if policies.ask(question.asking(touched=[], combined=question.context["labels"])).allowed:
        return {"permitted_in": "a new task"}
    return {}


def _taken(before: Authority, after: Authority) -> dict[str, Any]:
    taken: dict[str, Any] = {}
    if before.pairs != after.pairs:
        taken["pairs"] = [" ".join(pair) for pair in sorted(before.pairs - after.pairs)]
    if before.end != after.end:
        taken["end"] = after.end
    if before.depth != after.depth:
        taken["depth"] = after.depth
    if before.amount != after.amount and after.amount is not None:
        taken["amount"] = after.amount.stored("max")
    return taken
