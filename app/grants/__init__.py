"""Token endpoint, one file per grant_type: from a request to an `AccessRequest`, and no more.

Owns: what each grant_type reads, and what its evidence gives.
Promises: a grant never runs a shared step, so it cannot forget one.
Never: authentication, decision, commit, signing.
Specs: RFC 6749 §4, §6; RFC 7523 §2.1; RFC 7636; RFC 8693; RFC 8707 §2.2; OIDC CIBA Core §7, §10.
"""

from app.grants.authorization_code import AuthorizationCode
from app.grants.ciba import CIBA
from app.grants.client_credentials import ClientCredentials
from app.grants.grant import Grant
from app.grants.jwt_bearer import JWTBearer
from app.grants.refresh_token import RefreshToken
from app.grants.token_exchange import TokenExchange
from app.vocabulary import GrantType

GRANTS: dict[GrantType, type[Grant]] = {
    GrantType.CLIENT_CREDENTIALS: ClientCredentials,
    GrantType.TOKEN_EXCHANGE: TokenExchange,
    GrantType.AUTHORIZATION_CODE: AuthorizationCode,
    GrantType.REFRESH_TOKEN: RefreshToken,
    GrantType.JWT_BEARER: JWTBearer,
    GrantType.CIBA: CIBA,
}
"""The hot ones first."""
