"""RFC 7009: a client gives a token of its own back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.protocol.answers import recorded, refresh, refused, signed_in_tokens
from tests.world import Answer, Api, Browser, Party, Person, World, basic, claims_of


@dataclass
class Story:
    world: World
    alice: Person
    calendar: Api
    mail: Api
    assistant: Party
    booking: Party
    browser: Browser
    given: dict[str, Any]

    @property
    def handover(self) -> str:
        return str(self.given["access_token"])

    def token(self, api: Api) -> str:
        return str(self.world.exchange(self.assistant, self.handover, resource=api.uri).ok()["access_token"])


@pytest.fixture
def story(world: World) -> Story:
    alice = world.human()
    calendar, mail = world.resource("calendar:read"), world.resource("mail:read")
    booking = world.agent(alice, ceiling=[(calendar, "calendar:read")])
    assistant = world.agent(alice, ceiling=[(calendar, "calendar:read"), (mail, "mail:read")], hands_to=[booking])
    browser = world.signed_in(alice)
    return Story(world, alice, calendar, mail, assistant, booking, browser, world.consented(browser, assistant, calendar, mail, away=True))


def done(answer: Answer) -> None:
    assert answer.ok() == {}
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.rfc("7009", "2.1")
def test_an_access_token_is_dead_before_the_answer_and_its_siblings_live(story: Story) -> None:
    one, two = story.token(story.calendar), story.token(story.calendar)
    assert story.world.active(story.calendar, one)
    done(story.world.revoke(story.assistant, one))
    assert not story.world.active(story.calendar, one)
    assert story.world.active(story.calendar, two)
    assert refresh(story.world, story.assistant, story.given["refresh_token"]).status == 200


def test_a_revoked_hand_over_ends_what_came_of_it_and_nothing_beside_it(story: Story) -> None:
    world = story.world
    handed, other = (world.exchange(story.assistant, story.handover, audience=story.booking.uri).ok()["access_token"] for _ in range(2))
    below = world.exchange(story.booking, handed).ok()["access_token"]
    beside = world.exchange(story.booking, other).ok()["access_token"]
    done(world.revoke(story.assistant, handed))
    assert not world.active(story.calendar, below)
    refused(world.exchange(story.booking, handed), "invalid_request")
    assert world.active(story.calendar, beside)
    done(world.revoke(story.assistant, story.handover))
    assert not world.active(story.calendar, beside)
    refused(world.exchange(story.assistant, story.handover, resource=story.mail.uri), "invalid_request")


@pytest.mark.rfc("7009", "2.1")
def test_a_refresh_token_ends_its_family_with_every_token_of_it(story: Story) -> None:
    world = story.world
    token = story.token(story.mail)
    later = refresh(world, story.assistant, story.given["refresh_token"], resource=story.calendar.uri).ok()
    done(world.revoke(story.assistant, later["refresh_token"]))
    for api, value in ((story.mail, token), (story.calendar, later["access_token"])):
        assert not world.active(api, value)
    refused(refresh(world, story.assistant, later["refresh_token"]), "invalid_grant")
    refused(world.exchange(story.assistant, story.handover, resource=story.mail.uri), "invalid_request")


def test_a_refresh_token_that_was_rotated_ends_its_family_too(story: Story) -> None:
    world = story.world
    later = refresh(world, story.assistant, story.given["refresh_token"]).ok()
    done(world.revoke(story.assistant, story.given["refresh_token"]))
    refused(refresh(world, story.assistant, later["refresh_token"]), "invalid_grant")


def test_a_revoked_family_leaves_the_consent(story: Story) -> None:
    done(story.world.revoke(story.assistant, story.given["refresh_token"]))
    kind = "urn:deputy:params:oauth:token-type:consent"
    assert story.world.exchange(story.assistant, story.given["consent_id"], kind, resource=story.mail.uri).status == 200


def test_a_revoked_actor_token_acts_no_more(story: Story) -> None:
    own = story.world.own_token(story.assistant).ok()["access_token"]
    done(story.world.revoke(story.assistant, own))
    kind = "urn:ietf:params:oauth:token-type:access_token"
    answer = story.world.exchange(story.assistant, story.handover, resource=story.mail.uri, actor_token=own, actor_token_type=kind)
    refused(answer, "invalid_request")


def test_a_sign_ins_token_is_revoked_at_userinfo(story: Story) -> None:
    app = story.world.app()
    token = signed_in_tokens(story.world, app, story.browser)["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert story.world.get("/oauth/userinfo", headers).status == 200
    done(story.world.revoke(app, token))
    assert story.world.get("/oauth/userinfo", headers).status == 401


def test_a_public_client_revokes_its_own(story: Story) -> None:
    world = story.world
    public = world.app(pairs=[(story.mail, "mail:read")], auth="none", native=True)
    given = world.consented(story.browser, public, story.mail, scope="mail:read", away=True)
    done(world.revoke(public, given["refresh_token"]))
    assert not world.active(story.mail, given["access_token"])
    refused(refresh(world, public, given["refresh_token"]), "invalid_grant")


@pytest.mark.rfc("7009", "2.2")
def test_another_clients_token_stays_as_it_is_and_the_answer_does_not_tell(story: Story) -> None:
    world = story.world
    token = story.token(story.calendar)
    public = world.app(auth="none", native=True)
    api = Party(story.calendar.client_id, secret=story.calendar.client_secret)
    for client in (story.booking, world.app(), public, api):
        for value in (token, story.given["refresh_token"], story.handover):
            done(world.revoke(client, value))
    assert world.active(story.calendar, token)
    assert refresh(world, story.assistant, story.given["refresh_token"]).status == 200
    assert recorded(world, "revocation.ignored", story.booking)


def test_the_receiver_of_a_hand_over_cannot_revoke_it(story: Story) -> None:
    world = story.world
    handed = world.exchange(story.assistant, story.handover, audience=story.booking.uri).ok()["access_token"]
    done(world.revoke(story.booking, handed))
    assert world.exchange(story.booking, handed).status == 200


@pytest.mark.rfc("7009", "2.2")
def test_an_unknown_expired_or_malformed_token_is_as_revoked(story: Story, later) -> None:
    token = story.token(story.mail)
    for value in ("x", "rt_x", "é", "a.b.c", token[:-1], story.given["consent_id"], "x" * 60_000):
        done(story.world.revoke(story.assistant, value))
    assert story.world.active(story.mail, token)
    done(story.world.revoke(story.assistant, token))
    done(story.world.revoke(story.assistant, token))


@pytest.mark.rfc("7009", "2.1")
def test_the_hint_changes_nothing(story: Story) -> None:
    members, headers = story.world.credentials(story.assistant)
    form = {"token": story.given["refresh_token"], "token_type_hint": "access_token", **members}
    done(story.world.post("/oauth/revoke", form, headers))
    refused(refresh(story.world, story.assistant, story.given["refresh_token"]), "invalid_grant")


@pytest.mark.rfc("7009", "2.2.1")
def test_what_is_wrong_with_the_request_is_said(story: Story) -> None:
    world, token = story.world, story.token(story.mail)
    refused(world.post("/oauth/revoke", {"token": token}), "invalid_client", 401)
    refused(world.post("/oauth/revoke", {"token": token}, basic(story.assistant.client_id, "x")), "invalid_client", 401)
    members, headers = world.credentials(story.assistant)
    refused(world.post("/oauth/revoke", members, headers), "invalid_request")
    members, headers = world.credentials(story.assistant)
    refused(world.post(f"/oauth/revoke?token={token}", members, headers), "invalid_request")
    assert world.get(f"/oauth/revoke?token={token}").status == 405
    assert world.active(story.mail, token)


def test_a_revocation_is_recorded_with_who_asked(story: Story) -> None:
    token = story.token(story.mail)
    done(story.world.revoke(story.assistant, token))
    (record,) = story.world.ledger(event="revoked", target=claims_of(token)["jti"])
    assert record["who"]["actors"] == [story.assistant.uri]
    assert token not in str(record)
