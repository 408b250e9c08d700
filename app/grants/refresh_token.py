"""`refresh_token`: rotating, bound to its client and key; a second use ends the family (RFC 6749 §6, RFC 9449 §5, RFC 9700 §4.14.2)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.agents.agent import Agent
from app.clients.authenticate import AuthenticatedClient
from app.delegation.consent import Consent
from app.errors import InvalidGrant, InvalidRequest
from app.grants.authorized import AuthorizedGrant, Replayed
from app.live.cache import Held
from app.live.things import Thing
from app.policy.access import AccessRequest
from app.tokens.families import Refresh
from app.vocabulary import GrantType


class RefreshToken(AuthorizedGrant):
    """Repeats what was authorized, within what is left of it."""

    name = GrantType.REFRESH_TOKEN
    _refresh: Refresh | None = None

    def access_request(self, caller: AuthenticatedClient, agent: Held[Agent] | None, *, certain: bool) -> AccessRequest:
        """What the human authorized, if the refresh token is this client's and was never used."""
        value = self.request.one("refresh_token")
        if value is None:
            raise InvalidRequest("refresh_token is required")
        refresh = self.registers.families.find(value)
        if refresh is None or refresh.authorization.client_id != caller.client.client_id:
            raise InvalidGrant("no such refresh token for this client")
        if refresh.used:
            raise Replayed("refresh_token", refresh.authorization.family)
        if not refresh.alive:
            raise InvalidGrant("expired, or its family has ended")
        if refresh.instance is not None and (caller.instance is None or caller.instance.value.id != refresh.instance):
            raise InvalidGrant("given to another instance", layer="instance")
        self._refresh = refresh
        access = self.access_for(refresh.authorization, caller, agent, bound=refresh.confirmation)
        return self.check_alive(access) if certain else access

    @contextmanager
    def together(self, access: AccessRequest) -> Iterator[None]:
        """The refresh token is used up, and the next is there, if and only if the commit passes.

        Who comes at the same time waits for that. Used up before, it would be taken for stolen by the others, whose word ends
        the family under the feet of the first: then nobody gets anything.
        """
        refresh = self._refresh
        if refresh is None:
            yield
            return
        families = self.registers.families
        with self.registers.live.database.transaction() as session:
            rotated = families.rotate(session, refresh, self.holder(access))
            if rotated is None:
                raise Replayed("refresh_token", refresh.authorization.family)
            yield
        self.refresh_token = rotated

    def give_back(self) -> None:
        """After the commit passed: whoever is then told 503 and comes again as told would look like a thief, and end the family."""
        if self._refresh is not None and self.refresh_token is not None:
            self.registers.families.give_back(self._refresh, self.refresh_token)

    def consent_epoch(self, consent: Held[Consent]) -> dict[Thing, int]:
        """The consent's epoch now: narrowing left the refresh token alive."""
        return {consent.thing: consent.reading.epoch}
