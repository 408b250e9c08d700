"""Trust: whose word about a workload is taken, for which agent, under which exact claims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import clock
from app.agents.enrolment import check_hours, check_instances
from app.agents.models import TrustRow
from app.audit import record
from app.audit.events import Changed, Registered, Revoked, Who
from app.clients.client import Clients
from app.clients.instance import end_born_under
from app.errors import NotFound, Refused
from app.fetch import FetchFailed, check_url
from app.keys.verifier import foreign_jwks
from app.live.commit import Live
from app.live.deeds import Deeds
from app.settings import Settings
from app.vocabulary import SigningAlg, new_id

TRUST = "trust"
SPIFFE = "spiffe://"
MAX_CLAIMS = 20
MAX_VALUE = 500
MAX_AGE = 3600
"""Seconds after its `iat` that the word of a platform may be taken at most."""

NO_RULE = frozenset({"iss", "aud", "exp", "iat", "nbf", "jti", "cnf"})
"""Claims that are checked for everybody, so that a rule about them singles nobody out."""

SHARED: Mapping[str, frozenset[str]] = {
    "https://token.actions.githubusercontent.com": frozenset(
        {"sub", "repository", "repository_id", "repository_owner", "repository_owner_id", "job_workflow_ref"}
    ),
    "https://gitlab.com": frozenset({"sub", "project_path", "project_id", "namespace_path", "namespace_id"}),
    "https://accounts.google.com": frozenset({"sub", "email"}),
    "https://app.terraform.io": frozenset({"sub", "terraform_organization_id", "terraform_workspace_id"}),
}
"""Issuers that speak for everybody in the world, and the claims that say for whom: a rule about one of them is needed."""


@dataclass(frozen=True, slots=True)
class Trust:
    """One row: what this issuer says with these claims is the word of a running copy of that agent."""

    id: str
    issuer: str
    client_id: str
    jwks_uri: str
    jwks: Mapping[str, Any] = field(repr=False)
    """Its keys, where there is no URI."""
    audience: str
    algorithms: frozenset[SigningAlg]
    claims: Mapping[str, str]
    max_age: int
    hours: int

    def covers(self, claims: Mapping[str, Any]) -> bool:
        """Whether every rule holds, byte for byte. No rules cover nothing."""
        return bool(self.claims) and all(_value(claims, name) == value for name, value in self.claims.items())


class Trusts:
    """The register of trusts, and the deeds on them."""

    def __init__(self, live: Live, deeds: Deeds, clients: Clients, settings: Settings) -> None:
        self._live = live
        self._deeds = deeds
        self._clients = clients
        self._settings = settings

    def of_issuer(self, issuer: str) -> list[Trust]:
        """What is trusted of an issuer just now. Asked of SQL every time: copies of agents are born seldom."""
        with self._live.database.reading() as session:
            rows = session.scalars(select(TrustRow).where(TrustRow.issuer == issuer, TrustRow.enabled.is_(True)).order_by(TrustRow.id))
            return [_trust(row) for row in rows]

    def stands(self, session: Session, identifier: str) -> bool:
        """Whether it is still trusted, in a transaction that is open: nobody takes the trust away until that ends."""
        return session.scalar(select(TrustRow.enabled).where(TrustRow.id == identifier).with_for_update(read=True)) is True

    def add(
        self,
        issuer: str,
        client_id: str,
        *,
        claims: Mapping[str, str],
        jwks: Mapping[str, Any] | None = None,
        jwks_uri: str = "",
        audience: str = "",
        algorithms: Iterable[str] = (),
        max_age: int = 600,
        hours: int = 8,
        by: Who,
    ) -> TrustRow:
        """Trust an issuer's word for one agent. Raises `Refused` with a sentence for whoever asked."""
        self._check_issuer(issuer)
        _check_claims(issuer, claims)
        check_hours(hours, self._settings)
        if not 30 <= max_age <= MAX_AGE:
            raise Refused(f"the age is 30 to {MAX_AGE} seconds")
        held = self._clients.reread(client_id)
        if held is None:
            raise NotFound(f"no client {client_id}")
        check_instances(held.value)
        ours = (self._settings.issuer, self._settings.issuer + "/oauth/token")
        if audience not in {"", *ours}:
            raise Refused(f"what is meant for others is not taken: the audience is {ours[0]} or {ours[1]}")
        row = TrustRow(
            id=new_id("trs"),
            issuer=issuer,
            client_id=client_id,
            jwks={},
            jwks_uri="",
            audience=audience or ours[0],
            algorithms=_check_algorithms(algorithms),
            claims=dict(sorted(claims.items())),
            max_age=max_age,
            hours=hours,
            enabled=True,
            made_at=clock.timestamp(),
        )
        self._set_keys(row, jwks, jwks_uri)
        with self._live.database.transaction() as session:
            for other in session.scalars(select(TrustRow).where(TrustRow.issuer == issuer)):
                if other.claims == row.claims:
                    raise Refused(f"the same claims of this issuer are trusted already: {other.id}")
            session.add(row)
            what = {
                "issuer": issuer,
                "client": client_id,
                "claims": row.claims,
                "audience": row.audience,
                "hours": hours,
                "max_age": max_age,
            }
            record(session, Registered(who=by, kind=TRUST, target=row.id, what=what | {"jwks_uri": row.jwks_uri}))
        return row

    def list(self) -> Sequence[TrustRow]:
        """Every trust, by issuer."""
        with self._live.database.reading() as session:
            return list(session.scalars(select(TrustRow).order_by(TrustRow.issuer, TrustRow.made_at, TrustRow.id)))

    def get(self, identifier: str) -> TrustRow:
        """The trust of that id. Raises `NotFound`."""
        with self._live.database.reading() as session:
            return _get(session, identifier)

    def set_keys(self, identifier: str, *, jwks: Mapping[str, Any] | None = None, jwks_uri: str = "", by: Who) -> None:
        """Take other keys of the issuer, or take them from elsewhere, from the next request on. Raises `Refused`, `NotFound`."""
        with self._live.database.transaction() as session:
            row = _get(session, identifier)
            self._set_keys(row, jwks, jwks_uri)
            record(session, Changed(who=by, kind=TRUST, target=row.id, what={"changed": ["keys"], "jwks_uri": row.jwks_uri}))

    def disable(self, identifier: str, *, by: Who) -> int:
        """Take the issuer's word no more, and end every instance that was born of it. Returns how many. Raises `NotFound`."""
        with self._deeds.deed() as deed:
            _get(deed.session, identifier).enabled = False
            # Written before it looks: who is being born keeps it waiting, and is there to be found; nobody is born after.
            deed.session.flush()
            record(deed.session, Revoked(who=by, kind=TRUST, target=identifier, reason="disabled"))
            return end_born_under(deed, identifier, by, "trust disabled")

    def enable(self, identifier: str, *, by: Who) -> None:
        """Take its word again. What ended stays ended. Raises `NotFound`."""
        with self._live.database.transaction() as session:
            _get(session, identifier).enabled = True
            record(session, Changed(who=by, kind=TRUST, target=identifier, what={"enabled": True}))

    def remove(self, identifier: str, *, by: Who) -> int:
        """Disable it, and forget it. Returns how many instances ended. Raises `NotFound`."""
        ended = self.disable(identifier, by=by)
        with self._live.database.transaction() as session:
            session.delete(_get(session, identifier))
            record(session, Changed(who=by, kind=TRUST, target=identifier, what={"removed": True}))
        return ended

    def _check_issuer(self, issuer: str) -> None:
        if issuer == self._settings.issuer:
            raise Refused("our own word attests nobody")
        if len(issuer) > MAX_VALUE or not issuer.isascii() or not issuer.isprintable():
            raise Refused("an issuer is a URL, or spiffe:// and a trust domain")
        if issuer.startswith(SPIFFE):
            if not issuer.removeprefix(SPIFFE) or set(issuer.removeprefix(SPIFFE)) & set("/?#@: "):
                raise Refused("a SPIFFE issuer is spiffe:// and the trust domain, no more")
            return
        self._check_url(issuer, "an issuer")

    def _check_url(self, url: str, what: str) -> None:
        try:
            scheme = check_url(url).scheme
        except FetchFailed:
            scheme = ""
        if scheme != "https" and not (scheme and self._settings.fetch_loopback):
            raise Refused(f"{what} is an https URL")

    def _set_keys(self, row: TrustRow, jwks: Mapping[str, Any] | None, jwks_uri: str) -> None:
        if (jwks is None) == (not jwks_uri):
            raise Refused("the issuer's keys come from a file or from a URI: --jwks or --jwks-uri")
        if jwks_uri:
            self._check_url(jwks_uri, "the address of the keys")
        try:
            row.jwks = foreign_jwks(jwks) if jwks is not None else {}
        except ValueError as error:
            raise Refused(str(error)) from None
        row.jwks_uri = jwks_uri


