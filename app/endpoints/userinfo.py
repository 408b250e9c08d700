"""`/oauth/userinfo` (OIDC Core §5.3)."""

from __future__ import annotations

from flask import Blueprint, Response

from app import clock
from app.endpoints.guards import Guards
from app.errors import InvalidBearer, InvalidRequest, MissingBearer
from app.humans.accounts import Accounts
from app.keys.verifier import JWTRefused
from app.live.commit import Live
from app.rim.problems import json_response
from app.tokens.companions import profile
from app.tokens.verify import TokenReader
from app.vocabulary import JWTType

PATH = "/oauth/userinfo"


def blueprint(live: Live, accounts: Accounts, tokens: TokenReader, issuer: str, guards: Guards) -> Blueprint:
    """The userinfo endpoint: bearer token in the header, and only there."""
    endpoint = Blueprint("userinfo", __name__)

    @endpoint.route(PATH, methods=["GET", "POST"])
    def userinfo() -> Response:
        with guards.admitted() as request:
            scheme, _, value = request.headers.get("Authorization", "").partition(" ")
            if request.args or not value:
                raise MissingBearer("no bearer token in the header") if not request.args else InvalidRequest("parameters in the query")
            if scheme.lower() != "bearer":
                raise MissingBearer("not a bearer token")
            return json_response(_claims(value.strip()))

    def _claims(unverified_jwt: str) -> dict[str, object]:
        try:
            token = tokens.read(unverified_jwt, JWTType.ACCESS_TOKEN, now=clock.timestamp())
        except JWTRefused as refused:
            raise InvalidBearer(refused.reason) from None
        scope = str(token.claims.get("scope", "")).split()
        if token.audience != issuer + PATH or not token.human or "openid" not in scope:
            raise InvalidBearer("not a userinfo token")
        alive, _ = live.still(token.lineage.generation, token.lineage.epochs, token.denied_by)
        if not alive:
            raise InvalidBearer("revoked")
        known = profile(accounts, token.subject)
        granted = {name: value for name, value in known.items() if ("email" if name.startswith("email") else "profile") in scope}
        return {"sub": token.subject, **granted}

    return endpoint
