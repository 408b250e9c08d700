"""The signing keys: next, active, retiring, revoked. SQL is the truth, a worker holds a snapshot of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import orjson
from joserfc.errors import JoseError
from sqlalchemy import Select, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app import clock
from app.errors import NotFound, TemporarilyUnavailable
from app.keys.encryption import CannotOpen, KeyEncryption
from app.keys.jwk import VerificationKey, generate_client_key, public_part
from app.keys.models import SigningKeyRow
from app.keys.signer import SigningKey, import_signing_key
from app.keys.snapshot import KeyInfo, Sealed, Snapshot, info, take
from app.keys.watch import NEVER, Watch
from app.live.commit import Live
from app.live.deeds import Deed, Deeds, NotYetInForce
from app.live.models import read_thing
from app.live.things import KEYS, Kind, Reading, Thing
from app.vocabulary import KeyState, KeyUse, SigningAlg

FRESH = 1.0
"""Seconds a snapshot is taken for current without asking SQL for the version of `KEYS`."""

RETAIN = 86_400
"""Seconds a retired token key still verifies: more than tokens live; ID tokens may be hints at logout."""

LEDGER_ALG = SigningAlg.ES256

KeyInfos = list[KeyInfo]

Record = Callable[[Session, str, dict[str, str]], None]
"""Writes an audit record within the deed's transaction: the event's name, then what it says."""


def no_record(_session: Session, _event: str, _facts: dict[str, str]) -> None:
    """For a store that only reads."""


class KeyStore:
    """The keys of the deployment: what signs, what verifies, and the deeds on them. Thread safe."""

    def __init__(self, live: Live, encryption: KeyEncryption, *, record: Record = no_record, retain: int = RETAIN) -> None:
        self._database = live.database
        self._deeds = Deeds(live)
        self._encryption = encryption
        self._record = record
        self._retain = retain
        self._snapshot: Snapshot | None = None
        self._watch = Watch(self._ask)
        self._needed = NEVER
        self._opened: dict[str, SigningKey] = {}
        self._opening = threading.Lock()
        live.caches.append(self)

    # What signs and what verifies

    def signing_key(self, alg: SigningAlg) -> SigningKey:
        """The active key for tokens. Raises `TemporarilyUnavailable` when there is none that can be opened.

        Take `reading()` first: then a commit under that version cannot pass with a key that has since gone.
        """
        return self._active(KeyUse.TOKEN, alg)

    def ledger_key(self) -> SigningKey:
        """The active key for checkpoints. Raises `TemporarilyUnavailable` as above."""
        return self._active(KeyUse.LEDGER, LEDGER_ALG)

    def reading(self) -> Reading:
        """Epoch and version of `KEYS` under which the keys in use were read."""
        return self._current().reading

    def verification_key(self, kid: str) -> VerificationKey | None:
        """Our own token key, public: active, next or retiring, never revoked. None when there is no such key.

        Absence is not taken from memory. Raises `TemporarilyUnavailable` when SQL cannot be asked about it.
        """
        return self._current().token_keys.get(kid) or self._asked_again().token_keys.get(kid)

    def ledger_verification_key(self, kid: str) -> VerificationKey | None:
        """A ledger key, public, whatever became of it: what it signed stays verifiable. Raises as above."""
        return self._current().ledger_keys.get(kid) or self._asked_again().ledger_keys.get(kid)

    def public_jwks(self) -> dict[str, Any]:
        """The JWK Set of token keys (RFC 7517 §5): active, next, retiring. At most `FRESH` seconds old."""
        return {"keys": [dict(key) for key in self._current().token_jwks]}

    def public_jwks_bytes(self) -> bytes:
        """`public_jwks`, serialised once per snapshot."""
        return self._current().token_jwks_bytes

    def ledger_jwks(self) -> dict[str, Any]:
        """The JWK Set of every ledger key there ever was, to verify the ledger with."""
        return {"keys": [dict(key) for key in self._current().ledger_jwks]}

    def list(self) -> KeyInfos:
        """Every key SQL has, oldest first."""
        with self._database.reading() as session:
            return [info(row) for row in session.scalars(_all_keys())]

    def warm(self) -> None:
        """Open the active and next keys now, so that no request pays for it: an RSA key costs 30 to 45 ms."""
        snapshot = self._current()
        for sealed in (*snapshot.active.values(), *snapshot.upcoming):
            self._open(sealed)

    # Deeds

    def create_first(self, algs: Iterable[SigningAlg] = (SigningAlg.ES256, SigningAlg.RS256)) -> None:
        """Make what is missing: active and next for each algorithm, and the ledger's key. Idempotent."""
        for alg in algs:
            self.ensure_alg(alg)
        self._ensure(KeyUse.LEDGER, LEDGER_ALG, (KeyState.ACTIVE,))

    def ensure_alg(self, alg: SigningAlg) -> None:
        """See to it that tokens can be signed with an algorithm: an active and a next key. Idempotent."""
        self._ensure(KeyUse.TOKEN, alg, (KeyState.ACTIVE, KeyState.NEXT))

    def rotate(self, alg: SigningAlg) -> str:
        """Next becomes active, active retiring, and there is a new next. Returns the kid that signs now.

        The key that takes over has been published since the rotation before, so nobody meets it unprepared.
        Raises `NotFound` when the algorithm is not in use, `NotYetInForce` when only SQL has it.
        """
        private = generate_client_key(alg)
        with self._deed() as deed:
            upcoming = _find(deed.session, KeyUse.TOKEN, alg, KeyState.NEXT)
            if upcoming is None:
                raise NotFound(f"no {alg} key to rotate to")
            active = _find(deed.session, KeyUse.TOKEN, alg, KeyState.ACTIVE)
            if active is not None:
                _stop(deed.session, active, KeyState.RETIRING)
            self._promote(deed, upcoming)
            self._say(deed, "key.created", self._add(deed, KeyUse.TOKEN, KeyState.NEXT, private))
            deed.change(KEYS)
            return upcoming.kid

    def rotate_ledger(self) -> str:
        """A new key signs checkpoints; the public part of the old one stays for ever. Returns the new kid."""
        private = generate_client_key(LEDGER_ALG)
        with self._deed() as deed:
            active = _find(deed.session, KeyUse.LEDGER, LEDGER_ALG, KeyState.ACTIVE)
            if active is not None:
                _stop(deed.session, active, KeyState.RETIRING)
            row = self._add(deed, KeyUse.LEDGER, KeyState.ACTIVE, private)
            self._say(deed, "key.rotated", row)
            deed.change(KEYS)
            return row.kid

    def revoke(self, kid: str) -> Deed:
        """Every token the key signed is dead and it verifies nothing more; an active one is replaced at once.

        Idempotent: repeating it brings into force what `NotYetInForce` said was not. What a ledger key signed
        stays verifiable. Raises `NotFound`. Returns the deed, for whoever counts what it ended.
        """
        private = generate_client_key(self._alg_of(kid))
        with self._deed() as deed:
            row = deed.session.get(SigningKeyRow, kid, with_for_update=True)
            if row is None:
                raise NotFound("no such signing key")
            state = KeyState(row.state)
            _stop(deed.session, row, KeyState.REVOKED)
            self._say(deed, "key.revoked", row)
            self._replace(deed, row, state, private)
            deed.end(Thing(Kind.KEY, kid))
            deed.change(KEYS)
        return deed

    def retire_expired(self) -> int:
        """Delete retired token keys that nothing still good can have been signed with. Returns how many.

        Their history stays in the ledger. Ledger keys and revoked keys are never deleted.
        """
        with self._database.reading() as session:
            if session.scalars(self._expired()).first() is None:
                return 0
        with self._deed() as deed:
            kids = [row.kid for row in deed.session.scalars(self._expired())]
            if kids:
                deed.session.execute(delete(SigningKeyRow).where(SigningKeyRow.kid.in_(kids)))
                deed.change(KEYS)
        return len(kids)

    # The snapshot

    def forget(self, thing: Thing) -> None:
        """A commit met another version: ask SQL before the next use (`Live.caches`)."""
        if thing.kind in {Kind.KEYS, Kind.KEY}:
            self._needed = clock.monotonic()

    def _current(self) -> Snapshot:
        """What SQL said at most `FRESH` seconds ago; the last it said while it is away.

        The latter is safe: keys change in SQL only, and a revoked one has moved its epoch, which Redis knows.
        """
        moment = max(self._needed, clock.monotonic() - FRESH)
        if self._watch.answered <= moment:
            self._watch.answered_since(moment)
        if self._snapshot is None:
            raise TemporarilyUnavailable("the signing keys were never read")
        return self._snapshot

    def _asked_again(self) -> Snapshot:
        """What SQL says now, for what the snapshot does not have. Raises `TemporarilyUnavailable`."""
        if not self._watch.answered_since(clock.monotonic()) or self._snapshot is None:
            raise TemporarilyUnavailable("a key is not known while SQL is away")
        return self._snapshot

    def _ask(self) -> None:
        held = self._snapshot
        with self._database.reading() as session:
            # The version first: rows may be newer than it, never older, and a commit under it says "moved".
            reading = read_thing(session, KEYS)
            if held is None or held.reading != reading:
                self._hold(take(reading, session.scalars(_all_keys())))

    def _hold(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        wanted = {sealed.kid for sealed in (*snapshot.active.values(), *snapshot.upcoming)}
        with self._opening:
            self._opened = {kid: key for kid, key in self._opened.items() if kid in wanted}

    def _active(self, use: KeyUse, alg: SigningAlg) -> SigningKey:
        sealed = self._current().active.get((use, alg)) or self._asked_again().active.get((use, alg))
        if sealed is None:
            raise TemporarilyUnavailable(f"no active {use} key for {alg}")
        return self._opened.get(sealed.kid) or self._open(sealed)

    def _open(self, sealed: Sealed) -> SigningKey:
        with self._opening:
            key = self._opened.get(sealed.kid)
            if key is None:
                key = self._opened[sealed.kid] = self._import(sealed)
            return key

    def _import(self, sealed: Sealed) -> SigningKey:
        try:
            key = import_signing_key(orjson.loads(self._encryption.open(sealed.jwe)), sealed.alg)
        except (CannotOpen, JoseError, ValueError, KeyError):
            raise TemporarilyUnavailable("a signing key cannot be opened") from None
        if key.kid != sealed.kid:
            # Whoever can write SQL must not make one key answer under another's name.
            raise TemporarilyUnavailable("a signing key is not the one its row names")
        return key

    # Steps of the deeds

    @contextmanager
    def _deed(self) -> Iterator[Deed]:
        try:
            with self._deeds.deed() as deed:
                yield deed
        finally:
            # Also when only SQL has it: our own snapshot must not be the last to know.
            self._needed = clock.monotonic()

    def _ensure(self, use: KeyUse, alg: SigningAlg, states: tuple[KeyState, ...]) -> None:
        with self._database.reading() as session:
            missing = [state for state in states if _find(session, use, alg, state) is None]
        if not missing:
            return
        # Made before the transaction: an RSA key takes longer than anyone should hold its lock.
        private = {state: generate_client_key(alg) for state in missing}
        # Another process may be doing the same on an empty database; one of the two meets the unique index.
        # And a key nobody knows yet is behind in nobody's copy: it need not wait for Redis.
        with suppress(IntegrityError, NotYetInForce), self._deed() as deed:
            for state in missing:
                if _find(deed.session, use, alg, state) is None:
                    self._say(deed, "key.created", self._add(deed, use, state, private[state]))
            deed.change(KEYS)

    def _promote(self, deed: Deed, row: SigningKeyRow) -> None:
        row.state = KeyState.ACTIVE.value
        row.activated_at = clock.timestamp()
        deed.session.flush()
        self._say(deed, "key.rotated", row)

    def _replace(self, deed: Deed, row: SigningKeyRow, state: KeyState, private: Mapping[str, Any]) -> None:
        """Fill the place of a revoked key that was in `state`."""
        use, alg = KeyUse(row.use), SigningAlg(row.alg)
        if state not in {KeyState.ACTIVE, KeyState.NEXT}:
            return
        upcoming = _find(deed.session, use, alg, KeyState.NEXT)
        if state is KeyState.ACTIVE and upcoming is not None:
            self._promote(deed, upcoming)
        made = KeyState.ACTIVE if use is KeyUse.LEDGER else KeyState.NEXT
        self._say(deed, "key.created", self._add(deed, use, made, private))

    def _add(self, deed: Deed, use: KeyUse, state: KeyState, private: Mapping[str, Any]) -> SigningKeyRow:
        now = clock.timestamp()
        row = SigningKeyRow(
            kid=private["kid"],
            use=use.value,
            alg=private["alg"],
            state=state.value,
            private_jwe=self._encryption.seal(orjson.dumps(private)),
            public_jwk=orjson.dumps(public_part(private)).decode(),
            created_at=now,
            activated_at=now if state is KeyState.ACTIVE else None,
            retired_at=None,
        )
        deed.session.add(row)
        deed.session.flush()
        return row

    def _say(self, deed: Deed, event: str, row: SigningKeyRow) -> None:
        self._record(deed.session, event, {"kid": row.kid, "alg": row.alg})

    def _alg_of(self, kid: str) -> SigningAlg:
        with self._database.reading() as session:
            row = session.get(SigningKeyRow, kid)
            if row is None:
                raise NotFound("no such signing key")
            return SigningAlg(row.alg)

    def _expired(self) -> Select[SigningKeyRow]:
        return select(SigningKeyRow).where(
            SigningKeyRow.use == KeyUse.TOKEN.value,
            SigningKeyRow.state == KeyState.RETIRING.value,
            SigningKeyRow.retired_at < clock.timestamp() - self._retain,
        )


def _all_keys() -> Select[SigningKeyRow]:
    return select(SigningKeyRow).order_by(SigningKeyRow.created_at, SigningKeyRow.kid)


def _find(session: Session, use: KeyUse, alg: SigningAlg, state: KeyState) -> SigningKeyRow | None:
    return session.scalars(
        select(SigningKeyRow).where(SigningKeyRow.use == use.value, SigningKeyRow.alg == alg.value, SigningKeyRow.state == state.value)
    ).one_or_none()


def _stop(session: Session, row: SigningKeyRow, state: KeyState) -> None:
    """The key never signs again: its private part goes. Flushed at once, before another takes its place."""
    row.state = state.value
    row.private_jwe = ""
    row.retired_at = row.retired_at or clock.timestamp()
    session.flush()
