"""What every client's registration is held to: redirect URIs, keys, the one authentication method (RFC 7591 §2, RFC 9700 §2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from app import clock
from app.clients.certificate import SAN_DNS, SAN_URI
from app.clients.models import ClientRow
from app.clients.secrets import hash_secret, new_secret
from app.errors import Refused
from app.keys.verifier import import_client_keys
from app.live.deeds import NotYetInForce
from app.vocabulary import AuthMethod, ClientKind, ConfirmationMethod, is_plain, new_id

MAX_NAME = 200
MAX_URI = 2000
MAX_URIS = 20
MAX_CERTIFICATE_NAME = 500
DAY = 86_400

LOOPBACK_URI = re.compile(r"http://(127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?(/[^\s]*)?")
URI_CHARACTERS = re.compile(r"[!-~]+")
PRIVATE_SCHEME = re.compile(r"[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+:/[^/].*")
"""RFC 8252 §7.1: a scheme that is a domain name turned round."""

KEY_MEMBERS = ("kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops")
SHARED_SECRET = frozenset({AuthMethod.CLIENT_SECRET_BASIC, AuthMethod.CLIENT_SECRET_POST})


@dataclass(frozen=True, slots=True)
class Registered:
    """What came of a registration. The secret is shown once and known to nobody afterwards."""

    id: str
    client_id: str
    client_secret: str | None = field(repr=False, default=None)
    secret_expires_at: int = 0
    """Seconds since 1970; 0: does not expire."""
    uri: str = ""


class SecretNotYetInForce(NotYetInForce):
    """Only SQL has the fresh secret. It comes along, for it is shown once and repeating would make another."""

    def __init__(self, reason: str, client_id: str, client_secret: str) -> None:
        super().__init__(reason)
        self.client_id = client_id
        self.client_secret = client_secret


def new_client(
    kind: ClientKind,
    name: str,
    *,
    prefix: str,
    auth: AuthMethod,
    pepper: bytes,
    secret_days: int = 0,
    jwks: Mapping[str, Any] | None = None,
    certificate_name: str = "",
    bound: Iterable[ConfirmationMethod] = (),
    redirect_uris: Sequence[str] = (),
    loopback: bool = False,
    keyless: bool = False,
) -> tuple[ClientRow, str | None]:
    """A client's row, and its secret if it has one. Raises `Refused` with a sentence for whoever registers it."""
    check_name(name)
    row = ClientRow(
        client_id=new_id(prefix),
        kind=kind.value,
        name=name,
        auth_method=auth.value,
        jwks=check_jwks(jwks, auth, keyless=keyless),
        certificate_name=check_certificate_name(certificate_name, auth),
        bound=sorted(bound),
        redirect_uris=check_redirect_uris(redirect_uris, native=loopback),
        created_at=clock.timestamp(),
    )
    return row, give_secret(row, pepper, secret_days) if auth in SHARED_SECRET else None


def give_secret(row: ClientRow, pepper: bytes, days: int = 0) -> str:
    """Give the client a fresh secret; the one before is good no more. `days` until it expires, 0 for never."""
    if AuthMethod(row.auth_method) not in SHARED_SECRET:
        raise Refused("this client proves itself without a shared secret")
    secret = new_secret()
    row.secret_hash = hash_secret(secret, pepper)
    row.secret_expires_at = clock.timestamp() + days * DAY if days else 0
    return secret


def check_name(name: str, what: str = "a name", longest: int = MAX_NAME) -> None:
    """A text that people will read. Raises `Refused`."""
    if not is_plain(name, longest):
        raise Refused(f"{what} has 1 to {longest} characters and no control or invisible ones")


def check_jwks(jwks: Mapping[str, Any] | None, auth: AuthMethod, *, keyless: bool = False) -> dict[str, Any]:
    """The public keys as they are kept. Raises `Refused`: exactly private_key_jwt has keys, if not those of instances alone."""
    some = bool(jwks and jwks.get("keys"))
    if keyless and auth is AuthMethod.PRIVATE_KEY_JWT and not some:
        return {}
    if (auth is AuthMethod.PRIVATE_KEY_JWT) != some or (keyless and not some):
        raise Refused("private_key_jwt needs a public key, and no other method takes one")
    if not jwks:
        return {}
    try:
        import_client_keys(jwks)
    except ValueError as error:
        raise Refused(str(error)) from None
    return {"keys": [{name: key[name] for name in KEY_MEMBERS if name in key} for key in jwks["keys"]]}


def check_certificate_name(name: str, auth: AuthMethod) -> str:
    """The name in its certificate as it is kept, `san_uri:…` or `san_dns:…`. Raises `Refused`: exactly tls_client_auth has one."""
    if (auth is AuthMethod.TLS_CLIENT_AUTH) != bool(name):
        raise Refused("tls_client_auth needs the name in the certificate, and no other method takes one")
    kind, _, value = name.partition(":")
    if name and not (
        kind in {SAN_URI, SAN_DNS} and len(value) <= MAX_CERTIFICATE_NAME and URI_CHARACTERS.fullmatch(value) and "*" not in value
    ):
        raise Refused("the name in a certificate is san_uri:… or san_dns:…, in ASCII, without a wildcard")
    if kind == SAN_URI and not urlsplit(value).scheme:
        raise Refused("san_uri: is followed by a URI, such as spiffe://example.org/agent")
    return name


def check_redirect_uris(uris: Iterable[str], *, native: bool) -> list[str]:
    """Redirect URIs as they are kept, compared byte for byte later (RFC 9700 §2.1). Raises `Refused`.

    `native`: a program on a computer, which may listen on a loopback literal or own a private-use scheme (RFC 8252 §7).
    """
    checked = list(dict.fromkeys(uris))
    if len(checked) > MAX_URIS:
        raise Refused(f"a client has at most {MAX_URIS} redirect URIs")
    for uri in checked:
        if len(uri) > MAX_URI or not URI_CHARACTERS.fullmatch(uri) or "#" in uri or "*" in uri or "\\" in uri:
            raise Refused("a redirect URI is absolute, in ASCII, without a fragment or a wildcard")
        if not (_is_https(uri) or (native and (LOOPBACK_URI.fullmatch(uri) or PRIVATE_SCHEME.fullmatch(uri)))):
            raise Refused(
                "a redirect URI begins with https://; a native application may use http://127.0.0.1, http://[::1] "
                "or a private-use scheme such as com.example.app:/"
            )
    return checked


def _is_https(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        return False
