"""`deputy explain`: one decision in plain words, from the sign-in to the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click
import orjson

from app.cli.answer import answers, server_of, when
from app.ledger.queries import Entry
from app.oversight.explain import EVIDENCE, LIMIT, POLICY, Explanation, Layer
from app.oversight.facts import facts
from app.oversight.words import happened, layer_words, moment, named, reach

SHOWN = 20
"""Lines of one kind that are told; `--json` has all."""


@click.command()
@click.argument("reference", metavar="JTI|AUDIT_ID")
@click.pass_context
@answers
def explain(context: click.Context, reference: str, as_json: bool) -> None:  # noqa: FBT001
    """A token or a refusal: what each layer took away, how it came to be, and what became of it."""
    made = server_of(context).explain.of(reference)
    if as_json:
        click.echo(orjson.dumps(facts(made)).decode())
        return
    for line in told(made):
        # Some of it is in the words of whoever was refused: no control character reaches the terminal.
        click.echo("".join(char if char.isprintable() else "?" for char in line))


def told(made: Explanation) -> Iterator[str]:
    """For people."""
    record, names = made.entry.record, made.names
    yield f"{moment(record)}  {happened(record, names)}"
    if not made.entry.seq:
        yield "It is on its way to the ledger and not in it yet."
    if not made.complete:
        yield "Redis is out of reach: what is on its way to the ledger is not told here."
    yield f"Record {record['id']}" + (f", entry {made.entry.seq} of the ledger" if made.entry.seq else "")
    yield from _outcome(made)
    yield from _layers(made)
    yield from _policies(made)
    yield from _list("How it came to be", made.custody.links, names)
    yield from _list("The human who was asked", made.approval, names)
    if (after := made.afterwards) is not None:
        mine = record.get("jti") == made.custody.tokens[-1].record["jti"]
        yield from _list("What is recorded of it" if mine else "What is recorded of the token it rested on", after.seen, names)
        yield from _list("Exchanged for", after.derived, names)
        yield from _list("What ended it" if mine else "What ended the token it rested on", after.endings, names)
    yield ""
    yield _now(made)


def _outcome(made: Explanation) -> Iterator[str]:
    record, names = made.entry.record, made.names
    if asked := record.get("asked"):
        yield "Asked for: " + "; ".join(f"{name} {_words(value)}" for name, value in asked.items())
    if "jti" in record and "expires_at" in record:
        held = "held by whoever has it"
        if "jkt" in record:
            held = f"bound to the key {record['jkt']}"
        elif "x5t_s256" in record:
            held = f"bound to the certificate {record['x5t_s256']}"
        yield f"Given: {reach(record['scope'], names)}; until {when(record['expires_at'], as_json=False)}; {held}"
    if "error" in record:
        yield f"Refused with {record['error']}: {record.get('reason', '')}"
    for scope, layer in made.missing.items():
        yield f"  {scope}: " + ("was not in what it had" if layer == EVIDENCE else f"taken away by {layer_words(layer)}")


def _layers(made: Explanation) -> Iterator[str]:
    if not made.layers:
        return
    record, names = made.entry.record, made.names
    yield ""
    yield "What it began with, and what each layer took away"
    began = record.get("evidence")
    if began is None:
        yield f"  {layer_words(made.layers[0].name)}: refused before any layer was asked"
        return
    end, depth = when(began["end"], as_json=False), began["depth"]
    limit = f"; up to {depth} agents in a row" if depth else ""
    yield f"  {_origin(record)}: {reach(began['scope'], names) or 'nothing'}; until {end}{limit}"
    width = max(len(layer_words(layer.name)) for layer in made.layers)
    for layer in made.layers:
        yield f"  {layer_words(layer.name):<{width}}  {_taken(layer, made)}"


def _origin(record: Mapping[str, Any]) -> str:
    if parent := record.get("parent"):
        return f"token {parent}"
    if family := record.get("family"):
        return f"authorization {family}"
    return f"consent {record['consent']}" if "consent" in record else "its own registration"


def _taken(layer: Layer, made: Explanation) -> str:
    parts = []
    if layer.pairs:
        by_uri: dict[str, list[str]] = {}
        for pair in layer.pairs:
            uri, _, scope = pair.partition(" ")
            by_uri.setdefault(uri, []).append(scope)
        parts.append(reach(by_uri, made.names))
    if layer.seconds:
        parts.append(f"{layer.seconds} seconds")
    if layer.depth:
        parts.append(f"{layer.depth} of the agents in a row")
    if layer.name == LIMIT and made.limits is not None:
        parts.append(f"{made.limits['tokens_so_far']} tokens of the task so far; limits: {', '.join(made.limits_in_words)}")
    said = ("took " if layer.pairs or layer.seconds or layer.depth else "") + "; ".join(parts)
    if layer.refused:
        return f"{said}; refused" if said else "refused"
    if layer.name == POLICY and made.state == "asked" and made.policies is not None and made.policies["forbidden_by"]:
        return "wanted a human to say yes"
    if layer.name == POLICY and made.policies is None:
        return "nothing to ask about"
    return said or "took nothing"


def _policies(made: Explanation) -> Iterator[str]:
    if (asked := made.policies) is None:
        return
    yield ""
    forbade = asked["forbidden_by"]
    yield f"Policies (set {asked['version']}): " + (
        f"forbidden by {', '.join(forbade)}" + (" unless a human says yes" if made.state == "asked" else "")
        if forbade
        else "none forbade it"
    )
    objecting = {one["policy"] for one in made.objections if one["owner"]}
    for one in asked["asked"] or ():
        whose = f" (ask {named(one['owner'], made.names)})" if one["policy"] in objecting else ""
        yield f"  {one['policy']}, version {one['version']}: {one['rule']}{whose}"
    if asked["asked"] is None:
        yield "  which policies that set had is not known"
    question = asked["question"]
    yield f"  asked: may {made.names.get(question['agent'], question['agent'])} {question['action']} at {question['target']}, where"
    for name, value in question["context"].items():
        if value not in ("", [], 0, False):
            yield f"    {name}: {_words(value)}"


def _list(title: str, entries: tuple[Entry, ...], names: Mapping[str, str]) -> Iterator[str]:
    if not entries:
        return
    yield ""
    yield title
    for entry in entries[:SHOWN]:
        yield f"  {moment(entry.record)}  {happened(entry.record, names)}" + ("" if entry.seq else "  (not in the ledger yet)")
    if len(entries) > SHOWN:
        yield f"  and {len(entries) - SHOWN} more; --json has them"


def _now(made: Explanation) -> str:
    match made.state:
        case "ended" if made.ended is not None:
            return f"The token is dead since {moment(made.ended.record)}: {happened(made.ended.record, made.names)}."
        case "expired":
            return f"The token expired at {when(made.entry.record['expires_at'], as_json=False)}."
        case "alive":
            return f"Nothing in the ledger ended the token; it expires at {when(made.entry.record['expires_at'], as_json=False)}."
        case "asked":
            return f"Last: {happened(made.approval[-1].record, made.names)}." if made.approval else "Nothing is known of an answer."
        case _:
            return "No token came of it." if made.entry.record["outcome"] == "deny" else "It is done."


def _words(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(inner)}" for name, inner in value.items())
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
