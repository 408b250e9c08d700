"""OpenID Connect RP-Initiated Logout 1.0: an application sends its user to sign out, and gets her back."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

import pytest

from tests.protocol.answers import signed_in_tokens
from tests.world import BY, Answer, Browser, Party, Person, World, hidden

BACK = "https://app.example/signed-out"
WITH_QUERY = "https://app.example/bye?tenant=7"


@dataclass
class Story:
    world: World
    alice: Person
    app: Party
    browser: Browser
    hint: str

    def ask(self, browser: Browser | None = None, **parameters: str) -> Answer:
        return (browser or self.browser).get("/logout?" + urlencode(parameters))

    def sign_out(self, **parameters: str) -> Answer:
        page = self.ask(**parameters)
        assert page.status == 200
        return self.browser.post("/logout", hidden(page))

    @property
    def signed_in(self) -> bool:
        return self.browser.get("/my/agents").status == 200


@pytest.fixture
def story(world: World) -> Story:
    alice = world.human()
    app = world.app(post_logout_redirect_uris=(BACK, WITH_QUERY))
    browser = world.signed_in(alice)
    return Story(world, alice, app, browser, signed_in_tokens(world, app, browser)["id_token"])


@pytest.mark.rfc("RP-Initiated Logout", "2")
def test_she_is_asked_and_a_get_ends_nothing(story: Story) -> None:
    page = story.ask(id_token_hint=story.hint, post_logout_redirect_uri=BACK)
    assert page.status == 200
    assert "Sign out?" in page.text
    assert story.signed_in


@pytest.mark.rfc("RP-Initiated Logout", "3")
def test_she_comes_back_to_the_registered_address_with_state(story: Story) -> None:
    answer = story.sign_out(id_token_hint=story.hint, post_logout_redirect_uri=BACK, state="a b")
    assert (answer.status, answer.headers["Location"]) == (303, BACK + "?state=a+b")
    assert not story.signed_in


def test_without_state_there_is_none_and_its_own_query_is_kept(story: Story) -> None:
    assert story.sign_out(client_id=story.app.client_id, post_logout_redirect_uri=WITH_QUERY).headers["Location"] == WITH_QUERY
    story.browser.sign_in(story.alice.username)
    answer = story.sign_out(client_id=story.app.client_id, post_logout_redirect_uri=WITH_QUERY, state="s")
    assert answer.headers["Location"] == WITH_QUERY + "&state=s"


@pytest.mark.rfc("RP-Initiated Logout", "3")
@pytest.mark.parametrize(
    "uri", ["https://evil.example/", BACK + "/", BACK + "?x=1", BACK.upper(), "javascript:alert(1)", "//evil.example", "/my/agents", "x"]
)
def test_nowhere_else(story: Story, uri: str) -> None:
    answer = story.sign_out(id_token_hint=story.hint, post_logout_redirect_uri=uri, state="s")
    assert (answer.status, answer.headers["Location"]) == (303, "/logout")
    assert not story.signed_in


def test_nobody_is_sent_anywhere_for_a_client_that_is_not_named_disabled_or_at_odds_with_the_hint(story: Story) -> None:
    other = story.world.app(post_logout_redirect_uris=(BACK,))

    def lands(**parameters: str) -> str:
        answer = story.sign_out(post_logout_redirect_uri=BACK, **parameters)
        story.browser.sign_in(story.alice.username)
        return answer.headers["Location"]

    assert lands() == "/logout"
    assert lands(client_id="nobody") == "/logout"
    assert lands(id_token_hint=story.hint, client_id=other.client_id) == "/logout"
    assert lands(id_token_hint=story.hint[:-4] + "AAAA") == "/logout"
    assert lands(id_token_hint="x", client_id=story.app.client_id) == "/logout"
    assert lands(id_token_hint=story.hint, client_id=story.app.client_id) == BACK
    story.world.server.apps.disable(story.app.client_id, by=BY)
    assert lands(id_token_hint=story.hint) == "/logout"


def test_an_expired_hint_will_do(story: Story, later) -> None:
    later(1000)
    assert story.sign_out(id_token_hint=story.hint, post_logout_redirect_uri=BACK).headers["Location"] == BACK


def test_somebody_who_is_not_signed_in_goes_straight_back(story: Story) -> None:
    stranger = story.world.browser()
    answer = story.ask(stranger, id_token_hint=story.hint, post_logout_redirect_uri=BACK, state="s")
    assert (answer.status, answer.headers["Location"]) == (303, BACK + "?state=s")
    page = story.ask(stranger, post_logout_redirect_uri="https://evil.example/")
    assert page.status == 200
    assert "You are signed out" in page.text


def test_an_applications_post_becomes_the_question(story: Story) -> None:
    answer = story.browser.post("/logout", {"id_token_hint": story.hint, "post_logout_redirect_uri": BACK, "state": "s"})
    assert answer.status == 303
    assert answer.headers["Location"].startswith("/logout?")
    assert story.signed_in
    page = story.browser.get(answer.headers["Location"])
    assert story.browser.post("/logout", hidden(page)).headers["Location"] == BACK + "?state=s"


def test_a_form_that_is_not_ours_ends_nothing(story: Story) -> None:
    assert story.browser.post("/logout", {"csrf_token": "x.y"}).status == 403
    assert story.signed_in


def test_signing_out_is_recorded(story: Story) -> None:
    story.sign_out()
    assert not story.signed_in
    assert story.world.ledger(event="human.signed_out", who={"human": story.alice.id})
