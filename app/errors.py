"""One class per registered error code, with two voices.

`description` is for the caller and says nothing an attacker lacks; `reason` is for the record and the log.
The classes are Authlib's `OAuth2Error`, so that its server renders them; what the wire carries is theirs, ours is the reason.
"""

from __future__ import annotations

from authlib.oauth2 import OAuth2Error


class OAuthError(OAuth2Error):
    """An answer in the shape of RFC 6749 §5.2. `reason` goes to the record only; `layer` names who refused."""

    error = "invalid_request"
    status_code = 400
    layer = "request"
    default_description = ""

    def __init__(self, reason: str = "", *, description: str | None = None, layer: str | None = None) -> None:
        super().__init__(description=self.default_description if description is None else description)
        self.reason = reason or self.error
        self.layer = layer or type(self).layer
        self.retry_after: int | None = None
        self.extra: dict[str, str | int] = {}
        self.headers: dict[str, str] = {}


class InvalidRequest(OAuthError):
    """RFC 6749 §5.2; also any subject or actor token that is not good (RFC 8693 §2.2.2), in one wording."""

    error = "invalid_request"
    default_description = "The request is malformed or a parameter is not acceptable."


class InvalidToken(InvalidRequest):
    """A subject or actor token that is not good for this caller, whatever the cause (RFC 8693 §2.2.2)."""

    layer = "subject_token"
    default_description = "The subject_token or actor_token is not acceptable."


class InvalidClient(OAuthError):
    """RFC 6749 §5.2: the same answer for an unknown client, a wrong key and a suspended one."""

    error = "invalid_client"
    status_code = 401
    layer = "client"
    default_description = "Client authentication failed."


class InvalidGrant(OAuthError):
    """RFC 6749 §5.2, CIBA Core §11: code, refresh token or auth_req_id not good."""

    error = "invalid_grant"
    layer = "grant"
    default_description = "The authorization code, refresh token or auth_req_id is not valid for this request."


class UnauthorizedClient(OAuthError):
    """RFC 6749 §5.2: the client may not use this grant."""

    error = "unauthorized_client"
    layer = "client"
    default_description = "This client may not use this grant_type."


class UnsupportedGrantType(OAuthError):
    """RFC 6749 §5.2."""

    error = "unsupported_grant_type"
    default_description = "This grant_type is not supported."


class UnsupportedResponseType(OAuthError):
    """RFC 6749 §4.1.2.1."""

    error = "unsupported_response_type"
    default_description = "Only response_type=code is supported."


class InvalidScope(OAuthError):
    """RFC 6749 §5.2: unknown, above the ceiling, or nothing left."""

    error = "invalid_scope"
    layer = "scope"
    default_description = "The requested scope is invalid, unknown, or exceeds what may be granted."


class InvalidTarget(OAuthError):
    """RFC 8707 §2 and RFC 8693 §2.2.2."""

    error = "invalid_target"
    layer = "target"
    default_description = "The requested resource or audience is invalid, unknown, or not reachable."


class InvalidAuthorizationDetails(OAuthError):
    """RFC 9396 §5."""

    error = "invalid_authorization_details"
    layer = "scope"
    default_description = "authorization_details is malformed, of an unknown type, or not narrower."


class AccessDenied(OAuthError):
    """RFC 6749 §4.1.2.1: the human or the policy said no."""

    error = "access_denied"
    layer = "policy"
    default_description = "The request was denied."


class AuthorizationPending(OAuthError):
    """CIBA Core §11, protocol §5: a human must say yes first. The answer of the one who asks first brings the `auth_req_id`."""

    error = "authorization_pending"
    layer = "approval"
    default_description = "A human has to approve this first."


class SlowDown(AuthorizationPending):
    """CIBA Core §11: still waiting, and asked again before `interval` seconds were over."""

    error = "slow_down"
    default_description = "Still waiting. Ask less often."


class ExpiredToken(OAuthError):
    """CIBA Core §11: the auth_req_id has expired."""

    error = "expired_token"
    layer = "approval"
    default_description = "The auth_req_id has expired. Make a new request."


class InsufficientUserAuthentication(OAuthError):
    """RFC 9470 §3: the human must sign in anew. `max_age` in seconds and `acr_values` say how."""

    error = "insufficient_user_authentication"
    layer = "approval"
    default_description = "A more recent sign-in of the End-User is needed."


