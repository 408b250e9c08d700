"""The life of signing keys, as several workers see it."""

from __future__ import annotations

import threading
import time
from typing import Any

import orjson
import pytest
from sqlalchemy import text, update

from app.errors import NotFound, TemporarilyUnavailable
from app.keys.encryption import KeyEncryption
from app.keys.jwk import (
    PRIVATE_MEMBERS,
    generate_client_key,
    import_client_keys,
    import_public_key,
    public_part,
)
from app.keys.models import SigningKeyRow
from app.keys.signer import sign
from app.keys.store import FRESH, KeyStore
from app.keys.verifier import JWTRefused, TokenVerifier
from app.live.commit import Commit, Moved
from app.live.deeds import NotYetInForce
from app.live.generation import READY
from app.live.models import read_thing
from app.live.things import KEYS, Kind, Thing
from app.vocabulary import KeyState, KeyUse, SigningAlg
from tests.keys.conftest import KEK, Deployment

AT = frozenset({"at+jwt"})
CLAIMS = {"sub": "human", "exp": 4102444800}


def states(store: KeyStore, alg: SigningAlg, use: KeyUse = KeyUse.TOKEN) -> list[KeyState]:
    return sorted(key.state for key in store.list() if key.alg is alg and key.use is use)


def published(store: KeyStore) -> set[str]:
    return {key["kid"] for key in store.public_jwks()["keys"]}


def test_first_keys_are_an_active_and_a_next_each_and_one_for_the_ledger(deployment: Deployment) -> None:
    store = deployment.worker()
    store.create_first()
    for alg in (SigningAlg.ES256, SigningAlg.RS256):
        assert states(store, alg) == [KeyState.ACTIVE, KeyState.NEXT]
    assert states(store, SigningAlg.ES256, KeyUse.LEDGER) == [KeyState.ACTIVE]
    assert [event for event, _facts in deployment.records] == ["key.created"] * 5
    assert len(published(store)) == 4
    assert store.ledger_key().kid not in published(store)


def test_making_first_keys_again_changes_nothing(keys: KeyStore, deployment: Deployment) -> None:
    before, reading = keys.list(), keys.reading()
    keys.create_first()
    deployment.worker().create_first()
    assert keys.list() == before
    assert keys.reading() == reading
    assert deployment.records == []


def test_many_workers_making_first_keys_at_once_make_one_set(deployment: Deployment) -> None:
    stores = [deployment.worker() for _ in range(4)]
    threads = [threading.Thread(target=store.create_first) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores[0].list()) == 5
    assert len({store.signing_key(SigningAlg.ES256).kid for store in stores}) == 1


def test_first_keys_can_be_made_before_the_first_generation(own_valkey: str, tmp_path: Any, given_database: str) -> None:
    fresh = Deployment(own_valkey, tmp_path, given_database)
    store = fresh.worker()
    store.create_first()
    assert len(store.list()) == 5
    fresh.open()
    assert store.signing_key(SigningAlg.ES256).kid in published(store)
    fresh.close()


def test_two_active_keys_of_one_kind_cannot_be_stored(keys: KeyStore, deployment: Deployment) -> None:
    with pytest.raises(Exception, match=r"(?i)unique"), deployment.database().transaction() as session:
        session.execute(
            update(SigningKeyRow).where(SigningKeyRow.state == "next").values(state="active"),
        )


@pytest.mark.parametrize("alg", SigningAlg)
def test_each_algorithm_can_be_asked_for(keys: KeyStore, alg: SigningAlg) -> None:
    keys.ensure_alg(alg)
    keys.ensure_alg(alg)
    assert states(keys, alg) == [KeyState.ACTIVE, KeyState.NEXT]
    token = sign(CLAIMS, "at+jwt", keys.signing_key(alg))
    assert TokenVerifier(keys).verify_own(token, AT).claims == CLAIMS
    entry = next(key for key in keys.public_jwks()["keys"] if key["kid"] == keys.signing_key(alg).kid)
    assert entry["alg"] == alg.value
    assert entry["use"] == "sig"


