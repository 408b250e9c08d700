"""`/oauth/par` (RFC 9126)."""

from __future__ import annotations

from flask import Blueprint, Response, request

from app.authorization.pushed import new_request_uri
from app.authorization.request import NoRedirect, Redirected, Requests
from app.clients.authenticate import Authenticator
from app.endpoints.guards import Guards
from app.errors import InvalidRequest, TemporarilyUnavailable
from app.live.commit import Commit, Live, Moved, UsedTwice
from app.rim.form import parse_form
from app.rim.problems import json_response
from app.settings import Settings

CREDENTIALS = frozenset({"client_secret", "client_assertion", "client_assertion_type"})


def blueprint(live: Live, authenticator: Authenticator, requests: Requests, settings: Settings, guards: Guards) -> Blueprint:
    """The pushed authorization request endpoint."""
    endpoint = Blueprint("pushed_authorization", __name__)

    @endpoint.post("/oauth/par")
    def push() -> Response:
        with guards.admitted(request):
            form = parse_form(request)
            caller = authenticator.authenticate(form)
        if form.has("request_uri"):
            raise InvalidRequest("request_uri inside a pushed request")
        parameters = {name: values for name, values in form.parameters.items() if name not in CREDENTIALS}
        parameters["client_id"] = (caller.client.client_id,)
        try:
            requests.parse(parameters)
        except (NoRedirect, Redirected) as refused:
            raise refused.error from None
        request_uri, put = new_request_uri(parameters, settings.request_uri_lifetime)
        commit = Commit(
            versions={caller.held.thing: caller.held.reading.version},
            once=caller.once,
            put=(put,),
            rate=((caller.client.client_id, settings.rate_client),),
        )
        try:
            live.commit(commit)
        except UsedTwice:
            raise caller.replayed() from None
        except Moved:
            raise TemporarilyUnavailable("the client was changed meanwhile", retry_after=0) from None
        return json_response({"request_uri": request_uri, "expires_in": settings.request_uri_lifetime}, 201)

    return endpoint