class UnmetAuthenticationRequirements(OAuthError):
    """RFC 9470 §5: nobody can sign in here in the way that `acr_values` demands."""

    error = "unmet_authentication_requirements"
    default_description = "The demanded way of signing in is not supported."


class UnknownUserId(OAuthError):
    """CIBA Core §13: the hint names nobody who has a live consent for this agent; who that is, is not told."""

    error = "unknown_user_id"
    layer = "consent"
    default_description = "The hint names no End-User that this client may ask."


class ExpiredLoginHintToken(OAuthError):
    """CIBA Core §13."""

    error = "expired_login_hint_token"
    default_description = "The login_hint_token has expired."


class InvalidBindingMessage(OAuthError):
    """CIBA Core §13: too long, or with characters that show something else than they are."""

    error = "invalid_binding_message"
    default_description = "The binding_message is too long or holds characters that are not shown."


class LoginRequired(OAuthError):
    """OIDC Core §3.1.2.6: prompt=none and nobody signed in."""

    error = "login_required"
    default_description = "The End-User must sign in."


class ConsentRequired(OAuthError):
    """OIDC Core §3.1.2.6: prompt=none and consent is missing."""

    error = "consent_required"
    default_description = "The End-User must consent."


class RequestNotSupported(OAuthError):
    """OIDC Core §3.1.2.6: request objects by value are not supported."""

    error = "request_not_supported"
    default_description = "The request parameter is not supported."


class InvalidRequestURI(OAuthError):
    """RFC 9101 §6.1, RFC 9126 §2.2: the request_uri is not one of ours, used, expired, or another client's."""

    error = "invalid_request_uri"
    default_description = "The request_uri is not valid."


class InvalidDPoPProof(OAuthError):
    """RFC 9449 §5: the proof is malformed, not for this request, old, used before, of another key, or missing where it is needed."""

    error = "invalid_dpop_proof"
    layer = "proof"
    default_description = "The DPoP proof is missing, or not valid for this request."


class InvalidCertificate(InvalidRequest):
    """What is bound to a client certificate came without it (RFC 8705 §3, which has no code for the token endpoint)."""

    layer = "proof"
    default_description = "A client certificate is missing, or not the one that is needed."


class UseDPoPNonce(InvalidDPoPProof):
    """RFC 9449 §8: the proof lacks a nonce of now. The answer brings one."""

    error = "use_dpop_nonce"
    default_description = "The DPoP proof must contain the nonce of this answer."

    def __init__(self, reason: str, *, nonce: str) -> None:
        super().__init__(reason)
        self.headers["DPoP-Nonce"] = nonce


class InvalidBearer(OAuthError):
    """RFC 6750 §3.1: the token presented to userinfo is not good there."""

    error = "invalid_token"
    status_code = 401
    layer = "token"
    default_description = "The access token is not valid here."


class MissingBearer(InvalidBearer):
    """RFC 6750 §3.1: no token was presented, or none of a kind we take. The challenge then names no error."""


class InsufficientScope(InvalidBearer):
    """RFC 6750 §3.1: the token is good, and has not the scope that is needed. `scope`: any of these would do."""

    error = "insufficient_scope"
    status_code = 403
    layer = "scope"
    default_description = "The access token has not the scope that this needs."

    def __init__(self, reason: str = "", *, scope: str) -> None:
        super().__init__(reason)
        self.scope = scope
        self.extra["scope"] = scope


class TooManyRequests(OAuthError):
    """429 with Retry-After, in seconds."""

    error = "temporarily_unavailable"
    status_code = 429
    layer = "rate"
    default_description = "Too many requests."

    def __init__(self, reason: str = "", *, retry_after: int = 1) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class TemporarilyUnavailable(OAuthError):
    """503: Redis, SQL, the ledger, a key or a policy cannot be trusted just now. `retry_after` in seconds."""

    error = "temporarily_unavailable"
    status_code = 503
    layer = "live"
    default_description = "The server cannot answer safely just now."

    def __init__(self, reason: str = "", *, retry_after: int = 1) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class ConfigurationError(Exception):
    """An unsafe or impossible setting. Start-up refuses; the message says what to change."""


class NotFound(LookupError):
    """A deed names something that does not exist."""


class Refused(ValueError):
    """A deed was asked for that the rules of the house forbid. The message is for the person who asked."""