def _check_claims(issuer: str, claims: Mapping[str, str]) -> None:
    if not claims or len(claims) > MAX_CLAIMS:
        raise Refused(f"1 to {MAX_CLAIMS} claims must say whom the issuer speaks of: --claim sub=…")
    for name, value in claims.items():
        if name in NO_RULE or not name or len(name) > MAX_VALUE:
            raise Refused(f"a claim {name} singles nobody out: iss, aud, times and jti are checked for everybody")
        if not value or len(value) > MAX_VALUE or not value.isprintable() or "*" in value:
            raise Refused(f"the value of {name} is compared byte for byte: 1 to {MAX_VALUE} characters, and no wildcards")
    for shared, telling in SHARED.items():
        if (issuer == shared or issuer.startswith(shared + "/")) and not telling & claims.keys():
            raise Refused(f"{shared} speaks for everybody in the world: name one of {', '.join(sorted(telling))}")


def _check_algorithms(algorithms: Iterable[str]) -> list[str]:
    try:
        found = sorted({SigningAlg(alg).value for alg in algorithms})
    except ValueError:
        raise Refused("an algorithm is one of " + ", ".join(SigningAlg)) from None
    return found or sorted(alg.value for alg in SigningAlg)


def _value(claims: Mapping[str, Any], name: str) -> object:
    """A claim by its name, or by a JSON Pointer (RFC 6901) to one inside another. None where there is none."""
    if not name.startswith("/"):
        return claims.get(name)
    found: object = claims
    for step in name[1:].split("/"):
        if not isinstance(found, Mapping):
            return None
        found = found.get(step.replace("~1", "/").replace("~0", "~"))
    return found


def _get(session: Session, identifier: str) -> TrustRow:
    row = session.get(TrustRow, identifier)
    if row is None:
        raise NotFound(f"no trust {identifier}")
    return row


def _trust(row: TrustRow) -> Trust:
    return Trust(
        id=row.id,
        issuer=row.issuer,
        client_id=row.client_id,
        jwks_uri=row.jwks_uri,
        jwks=row.jwks,
        audience=row.audience,
        algorithms=frozenset(SigningAlg(alg) for alg in row.algorithms),
        claims=row.claims,
        max_age=row.max_age,
        hours=row.hours,
    )
