"""RFC 6750 and OIDC Core §5.3: userinfo, for the bearer of a sign-in's token and nobody else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.protocol.answers import signed_in_tokens
from tests.world import BY, Answer, Browser, Party, Person, World, claims_of, hidden

PATH = "/oauth/userinfo"


@dataclass
class Story:
    world: World
    alice: Person
    app: Party
    browser: Browser

    def token(self, scope: str = "openid profile email") -> str:
        return str(signed_in_tokens(self.world, self.app, self.browser, scope=scope)["access_token"])

    def ask(self, token: str, scheme: str = "Bearer") -> Answer:
        return self.world.get(PATH, {"Authorization": f"{scheme} {token}"})


@pytest.fixture
def story(world: World) -> Story:
    alice = world.human()
    return Story(world, alice, world.app(), world.signed_in(alice))


def challenged(answer: Answer, error: str = "invalid_token") -> None:
    assert answer.status == 401
    challenge = answer.headers["WWW-Authenticate"]
    assert challenge.startswith("Bearer ")
    assert f'error="{error}"' in challenge
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.rfc("OIDC Core", "5.3.2")
def test_it_tells_what_was_granted_of_the_person_and_the_same_sub_as_the_id_token(story: Story) -> None:
    given = signed_in_tokens(story.world, story.app, story.browser, scope="openid profile email")
    answer = story.ask(given["access_token"])
    assert answer.ok() == {
        "sub": story.alice.id,
        "name": f"Name of {story.alice.username}",
        "preferred_username": story.alice.username,
        "email": f"{story.alice.username}@example.com",
        "email_verified": False,
    }
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert claims_of(given["id_token"])["sub"] == answer.json["sub"]


@pytest.mark.rfc("OIDC Core", "5.4")
def test_a_scope_that_was_not_granted_shows_nothing(story: Story) -> None:
    assert set(story.ask(story.token("openid")).ok()) == {"sub"}
    assert set(story.ask(story.token("openid email")).ok()) == {"sub", "email", "email_verified"}
    assert set(story.ask(story.token("openid profile")).ok()) == {"sub", "name", "preferred_username"}


@pytest.mark.rfc("6750", "2.1")
def test_the_token_comes_in_the_header_by_get_or_post_and_the_scheme_has_no_case(story: Story) -> None:
    token = story.token()
    for scheme in ("Bearer", "bearer", "BEARER"):
        assert story.ask(token, scheme).status == 200
    assert story.world.post(PATH, {}, {"Authorization": f"Bearer {token}"}).status == 200


@pytest.mark.rfc("6750", "2.3")
def test_a_token_in_the_address_or_the_body_is_not_taken(story: Story) -> None:
    token = story.token()
    assert story.world.get(f"{PATH}?access_token={token}").status in {400, 401}
    assert story.world.get(f"{PATH}?x=1", {"Authorization": f"Bearer {token}"}).status == 400
    assert story.world.post(PATH, {"access_token": token}).status == 401


@pytest.mark.rfc("6750", "3.1")
def test_without_a_token_the_challenge_names_no_error(story: Story) -> None:
    answer = story.world.get(PATH)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert "error" not in answer.headers["WWW-Authenticate"]


@pytest.mark.rfc("6750", "3.1")
def test_whatever_is_not_a_sign_ins_token_is_invalid_token(story: Story) -> None:
    world = story.world
    api = world.resource("read")
    agent = world.agent(story.alice, ceiling=[(api, "read")])
    given = world.consented(story.browser, agent, api, away=True)
    signed_in = signed_in_tokens(world, story.app, story.browser)
    token = signed_in["access_token"]
    for value in (
        "x", "a.b.c", token[:-1], token + "x", token.upper(), given["access_token"], given["refresh_token"], signed_in["id_token"],
        world.own_token(agent).ok()["access_token"],
    ):  # fmt: skip
        challenged(story.ask(value))
    for scheme in ("Basic", "DPoP", "Token"):
        assert story.ask(token, scheme).status == 401
    assert story.world.get(PATH, {"Authorization": token}).status == 401
    assert story.world.get(PATH, {"Authorization": "Bearer"}).status == 401


def test_an_expired_token_is_invalid(story: Story, later) -> None:
    token = story.token()
    later(301)
    challenged(story.ask(token))


def test_signing_out_ends_it(story: Story) -> None:
    token = story.token()
    assert story.ask(token).status == 200
    story.browser.post("/logout", hidden(story.browser.get("/logout")))
    challenged(story.ask(token))


def test_it_ends_with_the_human_the_client_and_the_family(story: Story) -> None:
    world = story.world
    token = story.token()
    world.server.apps.disable(story.app.client_id, by=BY)
    challenged(story.ask(token))
    other = world.app()
    token = signed_in_tokens(world, other, story.browser)["access_token"]
    world.server.revocation.family(claims_of(token)["deputy"]["f"], by=BY)
    challenged(story.ask(token))
    token = signed_in_tokens(world, other, story.browser)["access_token"]
    world.server.accounts.disable(story.alice.id, by=BY)
    challenged(story.ask(token))


def test_what_changed_about_the_person_is_told(story: Story) -> None:
    from app.humans.models import HumanRow

    token = story.token()
    with story.world.server.database.transaction() as session:
        session.get_one(HumanRow, story.alice.id).name = "Alice the Second"
    assert story.ask(token).ok()["name"] == "Alice the Second"
