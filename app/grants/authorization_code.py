"""`authorization_code` with PKCE S256, for every client (RFC 6749 §4.1.3, RFC 7636 §4.6)."""

from __future__ import annotations

import hmac

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oauth2.rfc7636.challenge import CODE_VERIFIER_PATTERN

from app.agents.agent import Agent
from app.authorization.code import Code, once_code, read_code, redeemed
from app.clients.authenticate import AuthenticatedClient
from app.errors import InvalidGrant, InvalidRequest
from app.grants.authorized import AuthorizedGrant, Replayed
from app.live.cache import Held
from app.policy.access import AccessRequest
from app.vocabulary import GrantType


class AuthorizationCode(AuthorizedGrant):
    """A code is good once, for the client, redirect URI, verifier and, where there is one, key it was made for."""

    name = GrantType.AUTHORIZATION_CODE

    def access_request(self, caller: AuthenticatedClient, agent: Held[Agent] | None, *, certain: bool) -> AccessRequest:
        """What the human authorized, if the code is this client's."""
        value = self.request.one("code")
        if value is None:
            raise InvalidRequest("code is required")
        code = read_code(self.registers.live, value)
        if code is None or code.authorization.client_id != caller.client.client_id:
            raise InvalidGrant("no such code for this client")
        self._family = code.authorization.family
        self._check(code)
        if certain and redeemed(self.registers.live, value):
            # Shown again by whoever knows the verifier it is evidence of theft, late or for more than there is: before any other refusal.
            raise Replayed("code", self._family)
        if code.expires_at <= self.now:
            raise InvalidGrant("the code has expired")
        access = self.access_for(code.authorization, caller, agent, bound=code.confirmation, once=(once_code(value),), nonce=code.nonce)
        return self.check_alive(access) if certain else access

    def before_commit(self, access: AccessRequest) -> None:
        """Make the family's first refresh token."""
        if access.refreshable_until and access.lineage.family and self.refresh_token is None:
            family = access.lineage.family
            self.refresh_token = self.registers.families.begin_refreshing(family, access.refreshable_until, self.holder(access))

    def replayed(self) -> str | None:
        """The family of a code that was redeemed before."""
        return self._family

    _family: str | None = None

    def _check(self, code: Code) -> None:
        redirect_uri = self.request.one("redirect_uri")
        if redirect_uri is None and code.redirect_uri_sent:
            raise InvalidGrant("redirect_uri is missing")
        if redirect_uri is not None and redirect_uri != code.redirect_uri:
            raise InvalidGrant("redirect_uri differs")
        verifier = self.request.one("code_verifier")
        if verifier is None:
            raise InvalidGrant("code_verifier is missing")
        if not CODE_VERIFIER_PATTERN.fullmatch(verifier):
            raise InvalidRequest("malformed code_verifier")
        if not hmac.compare_digest(create_s256_code_challenge(verifier), code.challenge):
            raise InvalidGrant("code_verifier does not match")
