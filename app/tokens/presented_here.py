"""Tokens for this server's own API: judged as introspection would judge them for any other."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from app import clock
from app.audit import serialize
from app.audit.events import TokenFirstUsed
from app.errors import InvalidBearer, TemporarilyUnavailable
from app.live.cache import Held, versions_of
from app.live.commit import Commit, Live, Moved, Once, UsedTwice
from app.live.things import POLICIES
from app.resources.resource import Resource, Resources
from app.tokens.presented import PresentedToken, PresentedTokens
from app.tokens.standing import Standing, who_acts
from app.tokens.verify import VerifiedToken

ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class TokensHere:
    """Verifies tokens whose audience is a resource that this server is itself."""

    live: Live
    resources: Resources
    presented: PresentedTokens
    standing: Standing

    def verify(self, presented: PresentedToken, uri: str) -> VerifiedToken:
        """The token: live, for this audience, permitted by the policies of now, its first use recorded.

        Raises MissingBearer, InvalidBearer, InvalidDPoPProof, 503.
        """
        token = self.presented.verify(presented, uri)
        for _ in range(ATTEMPTS):
            held = self.resources.named(uri)
            if held is None:
                raise TemporarilyUnavailable("the API is not registered")
            with suppress(Moved):
                self._permitted(token, held)
                return token
        raise TemporarilyUnavailable("too much is moving", retry_after=0)

    def _permitted(self, token: VerifiedToken, resource: Held[Resource]) -> None:
        left = max(1, token.authority.end - clock.timestamp() + clock.SKEW)
        seen = Once("seen", token.jti, left)
        lineage = token.lineage
        alive, (version, used) = self.live.still(
            lineage.generation, lineage.epochs, token.denied_by, versions=(POLICIES,), names=(seen.name,)
        )
        if not alive:
            raise InvalidBearer("revoked")
        policies = int(version or 0)
        if policies != lineage.policies:
            behind = self.standing.behind(token)
            forbidden = self.standing.forbidden(token, behind, resource.value, policies)
            compared = Commit(versions=behind.versions | versions_of(resource))
            if forbidden is not None:
                told = Once("forbidden", f"{token.jti}:{policies}", left)
                with suppress(UsedTwice):
                    self.live.commit(replace(compared, once=(told,), record=serialize(forbidden)[1]))
                raise InvalidBearer(forbidden.reason, layer="policy")
            self.live.commit(compared)
        if used is None:
            self._first_use(token, seen)

    def _first_use(self, token: VerifiedToken, seen: Once) -> None:
        event = TokenFirstUsed(who=who_acts(token), jti=token.jti, resource=token.audience, task=token.task, consent=token.lineage.consent)
        commit = Commit(
            generation=self.live.generation(),
            epochs=token.lineage.epochs,
            undenied=token.denied_by,
            once=(seen,),
            record=serialize(event)[1],
        )
        with suppress(UsedTwice):
            self.live.commit(commit)
