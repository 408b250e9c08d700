"""Passkeys: register, name, remove, sign in with one (WebAuthn Level 3 §7). User verification always; nothing but the origin we are.

A challenge is not stored when it is made, only when it is used: it carries its moment and a MAC over that, over what it
is for, and over the browser it was shown in, and is marked once in the live state before anything else of the answer is looked at.
"""

from __future__ import annotations

import hmac
import json
import re
import secrets
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from webauthn import (
    base64url_to_bytes,
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import bytes_to_base64url
from webauthn.helpers.exceptions import WebAuthnException
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    CredentialDeviceType,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from app import clock
from app.audit import record
from app.audit.events import Changed, Who
from app.errors import NotFound, Refused, TemporarilyUnavailable
from app.humans.accounts import Accounts, Human, snapshot
from app.humans.models import HumanRow, PasskeyRow
from app.live.commit import Commit, Live, Moved, Once, UsedTwice
from app.live.things import Kind
from app.settings import Settings
from app.vocabulary import is_plain, new_id

ACR_PASSKEY = "urn:deputy:acr:passkey"
"""`acr` of a sign-in with a passkey: something she has, unlocked by something she is or knows, bound to our origin."""

SECONDS = 300
"""How long an answer to a challenge is waited for."""

MOST = 20
"""Passkeys of one human."""

MAX_NAME = 60
MAX_RESPONSE = 32_768
NONCE, MOMENT, MAC = 16, 8, 32
SIGN_IN, REGISTER = "sign in", "register"

GONE = "This took too long, or was answered before. Please try again."
WRONG = "That passkey could not be checked. Nothing was changed."


@dataclass(frozen=True, slots=True)
class Passkey:
    """A passkey as its owner sees it. Times in seconds since 1970."""

    id: str
    name: str
    created_at: int
    last_used_at: int | None
    synced: bool
    """Whether its provider copies it to her other devices."""


@dataclass(frozen=True, slots=True)
class Proven:
    """Who signed in with a passkey, and how: the values of RFC 8176."""

    human: Human
    amr: tuple[str, ...]


class Passkeys:
    """Passkeys by human, and the two ceremonies."""

    def __init__(self, live: Live, accounts: Accounts, settings: Settings, key: bytes) -> None:
        """`key`: 32 secret bytes, from `KeyEncryption.derive("passkey")`."""
        self._live = live
        self._accounts = accounts
        self._origin = settings.issuer
        self._host = urlsplit(settings.issuer).hostname or ""
        self._key = key

    @property
    def available(self) -> bool:
        """Whether browsers do this here: the relying party's id is a domain and no number (WebAuthn §4)."""
        try:
            ip_address(self._host)
        except ValueError:
            return True
        return False

    def of(self, human_id: str) -> list[Passkey]:
        """A human's, the oldest first."""
        statement = select(PasskeyRow).where(PasskeyRow.human == human_id).order_by(PasskeyRow.created_at, PasskeyRow.id)
        with self._live.database.reading() as session:
            return [_passkey(row) for row in session.scalars(statement)]

    # Registering

    def creation(self, human: Human, browser: str) -> str:
        """Options for `navigator.credentials.create()`, in JSON (WebAuthn §5.4). `browser`: what ties a form to the browser it is shown in."""
        with self._live.database.reading() as session:
            held = session.scalars(select(PasskeyRow.credential).where(PasskeyRow.human == human.id)).all()
        options = generate_registration_options(
            rp_id=self._host,
            rp_name="Deputy",
            user_id=human.id.encode(),
            user_name=human.username,
            user_display_name=human.name,
            challenge=self._challenge(REGISTER, browser, human.id),
            timeout=SECONDS * 1000,
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED, user_verification=UserVerificationRequirement.REQUIRED
            ),
            exclude_credentials=[PublicKeyCredentialDescriptor(id=base64url_to_bytes(credential)) for credential in held],
        )
        return str(options_to_json(options))

    def register(self, human: Human, browser: str, response: str, name: str) -> str:
        """Take a new passkey. Returns its id. Raises Refused with a sentence for whoever asked."""
        if not is_plain(name, MAX_NAME):
            raise Refused(f"Give it a name of 1 to {MAX_NAME} characters.")
        credential, challenge = _read(response)
        self._redeem(challenge, REGISTER, browser, human.id)
        try:
            made = verify_registration_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self._host,
                expected_origin=self._origin,
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError):
            raise Refused(WRONG) from None
        row = PasskeyRow(
            id=new_id("pky"),
            human=human.id,
            credential=bytes_to_base64url(made.credential_id),
            public_key=made.credential_public_key,
            sign_count=made.sign_count,
            synced=made.credential_device_type is CredentialDeviceType.MULTI_DEVICE,
            name=name,
            created_at=clock.timestamp(),
        )
        try:
            with self._live.database.transaction() as session:
                if len(session.scalars(select(PasskeyRow.id).where(PasskeyRow.human == human.id)).all()) >= MOST:
                    raise Refused("You have too many passkeys. Remove one first.")
                session.add(row)
                session.flush()
                _changed(session, human.id, "passkey_added", row.id)
        except IntegrityError:
            raise Refused("That passkey is registered already.") from None
        return row.id

    def rename(self, human_id: str, passkey_id: str, name: str) -> None:
        """Give one another name. Raises NotFound, Refused."""
        if not is_plain(name, MAX_NAME):
            raise Refused(f"Give it a name of 1 to {MAX_NAME} characters.")
        with self._live.database.transaction() as session:
            _own(session, human_id, passkey_id).name = name
            _changed(session, human_id, "passkey_renamed", passkey_id)

    def remove(self, human_id: str, passkey_id: str) -> None:
        """Forget one: nobody signs in with it any more. Who did stays signed in. Raises NotFound."""
        with self._live.database.transaction() as session:
            session.delete(_own(session, human_id, passkey_id))
            _changed(session, human_id, "passkey_removed", passkey_id)

    # Signing in

    def request(self, browser: str) -> str:
        """Options for `navigator.credentials.get()`, in JSON (WebAuthn §5.5): whoever has a passkey for us, by herself."""
        options = generate_authentication_options(
            rp_id=self._host,
            challenge=self._challenge(SIGN_IN, browser, ""),
            timeout=SECONDS * 1000,
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return str(options_to_json(options))

    def verify(self, browser: str, response: str, address: str) -> Proven:
        """Who signs in from `address`. Raises Refused: one sentence for whatever is wrong; TooManyRequests when it failed too often."""
        self._accounts.admit(address)
        try:
            credential, challenge = _read(response)
            self._redeem(challenge, SIGN_IN, browser, "")
        except Refused:
            self._accounts.failed(address, None, "passkey")
            raise
        with self._live.database.reading() as session:
            statement = select(PasskeyRow, HumanRow).join(HumanRow, HumanRow.id == PasskeyRow.human)
            found = session.execute(statement.where(PasskeyRow.credential == credential["id"])).one_or_none()
        if found is None:
            self._accounts.failed(address, None, "unknown passkey")
            raise Refused(WRONG)
        row, human = found
        try:
            proven = self._check(row, human, credential, challenge)
        except Refused:
            self._accounts.failed(address, human.id, "passkey")
            raise
        return Proven(snapshot(human), ("swk" if proven else "hwk", "user", "mfa"))

    def _check(self, row: PasskeyRow, human: HumanRow, credential: dict[str, Any], challenge: bytes) -> bool:
        """Check an answer against the passkey and count it. Returns whether the passkey is a synced one."""
        handle = credential["response"].get("userHandle")
        if not human.enabled or (handle is not None and handle != bytes_to_base64url(human.id.encode())):
            raise Refused(WRONG)
        try:
            proven = verify_authentication_response(
                credential=credential,
                expected_challenge=challenge,
                expected_rp_id=self._host,
                expected_origin=self._origin,
                credential_public_key=row.public_key,
                credential_current_sign_count=row.sign_count,
                require_user_verification=True,
            )
        except (WebAuthnException, ValueError):
            raise Refused(WRONG) from None
        synced = proven.credential_device_type is CredentialDeviceType.MULTI_DEVICE
        with self._live.database.transaction() as session:
            # Of two answers at once with one count, one is a copy's.
            counted = session.execute(
                update(PasskeyRow)
                .where(PasskeyRow.id == row.id, PasskeyRow.sign_count == row.sign_count)
                .values(sign_count=proven.new_sign_count, last_used_at=clock.timestamp(), synced=synced)
            )
            if not counted.rowcount:  # type: ignore[attr-defined]  # an UPDATE's result has it
                raise Refused(WRONG)
        return synced

    # Challenges

    def _challenge(self, purpose: str, browser: str, human_id: str) -> bytes:
        head = clock.timestamp().to_bytes(MOMENT, "big") + secrets.token_bytes(NONCE)
        return head + self._mac(head, purpose, browser, human_id)

    def _mac(self, head: bytes, purpose: str, browser: str, human_id: str) -> bytes:
        about = f"{purpose}\x00{browser}\x00{human_id}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, head + about, sha256).digest()

    def _redeem(self, challenge: bytes, purpose: str, browser: str, human_id: str) -> None:
        """Use a challenge up. Raises Refused when it is not ours, not for this, too old or used."""
        head, mac = challenge[: MOMENT + NONCE], challenge[MOMENT + NONCE :]
        if len(challenge) != MOMENT + NONCE + MAC or not hmac.compare_digest(mac, self._mac(head, purpose, browser, human_id)):
            raise Refused(GONE)
        made, now = int.from_bytes(head[:MOMENT], "big"), clock.timestamp()
        generation = self._live.generation()
        if not made <= now <= made + SECONDS or not generation.remembers(made, now):
            raise Refused(GONE)
        try:
            self._live.commit(Commit(generation=generation, once=(Once("passkey", head.hex(), SECONDS + clock.SKEW),)))
        except UsedTwice:
            raise Refused(GONE) from None
        except Moved:
            raise TemporarilyUnavailable("the live state was rebuilt meanwhile", retry_after=0) from None


def _read(response: str) -> tuple[dict[str, Any], bytes]:
    """An answer of the browser in JSON, and the challenge it says it answers. Raises Refused for any other shape."""
    try:
        credential = json.loads(response if len(response) <= MAX_RESPONSE else "")
        said = json.loads(base64url_to_bytes(credential["response"]["clientDataJSON"]))
        challenge = base64url_to_bytes(said["challenge"])
        named = credential["id"]
        if not isinstance(named, str) or not ID.fullmatch(named) or said.get("crossOrigin", False) is not False:
            raise Refused(WRONG)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Refused(WRONG) from None
    return credential, challenge


PASSKEY_WIDTH = 1400
"""Characters of a credential's id: 1023 bytes at most (WebAuthn §4), in base64url."""

ID = re.compile(f"[A-Za-z0-9_-]{{1,{PASSKEY_WIDTH}}}=*")
"""A credential's id: nothing else is looked for in the database."""


def _own(session: Session, human_id: str, passkey_id: str) -> PasskeyRow:
    row = session.get(PasskeyRow, passkey_id)
    if row is None or row.human != human_id:
        raise NotFound("no such passkey")
    return row


def _changed(session: Session, human_id: str, what: str, passkey_id: str) -> None:
    record(session, Changed(who=Who(human=human_id), kind=Kind.HUMAN.value, target=human_id, what={what: passkey_id}))


def _passkey(row: PasskeyRow) -> Passkey:
    return Passkey(row.id, row.name, row.created_at, row.last_used_at, row.synced)
