"""Stock clients in Python, unmodified: Authlib's requests client and requests-oauthlib, each from discovery to revocation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from authlib.oauth2.rfc7523 import PrivateKeyJWT, private_key_jwt_sign
from joserfc import jwt
from joserfc.jwk import KeySet
from oauthlib.oauth2 import AccessDeniedError, InvalidGrantError
from requests_oauthlib import OAuth2Session as OAuthlibSession

from tests.protocol.answers import new_verifier
from tests.world import ACCESS_TOKEN, EXCHANGE, REDIRECT, Api, Browser, Party, Person, World

TIMEOUT = 30


@dataclass
class Story:
    world: World
    alice: Person
    api: Api
    app: Party
    browser: Browser
    metadata: dict[str, Any]

    def browse(self, url: str, **chosen: Any) -> str:
        """What the human does with an authorization URL; where her browser ends up."""
        assert url.startswith(self.metadata["authorization_endpoint"] + "?")
        page = self.browser.authorize(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        answer = page if page.status == 303 else self.browser.decide(page, **chosen)
        assert answer.status == 303, answer.text
        return str(answer.headers["Location"])


@pytest.fixture
def story(world: World, monkeypatch: pytest.MonkeyPatch) -> Story:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # Both libraries want https everywhere; the server is on a loopback address.
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    alice, api = world.human(), world.resource("read", "write")
    metadata = requests.get(world.issuer + "/.well-known/openid-configuration", timeout=TIMEOUT).json()
    return Story(world, alice, api, world.app(pairs=[(api, "read"), (api, "write")]), world.signed_in(alice), metadata)


SCOPE = "openid profile read offline_access"


def test_authlibs_client_signs_in_refreshes_introspects_and_revokes(story: Story) -> None:
    metadata, verifier = story.metadata, new_verifier()
    with AuthlibSession(
        story.app.client_id, story.app.secret, scope=SCOPE, redirect_uri=REDIRECT, code_challenge_method="S256",
        token_endpoint=metadata["token_endpoint"], revocation_endpoint_auth_method="client_secret_basic", default_timeout=TIMEOUT,
    ) as client:  # fmt: skip
        url, state = client.create_authorization_url(
            metadata["authorization_endpoint"], code_verifier=verifier, nonce="n-1", resource=story.api.uri, prompt="consent"
        )
        came = story.browse(url, away=True)
        given = client.fetch_token(authorization_response=came, state=state, code_verifier=verifier)
        assert sorted(given["scope"].split()) == sorted(SCOPE.split())
        keys = KeySet.import_key_set(requests.get(metadata["jwks_uri"], timeout=TIMEOUT).json())
        claims = jwt.decode(given["id_token"], keys, algorithms=["RS256"]).claims
        assert (claims["iss"], claims["aud"], claims["sub"], claims["nonce"]) == (
            metadata["issuer"],
            story.app.client_id,
            story.alice.id,
            "n-1",
        )
        with AuthlibSession(story.api.client_id, story.api.client_secret, default_timeout=TIMEOUT) as api:

            def introspect(token: str) -> dict[str, Any]:
                found: dict[str, Any] = api.introspect_token(
                    metadata["introspection_endpoint"], token=token, token_type_hint="access_token"
                ).json()
                return found

            assert introspect(given["access_token"])["active"] is True
            second = client.refresh_token()
            assert second["refresh_token"] != given["refresh_token"]
            assert introspect(second["access_token"])["sub"] == story.alice.id
            who = client.refresh_token(resource=metadata["userinfo_endpoint"], scope="openid profile")
            assert client.get(metadata["userinfo_endpoint"]).json()["preferred_username"] == story.alice.username
            answer = client.revoke_token(metadata["revocation_endpoint"], token=who["refresh_token"], token_type_hint="refresh_token")
            assert answer.status_code == 200
            assert introspect(second["access_token"]) == {"active": False}
        with pytest.raises(OAuthError, match="invalid_grant"):
            client.refresh_token(refresh_token=who["refresh_token"])


def test_authlibs_client_is_an_agent_with_a_key(story: Story) -> None:
    """As its documentation has it: the assertion is for the token endpoint, which older clients may be registered for."""
    world, metadata = story.world, story.metadata
    agent = world.agent(story.alice, ceiling=[(story.api, "read")], own=[(story.api, "write")], assertion_audience="token-endpoint")

    class ForFiveMinutes(PrivateKeyJWT):
        alg = "ES256"

        def sign(self, auth: Any, token_endpoint: str) -> str:
            return str(private_key_jwt_sign(auth.client_secret, auth.client_id, token_endpoint, self.alg, expires_in=300))

    verifier = new_verifier()
    with AuthlibSession(
        agent.client_id, agent.key, token_endpoint_auth_method="private_key_jwt", revocation_endpoint_auth_method="private_key_jwt",
        redirect_uri=REDIRECT, code_challenge_method="S256", token_endpoint=metadata["token_endpoint"], default_timeout=TIMEOUT,
    ) as client:  # fmt: skip
        client.register_client_auth_method(ForFiveMinutes(metadata["token_endpoint"]))
        own = client.fetch_token(grant_type="client_credentials", resource=story.api.uri)
        assert own["scope"] == "write"
        url, state = client.create_authorization_url(
            metadata["authorization_endpoint"], code_verifier=verifier, scope="read offline_access", resource=story.api.uri
        )
        given = client.fetch_token(authorization_response=story.browse(url, away=True), state=state, code_verifier=verifier)
        exchanged = client.fetch_token(
            grant_type=EXCHANGE, subject_token=given["access_token"], subject_token_type=ACCESS_TOKEN, resource=story.api.uri
        )
        found = world.introspect(story.api, exchanged["access_token"])
        assert found["act"]["sub"] == agent.uri
        assert found["sub"] == story.alice.id
        fresh = client.refresh_token(refresh_token=given["refresh_token"])
        assert world.active(story.api, fresh["access_token"])
        assert client.revoke_token(metadata["revocation_endpoint"], token=fresh["refresh_token"]).status_code == 200
        assert not world.active(story.api, fresh["access_token"])
        assert not world.active(story.api, exchanged["access_token"])


def test_requests_oauthlib_hears_a_denial(story: Story) -> None:
    with OAuthlibSession(story.app.client_id, redirect_uri=REDIRECT, scope=["read"], pkce="S256") as client:
        url, _ = client.authorization_url(story.metadata["authorization_endpoint"], resource=story.api.uri)
        came = story.browse(url, allow=False)
        with pytest.raises(AccessDeniedError):
            client.fetch_token(story.metadata["token_endpoint"], authorization_response=came, client_secret=story.app.secret)


@pytest.mark.parametrize("auth", ["client_secret_basic", "none"])
def test_requests_oauthlib_signs_in_refreshes_introspects_and_revokes(story: Story, auth: str) -> None:
    world, metadata = story.world, story.metadata
    app = story.app if auth == "client_secret_basic" else world.app(pairs=[(story.api, "read")], auth="none", native=True)
    secret: dict[str, Any] = {"client_secret": app.secret} if app.secret else {}
    credential: dict[str, Any] = {"auth": (app.client_id, app.secret)} if app.secret else {"data": {"client_id": app.client_id}}
    with OAuthlibSession(app.client_id, redirect_uri=REDIRECT, scope=SCOPE.split(), pkce="S256") as client:
        url, state = client.authorization_url(metadata["authorization_endpoint"], resource=story.api.uri, prompt="consent")
        came = story.browse(url, away=True)
        assert parse_qs(urlsplit(came).query)["state"] == [state]
        given = client.fetch_token(
            metadata["token_endpoint"], authorization_response=came, include_client_id=not app.secret, timeout=TIMEOUT, **secret
        )
        api = (story.api.client_id, story.api.client_secret)

        def introspect(token: str) -> dict[str, Any]:
            answer = requests.post(metadata["introspection_endpoint"], data={"token": token}, auth=api, timeout=TIMEOUT)
            found: dict[str, Any] = answer.json()
            return found

        assert introspect(given["access_token"])["scope"] == "read"
        more = {"auth": credential["auth"]} if app.secret else {"client_id": app.client_id}
        second = client.refresh_token(metadata["token_endpoint"], timeout=TIMEOUT, **more)
        assert second["refresh_token"] != given["refresh_token"]
        assert introspect(second["access_token"])["active"] is True
        where, headers, body = client._client.prepare_token_revocation_request(
            metadata["revocation_endpoint"],
            second["refresh_token"],
            "refresh_token",
            **({} if app.secret else {"client_id": app.client_id}),
        )
        assert requests.post(where, data=body, headers=headers, auth=credential.get("auth"), timeout=TIMEOUT).status_code == 200
        assert introspect(second["access_token"]) == {"active": False}
        with pytest.raises(InvalidGrantError):
            client.refresh_token(metadata["token_endpoint"], timeout=TIMEOUT, **more)
