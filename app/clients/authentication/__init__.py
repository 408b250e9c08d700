"""Who is calling: exactly one method, the registered one, and the same work for everyone it is not.

`METHODS` says which methods there are; metadata follows from it.
"""

from app.clients.authentication import client_secret, none, private_key_jwt, tls_client_auth
from app.vocabulary import AuthMethod

METHODS = {
    AuthMethod.PRIVATE_KEY_JWT: private_key_jwt.verify,
    AuthMethod.CLIENT_SECRET_BASIC: client_secret.verify,
    AuthMethod.CLIENT_SECRET_POST: client_secret.verify,
    AuthMethod.TLS_CLIENT_AUTH: tls_client_auth.verify,
    AuthMethod.NONE: none.verify,
}
