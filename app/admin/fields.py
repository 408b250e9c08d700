"""What forms of `/admin` hold, read strictly into what the registers take. Raises `Refused` with a sentence for whoever typed it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from werkzeug.datastructures import MultiDict

from app.agents.models import AgentRow
from app.agents.registry import AgentRegistry
from app.errors import NotFound, Refused
from app.humans.accounts import Accounts
from app.resources.models import ResourceRow
from app.resources.registry import ResourceRegistry
from app.vocabulary import SCOPE_TOKEN, Pair, Pairs
from app.web.forms import single

Form = MultiDict[str, str]

MATRIX = 40
"""APIs whose scopes are shown as boxes to tick; the others are written down."""

MAX_LINES = 500
MAX_TICKED = 1000


def pairs(form: Form, name: str) -> Pairs:
    """Ticked boxes of a name, `URI scope` each, and the lines of `<name>_more`: `URI scope scope`."""
    ticked = form.getlist(name)
    if len(ticked) > MAX_TICKED:
        raise Refused("too many scopes in one form")
    found = {_pair(value) for value in ticked}
    for line in lines(single(form, f"{name}_more")):
        uri, *scopes = line.split()
        if not scopes:
            raise Refused(f"after {uri} comes at least one of its scopes")
        found |= {Pair(uri, scope) for scope in scopes}
    return frozenset(found)


def written(held: Iterable[Pair | list[str]], shown: Iterable[str]) -> str:
    """Pairs at APIs that have no boxes, as lines to edit."""
    boxed = set(shown)
    by_uri: dict[str, list[str]] = {}
    for uri, scope in held:
        if uri not in boxed:
            by_uri.setdefault(uri, []).append(scope)
    return "\n".join(f"{uri} {' '.join(scopes)}" for uri, scopes in by_uri.items())


def matrix(resources: ResourceRegistry, agent: AgentRow | None = None) -> list[ResourceRow]:
    """APIs to show with boxes: those the agent has something at first."""
    held = {uri for uri, _ in (*agent.ceiling, *agent.own)} if agent is not None else set()
    rows = sorted(resources.list(), key=lambda row: (row.uri not in held, row.name, row.uri))
    return rows[:MATRIX]


def receivers(agents: AgentRegistry, given: str) -> frozenset[str]:
    """Ids of the agents written down, a line each."""
    found = set()
    for line in lines(given):
        try:
            found.add(agents.get(line).id)
        except NotFound as error:
            raise Refused(str(error)) from None
    return frozenset(found)


def person(accounts: Accounts, username: str) -> str:
    """Id of the human of that username."""
    human = accounts.find_by_username(username) if username else None
    if human is None:
        raise Refused(f"nobody has the username {username}" if username else "name the owner")
    return human.id


def whole(form: Form, name: str) -> int | None:
    """A number, or None for an empty field."""
    value = single(form, name).strip()
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise Refused(f"{name.replace('_', ' ')} is a whole number")
    return int(value)


def jwks(given: str) -> Mapping[str, Any] | None:
    """A JWK Set, from one or from a single JWK."""
    if not given.strip():
        return None
    try:
        found = json.loads(given)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refused("a key is a JWK or a JWK Set, in JSON")
    if "d" in found or any(isinstance(key, dict) and "d" in key for key in found.get("keys", ()) if isinstance(found.get("keys"), list)):
        raise Refused("that is a private key, and now it is known here: make another, and give us its public part")
    return found if isinstance(found.get("keys"), list) else {"keys": [found]}


def scopes(given: str) -> dict[str, str]:
    """`scope = what it means` on each line."""
    found: dict[str, str] = {}
    for line in lines(given):
        scope, equals, words = line.partition("=")
        if not equals:
            raise Refused("each scope is on a line of its own: its name, an equals sign, what it means")
        if scope.strip() in found:
            raise Refused(f"the scope {scope.strip()} is there twice")
        found[scope.strip()] = words.strip()
    return found


def scope_labels(given: str) -> dict[str, list[str]]:
    """`scope = label label` on each line."""
    found: dict[str, list[str]] = {}
    for line in lines(given):
        scope, equals, labels = line.partition("=")
        if not equals:
            raise Refused("labels of a scope are on a line of their own: its name, an equals sign, the labels")
        found.setdefault(scope.strip(), []).extend(labels.split())
    return found


def lines(given: str) -> list[str]:
    """Lines that hold something."""
    found = [line.strip() for line in given.replace("\r", "").split("\n") if line.strip()]
    if len(found) > MAX_LINES:
        raise Refused(f"at most {MAX_LINES} lines")
    if not all(line.isprintable() for line in found):
        raise Refused("a line holds something that cannot be seen")
    return found


def _pair(value: str) -> Pair:
    uri, space, scope = value.partition(" ")
    if not space or not uri or not SCOPE_TOKEN.fullmatch(scope):
        raise Refused("that box is not one of ours")
    return Pair(uri, scope)
