"""An instance that has done its work ends itself; its agent, by a registered key, ends any of its own."""

from __future__ import annotations

from dataclasses import dataclass

from app.clients.instance import Instances
from app.errors import NotFound
from app.tokens.presented import PresentedToken, PresentedTokens, who_presents


@dataclass(frozen=True, slots=True)
class OwnInstance:
    """Instances as seen from the wire by themselves."""

    presented: PresentedTokens
    instances: Instances

    def end(self, presented: PresentedToken, instance_id: str) -> None:
        """End it: when this returns, all it got is dead. Raises NotFound for another's, 503 until it holds, and as tokens are refused."""
        agent, token = self.presented.own_token(presented)
        held = self.instances.find(instance_id)
        if held is None or held.value.client_id != agent.value.client_id or token.instance not in {None, instance_id}:
            raise NotFound("no such instance")
        by = who_presents(agent.value, token)
        self.instances.end(instance_id, by=by, reason="ended by itself" if token.instance else "ended by its agent")
