"""What tests of the protocol say again and again."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from app.vocabulary import SigningAlg
from tests.world import ASSERTION, REDIRECT, Answer, Api, Browser, Party, World

NEVER_SAID = ("Traceback", "sqlalchemy", "psycopg", "redis", "authlib")


def refused(answer: Answer, error: str, status: int = 400) -> dict[str, Any]:
    """The answer is that error, in the shape of RFC 6749 §5.2, and gives nothing away."""
    assert (answer.status, answer.error) == (status, error), (answer.status, answer.body)
    body = answer.json
    assert not {"access_token", "refresh_token", "id_token", "request_uri"} & body.keys()
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "application/json"
    assert body["error_description"].isascii()
    assert not any(word in answer.text for word in NEVER_SAID)
    return body


def landed(answer: Answer, redirect_uri: str = REDIRECT) -> dict[str, str]:
    """Where the browser is sent, each parameter once, at the client's redirect URI and nowhere else."""
    assert answer.status == 303, (answer.status, answer.text[:1500])
    location = answer.headers["Location"]
    base, _, query = location.partition("?")
    assert base == redirect_uri, location
    assert "#" not in location
    found = parse_qs(query, keep_blank_values=True, strict_parsing=True)
    assert all(len(values) == 1 for values in found.values()), location
    return {name: values[0] for name, values in found.items()}


def sent_back(answer: Answer, error: str, issuer: str, redirect_uri: str = REDIRECT) -> dict[str, str]:
    """The browser is sent back to the client with that error, with `state` and `iss`, and without a code."""
    found = landed(answer, redirect_uri)
    assert found["error"] == error, found
    assert found["iss"] == issuer
    assert "code" not in found
    return found


def sent_to_sign_in(answer: Answer) -> str:
    """The browser is sent to the sign-in page; where it goes from there."""
    assert answer.status == 303, (answer.status, answer.text[:1500])
    parts = urlsplit(answer.headers["Location"])
    assert (parts.netloc, parts.path) == ("", "/login"), answer.headers["Location"]
    return parse_qs(parts.query)["next"][0]


def no_redirect(answer: Answer) -> str:
    """The browser gets a page that says what is wrong, and is sent nowhere."""
    assert answer.status == 400, (answer.status, answer.headers)
    assert "Location" not in answer.headers
    assert "<h1" in answer.text
    return answer.text


def new_verifier() -> str:
    """A PKCE verifier."""
    return secrets.token_urlsafe(48)


def with_key(party: Party, alg: SigningAlg = SigningAlg.ES256) -> tuple[Party, dict[str, Any]]:
    """The party with a fresh key, and the JWK Set to register for it."""
    from joserfc.jwk import import_key

    from app.keys.jwk import generate_client_key, public_part

    private = generate_client_key(alg)
    return replace(party, key=import_key(private)), {"keys": [public_part(private)]}


def push(world: World, client: Party, query: list[tuple[str, str]], **more: str) -> Answer:
    """Push an authorization request."""
    members, headers = world.credentials(client)
    return world.post("/oauth/par", [*query, *members.items(), *more.items()], headers)


def pushed_query(client: Party, request_uri: str) -> list[tuple[str, str]]:
    """The authorization request that names a pushed one."""
    return [("client_id", client.client_id), ("request_uri", request_uri)]


def code_at(browser: Browser, query: list[tuple[str, str]], redirect_uri: str = REDIRECT, **chosen: Any) -> str:
    """Through the page, if there is one, to the code."""
    answer = browser.authorize(query)
    if answer.status != 303:
        answer = browser.decide(answer, **chosen)
    return landed(answer, redirect_uri)["code"]


def signed_in_tokens(world: World, app: Party, browser: Browser, *resources: Api, scope: str = "openid", **more: str) -> dict[str, Any]:
    """What an application gets when it signs a human in."""
    verifier = new_verifier()
    code = code_at(browser, world.authorization(app, verifier, *resources, scope=scope, **more), app.redirect_uri)
    return world.redeem(app, code, verifier).ok()


def refresh(world: World, client: Party, refresh_token: str, **form: str) -> Answer:
    """Use a refresh token."""
    return world.token(client, {"grant_type": "refresh_token", "refresh_token": refresh_token, **form})


def asserted(assertion: str, form: Mapping[str, str]) -> dict[str, str]:
    """A form with that client assertion."""
    return {**form, "client_assertion_type": ASSERTION, "client_assertion": assertion}


def without(query: list[tuple[str, str]], *names: str) -> list[tuple[str, str]]:
    """The same request without some parameters."""
    return [(name, value) for name, value in query if name not in names]


def query_string(query: list[tuple[str, str]]) -> str:
    return urlencode(query)


def recorded(world: World, event: str, client: Party, **having: Any) -> list[dict[str, Any]]:
    """Records of that event by that client, once the relay has taken all there is."""
    return [one for one in world.ledger(event=event, **having) if one["who"].get("client") == client.client_id]
