"""The other peer: Authlib and Flask-SQLAlchemy put together as their documentation shows, and no further.

Tokens are ES256 JWTs kept in SQL, one row each; clients are read from SQL on each request. Kinder than the
documentation in two things: the signing key is imported once, and SQLite runs in WAL mode. The exchange is ours, since
Authlib has none: one look-up of the subject token in SQL, one more JWT with `act`, one more row.

Environment: PEER_DATABASE (SQLAlchemy URL), PEER_SETUP (JSON: the issuer's private JWK, the callers, the resources),
PEER_ISSUER. `python authlib_sql.py` makes the tables; gunicorn serves `authlib_sql:app`.
"""

import json
import os
import time

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.integrations.sqla_oauth2 import (
    OAuth2ClientMixin,
    OAuth2TokenMixin,
    create_query_client_func,
    create_query_token_func,
    create_revocation_endpoint,
    create_save_token_func,
)
from authlib.oauth2.rfc6749 import InvalidGrantError, TokenEndpointMixin
from authlib.oauth2.rfc6749.grants import BaseGrant, ClientCredentialsGrant
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from joserfc.jwk import KeySet
from sqlalchemy.exc import IntegrityError

ISSUER = os.environ["PEER_ISSUER"]
with open(os.environ["PEER_SETUP"], encoding="utf-8") as file:
    SETUP = json.load(file)
METHODS = ["client_secret_basic", JWTBearerClientAssertion.CLIENT_AUTH_METHOD]
LIFETIME = 600

app = Flask(__name__)
app.config.update(
    SQLALCHEMY_DATABASE_URI=os.environ["PEER_DATABASE"],
    OAUTH2_TOKEN_EXPIRES_IN={"client_credentials": LIFETIME, "urn:ietf:params:oauth:grant-type:token-exchange": LIFETIME},
)
db = SQLAlchemy(app)


class Client(db.Model, OAuth2ClientMixin):
    __tablename__ = "oauth2_client"
    id = db.Column(db.Integer, primary_key=True)


class Token(db.Model, OAuth2TokenMixin):
    __tablename__ = "oauth2_token"
    id = db.Column(db.Integer, primary_key=True)
    user_id = db.Column(db.Integer)
    access_token = db.Column(db.String(2048), unique=True, nullable=False)


class Assertion(db.Model):
    __tablename__ = "oauth2_assertion"
    jti = db.Column(db.String(255), primary_key=True)
    expires_at = db.Column(db.Integer, nullable=False)


query_token = create_query_token_func(db.session, Token)


class ClientCredentials(ClientCredentialsGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS


class TokenExchange(BaseGrant, TokenEndpointMixin):
    GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
    TOKEN_ENDPOINT_AUTH_METHODS = METHODS
    subject = None

    def validate_token_request(self):
        self.request.client = self.authenticate_token_endpoint_client()
        self.subject = query_token(self.request.form.get("subject_token"), "access_token")
        if self.subject is None or self.subject.is_expired() or self.subject.is_revoked():
            raise InvalidGrantError
        self.validate_requested_scope()

    def create_token_response(self):
        self.request.client.actor_for = self.subject.client_id
        token = self.generate_token(scope=self.request.payload.scope, include_refresh_token=False)
        self.save_token(token)
        return 200, token | {"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}, self.TOKEN_RESPONSE_HEADER


class Generator(JWTBearerTokenGenerator):
    keys = KeySet.import_key_set({"keys": [SETUP["key"]]})

    def get_jwks(self):
        return self.keys

    def get_audiences(self, client, user, scope):
        return SETUP["resource"]

    def get_extra_claims(self, client, grant_type, user, scope):
        if grant_type != TokenExchange.GRANT_TYPE:
            return {}
        return {"sub": client.actor_for, "act": {"sub": client.client_id}}


class KeyAssertion(JWTBearerClientAssertion):
    def get_audiences(self):
        return [ISSUER]

    def resolve_client_public_key(self, client):
        return KeySet.import_key_set(client.jwks)

    def validate_jti(self, claims, jti):
        db.session.add(Assertion(jti=f"{claims['sub']} {jti}", expires_at=claims["exp"]))
        try:
            db.session.commit()
        except IntegrityError:
            db.session.rollback()
            return False
        return True


class Introspection(IntrospectionEndpoint):
    def check_permission(self, token, client, request):
        return True

    def query_token(self, token_string, token_type_hint):
        return query_token(token_string, token_type_hint)

    def introspect_token(self, token):
        return {
            "active": True,
            "client_id": token.client_id,
            "token_type": token.token_type,
            "scope": token.get_scope(),
            "sub": token.client_id,
            "aud": SETUP["resource"],
            "iss": ISSUER,
            "exp": token.issued_at + token.expires_in,
            "iat": token.issued_at,
        }


server = AuthorizationServer()
server.init_app(app, query_client=create_query_client_func(db.session, Client), save_token=create_save_token_func(db.session, Token))
server.register_grant(ClientCredentials)
server.register_grant(TokenExchange)
server.register_token_generator("default", Generator(issuer=ISSUER, alg="ES256"))
server.register_client_auth_method(KeyAssertion.CLIENT_AUTH_METHOD, KeyAssertion())
server.register_endpoint(create_revocation_endpoint(db.session, Token))
server.register_endpoint(Introspection)


@app.post("/oauth/token")
def token():
    return server.create_token_response()


@app.post("/oauth/introspect")
def introspect():
    return server.create_endpoint_response("introspection")


@app.post("/oauth/revoke")
def revoke():
    return server.create_endpoint_response("revocation")


def make():
    """Tables and callers."""
    with app.app_context():
        if db.engine.dialect.name == "sqlite":
            with db.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        db.create_all()
        for caller in SETUP["callers"]:
            client = Client(
                client_id=caller["client_id"], client_secret=caller.get("client_secret", ""), client_id_issued_at=int(time.time())
            )
            method = caller["token_endpoint_auth_method"]
            client.set_client_metadata(
                {
                    "grant_types": ["client_credentials", TokenExchange.GRANT_TYPE],
                    "scope": "read write",
                    "token_endpoint_auth_method": KeyAssertion.CLIENT_AUTH_METHOD if method == "private_key_jwt" else method,
                    "jwks": caller.get("jwks"),
                }
            )
            db.session.add(client)
        db.session.commit()


if __name__ == "__main__":
    make()
