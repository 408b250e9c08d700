"""RFC 8252: programs on the human's own computer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from app.errors import Refused
from tests.protocol.answers import landed, new_verifier, no_redirect, refused
from tests.world import Answer, Api, Browser, Party, Person, World

FOUR = "http://127.0.0.1/callback"
SIX = "http://[::1]:1234/callback"
PRIVATE = "com.example.app:/callback"
WEB = "https://app.example/callback"


@dataclass
class Story:
    world: World
    alice: Person
    api: Api
    app: Party
    browser: Browser

    def asked(self, redirect_uri: str, verifier: str = "v" * 43) -> Answer:
        app = replace(self.app, redirect_uri=redirect_uri)
        return self.browser.authorize(self.world.authorization(app, verifier, self.api, scope="read"))


@pytest.fixture
def story(world: World) -> Story:
    alice, api = world.human(), world.resource("read")
    app = world.app(pairs=[(api, "read")], auth="none", native=True, redirect_uris=(FOUR, SIX, PRIVATE, WEB))
    return Story(world, alice, api, app, world.signed_in(alice))


@pytest.mark.rfc("8252", "7.3")
@pytest.mark.parametrize(
    "uri", [FOUR, "http://127.0.0.1:51004/callback", "http://127.0.0.1:1/callback", "http://[::1]:61023/callback", SIX]
)
def test_any_port_of_a_loopback_literal_will_do(story: Story, uri: str) -> None:
    verifier = new_verifier()
    page = story.asked(uri, verifier)
    assert "a program on this computer" in page.text
    code = landed(story.browser.decide(page), uri)["code"]
    app = replace(story.app, redirect_uri=uri)
    assert story.world.redeem(app, code, verifier).status == 200


@pytest.mark.rfc("8252", "7.3")
@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:51004/other",
        "http://127.0.0.1:51004/callback/",
        "http://127.0.0.1:51004/callback?x=1",
        "http://127.0.0.1:51004",
        "http://127.0.0.2:51004/callback",
        "http://127.1:51004/callback",
        "http://localhost:51004/callback",
        "https://127.0.0.1:51004/callback",
        "http://user@127.0.0.1:51004/callback",
        "http://127.0.0.1:51004@evil.example/callback",
        "http://127.0.0.1:510041234/callback",
        "http://127.0.0.1:/callback",
        "http://127.0.0.1.evil.example:80/callback",
        "http://[::1]:61023/other",
        "http://[0:0:0:0:0:0:0:1]:61023/callback",
        "com.example.app:/callback/x",
        "com.example.app://callback",
        "COM.EXAMPLE.APP:/callback",
        "https://app.example:8443/callback",
    ],
)
def test_nothing_but_the_port_may_differ(story: Story, uri: str) -> None:
    no_redirect(story.asked(uri))


def test_the_port_at_the_token_endpoint_is_the_one_of_the_request(story: Story) -> None:
    verifier = new_verifier()
    uri = "http://127.0.0.1:51004/callback"
    code = landed(story.browser.decide(story.asked(uri, verifier)), uri)["code"]
    for other in (FOUR, "http://127.0.0.1:51005/callback"):
        refused(story.world.redeem(replace(story.app, redirect_uri=other), code, verifier), "invalid_grant")
    assert story.world.redeem(replace(story.app, redirect_uri=uri), code, verifier).status == 200


@pytest.mark.rfc("8252", "7.1")
def test_a_private_use_scheme_is_a_program_on_this_computer(story: Story) -> None:
    page = story.asked(PRIVATE)
    assert "a program on this computer" in page.text
    assert "com.example.app:" in page.headers["Content-Security-Policy"]
    assert landed(story.browser.decide(page), PRIVATE)["code"]


def test_a_web_address_is_shown_by_its_host(story: Story) -> None:
    page = story.asked(WEB)
    assert "app.example" in page.text
    assert "a program on this computer" not in page.text


@pytest.mark.rfc("8252", "8.6")
@pytest.mark.parametrize("uri", ["http://127.0.0.1:51004/callback", PRIVATE])
def test_a_program_that_cannot_prove_itself_is_never_waved_through(story: Story, uri: str) -> None:
    # Any other program on the computer can say its client_id and listen.
    landed(story.browser.decide(story.asked(uri)), uri)
    assert story.asked(uri).status == 200
    sign_in = replace(story.app, redirect_uri=uri)
    assert story.browser.authorize(story.world.authorization(sign_in, new_verifier(), scope="openid")).status == 200


@pytest.mark.parametrize(
    "uri",
    [
        "http://app.example/callback", "http://localhost/callback", "http://127.0.0.2/callback", "javascript:alert(1)", "data:text/html,x",
        "myapp:/callback", "com.example.app:callback", "com.example.app://callback", "https://app.example/#f", "https://*.app.example/",
        "https://user@app.example/", "//app.example/", "app.example", "", "https://app.example/a b", "https://äpp.example/", "https://",
        "file:///etc/passwd", "https://app.example\\@evil.example/",
    ],
)  # fmt: skip
def test_what_nobody_may_register(world: World, uri: str) -> None:
    with pytest.raises(Refused):
        world.app(native=True, auth="none", redirect_uris=(uri,))


def test_only_a_native_application_has_a_loopback_or_private_address(world: World) -> None:
    for uri in (FOUR, SIX, PRIVATE):
        with pytest.raises(Refused):
            world.app(redirect_uris=(uri,))
