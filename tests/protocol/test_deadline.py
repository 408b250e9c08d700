"""After its deadline a request is answered 503, whatever was found out meanwhile (docs/operations.md, DEPUTY_DEADLINE)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.settings import Settings
from app.wiring import Server
from tests.world import InProcess, World, basic, claims_of, worker


@pytest.fixture
def too_late(settings: Settings, server: Server) -> Iterator[World]:
    """The same server behind an application for which every request is too old when it is decided."""
    with worker(settings.model_copy(update={"deadline": 1e-9})) as app:
        yield World(server, InProcess(app))


def test_nothing_is_issued_and_nothing_called_active(world: World, too_late: World) -> None:
    owner, api = world.human(), world.resource("read")
    agent = world.agent(owner, own=[(api, "read")])
    token = world.own_token(agent, resource=api.uri).ok()["access_token"]

    refused = too_late.own_token(agent, resource=api.uri)
    assert (refused.status, refused.error) == (503, "temporarily_unavailable")
    assert refused.headers["Retry-After"]
    asked = too_late.post("/oauth/introspect", {"token": token}, basic(api.client_id, api.client_secret))
    assert (asked.status, asked.error) == (503, "temporarily_unavailable")
    assert world.active(api, token)
    # What came later is in the ledger, so what came before would be too.
    last = claims_of(world.own_token(agent, resource=api.uri).ok()["access_token"])["jti"]
    assert world.ledger(jti=last)
    issued = [record["jti"] for record in world.ledger(event="token.issued") if record["audience"] == api.uri]
    assert issued == [claims_of(token)["jti"], last]