def test_an_algorithm_nobody_asked_for_has_no_key(keys: KeyStore) -> None:
    with pytest.raises(TemporarilyUnavailable):
        keys.signing_key(SigningAlg.PS256)
    with pytest.raises(NotFound):
        keys.rotate(SigningAlg.PS256)


def test_no_private_part_is_published_or_stored_in_the_clear(keys: KeyStore, deployment: Deployment) -> None:
    keys.ensure_alg(SigningAlg.EDDSA)
    for key in keys.public_jwks()["keys"] + keys.ledger_jwks()["keys"]:
        assert not PRIVATE_MEMBERS & key.keys()
    assert len(import_client_keys(keys.public_jwks())) == 6
    assert orjson.loads(keys.public_jwks_bytes()) == keys.public_jwks()
    private = []
    with deployment.database().reading() as session:
        for row in session.query(SigningKeyRow):
            private.append(orjson.loads(KeyEncryption(KEK).open(row.private_jwe))["d"].encode())
    stored = b"".join(path.read_bytes() for path in deployment.folder.glob("deputy.sqlite*"))
    assert len(private) == 7
    assert not any(secret in stored for secret in private)


def test_what_the_caller_does_with_the_jwks_does_not_reach_the_store(keys: KeyStore) -> None:
    jwks = keys.public_jwks()
    jwks["keys"][0]["x"] = "changed"
    jwks["keys"].clear()
    assert len(keys.public_jwks()["keys"]) == 4


def test_a_rotation_moves_each_key_on_by_one(keys: KeyStore, deployment: Deployment) -> None:
    first = keys.signing_key(SigningAlg.ES256).kid
    known = published(keys)
    second = keys.rotate(SigningAlg.ES256)
    assert second in known
    assert keys.signing_key(SigningAlg.ES256).kid == second
    assert states(keys, SigningAlg.ES256) == [KeyState.ACTIVE, KeyState.NEXT, KeyState.RETIRING]
    assert first in published(keys)
    assert keys.verification_key(first) is not None
    assert [event for event, _facts in deployment.records] == ["key.rotated", "key.created"]
    assert deployment.records[0][1] == {"kid": second, "alg": "ES256"}


def test_a_retired_key_keeps_no_private_part(keys: KeyStore, deployment: Deployment) -> None:
    first = keys.signing_key(SigningAlg.ES256).kid
    keys.rotate(SigningAlg.ES256)
    with deployment.database().reading() as session:
        row = session.get(SigningKeyRow, first)
        assert row is not None
        assert row.private_jwe == ""
        assert row.retired_at


def test_no_verification_fails_while_keys_rotate(keys: KeyStore, deployment: Deployment) -> None:
    """Workers sign and check each other's tokens while the keys rotate as fast as they can."""
    workers = [deployment.worker() for _ in range(3)]
    verifiers = [TokenVerifier(store) for store in workers]
    done = threading.Event()
    trouble: list[Exception] = []
    counted = [0, 0, 0]

    def work(index: int) -> None:
        while not done.is_set():
            try:
                token = sign(
                    CLAIMS | {"jti": str(counted[index])},
                    "at+jwt",
                    workers[index].signing_key(SigningAlg.ES256),
                )
                for verifier in verifiers:
                    assert verifier.verify_own(token, AT).claims["sub"] == "human"
                counted[index] += 1
            except Exception as error:
                trouble.append(error)
                return

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        keys.rotate(SigningAlg.ES256)
        time.sleep(0.02)
    done.set()
    for thread in threads:
        thread.join()
    assert trouble == []
    assert min(counted) > 5


def test_another_worker_shows_new_keys_within_two_seconds(keys: KeyStore, deployment: Deployment) -> None:
    other = deployment.worker()
    before = published(other)
    began = time.monotonic()
    keys.rotate(SigningAlg.ES256)
    while published(other) != published(keys):
        assert time.monotonic() - began < 2.0
        time.sleep(0.01)
    assert published(other) > before
    assert published(keys) > before


