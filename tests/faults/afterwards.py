"""What must be so after every fault: one record for each token that lives, and a chain that holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from sqlalchemy import func, select

from app.audit.models import OutboxRow
from app.ledger.models import EntryRow
from app.ledger.verify import Verdict, Verifier
from app.live.generation import STREAMS
from tests.faults.load import Issued, introspection
from tests.faults.node import Node, until
from tests.world import Api, World

SAMPLE = 120


def caught_up(node: Node) -> None:
    """Wait until nothing is on its way to the ledger."""
    server = node.server

    def empty() -> bool:
        with server.database.reading() as session:
            waiting = session.scalar(select(func.count()).select_from(OutboxRow))
        return not waiting and not any(server.live.redis.call("XLEN", stream) for stream in STREAMS)

    until(empty, "the ledger has everything")


def recorded(node: Node) -> Counter[str]:
    """How many `token.issued` records there are for each `jti`."""
    with node.server.database.reading() as session:
        return Counter(session.scalars(select(EntryRow.jti).where(EntryRow.event == "token.issued")))


def verdict(node: Node) -> Verdict:
    server = node.server
    verifier = Verifier(server.database, server.keys.ledger_verification_key, server.settings.issuer)
    return verifier.verify([server.settings.checkpoints_file])


def check_ledger(node: Node, api: Api, tokens: Sequence[Issued], *, every: bool) -> list[Issued]:
    """Check both, and return those of a sample that live. `every`: nothing was lost, so each token has its record."""
    world = node.world()
    spread = tokens[:: max(1, len(tokens) // SAMPLE)]
    living = [one for one in {id(one): one for one in (*spread, *tokens[-20:])}.values() if _lives(world, api, one.token)]
    caught_up(node)
    records = recorded(node)
    assert max(records.values()) == 1, "a token was recorded twice"
    missing = [one.claims["jti"] for one in (tokens if every else living) if records[one.claims["jti"]] != 1]
    assert not missing, f"{len(missing)} tokens without a record: {missing[:5]}"
    sound = verdict(node)
    assert sound.bad is None, sound.bad
    assert sound.checkpoints and sound.outside
    return living


def all_dead(node: Node, api: Api, tokens: Iterable[Issued]) -> None:
    world = node.world()
    alive = [one.claims["jti"] for one in tokens if _lives(world, api, one.token)]
    assert not alive, f"alive: {alive}"


def _lives(world: World, api: Api, token: str) -> bool:
    def told() -> dict[str, bool] | None:
        answer = introspection(world, api, token)
        assert answer.status in {200, 503}, answer.body
        return answer.json if answer.status == 200 else None

    return bool(until(told, "an answer")["active"])
