"""`/oauth/par` (RFC 9126, RFC 9449 §10.1)."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Blueprint, Response

from app.audit import serialize
from app.audit.events import AuthorizationRefused, Who
from app.authorization.pushed import new_request_uri
from app.authorization.request import NoRedirect, Redirected, Requests
from app.clients.authenticate import AuthenticatedClient, Authenticator
from app.clients.request import ProtocolRequest
from app.endpoints.guards import Guards
from app.errors import InvalidDPoPProof, InvalidRequest, OAuthError, TemporarilyUnavailable
from app.live.commit import Commit, Live, Moved, Put, UsedTwice
from app.rim.form import parse_form
from app.rim.problems import json_response
from app.settings import Settings

CREDENTIALS = frozenset({"client_secret", "client_assertion", "client_assertion_type"})


def blueprint(live: Live, authenticator: Authenticator, requests: Requests, settings: Settings, guards: Guards) -> Blueprint:
    """The pushed authorization request endpoint."""
    endpoint = Blueprint("pushed_authorization", __name__)
    pushing = _Pushing(live, authenticator, requests, settings)

    @endpoint.post("/oauth/par")
    def push() -> Response:
        with guards.admitted() as incoming:
            form = parse_form(incoming)
            caller = authenticator.authenticate(form)
        return json_response({"request_uri": pushing.push(form, caller), "expires_in": settings.request_uri_lifetime}, 201)

    guards.roll_nonces(endpoint)
    return endpoint


@dataclass(frozen=True, slots=True)
class _Pushing:
    live: Live
    authenticator: Authenticator
    requests: Requests
    settings: Settings

    def push(self, form: ProtocolRequest, caller: AuthenticatedClient) -> str:
        """Keep the request; its `request_uri`. Whatever is refused has used the assertion and the proof up, and is recorded."""
        parameters = {name: values for name, values in form.parameters.items() if name not in CREDENTIALS}
        parameters["client_id"] = (caller.client.client_id,)
        try:
            if form.proof is not None:
                caller = self.authenticator.prove(caller, form.proof)
                parameters["dpop_jkt"] = _agreed(caller, form.one("dpop_jkt"))
            if form.has("request_uri"):
                raise InvalidRequest("request_uri inside a pushed request")
            self.requests.parse(parameters)
            request_uri, put = new_request_uri(parameters, self.settings.request_uri_lifetime)
            self._commit(caller, put=(put,))
        except (NoRedirect, Redirected) as refused:
            raise self._refusal(caller, refused.error) from None
        except (InvalidRequest, InvalidDPoPProof) as refused:
            raise self._refusal(caller, refused) from None
        return request_uri

    def _refusal(self, caller: AuthenticatedClient, error: OAuthError) -> OAuthError:
        """What to answer, once it is recorded."""
        event = AuthorizationRefused(
            who=Who(client=caller.client.client_id, instance=caller.instance.value.id if caller.instance is not None else None),
            error=str(error.error),
            reason=error.reason,
        )
        identifier, record = serialize(event)
        try:
            self._commit(caller, record=record)
        except InvalidDPoPProof as replayed:
            # The assertion beside a replayed proof was fresh; now it is used.
            return self._refusal(caller.without_proof(), replayed)
        error.extra["audit_id"] = identifier
        return error

    def _commit(self, caller: AuthenticatedClient, *, put: tuple[Put, ...] = (), record: bytes = b"") -> None:
        try:
            self.live.commit(
                Commit(
                    generation=caller.generation,
                    versions=caller.versions,
                    once=caller.once,
                    put=put,
                    rate=((caller.client.client_id, self.settings.rate_client),),
                    record=record,
                )
            )
        except UsedTwice as used:
            raise caller.replayed(used) from None
        except Moved:
            raise TemporarilyUnavailable("the client was changed meanwhile", retry_after=0) from None


def _agreed(caller: AuthenticatedClient, dpop_jkt: str | None) -> tuple[str, ...]:
    """The one key that header and parameter mean (RFC 9449 §10.1)."""
    key = caller.proven[0].thumbprint
    if dpop_jkt not in {None, key}:
        raise InvalidDPoPProof("dpop_jkt is another key")
    return (key,)
