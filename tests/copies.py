"""A running copy of an agent: it holds one fresh key, registers it, and speaks with nothing else."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from typing import Any

from tests.dpop import TOKEN, Holder
from tests.forge import forge
from tests.world import ACCESS_TOKEN, ASSERTION, BY, EXCHANGE, Answer, Form, Party, World

REGISTER = "/agents/instances"


class Copy(Holder):
    """One running copy. `told` is what the server answered it when it registered."""

    told: Mapping[str, Any]

    def register(self, world: World, code: Any, proof: str | None = None, **body: Any) -> Answer:
        """Present an enrolment code with a proof of the key."""
        sent = json.dumps({"enrolment_code": code, **body}).encode()
        headers = {"Content-Type": "application/json", "DPoP": proof or self.proof(world, REGISTER)}
        return world.http.send("POST", REGISTER, sent, headers)

    def assertion(self, world: World, client_id: str, header: Mapping[str, Any] | None = None, **changed: Any) -> dict[str, str]:
        now = int(time.time())
        claims = {
            "iss": client_id, "sub": client_id, "aud": world.issuer,
            "iat": now, "exp": now + 60, "jti": secrets.token_urlsafe(12), **changed,
        }  # fmt: skip
        made = forge({"alg": self.alg.value, "kid": self.jkt, **(header or {})}, claims, self.key)
        return {"client_assertion_type": ASSERTION, "client_assertion": made}

    def ask(self, world: World, form: Form, *, bound: bool = True, path: str = TOKEN) -> Answer:
        """Send a form as this copy, with a proof of its key where the result shall be bound to it."""
        pairs = list(form.items()) if isinstance(form, Mapping) else list(form)
        headers = {"DPoP": self.proof(world, path)} if bound else {}
        return world.post(path, [*pairs, *self.assertion(world, self.told["client_id"]).items()], headers)

    def own(self, world: World, *, bound: bool = True, **form: str) -> Answer:
        return self.ask(world, {"grant_type": "client_credentials", **form}, bound=bound)

    def exchange(self, world: World, token: str, kind: str = ACCESS_TOKEN, *, bound: bool = True, **form: str) -> Answer:
        return self.ask(world, {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": kind, **form}, bound=bound)


def code_for(world: World, agent: Party, *, minutes: int = 10, hours: int = 1) -> str:
    return world.server.enrolments.give(agent.client_id, minutes=minutes, hours=hours, by=BY).code


def enrolled(world: World, agent: Party, **given: int) -> Copy:
    """A copy that registered with a code."""
    copy = Copy()
    answer = copy.register(world, code_for(world, agent, **given))
    assert answer.status == 201, answer.text
    copy.told = answer.json
    return copy
