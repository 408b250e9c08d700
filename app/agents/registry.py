"""The register of agents: identity, owner, purpose, ceiling, hand-over list, keys, lifecycle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app import clock
from app.agents.change import MAX_PURPOSE, Change, apply, stored
from app.agents.models import AgentRow, EntitlementRow
from app.audit import record
from app.audit.events import Changed, Revoked, Who
from app.audit.events import Registered as RegisteredEvent
from app.clients.models import ClientRow
from app.clients.registration import SHARED_SECRET, Registered, check_jwks, check_name, new_client
from app.errors import NotFound, Refused
from app.humans.models import HumanRow
from app.keys.verifier import import_client_keys
from app.live.commit import Live
from app.live.deeds import Deed, Deeds
from app.live.things import Kind, Thing
from app.resources.models import ResourceRow
from app.resources.registry import check_pairs
from app.settings import Settings
from app.vocabulary import AgentState, AuthMethod, ClientKind, ConfirmationMethod, Pairs, new_id

ASSERTION_AUDIENCES = ("issuer", "token-endpoint")


class AgentRegistry:
    """Agents by id, URI, `client_id` or a name only one has, and the deeds on them."""

    def __init__(self, live: Live, deeds: Deeds, settings: Settings, pepper: bytes) -> None:
        self._live = live
        self._deeds = deeds
        self._settings = settings
        self._pepper = pepper

    def add(
        self,
        name: str,
        *,
        owner: str,
        purpose: str,
        ceiling: Pairs,
        own: Pairs = frozenset(),
        hands_to: Iterable[str] = (),
        max_depth: int | None = None,
        serves: str = "",
        redirect_uris: Sequence[str] = (),
        auth: str = "private_key_jwt",
        assertion_audience: str = "issuer",
        jwks: Mapping[str, Any] | None = None,
        keyless: bool = False,
        certificate_name: str = "",
        bound: Iterable[ConfirmationMethod] = (),
        draft: bool = False,
        by: Who,
    ) -> Registered:
        """Register an agent. `owner` and `hands_to` are ids. Raises `Refused` with a sentence for whoever asked.

        `keyless`: it has no key of its own, only those of its instances. `bound`: how its tokens must be.
        A draft does nothing until it is activated.
        """
        check_name(purpose, "a purpose", MAX_PURPOSE)
        depth = self._settings.max_depth if max_depth is None else max_depth
        if not 1 <= depth <= self._settings.max_depth:
            raise Refused(f"the depth is 1 to {self._settings.max_depth}")
        if assertion_audience not in ASSERTION_AUDIENCES:
            raise Refused("the assertion audience is issuer or token-endpoint")
        method = self._method(auth)
        client, secret = new_client(
            ClientKind.AGENT,
            name,
            prefix="agc",
            auth=method,
            pepper=self._pepper,
            secret_days=self._settings.agent_secret_days,
            jwks=jwks,
            certificate_name=certificate_name,
            bound=bound,
            redirect_uris=redirect_uris,
            loopback=True,
            keyless=keyless,
        )
        client.assertion_audience = assertion_audience
        client.enabled = not draft
        identifier = new_id("agt")
        row = AgentRow(
            id=identifier,
            uri=f"{self._settings.issuer}/agents/{identifier}",
            client_id=client.client_id,
            name=name,
            owner=owner,
            purpose=purpose,
            state=(AgentState.DRAFT if draft else AgentState.ACTIVE).value,
            ceiling=stored(ceiling),
            own=stored(own),
            hands_to=sorted(set(hands_to)),
            max_depth=depth,
            serves=serves,
            created_at=clock.timestamp(),
        )
        with self._deeds.deed() as deed:
            _check(deed.session, row, ceiling | own)
            deed.session.add_all((client, row))
            what = {"owner": owner, "ceiling": row.ceiling, "own": row.own, "hands_to": row.hands_to, "depth": depth}
            what |= {"auth": auth, "bound": client.bound, "state": row.state}
            record(deed.session, RegisteredEvent(who=by, kind=Kind.AGENT.value, target=identifier, what=what))
        return Registered(identifier, client.client_id, secret, client.secret_expires_at, row.uri)

    def get(self, reference: str) -> AgentRow:
        """The agent with that id, URI or `client_id`, or that name if only one has it. Raises `NotFound`."""
        with self._live.database.reading() as session:
            return _agent(session, reference)

    def keys(self, reference: str) -> list[dict[str, str]]:
        """The agent's public keys: `kid` and RFC 7638 thumbprint. Raises `NotFound`."""
        with self._live.database.reading() as session:
            client = session.get_one(ClientRow, _agent(session, reference).client_id)
        return [{"kid": key.kid or "", "thumbprint": key.thumbprint} for key in (import_client_keys(client.jwks) if client.jwks else ())]

    def uris(self, ids: Iterable[str]) -> list[str]:
        """URIs of agents by their ids, in order; what is unknown is left out."""
        with self._live.database.reading() as session:
            return list(session.scalars(select(AgentRow.uri).where(AgentRow.id.in_(list(ids))).order_by(AgentRow.uri)))

    def redirect_uris(self, reference: str) -> Sequence[str]:
        """Where browsers may be sent back to it. Raises `NotFound`."""
        with self._live.database.reading() as session:
            return list(session.get_one(ClientRow, _agent(session, reference).client_id).redirect_uris)

    def owner_of(self, uri: str) -> str | None:
        """Id of the human who answers for the agent with that URI."""
        with self._live.database.reading() as session:
            return session.scalar(select(AgentRow.owner).where(AgentRow.uri == uri))

    @property
    def deepest(self) -> int:
        """How many agents in a row the deployment allows at most."""
        return self._settings.max_depth

    def list(self) -> list[AgentRow]:
        """Every agent, by name."""
        with self._live.database.reading() as session:
            return list(session.scalars(select(AgentRow).order_by(AgentRow.name, AgentRow.id)))

    def suspend(self, reference: str, *, by: Who) -> None:
        """End all that hangs on the agent; it cannot authenticate until resumed. Raises `NotFound`, `Refused`."""
        self._stop(reference, AgentState.SUSPENDED, by)

    def retire(self, reference: str, *, by: Who) -> None:
        """End all that hangs on the agent, for ever. Raises `NotFound`."""
        self._stop(reference, AgentState.RETIRED, by)

    def change(self, reference: str, change: Change, *, by: Who) -> bool:
        """Change what is registered of an agent. Raises `NotFound`, `Refused`.

        Returns whether it may do less now: then all that hangs on it has ended, and people are asked again.
        """
        with self._deeds.deed() as deed:
            row = _agent(deed.session, reference)
            if row.state == AgentState.RETIRED:
                raise Refused("a retired agent stays as it was")
            client = deed.session.get_one(ClientRow, row.client_id)
            what, added, smaller = apply(row, client, change, self._settings.max_depth)
            if not what:
                return False
            _check_parts(deed.session, row, added)
            if smaller:
                deed.end(Thing(Kind.AGENT, row.id))
                deed.end(Thing(Kind.CLIENT, row.client_id))
            self._changed(deed, row, what | {"ended": smaller}, by)
            return smaller

    def activate(self, reference: str, *, by: Who) -> None:
        """Let a draft work. Raises `NotFound`, `Refused` for what is none."""
        with self._deeds.deed() as deed:
            row = _agent(deed.session, reference)
            if row.state != AgentState.DRAFT:
                raise Refused(f"the agent is {row.state} and not a draft")
            self._let_in(deed, row, by)

    def resume(self, reference: str, *, by: Who) -> None:
        """Let a suspended agent work again. What ended stays ended. Raises `NotFound`, `Refused`."""
        with self._deeds.deed() as deed:
            row = _agent(deed.session, reference)
            if row.state == AgentState.RETIRED:
                raise Refused("a retired agent does not come back; register a new one")
            if row.state == AgentState.DRAFT:
                raise Refused("a draft is activated, not resumed")
            self._let_in(deed, row, by)

    def add_key(self, reference: str, jwk: Mapping[str, Any], *, by: Who) -> None:
        """Add a public key; the others stay good, so that keys are changed without a pause. Raises `Refused`, `NotFound`."""
        with self._deeds.deed() as deed:
            row = _agent(deed.session, reference)
            client = deed.session.get_one(ClientRow, row.client_id)
            held = client.jwks.get("keys", [])
            client.jwks = check_jwks({"keys": [*held, jwk]}, AuthMethod(client.auth_method))
            self._changed(deed, row, {"changed": ["keys"], "added": import_client_keys(client.jwks)[-1].thumbprint}, by)

    def remove_key(self, reference: str, kid: str, *, last: bool = False, by: Who) -> None:
        """Remove the key with that `kid` or thumbprint; it authenticates nobody any more. Raises `Refused`, `NotFound`.

        `last`: also the only one there is; then only its instances speak for the agent.
        """
        with self._deeds.deed() as deed:
            row = _agent(deed.session, reference)
            client = deed.session.get_one(ClientRow, row.client_id)
            held = client.jwks.get("keys", [])
            known = import_client_keys(client.jwks) if held else ()
            left = [jwk for jwk, key in zip(held, known, strict=True) if kid not in {key.kid, key.thumbprint}]
            if len(left) == len(held):
                raise NotFound(f"{row.name} has no key {kid}")
            client.jwks = check_jwks({"keys": left}, AuthMethod(client.auth_method), keyless=last)
            self._changed(deed, row, {"changed": ["keys"], "removed": kid}, by)

    def entitle(self, reference: str, *, audience: str, target: str, by: Who) -> None:
        """Let the agent exchange tokens meant for `audience` into tokens for `target` (protocol: entitlement). Raises `Refused`."""
        with self._deeds.deed() as deed:
            row = _agent(deed.session, reference)
            for uri in (audience, target):
                if deed.session.scalar(select(ResourceRow.id).where(ResourceRow.uri == uri)) is None:
                    raise Refused(f"no resource {uri} is registered")
            deed.session.merge(EntitlementRow(agent=row.id, audience=audience, target=target))
            self._changed(deed, row, {"entitled": [audience, target]}, by)

    def _stop(self, reference: str, state: AgentState, by: Who) -> None:
        with self._deeds.deed() as deed:
            stop_agent(deed, reference, state, by)

    def _let_in(self, deed: Deed, row: AgentRow, by: Who) -> None:
        owner = deed.session.get(HumanRow, row.owner)
        if owner is None or not owner.enabled:
            raise Refused("its owner is disabled: name another one first")
        row.state = AgentState.ACTIVE.value
        deed.session.get_one(ClientRow, row.client_id).enabled = True
        self._changed(deed, row, {"state": row.state}, by)

    def _changed(self, deed: Deed, row: AgentRow, what: Mapping[str, Any], by: Who) -> None:
        deed.change(Thing(Kind.AGENT, row.id))
        deed.change(Thing(Kind.CLIENT, row.client_id))
        record(deed.session, Changed(who=by, kind=Kind.AGENT.value, target=row.id, what=what))

    def _method(self, auth: str) -> AuthMethod:
        try:
            method = AuthMethod(auth)
        except ValueError:
            method = AuthMethod.NONE
        if method is AuthMethod.NONE:
            raise Refused("an agent proves itself with private_key_jwt")
        if method in SHARED_SECRET and not self._settings.allow_agent_secrets:
            raise Refused("agents prove themselves with keys; DEPUTY_ALLOW_AGENT_SECRETS=1 lets you give this one a secret")
        if method is AuthMethod.TLS_CLIENT_AUTH and not self._settings.mutual_tls:
            raise Refused("tls_client_auth needs a port for client certificates: DEPUTY_MTLS_PORT")
        return method


