"""Authlib's `AuthorizationServer` with our grants and endpoints on it, strict at the rim where its defaults are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, ClassVar, cast

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import AuthorizationServer, BaseGrant, OAuth2Payload, OAuth2Request, TokenEndpointMixin
from flask import Request, Response

from app.clients.request import ProtocolRequest
from app.errors import InvalidRequest, UnsupportedGrantType
from app.grants import GRANTS
from app.issuance import Issuance
from app.rim.form import parse_form
from app.rim.problems import json_response


class FormPayload(OAuth2Payload):
    """Authlib's view of a request: our strictly parsed form and nothing else."""

    def __init__(self, form: ProtocolRequest) -> None:
        self._form = form

    @property
    def data(self) -> dict[str, str]:
        """First values, as Authlib reads them."""
        return {name: values[0] for name, values in self._form.parameters.items()}

    @property
    def datalist(self) -> defaultdict[str, list[str]]:
        """All values."""
        return defaultdict(list, {name: list(values) for name, values in self._form.parameters.items()})


class StrictRequest(OAuth2Request):
    """An Authlib request that never looks at the query string, at a repeated parameter, or at `flask.request` again."""

    def __init__(self, incoming: Request) -> None:
        # Not super().__init__: it recomputes the URL to check for TLS, which the settings decided at start-up.
        self.method = incoming.method
        self.uri = incoming.path
        self.headers = cast("Mapping[str, str]", incoming.headers)
        self.strict = parse_form(incoming)
        self.payload = FormPayload(self.strict)
        self.client = self.auth_method = self.user = self.authorization_code = self.refresh_token = self.credential = None


class LineGrant(BaseGrant, TokenEndpointMixin):
    """Maps every grant_type onto the line. Its two methods are final: a grant has nothing to add here."""

    issuance: ClassVar[Issuance]
    request: StrictRequest

    def validate_token_request(self) -> None:
        """Nothing: the line validates."""

    def create_token_response(self) -> Any:
        """Run the line."""
        return 200, self.issuance.issue(self.request.strict), self.TOKEN_RESPONSE_HEADER


class DeputyServer(AuthorizationServer):
    """The authorization server. Errors leave it as exceptions; `rim/problems.py` answers them."""

    def __init__(self, issuance: Issuance) -> None:
        super().__init__()
        self._line: dict[str, type[LineGrant]] = {}
        for grant_type in GRANTS:
            grant = type("LineGrant", (LineGrant,), {"GRANT_TYPE": grant_type.value, "issuance": issuance})
            self._line[grant_type.value] = grant
            self.register_grant(grant)

    def create_oauth2_request(self, request: Request) -> StrictRequest:
        """Authlib's hook: the request as it may be read."""
        return StrictRequest(request)

    def get_token_grant(self, request: Any) -> Any:
        """Authlib answers a missing and an unknown grant_type alike; RFC 6749 §5.2 does not."""
        named = request.strict.one("grant_type")
        if named is None:
            raise InvalidRequest("grant_type is required")
        if named not in self._line:
            raise UnsupportedGrantType("unknown grant_type")
        return self._line[named](request, self)

    def handle_response(self, status: int, body: Any, _headers: Any) -> Response:
        """Authlib's hook: the answer."""
        return json_response(body, status)

    def handle_error_response(self, _request: Any, error: OAuth2Error) -> Response:
        """Authlib's hook: an error, which goes on as an exception."""
        raise error

    def send_signal(self, name: str, *_args: object, **_kwargs: object) -> None:
        """No signals on the line."""

    def token_response(self, request: Request) -> Response:
        """Answer the token endpoint."""
        return cast("Response", self.create_token_response(request))
