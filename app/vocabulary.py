"""The words of the RFCs, spelled once. Strings on the wire are exactly these values."""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple


class GrantType(StrEnum):
    """`grant_type` values served at the token endpoint (RFC 6749 §4, RFC 7523 §2.1, RFC 8693 §2.1)."""

    AUTHORIZATION_CODE = "authorization_code"
    CLIENT_CREDENTIALS = "client_credentials"
    REFRESH_TOKEN = "refresh_token"
    JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
    CIBA = "urn:openid:params:grant-type:ciba"


class TokenTypeURI(StrEnum):
    """Token type identifiers (RFC 8693 §3) and the one of our own: a consent named by its id."""

    ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
    JWT = "urn:ietf:params:oauth:token-type:jwt"
    CONSENT = "urn:deputy:params:oauth:token-type:consent"


class JWTType(StrEnum):
    """The `typ` header that keeps one kind of JWT from passing as another (RFC 8725 §3.11)."""

    ACCESS_TOKEN = "at+jwt"
    HANDOVER = "handover+jwt"
    ID_TOKEN = "JWT"
    CLIENT_ASSERTION = "client-authentication+jwt"
    INTROSPECTION = "token-introspection+jwt"
    DPOP_PROOF = "dpop+jwt"
    CHECKPOINT = "checkpoint+jwt"


class AuthMethod(StrEnum):
    """`token_endpoint_auth_method` values (RFC 7591 §2, OIDC Core §9, RFC 8705 §2.1.1)."""

    PRIVATE_KEY_JWT = "private_key_jwt"
    CLIENT_SECRET_BASIC = "client_secret_basic"
    CLIENT_SECRET_POST = "client_secret_post"
    TLS_CLIENT_AUTH = "tls_client_auth"
    NONE = "none"


class ClientKind(StrEnum):
    """What stands behind a `client_id`."""

    AGENT = "agent"
    APP = "app"
    RESOURCE = "resource"


class Role(StrEnum):
    """What office a human holds. Whoever owns an agent answers for it without holding any."""

    MEMBER = "member"
    AUDITOR = "auditor"
    """Reads everything and changes nothing."""
    OPERATOR = "operator"


class AgentState(StrEnum):
    """Lifecycle of an agent. Only an active one authenticates; a draft waits for an operator; retired is for ever."""

    DRAFT = "draft"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    RETIRED = "retired"


class KeyState(StrEnum):
    """Lifecycle of a signing key. JWKS publishes all but the revoked."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRING = "retiring"
    REVOKED = "revoked"


class KeyUse(StrEnum):
    """What a key of the store signs. The two never mix."""

    TOKEN = "token"
    LEDGER = "ledger"


class SigningAlg(StrEnum):
    """JWS algorithms we sign with and accept (RFC 7518 §3.1, RFC 8037). Nothing symmetric, never `none`."""

    ES256 = "ES256"
    EDDSA = "EdDSA"
    RS256 = "RS256"
    PS256 = "PS256"


class Outcome(StrEnum):
    """How a decision or deed ended, as the ledger says it."""

    PERMIT = "permit"
    DENY = "deny"
    DONE = "done"


ACTOR_PROFILE_AGENT = "ai_agent"
"""`act.sub_profile` of an agent (OAuth Actor Profile)."""

RESOURCE_ACCESS = "resource_access"
"""`type` of our authorization_details (RFC 9396): which actions at which resource."""

OPENID_SCOPES = frozenset({"openid", "profile", "email", "offline_access"})
"""Scopes of OIDC Core §5.4 and §11: they belong to the sign-in, never to a resource."""

JWT_BEARER_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""`client_assertion_type` (RFC 7523 §2.2)."""


class Pair(NamedTuple):
    """What authority is made of: one scope at one resource. The same scope name at two resources is two things."""

    resource: str
    scope: str


Pairs = frozenset[Pair]
ScopeSet = frozenset[str]

SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")
MAX_SCOPES = 64
MAX_SCOPE_LENGTH = 2048


def parse_scope(text: str) -> ScopeSet:
    """The tokens of a `scope` value (RFC 6749 §3.3). Raises ValueError when it does not follow the grammar or is too long."""
    if len(text) > MAX_SCOPE_LENGTH:
        raise ValueError("scope too long")
    tokens = text.split(" ")
    if len(tokens) > MAX_SCOPES or not all(SCOPE_TOKEN.fullmatch(token) for token in tokens):
        raise ValueError("malformed scope")
    return frozenset(tokens)


def by_resource(pairs: Pairs) -> Mapping[str, list[str]]:
    """Pairs as the ledger and the pages say them: scopes by resource, both in order."""
    return {uri: sorted(p.scope for p in pairs if p.resource == uri) for uri in sorted({p.resource for p in pairs})}


LABEL = re.compile(r"[a-z][a-z0-9:._-]{0,63}")
UNKNOWN_LABEL = "unknown"
"""What a task has touched that was opened anew after live state was lost: it may be anything."""


def is_label(text: str) -> bool:
    """Whether it is a label: a short word for a department, a class of data, or an effect such as `external-send`."""
    return LABEL.fullmatch(text) is not None


def format_scope(scope: Iterable[str]) -> str:
    """A `scope` value: space-separated, in an order that does not change from one answer to the next."""
    return " ".join(sorted(scope))


class ConfirmationMethod(StrEnum):
    """Members of `cnf` (RFC 7800 §3.1): what whoever uses a token must hold."""

    JKT = "jkt"
    """A key, proven by DPoP; its RFC 7638 thumbprint (RFC 9449 §6.1)."""
    X5T_S256 = "x5t#S256"
    """A certificate, used in mutual TLS; its SHA-256 thumbprint (RFC 8705 §3.1)."""


class Confirmation(NamedTuple):
    """What a token is bound to: one key or one certificate, never both (RFC 7800 §3.1)."""

    method: ConfirmationMethod
    thumbprint: str

    @classmethod
    def parse(cls, cnf: object) -> Confirmation:
        """What a `cnf` claim says. Raises ValueError for any other: what is bound in a way unknown here is no bearer's."""
        if not isinstance(cnf, Mapping) or len(cnf) != 1:
            raise ValueError("malformed cnf")
        ((method, thumbprint),) = cnf.items()
        if not isinstance(thumbprint, str) or not THUMBPRINT.fullmatch(thumbprint):
            raise ValueError("malformed cnf")
        return cls(ConfirmationMethod(method), thumbprint)

    def claim(self) -> dict[str, str]:
        """The `cnf` claim."""
        return {self.method.value: self.thumbprint}


THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
"""A SHA-256 thumbprint, as `dpop_jkt` and the members of `cnf` have it."""


def token_type(confirmation: Confirmation | None) -> str:
    """`token_type` by what a token is bound to: mutual TLS has no type of its own (RFC 6750 §6.1.1, RFC 9449 §5, RFC 8705 §3)."""
    return "DPoP" if confirmation is not None and confirmation.method is ConfirmationMethod.JKT else "Bearer"


def new_id(prefix: str) -> str:
    """A fresh opaque identifier, URL-safe, never reused: 128 random bits after a prefix that tells its kind."""
    return f"{prefix}_{secrets.token_urlsafe(16)}"


def is_plain(text: str, longest: int) -> bool:
    """Whether a text for people is not blank, not longer than `longest` characters, on one line, and shows all it holds.

    Control, bidi and other invisible characters make a page say something else than it says.
    """
    return bool(text.strip()) and len(text) <= longest and not any(unicodedata.category(c) in UNSEEN for c in text)


UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode categories that a name, purpose or description does not hold."""
