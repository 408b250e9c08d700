"""Tokens that are presented to this server itself: at userinfo, and by agents for themselves (RFC 6750 §2.1, RFC 8705 §3, RFC 9449 §7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from app import clock
from app.agents.agent import Agent, Agents
from app.audit.events import Who
from app.clients.certificate import ClientCertificate
from app.clients.proof import ALGORITHMS, PresentedProof, Proofs
from app.errors import InvalidBearer, InvalidDPoPProof, MissingBearer, TemporarilyUnavailable
from app.keys.verifier import JWTRefused
from app.live.cache import Held
from app.live.commit import Commit, Live, Moved, UsedTwice
from app.live.things import Thing
from app.tokens.verify import TokenReader, VerifiedToken
from app.vocabulary import ConfirmationMethod, JWTType

CHALLENGE = "WWW-Authenticate"
ALGS = f'algs="{" ".join(ALGORITHMS)}"'


class PresentedToken(NamedTuple):
    """An `Authorization` header as it came, the `DPoP` header beside it, and the connection's client certificate."""

    scheme: str
    unverified_jwt: str
    proof: PresentedProof | None
    certificate: ClientCertificate | None = None

    def __repr__(self) -> str:
        return f"PresentedToken({self.scheme}, …)"


@dataclass(frozen=True, slots=True)
class PresentedTokens:
    """Reads them: a bearer's as a bearer's, a bound one with the proof of its key, and neither as the other."""

    issuer: str
    live: Live
    agents: Agents
    tokens: TokenReader
    proofs: Proofs

    def verify(self, presented: PresentedToken, audience: str) -> VerifiedToken:
        """The token, live and for this audience. Raises MissingBearer, InvalidBearer, InvalidDPoPProof, 503."""
        match presented.scheme:
            case _ if not presented.unverified_jwt:
                raise _missing("no token in the header")
            case "bearer":
                token = self._borne(presented, audience)
                self._alive(token)
                return token
            case "dpop":
                try:
                    token = self._proven(presented, audience)
                    self._alive(token)
                    return token
                except (InvalidBearer, InvalidDPoPProof) as refused:
                    refused.status_code = 401
                    refused.headers[CHALLENGE] = f'DPoP realm="Deputy", error="{refused.error}", {ALGS}'
                    raise
            case _:
                raise _missing("neither a bearer token nor a bound one")

    def agent_of(self, presented: PresentedToken) -> Held[Agent]:
        """The agent whose own token for this issuer it is (protocol §4). Raises as `verify` does."""
        return self.own_token(presented)[0]

    def own_token(self, presented: PresentedToken) -> tuple[Held[Agent], VerifiedToken]:
        """That agent, and the token, which says which instance it was given to. Raises as `verify` does."""
        token = self.verify(presented, self.issuer)
        agent = self.agent_behind(token)
        if token.human or token.authority.chain.depth or agent is None or not agent.value.active:
            raise InvalidBearer("not an agent's own token for the issuer")
        return agent, token

    def agent_behind(self, token: VerifiedToken) -> Held[Agent] | None:
        """The agent that a token was given to, as it is now; None for an application's. Raises InvalidBearer once it is dead."""
        held = self.agents.of_client(token.client_id)
        if held is None:
            return None
        (version,) = self._alive(token, held.thing)
        if version == held.reading.version:
            return held
        self.live.moved(held.thing)
        return self.agents.of_client(token.client_id)

    def _borne(self, presented: PresentedToken, audience: str) -> VerifiedToken:
        """The token, if it is a bearer's, or comes over a connection with its certificate.

        Without what it is bound to a bound one is worth nothing (RFC 8705 §3, RFC 9449 §7.2).
        """
        token = self._read(presented.unverified_jwt, audience)
        held = token.authority.confirmation
        if held is None:
            return token
        if held.method is ConfirmationMethod.JKT:
            raise InvalidBearer("a bound token as a bearer's")
        if presented.certificate is None or presented.certificate.confirmation != held:
            raise InvalidBearer("bound to a certificate that this connection has not")
        return token

    def _proven(self, presented: PresentedToken, audience: str) -> VerifiedToken:
        """The token, if it is bound to the key that the proof beside it proves (RFC 9449 §7.1)."""
        token = self._read(presented.unverified_jwt, audience)
        held = token.authority.confirmation
        if held is None or held.method is not ConfirmationMethod.JKT:
            raise InvalidBearer("not bound to a key, as a token that is")
        if presented.proof is None:
            raise InvalidDPoPProof("no proof")
        generation = self.live.generation()
        proven = self.proofs.verify(presented.proof, generation, access_token=presented.unverified_jwt)
        if proven.jkt != held.thumbprint:
            raise InvalidDPoPProof("the token is bound to another key")
        try:
            self.live.commit(Commit(generation=generation, once=(proven.once,)))
        except UsedTwice:
            raise InvalidDPoPProof("proof used before") from None
        except Moved:
            raise TemporarilyUnavailable("the live state was rebuilt meanwhile", retry_after=0) from None
        return token

    def _read(self, unverified_jwt: str, audience: str) -> VerifiedToken:
        try:
            token = self.tokens.read(unverified_jwt, JWTType.ACCESS_TOKEN, now=clock.timestamp())
        except JWTRefused as refused:
            raise InvalidBearer(refused.reason) from None
        if token.audience != audience:
            raise InvalidBearer("a token for something else")
        return token

    def _alive(self, token: VerifiedToken, *things: Thing) -> list[int]:
        """The versions of the things, with proof that the token lives."""
        alive, versions = self.live.still(token.lineage.generation, token.lineage.epochs, token.denied_by, versions=things)
        if not alive:
            raise InvalidBearer("revoked")
        return [int(version or 0) for version in versions]


def who_presents(agent: Agent, token: VerifiedToken) -> Who:
    """The agent whose own token it is, and which running copy of it, as the ledger says it."""
    return Who(actors=(agent.uri,), client=agent.client_id, owner=agent.owner, instance=token.instance)


def _missing(reason: str) -> MissingBearer:
    """A challenge that names both ways, and no error (RFC 6750 §3.1, RFC 9449 §7.1)."""
    error = MissingBearer(reason)
    error.headers[CHALLENGE] = f'Bearer realm="Deputy", DPoP realm="Deputy", {ALGS}'
    return error
