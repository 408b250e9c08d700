"""`/oauth/userinfo` (OIDC Core §5.3), by a bearer token or by one bound to a key (RFC 9449 §7)."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response

from app.endpoints.guards import Guards
from app.errors import InvalidBearer, InvalidRequest
from app.humans.accounts import Accounts
from app.rim.form import presented_token
from app.rim.problems import json_response
from app.tokens.companions import profile
from app.tokens.presented import PresentedToken, PresentedTokens

PATH = "/oauth/userinfo"


def blueprint(accounts: Accounts, presented: PresentedTokens, issuer: str, guards: Guards) -> Blueprint:
    """The userinfo endpoint: the token in the header, and only there."""
    endpoint = Blueprint("userinfo", __name__)
    userinfo = _Userinfo(accounts, presented, issuer)

    @endpoint.route(PATH, methods=["GET", "POST"], endpoint="userinfo")
    def ask() -> Response:
        with guards.admitted() as request:
            if request.args:
                raise InvalidRequest("parameters in the query")
            return json_response(userinfo.answer(presented_token(request)))

    guards.roll_nonces(endpoint)
    return endpoint


@dataclass(frozen=True, slots=True)
class _Userinfo:
    accounts: Accounts
    presented: PresentedTokens
    issuer: str

    def answer(self, presented: PresentedToken) -> dict[str, object]:
        """What the holder of the token may know. Raises InvalidBearer, InvalidDPoPProof, 503."""
        token = self.presented.verify(presented, self.issuer + PATH)
        scope = str(token.claims.get("scope", "")).split()
        if not token.human or "openid" not in scope:
            raise InvalidBearer("not a userinfo token")
        known = profile(self.accounts, token.subject)
        granted = {name: value for name, value in known.items() if ("email" if name.startswith("email") else "profile") in scope}
        return {"sub": token.subject, **granted}
