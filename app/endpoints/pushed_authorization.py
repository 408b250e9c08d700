"""`/oauth/par` (RFC 9126)."""

from __future__ import annotations

from flask import Blueprint, Response

from app.audit import serialize
from app.audit.events import AuthorizationRefused, Who
from app.authorization.pushed import new_request_uri
from app.authorization.request import NoRedirect, Redirected, Requests
from app.clients.authenticate import AuthenticatedClient, Authenticator
from app.endpoints.guards import Guards
from app.errors import InvalidRequest, OAuthError, TemporarilyUnavailable
from app.live.commit import Commit, Live, Moved, Put, UsedTwice
from app.rim.form import parse_form
from app.rim.problems import json_response
from app.settings import Settings

CREDENTIALS = frozenset({"client_secret", "client_assertion", "client_assertion_type"})


def blueprint(live: Live, authenticator: Authenticator, requests: Requests, settings: Settings, guards: Guards) -> Blueprint:
    """The pushed authorization request endpoint."""
    endpoint = Blueprint("pushed_authorization", __name__)

    @endpoint.post("/oauth/par")
    def push() -> Response:
        with guards.admitted() as incoming:
            form = parse_form(incoming)
            caller = authenticator.authenticate(form)
        parameters = {name: values for name, values in form.parameters.items() if name not in CREDENTIALS}
        parameters["client_id"] = (caller.client.client_id,)
        try:
            if form.has("request_uri"):
                raise InvalidRequest("request_uri inside a pushed request")
            requests.parse(parameters)
        except (NoRedirect, Redirected) as refused:
            raise refusal(caller, refused.error) from None
        except InvalidRequest as refused:
            raise refusal(caller, refused) from None
        request_uri, put = new_request_uri(parameters, settings.request_uri_lifetime)
        commit(caller, put=(put,))
        return json_response({"request_uri": request_uri, "expires_in": settings.request_uri_lifetime}, 201)

    def refusal(caller: AuthenticatedClient, error: OAuthError) -> OAuthError:
        """A refusal uses the assertion up too, and is recorded."""
        event = AuthorizationRefused(who=Who(client=caller.client.client_id), error=str(error.error), reason=error.reason)
        error.extra["audit_id"], record = serialize(event)
        commit(caller, record=record)
        return error

    def commit(caller: AuthenticatedClient, *, put: tuple[Put, ...] = (), record: bytes = b"") -> None:
        try:
            live.commit(
                Commit(
                    generation=caller.generation,
                    versions={caller.held.thing: caller.held.reading.version},
                    once=caller.once,
                    put=put,
                    rate=((caller.client.client_id, settings.rate_client),),
                    record=record,
                )
            )
        except UsedTwice:
            raise caller.replayed() from None
        except Moved:
            raise TemporarilyUnavailable("the client was changed meanwhile", retry_after=0) from None

    return endpoint