def test_sql_is_not_asked_for_each_request(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    original = keys._ask

    def ask() -> None:
        asked.append(time.monotonic())
        original()

    monkeypatch.setattr(keys._watch, "_ask", ask)
    kid = keys.signing_key(SigningAlg.ES256).kid
    began = time.monotonic()
    for _ in range(2000):
        keys.public_jwks()
        keys.verification_key(kid)
        keys.signing_key(SigningAlg.ES256)
        keys.reading()
    assert len(asked) <= 2 + (time.monotonic() - began) / FRESH


def test_a_key_made_a_moment_ago_elsewhere_verifies_at_once(keys: KeyStore, deployment: Deployment) -> None:
    other = deployment.worker()
    assert other.verification_key("unknown") is None
    keys.ensure_alg(SigningAlg.EDDSA)
    token = sign(CLAIMS, "at+jwt", keys.signing_key(SigningAlg.EDDSA))
    assert TokenVerifier(other).verify_own(token, AT).claims == CLAIMS
    assert other.signing_key(SigningAlg.EDDSA).kid == keys.signing_key(SigningAlg.EDDSA).kid


def test_revoking_the_active_key_kills_its_tokens_and_the_next_takes_over(keys: KeyStore, deployment: Deployment) -> None:
    key = keys.signing_key(SigningAlg.ES256)
    upcoming = next(k.kid for k in keys.list() if k.state is KeyState.NEXT and k.alg is SigningAlg.ES256)
    token = sign(CLAIMS, "at+jwt", key)
    verifier = TokenVerifier(keys)
    verifier.verify_own(token, AT)
    live = deployment.lives[0]
    generation = live.generation().number
    assert live.still(generation, {key.thing: 0}, ())[0]

    keys.revoke(key.kid)

    assert not live.still(generation, {key.thing: 0}, ())[0]
    with pytest.raises(JWTRefused):
        verifier.verify_own(token, AT)
    assert keys.verification_key(key.kid) is None
    assert key.kid not in published(keys)
    assert keys.signing_key(SigningAlg.ES256).kid == upcoming
    assert states(keys, SigningAlg.ES256) == [KeyState.ACTIVE, KeyState.NEXT, KeyState.REVOKED]
    assert [event for event, _facts in deployment.records] == ["key.revoked", "key.rotated", "key.created"]
    assert deployment.records[0][1] == {"kid": key.kid, "alg": "ES256"}


def test_a_commit_with_a_key_that_was_revoked_meanwhile_says_moved(keys: KeyStore, deployment: Deployment) -> None:
    worker, live = deployment.worker(), deployment.lives[-1]
    reading, key = worker.reading(), worker.signing_key(SigningAlg.ES256)
    live.commit(Commit(epochs={key.thing: 0}, versions={KEYS: reading.version}))
    keys.revoke(key.kid)
    for commit in (Commit(epochs={key.thing: 0}), Commit(versions={KEYS: reading.version})):
        with pytest.raises(Moved):
            live.commit(commit)
    # "Moved" made the worker look: the next attempt passes.
    reading, key = worker.reading(), worker.signing_key(SigningAlg.ES256)
    live.commit(Commit(epochs={key.thing: 0}, versions={KEYS: reading.version}))


def test_revoking_the_next_or_a_retiring_key_leaves_the_active_one(keys: KeyStore) -> None:
    retiring = keys.signing_key(SigningAlg.ES256).kid
    active = keys.rotate(SigningAlg.ES256)
    upcoming = next(k.kid for k in keys.list() if k.state is KeyState.NEXT and k.alg is SigningAlg.ES256)
    keys.revoke(upcoming)
    keys.revoke(retiring)
    assert keys.signing_key(SigningAlg.ES256).kid == active
    assert keys.verification_key(upcoming) is None
    assert keys.verification_key(retiring) is None
    assert states(keys, SigningAlg.ES256) == [
        KeyState.ACTIVE,
        KeyState.NEXT,
        KeyState.REVOKED,
        KeyState.REVOKED,
    ]


def test_revoking_again_is_harmless_and_an_unknown_key_is_not_found(keys: KeyStore) -> None:
    kid = keys.signing_key(SigningAlg.ES256).kid
    keys.revoke(kid)
    active = keys.signing_key(SigningAlg.ES256).kid
    keys.revoke(kid)
    assert keys.signing_key(SigningAlg.ES256).kid == active
    assert states(keys, SigningAlg.ES256) == [KeyState.ACTIVE, KeyState.NEXT, KeyState.REVOKED]
    with pytest.raises(NotFound):
        keys.revoke("unknown")


def test_the_ledger_stays_verifiable_when_its_keys_rotate_and_are_revoked(keys: KeyStore) -> None:
    first = keys.ledger_key()
    second = keys.rotate_ledger()
    assert keys.ledger_key().kid == second
    keys.revoke(second)
    third = keys.ledger_key()
    assert third.kid not in {first.kid, second}
    assert {key["kid"] for key in keys.ledger_jwks()["keys"]} == {first.kid, second, third.kid}
    assert all(keys.ledger_verification_key(kid) for kid in (first.kid, second, third.kid))
    assert keys.ledger_verification_key(keys.signing_key(SigningAlg.ES256).kid) is None


def test_a_ledger_key_verifies_no_token(keys: KeyStore) -> None:
    token = sign(CLAIMS, "at+jwt", keys.ledger_key())
    with pytest.raises(JWTRefused, match="no key"):
        TokenVerifier(keys).verify_own(token, AT)


def test_retired_keys_go_when_nothing_good_can_be_left_of_them(deployment: Deployment) -> None:
    store = deployment.worker(retain=1000)
    store.create_first()
    first, ledger = store.signing_key(SigningAlg.ES256).kid, store.ledger_key().kid
    store.rotate(SigningAlg.ES256)
    store.rotate_ledger()
    assert store.retire_expired() == 0
    with deployment.database().transaction() as session:
        session.execute(update(SigningKeyRow).where(SigningKeyRow.retired_at.is_not(None)).values(retired_at=1))
    assert store.retire_expired() == 1
    assert first not in {key.kid for key in store.list()}
    assert first not in published(store)
    assert store.verification_key(first) is None
    assert store.ledger_verification_key(ledger) is not None
    assert store.retire_expired() == 0


def test_with_another_key_encryption_key_nothing_is_signed_but_all_is_verified(keys: KeyStore, deployment: Deployment) -> None:
    token = sign(CLAIMS, "at+jwt", keys.signing_key(SigningAlg.ES256))
    stranger = deployment.worker(KEK[::-1])
    with pytest.raises(TemporarilyUnavailable):
        stranger.signing_key(SigningAlg.ES256)
    with pytest.raises(TemporarilyUnavailable):
        stranger.ledger_key()
    assert TokenVerifier(stranger).verify_own(token, AT).claims == CLAIMS


def test_one_private_key_cannot_be_put_under_the_name_of_another(keys: KeyStore, deployment: Deployment) -> None:
    active = keys.signing_key(SigningAlg.ES256).kid
    with deployment.database().transaction() as session:
        ledger = session.get(SigningKeyRow, keys.ledger_key().kid)
        assert ledger is not None
        session.execute(update(SigningKeyRow).where(SigningKeyRow.kid == active).values(private_jwe=ledger.private_jwe))
    with pytest.raises(TemporarilyUnavailable):
        deployment.worker().signing_key(SigningAlg.ES256)


def test_a_public_key_put_under_the_name_of_another_is_ignored(
    keys: KeyStore, deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    kid = keys.signing_key(SigningAlg.ES256).kid
    thief = orjson.dumps(public_part(generate_client_key(SigningAlg.ES256)) | {"kid": kid}).decode()
    with deployment.database().transaction() as session:
        session.execute(update(SigningKeyRow).where(SigningKeyRow.kid == kid).values(public_jwk=thief))
    assert deployment.worker().verification_key(kid) is None
    assert kid in caplog.text


def test_while_sql_is_away_what_is_known_stands_and_nobody_waits_for_the_rest(
    keys: KeyStore, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = sign(CLAIMS, "at+jwt", keys.signing_key(SigningAlg.ES256))
    verifier = TokenVerifier(keys)
    away = threading.Event()
    original = keys._database.reading

    def reading() -> Any:
        if away.is_set():
            raise TemporarilyUnavailable("sql: away")
        return original()

    monkeypatch.setattr(keys._database, "reading", reading)
    away.set()
    keys.forget(KEYS)
    began = time.monotonic()
    assert verifier.verify_own(token, AT).claims == CLAIMS
    assert keys.signing_key(SigningAlg.ES256).kid in published(keys)
    with pytest.raises(TemporarilyUnavailable):
        keys.verification_key("unknown")
    assert time.monotonic() - began < 5
    away.clear()
    deadline = time.monotonic() + 5
    while True:
        try:
            assert keys.verification_key("unknown") is None
            break
        except TemporarilyUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_store_that_never_saw_sql_is_unavailable_and_recovers(deployment: Deployment) -> None:
    deployment.worker().create_first()
    store = deployment.worker()
    with deployment.database().transaction() as session:
        session.execute(text("ALTER TABLE signing_key RENAME TO elsewhere"))
    for _ in range(3):
        with pytest.raises(TemporarilyUnavailable):
            store.public_jwks()
    with deployment.database().transaction() as session:
        session.execute(text("ALTER TABLE elsewhere RENAME TO signing_key"))
    deadline = time.monotonic() + 5
    while True:
        try:
            assert len(published(store)) == 4
            return
        except TemporarilyUnavailable:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_deed_redis_did_not_confirm_is_told_and_can_be_repeated(keys: KeyStore, deployment: Deployment) -> None:
    kid = keys.signing_key(SigningAlg.ES256).kid
    live = deployment.lives[0]
    live.redis.call("DEL", READY)
    with pytest.raises(NotYetInForce):
        keys.revoke(kid)
    assert keys.verification_key(kid) is None
    deployment.open()
    live.reload_generation()
    keys.revoke(kid)
    with deployment.database().reading() as session:
        assert read_thing(session, Thing(Kind.KEY, kid)).epoch == 2
    assert not live.still(live.generation().number, {Thing(Kind.KEY, kid): 0}, ())[0]


def test_a_deed_that_fails_changes_nothing(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    before, reading = keys.list(), keys.reading()

    def fail(*_arguments: object) -> None:
        raise RuntimeError("no record")

    monkeypatch.setattr(keys, "_record", fail)
    for deed in (
        lambda: keys.rotate(SigningAlg.ES256),
        lambda: keys.revoke(before[0].kid),
        lambda: keys.ensure_alg(SigningAlg.PS256),
        lambda: keys.rotate_ledger(),
    ):
        with pytest.raises(RuntimeError):
            deed()
    assert keys.list() == before
    assert keys.reading() == reading


def test_keys_are_opened_once_also_by_many_threads(keys: KeyStore, deployment: Deployment) -> None:
    store = deployment.worker()
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(store.signing_key(SigningAlg.RS256))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    store.warm()
    assert len(store._opened) == 5


def test_a_revoked_private_key_leaves_memory(keys: KeyStore) -> None:
    key = keys.signing_key(SigningAlg.ES256)
    keys.revoke(key.kid)
    keys.public_jwks()
    assert key.kid not in keys._opened


def test_every_published_key_is_its_own_thumbprint(keys: KeyStore) -> None:
    for jwk in keys.public_jwks()["keys"]:
        assert import_public_key(jwk).thumbprint == jwk["kid"]
