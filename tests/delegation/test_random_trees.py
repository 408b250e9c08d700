"""Five hundred random trees of exchanges through the whole server, against a model a page long.

No child exceeds its parent in pairs, audience, expiry or depth; `act` is exactly the path; everything below a
revoked node is dead, and its siblings are not.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from app.vocabulary import Pair
from tests.conftest import GIVEN_DATABASE
from tests.world import BY, CONSENT, Api, Party, World, claims_of

TREES = 100 if GIVEN_DATABASE else 500
"""The rules are the same on every database, and the promise is for the 500 of the half on SQLite."""
TREES_A_TEST = 25
MAX_PARENTS = 8


@dataclass(eq=False)
class Cast:
    """The people and things of some trees."""

    world: World
    apis: list[Api]
    agents: list[Party]
    ceilings: dict[str, frozenset[Pair]]
    hands_to: dict[str, frozenset[str]]
    root: Party
    consent: str
    pairs: frozenset[Pair]

    def agent(self, uri: str) -> Party:
        return next(agent for agent in self.agents if agent.uri == uri)

    def api(self, uri: str) -> Api | None:
        return next((api for api in self.apis if api.uri == uri), None)


@dataclass(eq=False)
class Node:
    """One token, and what the model says of it."""

    token: str
    holder: Party
    """Who may exchange it."""
    audience: str
    pairs: frozenset[Pair]
    end: int
    path: tuple[str, ...]
    """URIs of the agents, outermost first."""
    parent: Node | None
    dead: bool = False
    children: list[Node] = field(default_factory=list)

    @property
    def jti(self) -> str:
        return str(claims_of(self.token)["jti"])

    @property
    def line(self) -> int:
        """How many tokens it came from."""
        return 0 if self.parent is None else self.parent.line + 1

    def subtree(self) -> list[Node]:
        return [self, *(node for child in self.children for node in child.subtree())]


def cast(world: World, rng: random.Random) -> Cast:
    alice = world.human()
    scopes = ["read", "write", "x:y", "admin"]
    apis = [world.resource(*rng.sample(scopes, 3)) for _ in range(3)]
    everything = [(api, scope) for api in apis for scope in world.server.resource_registry.get(api.uri).scopes]
    agents: list[Party] = []
    ceilings, hands_to = {}, {}
    for number in range(5):
        ceiling = everything if number == 4 else rng.sample(everything, rng.randint(4, len(everything)))
        receivers = rng.sample(agents, min(len(agents), 3))
        agent = world.agent(alice, ceiling=ceiling, hands_to=receivers)
        ceilings[agent.uri] = frozenset(Pair(api.uri, scope) for api, scope in ceiling)
        hands_to[agent.uri] = frozenset(receiver.uri for receiver in receivers)
        agents.append(agent)
    root = agents[-1]
    asked = sorted({scope for _, scope in everything})
    given = world.consented(world.signed_in(alice), root, *apis, scope=" ".join(asked), away=True)
    return Cast(world, apis, agents, ceilings, hands_to, root, given["consent_id"], ceilings[root.uri])


def grow(stage: Cast, rng: random.Random) -> list[Node]:
    nodes: list[Node] = []
    for _ in range(rng.randint(4, 12)):
        parent = rng.choice(nodes) if nodes and rng.random() < 0.85 else None
        node = exchange(stage, rng, parent)
        if node is not None:
            nodes.append(node)
            if parent is not None:
                parent.children.append(node)
    return nodes


def exchange(stage: Cast, rng: random.Random, parent: Node | None) -> Node | None:
    """One exchange at random, by whoever may hold the parent; sometimes for more than it has."""
    holder = stage.root if parent is None else parent.holder
    available = stage.pairs if parent is None else parent.pairs
    path = () if parent is None else parent.path
    acting = path if path and path[0] == holder.uri else (holder.uri, *path)
    targets = [api.uri for api in stage.apis] + sorted(stage.hands_to[holder.uri])
    target = rng.choice(targets)
    form = {"resource" if stage.api(target) else "audience": target}
    asked = frozenset(rng.sample(["read", "write", "x:y", "admin"], rng.randint(1, 3))) if rng.random() < 0.5 else None
    if asked is not None:
        form["scope"] = " ".join(sorted(asked))
    if parent is None:
        answer = stage.world.exchange(holder, stage.consent, CONSENT, **form)
    else:
        answer = stage.world.exchange(holder, parent.token, **form)

    left = available & stage.ceilings[holder.uri]
    if stage.api(target):
        reachable = any(pair.resource == target for pair in available)
        left = frozenset(pair for pair in left if pair.resource == target)
    else:
        reachable = True
        left &= stage.ceilings[target]
    too_long = len(acting) > 4 or (0 if parent is None else parent.line + 1) > MAX_PARENTS
    wanted = left if asked is None else frozenset(pair for pair in left if pair.scope in asked)
    expected = None
    if not reachable:
        expected = "invalid_target"
    elif (asked is not None and not asked <= {pair.scope for pair in left}) or not wanted:
        expected = "invalid_scope"
    elif too_long:
        expected = "invalid_request"
    if expected is not None:
        assert answer.status == 400, (expected, answer.body)
        assert answer.error == expected, answer.body
        return None

    token = answer.ok()["access_token"]
    claims = claims_of(token)
    node = Node(
        token=token,
        holder=holder if stage.api(target) else stage.agent(target),
        audience=target,
        pairs=wanted,
        end=claims["exp"],
        path=acting,
        parent=parent,
    )
    check(stage, node, claims)
    return node


def check(stage: Cast, node: Node, claims: dict) -> None:
    assert claims["aud"] == node.audience
    assert frozenset(claims["scope"].split()) == {pair.scope for pair in node.pairs}
    if "authorization_details" in claims:
        located = {
            Pair(where, action) for entry in claims["authorization_details"] for where in entry["locations"] for action in entry["actions"]
        }
        assert located == node.pairs
    else:
        assert {pair.resource for pair in node.pairs} == {node.audience}
    path, act = [], claims["act"]
    while act is not None:
        path.append(act["sub"])
        act = act.get("act")
    assert tuple(path) == node.path
    if node.parent is not None:
        assert node.pairs <= node.parent.pairs
        assert node.end <= node.parent.end
        assert node.path[-len(node.parent.path) :] == node.parent.path
        parent = claims_of(node.parent.token)
        assert (claims["sub"], claims["txn"], claims["auth_time"]) == (parent["sub"], parent["txn"], parent["auth_time"])
    for api in stage.apis:
        assert stage.world.active(api, node.token) == (api.uri == node.audience)


def alive(stage: Cast, node: Node) -> bool:
    """Whether the node is good for anything: at its API, or as the subject of one more exchange."""
    api = stage.api(node.audience)
    if api is not None:
        return stage.world.active(api, node.token)
    pair = next((pair for pair in sorted(node.pairs & stage.ceilings[node.holder.uri])), None)
    if pair is None or node.line + 1 > MAX_PARENTS or len({node.holder.uri, *node.path[:1]}) + len(node.path) - 1 > 4:
        return not node.dead
    return stage.world.exchange(node.holder, node.token, resource=pair.resource).status == 200


def revoke(stage: Cast, rng: random.Random, nodes: list[Node]) -> None:
    node = rng.choice(nodes)
    presented_by = stage.agent(node.path[0])
    assert stage.world.revoke(presented_by, node.token).status == 200
    for below in node.subtree():
        below.dead = True
    for each in nodes:
        assert alive(stage, each) is not each.dead, (each.path, each.audience, each.dead)


@pytest.mark.parametrize("seed", range(TREES // TREES_A_TEST))
def test_no_child_exceeds_its_parent_and_a_revoked_node_takes_exactly_its_subtree(world: World, seed: int) -> None:
    rng = random.Random(seed)
    stage = cast(world, rng)
    nodes: list[Node] = []
    for _ in range(TREES_A_TEST):
        nodes = grow(stage, rng)
        if nodes:
            revoke(stage, rng, nodes)

    # In the end something larger goes, and with it everything that hangs on it.
    agent = rng.choice(stage.agents[:-1])
    world.server.agent_registry.suspend(agent.id, by=BY)
    for node in nodes:
        if agent.uri in node.path or node.holder is agent:
            assert not alive(stage, node)
        else:
            assert alive(stage, node) is not node.dead
    world.server.consents.withdraw(stage.consent, by=BY)
    assert not any(alive(stage, node) for node in nodes)
