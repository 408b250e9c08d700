"""What a request presents to say who it is from; nothing of it is believed yet."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote_to_bytes

from app.clients.certificate import ClientCertificate
from app.errors import InvalidClient, InvalidRequest
from app.vocabulary import JWT_BEARER_ASSERTION, AuthMethod

BASIC = re.compile(r"[A-Za-z0-9+/]*={0,2}")
CLIENT_ID = re.compile(r"[\x20-\x7E]{1,200}")
"""RFC 6749 Appendix A.1; and what no database refuses to be asked about."""


class Presented(Protocol):
    """The part of a request that client authentication looks at."""

    @property
    def authorization(self) -> tuple[str, ...]:
        """Every Authorization header."""

    @property
    def certificate(self) -> ClientCertificate | None:
        """The client certificate of the connection."""

    def one(self, name: str) -> str | None:
        """A body parameter, None when it is absent or empty."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A method, who the caller says to be, and the proof as it came."""

    method: AuthMethod
    unverified_client_id: str
    proof: str = field(default="", repr=False)
    certificate: ClientCertificate | None = None


def parse_credentials(presented: Presented, unverified_subject: str | None = None) -> Credentials:
    """The one way in which the request authenticates (RFC 6749 §2.3). Raises InvalidRequest for two, InvalidClient for none."""
    ways: list[Credentials] = []
    client_id = presented.one("client_id")
    if presented.authorization:
        ways.append(_basic(presented.authorization))
    if (secret := presented.one("client_secret")) is not None:
        ways.append(Credentials(AuthMethod.CLIENT_SECRET_POST, client_id or "", secret))
    assertion, kind = presented.one("client_assertion"), presented.one("client_assertion_type")
    if assertion is not None or kind is not None:
        if assertion is None or kind != JWT_BEARER_ASSERTION:
            raise InvalidClient("client_assertion without its type, or of another type")
        ways.append(Credentials(AuthMethod.PRIVATE_KEY_JWT, client_id or unverified_subject or "", assertion))
    if not ways and client_id:
        # Who only names itself over a connection with a certificate is whom that says (RFC 8705 §2).
        method = AuthMethod.NONE if presented.certificate is None else AuthMethod.TLS_CLIENT_AUTH
        ways.append(Credentials(method, client_id, certificate=presented.certificate))
    if len(ways) > 1:
        raise InvalidRequest("more than one client authentication method", layer="client")
    if not ways:
        raise InvalidClient("no client authentication")
    (credentials,) = ways
    if client_id is not None and client_id != credentials.unverified_client_id:
        raise InvalidClient("client_id differs from the authenticated client")
    if not CLIENT_ID.fullmatch(credentials.unverified_client_id):
        raise InvalidClient("no acceptable client_id")
    return credentials


def _basic(headers: tuple[str, ...]) -> Credentials:
    """RFC 6749 §2.3.1 over RFC 7617: strict base64, strict UTF-8, both halves form-decoded."""
    if len(headers) > 1:
        raise InvalidRequest("more than one Authorization header", layer="client")
    scheme, _, value = headers[0].partition(" ")
    if scheme.lower() != "basic" or not BASIC.fullmatch(value):
        raise InvalidClient("not a Basic Authorization header")
    try:
        decoded = base64.b64decode(value, validate=True)
        if base64.b64encode(decoded).decode("ascii") != value:
            raise InvalidClient("loose base64")
        user, colon, password = decoded.partition(b":")
        if not colon:
            raise InvalidClient("no colon in Basic credentials")
        client_id, secret = _form_decoded(user), _form_decoded(password)
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidClient("unreadable Basic credentials") from None
    return Credentials(AuthMethod.CLIENT_SECRET_BASIC, client_id, secret)


def _form_decoded(value: bytes) -> str:
    return unquote_to_bytes(value.replace(b"+", b" ")).decode("utf-8")
