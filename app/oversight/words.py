"""What a record says, in a sentence for an operator. Names are those of the moment; what has none is shown as its id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app import clock

Record = Mapping[str, Any]
Names = Mapping[str, str]

LAYERS = {
    "evidence": "what it had",
    "agent_active": "the agent's state",
    "instance_live": "the running copy's state",
    "target_serves": "the API's scopes",
    "key_bound": "the key the API demands",
    "hand_over": "the hand-over list",
    "consent_covers": "the consent",
    "ceiling": "the operator's ceiling",
    "task_runs": "the task",
    "scope_asked": "what was asked for",
    "actor_chain": "the length of the chain",
    "lifetime": "the lifetime of a token",
    "policy": "the policies",
    "limit": "the limits",
    "subject_token": "the subject token",
    "subject": "the subject token",
    "agent": "the agent's state",
    "instance": "the running copy of the agent",
    "hand-over": "the hand-over list",
    "chain": "the length of the chain",
    "actor_token": "the actor token",
    "may_act": "may_act of the subject token",
    "entitlement": "whose token it is",
    "client": "the client",
    "grant": "the code or refresh token",
    "target": "the target",
    "proof": "the proof of possession",
    "consent": "the consent",
    "task": "the task",
    "scope": "the scope",
    "request": "the form of the request",
    "approval": "the approval",
    "human": "the human",
}
"""Layers by their names in the record."""


def layer_words(layer: str) -> str:
    """A layer in plain words; its own name where there are none."""
    return LAYERS.get(layer, layer)


def moment(record: Record) -> str:
    """When it happened, in UTC."""
    return clock.at(record["at"] / 1000).strftime("%Y-%m-%d %H:%M:%S")


def reach(scope: Mapping[str, Any], names: Names) -> str:
    """Scopes by resource."""
    return "; ".join(f"{' '.join(map(str, scopes))} at {named(uri, names)}" for uri, scopes in scope.items())


def named(identifier: object, names: Names) -> str:
    """The name and the id, or the id alone."""
    text = str(identifier)
    return f"{names[text]} ({text})" if text in names else text


def happened(record: Record, names: Names) -> str:
    """The record in a sentence, without when."""
    sentence = SENTENCES.get(record["event"], _any)
    return sentence(record, names)


def brief(record: Record, names: Names) -> str:
    """The same, for where ids are told beside it: what has a name goes by its name alone."""
    sentence = happened(record, names)
    for identifier, name in names.items():
        sentence = sentence.replace(f"{name} ({identifier})", name)
    return sentence


def _issued(record: Record, names: Names) -> str:
    scope = reach(record["scope"], names) or "no scope"
    return f"{_acting(record['who'], names)} got {_token(record)} for {named(record['audience'], names)}: {scope}"


def _refused(record: Record, names: Names) -> str:
    why = f"{record['error']}, by {layer_words(record['layer'])}: {record['reason']}"
    return f"{_acting(record['who'], names)} was refused a token: {why}"


def _consented(record: Record, names: Names) -> str:
    who = record["who"]
    away = ", also while away" if record["away"] else ""
    what = f"{named(who.get('client'), names)} {reach(record['scope'], names)}, until {_until(record)}{away}"
    return f"{_by(who, names)} allowed {what}; consent {record['consent']}"


def _narrowed(record: Record, names: Names) -> str:
    left = f"{reach(record['scope'], names)}, until {_until(record)}"
    return f"{_by(record['who'], names)} narrowed consent {record['consent']} to {left}"


def _opened(record: Record, _names: Names) -> str:
    purpose = f": “{record['purpose']}”" if record.get("purpose") else ""
    return f"task {record['task']} began ({record['cause']}){purpose}"


def _asked(record: Record, names: Names) -> str:
    why = f"wanted by {', '.join(record['forbidden_by'])}" if record.get("forbidden_by") else "of its own accord"
    what = f"{reach(record['scope'], names)}, for {named(record['audience'], names)}"
    return f"{_acting(record['who'], names)} asked for approval {record['approval']}, {why}: {what}"


def _allowed(record: Record, names: Names) -> str:
    return f"{named(record['who'].get('human'), names)} allowed {record['approval']}: {reach(record['scope'], names)}"


def _revoked(record: Record, names: Names) -> str:
    why = f" ({record['reason']})" if record.get("reason") not in {None, "", "revoked"} else ""
    return f"{_by(record['who'], names)} ended {record['kind']} {named(record['target'], names)}{why}"


def _changed(record: Record, names: Names) -> str:
    what = ", ".join(f"{name} {value}" for name, value in record.get("what", {}).items())
    return f"{_by(record['who'], names)} changed {record['kind']} {named(record['target'], names)}: {what}"


def _counted(record: Record, names: Names) -> str:
    ended = ", ".join(_many(record[f"{one}s"], one) for one in ("token", "consent", "task"))
    whose = f"{_many(record['agents'], 'agent')} and {record['humans']} {'person' if record['humans'] == 1 else 'people'} were concerned"
    return f"the end of {record['kind']} {named(record['target'], names)} was the end of {ended}; {whose}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _any(record: Record, names: Names) -> str:
    said = "".join(f"; {name} {record[name]}" for name in ("error", "layer", "reason") if name in record)
    return f"{record['event']}, by {_by(record['who'], names)}{said}"


SENTENCES: Mapping[str, Callable[[Record, Names], str]] = {
    "token.issued": _issued,
    "token.refused": _refused,
    "token.first_used": lambda r, n: f"{named(r['resource'], n)} saw {r['jti']} alive for the first time",
    "token.forbidden": lambda r, n: f"a changed policy forbade {r['jti']} at {named(r['resource'], n)}: {r['reason']}",
    "token.not_delivered": lambda r, _: f"{r['jti']} was permitted and never delivered: {r['reason']}",
    "human.signed_in": lambda r, n: f"{_by(r['who'], n)} signed in ({' '.join(r['amr'])}), session {r['session']}",
    "human.signed_out": lambda r, n: f"session {r['session']} ended, by {_by(r['who'], n)}",
    "consent.given": _consented,
    "consent.narrowed": _narrowed,
    "consent.withdrawn": lambda r, n: f"{_by(r['who'], n)} withdrew consent {r['consent']}",
    "consent.paused": lambda r, n: f"{_by(r['who'], n)} paused consent {r['consent']}",
    "consent.resumed": lambda r, n: f"{_by(r['who'], n)} let consent {r['consent']} be used again",
    "code.issued": lambda r, _: f"a code went to {r['redirect_host']}; authorization {r['family']}",
    "approval.asked": _asked,
    "approval.allowed": _allowed,
    "approval.denied": lambda r, n: f"{_by(r['who'], n)} denied {r['approval']}",
    "approval.expired": lambda r, _: f"{r['approval']} was asked for in vain: {r['reason']}",
    "approval.redeemed": lambda r, _: f"{r['approval']} was used up",
    "approval.returned": lambda r, _: f"{r['approval']} was given back: no token came of it",
    "task.opened": _opened,
    "task.reported": lambda r, n: f"{named(r['resource'], n)} reported {r['action']}, done with {r['jti']}",
    "revoked": _revoked,
    "changed": _changed,
    "registered": lambda r, n: f"{_by(r['who'], n)} registered {r['kind']} {named(r['target'], n)}",
    "revocation.counted": _counted,
    "policy.moved": lambda r, n: f"policy {r['policy']}, version {r['version']}, was {r['move']} by {_by(r['who'], n)}",
    "human.sign_in_failed": lambda r, n: f"a sign-in as {_by(r['who'], n)} failed: {r['reason']}",
    "authorization.refused": lambda r, n: f"a request of {_by(r['who'], n)} was refused with {r['error']}: {r['reason']}",
    "replay.detected": lambda r, _: f"a {r['what']} came a second time; authorization {r.get('family')} ended",
    "key.moved": lambda r, _: f"signing key {r['kid']} was {r['move']}",
    "generation.opened": lambda r, _: f"live state began anew, generation {r['generation']} ({r['cause']})",
}
"""Records by their event. What is not here is told by its name."""


def _acting(who: Record, names: Names) -> str:
    """The chain, the current agent first, who answers for it, and in whose name."""
    actors = [named(actor, names) for actor in who.get("actors", ())] or [named(who.get("client"), names)]
    acting = ", for ".join(actors)
    owner = f", owned by {names.get(who['owner'], who['owner'])}," if who.get("owner") else ""
    return f"{acting}{owner}" + (f" in the name of {named(who['human'], names)}" if who.get("human") else "")


def _by(who: Record, names: Names) -> str:
    """Whoever did it."""
    if who.get("operator"):
        return f"operator {named(who['operator'], names)}"
    if who.get("actors"):
        return named(who["actors"][0], names)
    return named(who.get("human") or who.get("client") or "the server", names)


def _token(record: Record) -> str:
    kinds = {"access_token": "token", "handover": "hand-over", "userinfo": "userinfo token", "actor": "token of its own"}
    return f"{kinds.get(record['token'], record['token'])} {record['jti']}"


def _until(record: Record) -> str:
    return clock.at(record["until"]).strftime("%Y-%m-%d %H:%M:%S")
