"""From a presented token to a caller, and from what came over the wire to what is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import orjson
from flask import Request
from pydantic import ValidationError

from app.api.asked import Asked
from app.api.operations import Operation
from app.errors import InsufficientScope, InvalidBearer, InvalidRequest
from app.humans.accounts import Accounts
from app.oversight.caller import Caller
from app.rim.form import parse_parameters
from app.rim.json_body import json_body
from app.tokens.presented import CHALLENGE, PresentedToken
from app.tokens.presented_here import TokensHere
from app.tokens.standing import who_acts
from app.tokens.verify import VerifiedToken
from app.vocabulary import format_scope

NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Doorkeeper:
    """Lets in who has a good token with a scope that is needed."""

    uri: str
    tokens: TokensHere
    accounts: Accounts

    def admit(self, presented: PresentedToken, operation: Operation) -> Caller:
        """The caller. Raises MissingBearer, InvalidBearer, InvalidDPoPProof, InsufficientScope, 503."""
        token = self.tokens.verify(presented, self.uri)
        scheme = "DPoP" if presented.scheme == "dpop" else "Bearer"
        caller = replace(self._caller(token), scheme=scheme)
        needed = [scope.value for scope in operation.scopes]
        if not caller.scopes.intersection(needed):
            refusal = InsufficientScope(f"{operation.name} by a token without its scopes", scope=format_scope(needed))
            said = f'error="{refusal.error}", scope="{refusal.scope}"'
            refusal.headers[CHALLENGE] = f'{scheme} realm="Deputy", {said}'
            raise refusal
        return caller

    def _caller(self, token: VerifiedToken) -> Caller:
        held = self.tokens.presented.agent_behind(token)
        acting = replace(who_acts(token), owner=held.value.owner if held is not None else None)
        if token.human and token.signed_in is not None:
            human = self.accounts.find(token.subject)
            if human is None or not human.enabled:
                raise InvalidBearer("the human is gone")
            return Caller(token.authority.scope, acting, human=human, auth_time=token.signed_in.auth_time)
        if held is None:
            raise InvalidBearer("neither a human's token nor an agent's own")
        acting = replace(acting, actors=(held.value.uri,))
        return Caller(token.authority.scope, acting, agent=held.value)


def read(request: Request, operation: Operation, in_path: Mapping[str, str]) -> Asked:
    """What is asked. Raises InvalidRequest, which names the member and never repeats its value."""
    try:
        if operation.method == "GET":
            query = parse_parameters(request.query_string, NONE)
            if query.keys() & in_path.keys():
                raise InvalidRequest("a member of the path in the query")
            return operation.takes.model_validate_strings({name: value for name, (value,) in query.items()} | dict(in_path))
        body = json_body(request, optional=operation.takes.model_fields.keys() <= in_path.keys())
        if body.keys() & in_path.keys():
            raise InvalidRequest("a member of the path in the body")
        return operation.takes.model_validate_json(orjson.dumps({**body, **in_path}), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = first["loc"][0] if first["loc"] and first["type"] != "extra_forbidden" else ""
        where = f"{name}: " if isinstance(name, str) and name in operation.takes.model_fields else ""
        raise InvalidRequest(f"{where}{first['type']}", description=f"{where}{SAID.get(first['type'], 'not what this takes')}.") from None


SAID = {"missing": "is required", "extra_forbidden": "There is a member that is not known"}
