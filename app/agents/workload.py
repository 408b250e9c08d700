"""Workload identity: the word of a platform about a running copy of an agent, taken for that agent, once (RFC 7523 §2.1, §3).

SPIFFE JWT-SVIDs, Kubernetes service account tokens and GitHub's OIDC tokens are one kind of thing here: a JWT of an issuer that an
operator trusts, with claims that an operator wrote down. It says who runs, and the DPoP proof beside it which key they hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from app import clock
from app.agents.trust import SPIFFE, Trust, Trusts
from app.clients.authenticate import AuthenticatedClient
from app.clients.client import Clients
from app.clients.instance import HOUR, Attestation
from app.clients.request import ProtocolRequest
from app.errors import InvalidClient, InvalidRequest
from app.keys.remote import RemoteKeys
from app.keys.verifier import (
    MAX_KID,
    NO_TYP,
    JWTRefused,
    VerificationKey,
    check_times,
    choose_key,
    import_foreign_keys,
    nobodys_key,
    read_unverified,
    require_str,
    require_time,
    sole_audience,
    verify,
)
from app.live.commit import Live, Once
from app.live.generation import Generation
from app.settings import Settings
from app.vocabulary import AuthMethod, SigningAlg

ACCEPTED_TYP = frozenset({NO_TYP, "JWT", "JOSE"})
"""What the platforms write. Whatever names another kind of JWT is one."""

ALGORITHMS = frozenset(SigningAlg)
NAMESPACE = "attested"
MAX_SUBJECT = 500

ID_TOKEN = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "auth_time"})
"""Claims of a person's sign-in (OIDC Core §2): an ID token attests no workload, whoever signed it."""

OTHER_METHODS = ("client_secret", "client_assertion", "client_assertion_type")


@dataclass(frozen=True, slots=True)
class Workloads:
    """Authenticates running copies of agents by the word of their platform. The same answer for whatever is wrong with it."""

    live: Live
    clients: Clients
    trusts: Trusts
    remote: RemoteKeys
    settings: Settings

    def authenticate(self, request: ProtocolRequest) -> AuthenticatedClient:
        """The agent's client, in the hands of a copy whose key is still to be proven. Raises InvalidClient, InvalidRequest, 503."""
        if request.authorization or any(request.has(name) for name in OTHER_METHODS):
            raise InvalidRequest("more than one client authentication method", layer="client")
        assertion = request.one("assertion")
        if assertion is None:
            raise InvalidRequest("assertion is required")
        generation, now = self.live.generation(), clock.timestamp()
        try:
            trust, claims = self._verified(assertion, request.one("client_id"))
            once = _checked(trust, claims, assertion, now)
            remembered = generation.remembers(require_time(claims, "iat"), now)
        except JWTRefused as refused:
            raise InvalidClient(f"workload: {refused.reason}") from None
        if not remembered:
            raise InvalidClient("workload: attested before the live state was rebuilt")
        return self._caller(trust, claims, generation, once)

    def _verified(self, assertion: str, client_id: str | None) -> tuple[Trust, Mapping[str, Any]]:
        """Whose word it is, and what they say. An unknown issuer and a claim that does not fit cost a verification like any other."""
        header, claims = read_unverified(assertion)
        trust, why = self._trust(claims, client_id)
        keys: tuple[VerificationKey, ...] = ()
        if trust is not None:
            kid = header.get("kid")
            known = kid if isinstance(kid, str) and len(kid) <= MAX_KID else None
            keys = self.remote.of(trust.jwks_uri, known) if trust.jwks_uri else import_foreign_keys(trust.jwks)
        found: VerificationKey | None = None

        def find_key(header: Mapping[str, Any]) -> VerificationKey:
            nonlocal found
            found = choose_key(keys, header)
            return found or nobodys_key(header)

        algorithms = trust.algorithms if trust is not None else ALGORITHMS
        verified = verify(assertion, find_key=find_key, typ=ACCEPTED_TYP, algorithms=algorithms)
        if trust is None or found is None or not trust.covers(verified.claims):
            raise JWTRefused(why or "no such key")
        return trust, verified.claims

    def _trust(self, claims: Mapping[str, Any], client_id: str | None) -> tuple[Trust | None, str]:
        """The one trust whose claims these are; or none, and why."""
        issuer = _issuer(claims)
        known = self.trusts.of_issuer(issuer) if issuer is not None else []
        fitting = [trust for trust in known if trust.covers(claims) and client_id in {None, trust.client_id}]
        if len(fitting) == 1:
            return fitting[0], ""
        if fitting:
            # Whose it is must not depend on an order: rules that overlap are no answer.
            return None, "several trusts fit: " + ", ".join(trust.id for trust in fitting)
        return None, "no trust fits these claims" if known else "no trust in this issuer"

    def _caller(self, trust: Trust, claims: Mapping[str, Any], generation: Generation, once: Once) -> AuthenticatedClient:
        held = self.clients.find(trust.client_id)
        if held is not None and not held.value.enabled and self.clients.moved(held):
            # A refusal is never told from memory.
            held = self.clients.reread(trust.client_id)
        if held is None or not held.value.enabled or held.value.auth_method is not AuthMethod.PRIVATE_KEY_JWT:
            raise InvalidClient("workload: the agent is suspended, retired or keeps a secret")
        lifetime = min(trust.hours, self.settings.instance_hours) * HOUR
        attestation = Attestation(trust.id, require_str(claims, "sub")[:MAX_SUBJECT], lifetime, _bound_to(claims))
        return AuthenticatedClient(held, AuthMethod.PRIVATE_KEY_JWT, generation, (once,), attestation=attestation)


def _issuer(claims: Mapping[str, Any]) -> str | None:
    """Whose word it says to be. A JWT-SVID need not have `iss`: its trust domain is in `sub` (JWT-SVID §3)."""
    if "iss" in claims:
        issuer = claims["iss"]
        return issuer if isinstance(issuer, str) and "\x00" not in issuer and len(issuer) <= MAX_SUBJECT else None
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject.startswith(SPIFFE):
        return None
    return SPIFFE + subject.removeprefix(SPIFFE).partition("/")[0][:MAX_SUBJECT]


def _bound_to(claims: Mapping[str, Any]) -> str | None:
    """The thumbprint of the key it was said of; None where it is a bearer's. Raises JWTRefused for a binding we cannot hold it to."""
    if "cnf" not in claims:
        return None
    cnf = claims["cnf"]
    if not isinstance(cnf, Mapping) or set(cnf) != {"jkt"} or not isinstance(cnf["jkt"], str):
        raise JWTRefused("bound in a way that is not supported")
    return cnf["jkt"]


def _checked(trust: Trust, claims: Mapping[str, Any], assertion: str, now: int) -> Once:
    """It is for us alone, of now, about a workload; the mark that makes it good once. Raises JWTRefused."""
    if sole_audience(claims) != trust.audience:
        raise JWTRefused("aud is not ours alone")
    check_times(claims, now)
    made = require_time(claims, "iat")
    if made + trust.max_age + clock.SKEW < now:
        raise JWTRefused("too old")
    require_str(claims, "sub")
    _bound_to(claims)
    if ID_TOKEN & claims.keys():
        raise JWTRefused("an ID token")
    until = min(require_time(claims, "exp"), made + trust.max_age) + clock.SKEW + 1
    # Without a jti it is what was signed that is marked: of some signatures there are two that verify.
    what = require_str(claims, "jti") if "jti" in claims else sha256(assertion.rpartition(".")[0].encode()).hexdigest()
    return Once(NAMESPACE, f"{trust.issuer} {what}", max(until - now, 1))