def stop_agent(deed: Deed, reference: str, state: AgentState, by: Who) -> None:
    """End all that hangs on an agent and keep it out, inside a deed. Raises `NotFound`, `Refused`."""
    row = _agent(deed.session, reference)
    if row.state == AgentState.RETIRED and state is not AgentState.RETIRED:
        raise Refused("the agent is retired")
    row.state = state.value
    deed.session.get_one(ClientRow, row.client_id).enabled = False
    deed.end(Thing(Kind.AGENT, row.id))
    deed.end(Thing(Kind.CLIENT, row.client_id))
    record(deed.session, Revoked(who=by, kind=Kind.AGENT.value, target=row.id, reason=state.value))


def _agent(session: Session, reference: str) -> AgentRow:
    exact = (AgentRow.id == reference) | (AgentRow.uri == reference) | (AgentRow.client_id == reference)
    row = session.scalar(select(AgentRow).where(exact))
    if row is None:
        named = session.scalars(select(AgentRow).where(AgentRow.name == reference).limit(2)).all()
        if len(named) != 1:
            raise NotFound(f"no agent {reference}" if not named else f"several agents are called {reference}; use the identifier")
        row = named[0]
    return row


def _check(session: Session, row: AgentRow, pairs: Pairs) -> None:
    _check_parts(session, row, pairs)
    if not row.serves:
        return
    if session.scalar(select(ResourceRow.id).where(ResourceRow.uri == row.serves)) is None:
        raise Refused(f"no resource {row.serves} is registered")
    if session.scalar(select(AgentRow.id).where(AgentRow.serves == row.serves)) is not None:
        raise Refused(f"another agent serves {row.serves}")


def _check_parts(session: Session, row: AgentRow, pairs: Pairs) -> None:
    """Owner, pairs and receivers are registered."""
    owner = session.get(HumanRow, row.owner)
    if owner is None or not owner.enabled:
        raise Refused("the owner is a registered human who is not disabled")
    check_pairs(session, pairs)
    for receiver in row.hands_to:
        if session.get(AgentRow, receiver) is None:
            raise Refused(f"no agent {receiver}")
