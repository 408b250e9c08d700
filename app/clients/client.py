"""A client as the token path sees it: a frozen snapshot, cached with its version."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.clients.models import ClientRow
from app.keys.verifier import VerificationKey, import_client_keys
from app.live.cache import Cache, Held, beside
from app.live.commit import Live
from app.live.models import ThingRow, read_thing, reading_of
from app.live.things import Kind, Thing
from app.vocabulary import AuthMethod, ClientKind, ConfirmationMethod, Pair, Pairs, SigningAlg


@dataclass(frozen=True, slots=True)
class Client:
    """An OAuth client's registration."""

    client_id: str
    kind: ClientKind
    name: str
    auth_method: AuthMethod
    secret_hash: str = field(repr=False)
    secret_expires_at: int
    keys: tuple[VerificationKey, ...]
    assertion_audience: str
    redirect_uris: tuple[str, ...]
    post_logout_redirect_uris: tuple[str, ...]
    id_token_alg: SigningAlg
    native: bool
    pairs: Pairs
    enabled: bool
    certificate_name: str = ""
    """`san_uri:…` or `san_dns:…`."""
    bound: frozenset[ConfirmationMethod] = frozenset()
    """How its tokens must be bound, in one of these ways; empty: it may have bearer tokens."""

    @property
    def confidential(self) -> bool:
        """Whether it proves who it is (RFC 6749 §2.1)."""
        return self.auth_method is not AuthMethod.NONE


class Clients:
    """Clients by `client_id`."""

    def __init__(self, live: Live) -> None:
        self._database = live.database
        self._cache = Cache(live, load_client)

    def find(self, client_id: str) -> Held[Client] | None:
        """The client, or None for an id that was never given out."""
        return self._cache.find(client_id)

    def recall(self, client_id: str) -> Held[Client] | None:
        """The client, if it is in memory."""
        return self._cache.recall(client_id)

    def moved(self, held: Held[Client]) -> bool:
        """Whether SQL has another version by now. Neither row nor keys are loaded for the answer."""
        with self._database.reading() as session:
            return read_thing(session, held.thing) != held.reading

    def reread(self, client_id: str) -> Held[Client] | None:
        """The client as SQL has it now."""
        self._cache.drop(client_id)
        return self._cache.find(client_id)


def load_client(session: Session, client_id: str) -> Held[Client] | None:
    """Row and version in one statement."""
    statement = (
        select(ClientRow, ThingRow.epoch, ThingRow.version)
        .outerjoin(ThingRow, beside(Kind.CLIENT, ClientRow.client_id))
        .where(ClientRow.client_id == client_id)
    )
    found = session.execute(statement).one_or_none()
    if found is None:
        return None
    row: ClientRow = found[0]
    client = Client(
        client_id=row.client_id,
        kind=ClientKind(row.kind),
        name=row.name,
        auth_method=AuthMethod(row.auth_method),
        secret_hash=row.secret_hash,
        secret_expires_at=row.secret_expires_at,
        keys=import_client_keys(row.jwks) if row.jwks.get("keys") else (),
        assertion_audience=row.assertion_audience,
        redirect_uris=tuple(row.redirect_uris),
        post_logout_redirect_uris=tuple(row.post_logout_redirect_uris),
        id_token_alg=SigningAlg(row.id_token_alg),
        native=row.native,
        pairs=frozenset(Pair(*pair) for pair in row.pairs),
        enabled=row.enabled,
        certificate_name=row.certificate_name,
        bound=frozenset(map(ConfirmationMethod, row.bound)),
    )
    return Held(client, Thing(Kind.CLIENT, client_id), reading_of(found[1], found[2]))
