"""RFC 8693: the agent exchanges what it holds for a token of minutes. Steps and errors as the protocol numbers them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import pytest

from app.live.things import DEPLOYMENT
from app.vocabulary import Pair
from tests.world import (
    ACCESS_TOKEN,
    BY,
    CONSENT,
    EXCHANGE,
    JWT,
    PASSWORD,
    Answer,
    Api,
    Party,
    Person,
    World,
    claims_of,
    header_of,
)

ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
REFRESH = "urn:ietf:params:oauth:token-type:refresh_token"
SAML = "urn:ietf:params:oauth:token-type:saml2"


@dataclass
class Story:
    """Alice, her assistant, a booking agent it may hand work to, a stranger, three APIs; and what she allowed."""

    world: World
    alice: Person
    calendar: Api
    travel: Api
    mail: Api
    assistant: Party
    booking: Party
    reader: Party
    stranger: Party
    given: dict[str, Any]

    @property
    def handover(self) -> str:
        return str(self.given["access_token"])

    @property
    def consent(self) -> str:
        return str(self.given["consent_id"])

    def exchange(self, **form: str) -> Answer:
        return self.world.exchange(self.assistant, self.handover, **form)

    def token(self, api: Api, **form: str) -> str:
        return str(self.exchange(resource=api.uri, **form).ok()["access_token"])

    def handed(self, **form: str) -> str:
        """A piece of the work, handed to the booking agent."""
        return str(self.exchange(audience=self.booking.uri, **form).ok()["access_token"])


@pytest.fixture
def story(world: World) -> Story:
    alice = world.human()
    calendar = world.resource("calendar:read", "calendar:write", "read")
    travel = world.resource("travel:search", "travel:book", "read")
    mail = world.resource("mail:read", "mail:send")
    booking = world.agent(alice, ceiling=[(travel, "travel:search"), (travel, "travel:book")])
    reader = world.agent(alice, ceiling=[(travel, "read"), (calendar, "read")])
    stranger = world.agent(alice, ceiling=[(travel, "travel:search"), (calendar, "calendar:read")])
    assistant = world.agent(
        alice,
        ceiling=[
            (calendar, "calendar:read"),
            (calendar, "calendar:write"),
            (calendar, "read"),
            (travel, "travel:search"),
            (travel, "travel:book"),
            (travel, "read"),
            (mail, "mail:read"),
        ],
        own=[(calendar, "calendar:read")],
        hands_to=[booking, reader],
    )
    given = world.consented(
        world.signed_in(alice),
        assistant,
        calendar,
        travel,
        mail,
        scope="calendar:read calendar:write travel:search travel:book mail:read read",
        away=True,
    )
    return Story(world, alice, calendar, travel, mail, assistant, booking, reader, stranger, given)


def refused(answer: Answer, error: str, status: int = 400) -> None:
    assert (answer.status, answer.error) == (status, error), answer.body
    assert "access_token" not in answer.json
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["error_description"].isascii()


# What a permitted exchange gives


@pytest.mark.rfc("8693", "2.2.1")
def test_the_answer_names_the_type_the_scope_the_consent_and_the_task(story: Story) -> None:
    answer = story.exchange(resource=story.calendar.uri, scope="calendar:read").ok()
    assert answer["issued_token_type"] == ACCESS_TOKEN
    assert answer["token_type"] == "Bearer"
    assert 0 < answer["expires_in"] <= 300
    assert answer["scope"] == "calendar:read"
    assert answer["consent_id"] == story.consent
    assert answer["task_id"] == story.given["task_id"]
    assert answer["authorization_expires_in"] > 86_400
    assert "refresh_token" not in answer


@pytest.mark.rfc("8693", "4.1")
def test_the_token_is_the_humans_done_by_the_agent(story: Story) -> None:
    token = story.token(story.calendar, scope="calendar:read")
    claims = claims_of(token)
    assert header_of(token)["typ"] == "at+jwt"
    assert claims["sub"] == story.alice.id
    assert claims["client_id"] == story.assistant.client_id
    assert claims["aud"] == story.calendar.uri
    assert claims["act"] == {"iss": story.world.issuer, "sub": story.assistant.uri, "sub_profile": "ai_agent"}
    assert claims["txn"] == story.given["task_id"]
    assert "may_act" not in claims


def test_leaving_scope_out_means_what_is_left_and_never_all(story: Story) -> None:
    assert story.exchange(resource=story.mail.uri).ok()["scope"] == "mail:read"


def test_auth_time_is_the_humans_and_is_never_refreshed(story: Story) -> None:
    first = claims_of(story.handover)
    deeper = claims_of(story.world.exchange(story.booking, story.handed()).ok()["access_token"])
    assert (deeper["auth_time"], deeper["acr"]) == (first["auth_time"], first["acr"])


@pytest.mark.rfc("8693", "2.1")
def test_resource_and_audience_name_one_register_and_the_same_twice_is_one_target(story: Story) -> None:
    form = [
        ("grant_type", EXCHANGE), ("subject_token", story.handover), ("subject_token_type", ACCESS_TOKEN),
        ("resource", story.mail.uri), ("resource", story.mail.uri), ("audience", story.mail.uri),
    ]  # fmt: skip
    assert claims_of(story.world.token(story.assistant, form).ok()["access_token"])["aud"] == story.mail.uri


def test_without_a_target_the_only_location_is_meant(story: Story) -> None:
    token = story.token(story.mail)
    assert claims_of(story.world.exchange(story.assistant, token).ok()["access_token"])["aud"] == story.mail.uri
    refused(story.exchange(), "invalid_target")


def test_every_requested_token_type_of_ours_is_answered(story: Story) -> None:
    for kind in (ACCESS_TOKEN, JWT):
        assert story.exchange(resource=story.mail.uri, requested_token_type=kind).ok()["issued_token_type"] in {ACCESS_TOKEN, JWT}


# Hand-over: the chain


@pytest.mark.rfc("8693", "4.1")
def test_a_handed_over_piece_shows_both_agents_the_current_one_outermost(story: Story) -> None:
    handed = story.handed(scope="travel:book")
    assert header_of(handed)["typ"] == "handover+jwt"
    claims = claims_of(handed)
    assert claims["aud"] == story.booking.uri
    assert (claims["may_act"]["iss"], claims["may_act"]["sub"]) == (story.world.issuer, story.booking.uri)
    assert claims["act"]["sub"] == story.assistant.uri
    token = story.world.exchange(story.booking, handed).ok()["access_token"]
    final = claims_of(token)
    assert final["act"]["sub"] == story.booking.uri
    assert final["act"]["act"]["sub"] == story.assistant.uri
    assert "act" not in final["act"]["act"]
    assert "may_act" not in final
    assert final["sub"] == story.alice.id
    assert final["txn"] == claims["txn"]
    assert story.world.introspect(story.travel, token)["act"] == final["act"]


def test_a_handover_token_is_good_at_no_api(story: Story) -> None:
    for api in (story.calendar, story.travel, story.mail):
        assert not story.world.active(api, story.handover)


def test_a_handover_is_within_reach_of_the_receivers_ceiling_only(story: Story) -> None:
    handed = story.handed()
    assert claims_of(handed)["scope"] == "travel:book travel:search"
    refused(story.exchange(audience=story.booking.uri, scope="read"), "invalid_scope")
    refused(story.world.exchange(story.booking, handed, resource=story.travel.uri, scope="read"), "invalid_scope")
    assert story.world.exchange(story.booking, handed, resource=story.travel.uri).ok()["scope"] == "travel:book travel:search"
    refused(story.world.exchange(story.booking, handed, resource=story.mail.uri), "invalid_target")


def test_only_the_agent_named_by_may_act_can_use_a_handover(story: Story) -> None:
    handed = story.handed()
    refused(story.world.exchange(story.stranger, handed, resource=story.travel.uri), "invalid_request")
    refused(story.world.exchange(story.assistant, handed, resource=story.travel.uri), "invalid_request")


def test_an_agent_hands_over_to_nobody_who_is_not_on_its_list(story: Story) -> None:
    refused(story.exchange(audience=story.stranger.uri), "invalid_request")
    refused(story.world.exchange(story.booking, story.handed(), audience=story.assistant.uri), "invalid_request")


def test_the_same_actor_again_is_not_doubled(story: Story) -> None:
    token = story.token(story.travel)
    for _ in range(3):
        token = story.world.exchange(story.assistant, token).ok()["access_token"]
    assert claims_of(token)["act"] == claims_of(story.handover)["act"]


def test_depth_is_capped_by_refusal_never_by_cutting(world: World) -> None:
    alice, api = world.human(), world.resource("read")
    agents: list[Party] = []
    for _ in range(5):
        agents.insert(0, world.agent(alice, ceiling=[(api, "read")], hands_to=agents[:1]))
    token = world.consented(world.signed_in(alice), agents[0], api, scope="read")["access_token"]
    for giver, receiver in zip(agents[:3], agents[1:4], strict=True):
        token = world.exchange(giver, token, audience=receiver.uri).ok()["access_token"]
    last = world.exchange(agents[3], token, resource=api.uri).ok()["access_token"]
    path, act = [], claims_of(last)["act"]
    while act:
        path.append(act["sub"])
        act = act.get("act")
    assert path == [agent.uri for agent in reversed(agents[:4])]
    fifth = world.exchange(agents[3], token, audience=agents[4].uri)
    assert fifth.status == 400 or world.exchange(agents[4], fifth.json["access_token"], resource=api.uri).error == "invalid_request"


def test_a_consents_depth_bounds_the_chain(story: Story) -> None:
    with story.world.server.database.transaction() as session:
        from app.delegation.models import ConsentRow

        session.get_one(ConsentRow, story.consent).depth = 1
    with story.world.server.deeds.deed() as deed:
        from app.live.things import Kind, Thing

        deed.change(Thing(Kind.CONSENT, story.consent))
    assert story.exchange(resource=story.travel.uri).status == 200
    handed = story.exchange(audience=story.booking.uri)
    if handed.status == 200:
        handed = story.world.exchange(story.booking, handed.json["access_token"], resource=story.travel.uri)
    refused(handed, "invalid_request")


# Narrowing


@pytest.mark.rfc("8693", "2.1")
def test_asking_for_more_than_the_subject_token_has_is_invalid_scope(story: Story) -> None:
    token = story.token(story.calendar, scope="calendar:read")
    for scope in ("calendar:write", "calendar:read calendar:write", "unknown", "travel:book"):
        refused(story.world.exchange(story.assistant, token, scope=scope), "invalid_scope")
    refused(story.exchange(resource=story.mail.uri, scope="mail:send"), "invalid_scope")


def test_nothing_outside_the_subject_tokens_own_pairs_is_reachable_whatever_the_consent_covers(story: Story) -> None:
    token = story.token(story.calendar, scope="calendar:read")
    refused(story.world.exchange(story.assistant, token, resource=story.travel.uri), "invalid_target")


def test_the_same_scope_name_at_two_resources_is_two_things(story: Story) -> None:
    form = '[{"type": "resource_access", "locations": ["%s"], "actions": ["read"]}]' % story.calendar.uri
    narrowed = story.exchange(audience=story.reader.uri, authorization_details=form)
    assert narrowed.ok()["scope"] == "read"
    refused(story.world.exchange(story.reader, narrowed.json["access_token"], resource=story.travel.uri), "invalid_target")
    both = story.exchange(audience=story.reader.uri, scope="read").ok()["access_token"]
    assert story.world.exchange(story.reader, both, resource=story.travel.uri).ok()["scope"] == "read"


def test_authorization_details_narrow_pair_by_pair_and_scope_everywhere_and_both_apply(story: Story) -> None:
    details = '[{"type":"resource_access","locations":["%s"],"actions":["travel:search","travel:book"]}]' % story.travel.uri
    both = story.exchange(audience=story.booking.uri, authorization_details=details)
    located = both.ok()["authorization_details"]
    assert located == [{"type": "resource_access", "locations": [story.travel.uri], "actions": ["travel:book", "travel:search"]}]
    fewer = story.exchange(audience=story.booking.uri, authorization_details=details, scope="travel:search")
    assert fewer.ok()["scope"] == "travel:search"


def test_authorization_details_that_are_unknown_malformed_or_wider_are_refused(story: Story) -> None:
    wider = '[{"type":"resource_access","locations":["%s"],"actions":["mail:send"]}]' % story.mail.uri
    for bad in (
        wider,
        "[",
        "{}",
        '[{"type":"payment"}]',
        '[{"type":"resource_access"}]',
        '[{"type":"resource_access","locations":[],"actions":[]}]',
        '[{"type":"resource_access","locations":["%s"],"actions":["mail:read"],"limit":3}]' % story.mail.uri,
        "[" * 5000,
        '[{"type":"resource_access","type":"x","locations":["%s"],"actions":["mail:read"]}]' % story.mail.uri,
    ):
        answer = story.exchange(resource=story.mail.uri, authorization_details=bad)
        refused(answer, "invalid_authorization_details")


def test_a_thousand_self_exchanges_never_extend(story: Story) -> None:
    token = story.token(story.travel)
    first = claims_of(token)
    for turn in range(1000):
        answer = story.world.exchange(story.assistant, token)
        if answer.status == 400:
            # The line of ancestors is full: refused, never cut. Go on from an earlier one.
            refused(answer, "invalid_request")
            assert turn >= 7
            token = story.token(story.travel)
            continue
        token = answer.ok()["access_token"]
        claims = claims_of(token)
        assert claims["exp"] <= claims_of(story.handover)["exp"]
        assert claims["scope"] == first["scope"]
        assert claims["act"] == first["act"]


def test_expiry_never_exceeds_the_subject_tokens(story: Story) -> None:
    token = story.token(story.travel)
    assert claims_of(token)["exp"] <= claims_of(story.handover)["exp"]
    deeper = story.world.exchange(story.booking, story.handed()).ok()
    assert claims_of(deeper["access_token"])["exp"] <= claims_of(story.handover)["exp"]


# The subject token


def test_a_subject_token_that_is_malformed_or_foreign_is_refused_in_one_wording(story: Story) -> None:
    head, body, signature = story.handover.split(".")
    other = story.world.resource("read")
    bodies = set()
    for bad in (
        "x",
        "a.b.c",
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f"{head}.{body}.{signature}.x",
        "é",
        " ",
        other.uri,
    ):
        answer = story.world.exchange(story.assistant, bad, resource=story.travel.uri)
        refused(answer, "invalid_request")
        bodies.add(answer.json["error_description"])
    assert len(bodies) == 1


def test_the_type_must_agree_with_what_the_token_is(story: Story) -> None:
    assert story.world.exchange(story.assistant, story.handover, JWT, resource=story.mail.uri).status == 200
    for kind in (CONSENT, ID_TOKEN, REFRESH, SAML, "access_token", ""):
        refused(story.world.exchange(story.assistant, story.handover, kind, resource=story.mail.uri), "invalid_request")


def test_tokens_of_other_kinds_are_no_subject(story: Story) -> None:
    world = story.world
    own = world.own_token(story.assistant).ok()["access_token"]
    own_api = world.own_token(story.assistant, resource=story.calendar.uri).ok()["access_token"]
    refresh = story.given["refresh_token"]
    app = world.app(pairs=[])
    browser = world.signed_in(story.alice)
    verifier = secrets.token_urlsafe(48)
    code = browser.code(world.authorization(app, verifier, scope="openid"))
    signed_in = world.redeem(app, code, verifier).ok()
    for subject in (own, own_api, refresh, signed_in["id_token"], signed_in["access_token"]):
        for kind in (ACCESS_TOKEN, JWT):
            refused(world.exchange(story.assistant, subject, kind, resource=story.calendar.uri), "invalid_request")


def test_another_agents_token_is_no_subject(story: Story) -> None:
    token = story.token(story.travel)
    refused(story.world.exchange(story.booking, token), "invalid_request")
    refused(story.world.exchange(story.stranger, story.handover, resource=story.travel.uri), "invalid_request")


def test_a_revoked_subject_token_gives_nothing_nor_does_what_came_of_it(story: Story) -> None:
    token = story.token(story.travel)
    child = story.world.exchange(story.assistant, token).ok()["access_token"]
    assert story.world.revoke(story.assistant, token).status == 200
    refused(story.world.exchange(story.assistant, token), "invalid_request")
    refused(story.world.exchange(story.assistant, child), "invalid_request")
    assert not story.world.active(story.travel, child)
    assert story.exchange(resource=story.travel.uri).status == 200


def test_the_agent_that_serves_an_api_may_bring_the_apis_token(world: World) -> None:
    alice, front, back = world.human(), world.resource("mail:read"), world.resource("store:read")
    server_agent = world.agent(alice, ceiling=[(back, "store:read"), (front, "mail:read")], serves=front.uri)
    caller = world.agent(alice, ceiling=[(front, "mail:read"), (back, "store:read")])
    given = world.consented(world.signed_in(alice), caller, front, back, scope="mail:read store:read")
    at_front = world.exchange(caller, given["access_token"], resource=front.uri).ok()["access_token"]
    served = world.exchange(server_agent, at_front, resource=front.uri)
    assert claims_of(served.ok()["access_token"])["act"]["act"]["sub"] == caller.uri
    # What the subject token could not reach, the serving agent cannot either.
    refused(world.exchange(server_agent, at_front, resource=back.uri), "invalid_target")


def test_an_operators_entitlement_opens_one_audience_for_one_target(story: Story) -> None:
    token = story.token(story.travel)
    answer = story.world.exchange(story.stranger, token, resource=story.travel.uri)
    refused(answer, "invalid_request")
    story.world.server.agent_registry.entitle(story.stranger.id, audience=story.travel.uri, target=story.travel.uri, by=BY)
    # She was not told of it: only a consent given since is for the stranger too.
    refused(story.world.exchange(story.stranger, token, resource=story.travel.uri), "invalid_request")
    browser = story.world.signed_in(story.alice)
    consent = story.world.consented(browser, story.assistant, story.travel, story.calendar, away=True)["consent_id"]

    def told(api: Api) -> str:
        return str(story.world.exchange(story.assistant, consent, CONSENT, resource=api.uri).ok()["access_token"])

    allowed = claims_of(story.world.exchange(story.stranger, told(story.travel), resource=story.travel.uri).ok()["access_token"])
    assert allowed["act"]["sub"] == story.stranger.uri
    assert allowed["act"]["act"]["sub"] == story.assistant.uri
    assert allowed["scope"] == "travel:search"
    refused(story.world.exchange(story.stranger, told(story.calendar), resource=story.calendar.uri), "invalid_request")


# Hand-over asked for by an application


def test_an_application_asks_for_a_handover_and_only_that_agent_can_use_it(story: Story) -> None:
    world = story.world
    app = world.app()
    verifier = secrets.token_urlsafe(48)
    browser = world.signed_in(story.alice)
    query = world.authorization(app, verifier, story.assistant.uri)
    page = browser.authorize(query)
    answer = browser.decide(page) if page.status == 200 else page
    from urllib.parse import parse_qs, urlsplit

    code = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]
    given = world.redeem(app, code, verifier).ok()
    claims = claims_of(given["access_token"])
    assert header_of(given["access_token"])["typ"] == "handover+jwt"
    assert claims["aud"] == story.assistant.uri
    assert claims["may_act"]["sub"] == story.assistant.uri
    assert claims["sub"] == story.alice.id
    assert "act" not in claims
    refused(world.exchange(story.booking, given["access_token"], resource=story.travel.uri), "invalid_request")
    token = world.exchange(story.assistant, given["access_token"], resource=story.mail.uri).ok()["access_token"]
    assert claims_of(token)["act"] == {"iss": world.issuer, "sub": story.assistant.uri, "sub_profile": "ai_agent"}
    assert world.active(story.mail, token)


def test_a_token_without_act_needs_the_exchanging_agents_own_consent(story: Story) -> None:
    world = story.world
    app = world.app(pairs=[(story.calendar, "calendar:read")])
    verifier = secrets.token_urlsafe(48)
    browser = world.signed_in(story.alice)
    code = browser.code(world.authorization(app, verifier, story.calendar, scope="calendar:read"))
    token = world.redeem(app, code, verifier).ok()["access_token"]
    world.server.agent_registry.entitle(story.stranger.id, audience=story.calendar.uri, target=story.calendar.uri, by=BY)
    refused(world.exchange(story.stranger, token, resource=story.calendar.uri), "invalid_request")
    world.server.agent_registry.entitle(story.assistant.id, audience=story.calendar.uri, target=story.calendar.uri, by=BY)
    answer = world.exchange(story.assistant, token, resource=story.calendar.uri).ok()
    assert answer["consent_id"] == story.consent
    assert answer["scope"] == "calendar:read"


# The actor


@pytest.mark.rfc("8693", "2.1")
def test_an_actor_token_is_the_callers_own_for_the_issuer_or_refused(story: Story) -> None:
    world = story.world
    mine = world.own_token(story.assistant).ok()["access_token"]
    hers = world.own_token(story.booking).ok()["access_token"]
    for_api = world.own_token(story.assistant, resource=story.calendar.uri).ok()["access_token"]

    def act(token: str, kind: str = ACCESS_TOKEN) -> Answer:
        return story.exchange(resource=story.mail.uri, actor_token=token, actor_token_type=kind)

    assert act(mine).status == 200
    for bad in (hers, for_api, story.handover, "x", story.token(story.mail)):
        refused(act(bad), "invalid_request")
    refused(act(mine, ID_TOKEN), "invalid_request")
    refused(story.exchange(resource=story.mail.uri, actor_token=mine), "invalid_request")
    refused(story.exchange(resource=story.mail.uri, actor_token_type=ACCESS_TOKEN), "invalid_request")
    world.revoke(story.assistant, mine)
    refused(act(mine), "invalid_request")


def test_an_actor_token_bounds_the_expiry(story: Story) -> None:
    mine = story.world.own_token(story.assistant).ok()["access_token"]
    token = story.exchange(resource=story.mail.uri, actor_token=mine, actor_token_type=ACCESS_TOKEN).ok()["access_token"]
    assert claims_of(token)["exp"] <= claims_of(mine)["exp"]


# Who may exchange


def test_applications_resources_and_public_clients_may_not(story: Story) -> None:
    world = story.world
    api = Party(story.mail.client_id, secret=story.mail.client_secret)
    for caller in (world.app(), world.app(auth="none", native=True), api):
        refused(world.exchange(caller, story.handover, resource=story.mail.uri), "unauthorized_client")


def test_a_suspended_agent_is_an_unknown_client(story: Story) -> None:
    registry = story.world.server.agent_registry
    token = story.token(story.mail)
    registry.suspend(story.assistant.id, by=BY)
    refused(story.exchange(resource=story.mail.uri), "invalid_client", 401)
    assert not story.world.active(story.mail, token)
    registry.resume(story.assistant.id, by=BY)
    # Nothing revives: neither the token, nor the hand-over, nor the consent.
    assert not story.world.active(story.mail, token)
    refused(story.exchange(resource=story.mail.uri), "invalid_request")
    refused(story.world.exchange(story.assistant, story.consent, CONSENT, resource=story.mail.uri), "invalid_request")


# Target


def test_an_unknown_disabled_or_second_target_is_invalid_target(story: Story) -> None:
    refused(story.exchange(resource="https://unknown.example"), "invalid_target")
    refused(story.exchange(resource=story.mail.uri + "/"), "invalid_target")
    refused(story.exchange(resource=story.mail.uri, audience=story.travel.uri), "invalid_target")
    refused(story.exchange(resource=story.world.issuer), "invalid_target")
    refused(story.exchange(resource=story.world.issuer + "/oauth/userinfo"), "invalid_target")
    elsewhere = story.world.resource("mail:read")
    refused(story.exchange(resource=elsewhere.uri), "invalid_target")
    story.world.server.resource_registry.disable(story.mail.id, by=BY)
    refused(story.exchange(resource=story.mail.uri), "invalid_target")


# The consent as subject


def test_the_agent_comes_back_alone_with_the_consents_id(story: Story) -> None:
    answer = story.world.exchange(story.assistant, story.consent, CONSENT, resource=story.calendar.uri, scope="calendar:read").ok()
    claims = claims_of(answer["access_token"])
    assert claims["sub"] == story.alice.id
    assert claims["act"]["sub"] == story.assistant.uri
    assert claims["txn"] == story.given["task_id"]
    assert story.world.active(story.calendar, answer["access_token"])


def test_a_consents_id_is_of_no_use_to_anyone_else(story: Story) -> None:
    for other in (story.booking, story.stranger):
        refused(story.world.exchange(other, story.consent, CONSENT, resource=story.travel.uri), "invalid_request")
    refused(story.world.exchange(story.assistant, "con_unknown", CONSENT, resource=story.travel.uri), "invalid_request")
    refused(story.world.exchange(story.assistant, story.consent, ACCESS_TOKEN, resource=story.travel.uri), "invalid_request")


def test_a_consent_for_while_she_is_there_does_not_let_it_come_back_alone(world: World) -> None:
    alice, api = world.human(), world.resource("read")
    agent = world.agent(alice, ceiling=[(api, "read")])
    browser = world.signed_in(alice)
    given = world.consented(browser, agent, api, scope="read")
    refused(world.exchange(agent, given["consent_id"], CONSENT, resource=api.uri), "invalid_request")


def test_a_withdrawn_consent_gives_nothing(story: Story) -> None:
    token = story.token(story.mail)
    story.world.server.consents.withdraw(story.consent, by=BY)
    assert not story.world.active(story.mail, token)
    refused(story.exchange(resource=story.mail.uri), "invalid_request")
    refused(story.world.exchange(story.assistant, story.consent, CONSENT, resource=story.mail.uri), "invalid_request")


def test_a_narrowed_consent_gives_what_is_left(story: Story) -> None:
    token = story.token(story.mail)
    consent = story.world.server.consents.find(story.consent)
    assert consent is not None
    left = frozenset(pair for pair in consent.value.pairs if pair != Pair(story.mail.uri, "mail:read"))
    story.world.server.consents.narrow(story.consent, pairs=left, until=consent.value.until, by=BY)
    assert not story.world.active(story.mail, token)
    refused(story.exchange(resource=story.calendar.uri), "invalid_request")
    again = story.world.exchange(story.assistant, story.consent, CONSENT, resource=story.calendar.uri)
    assert again.status == 200
    answer = story.world.exchange(story.assistant, story.consent, CONSENT, resource=story.mail.uri)
    assert answer.error in {"invalid_target", "invalid_scope"}


# The task


def test_naming_another_task_than_the_subject_tokens_is_refused(story: Story) -> None:
    assert story.exchange(resource=story.mail.uri, task_id=story.given["task_id"]).status == 200
    refused(story.exchange(resource=story.mail.uri, task_id="tsk_other"), "invalid_request")
    refused(story.world.exchange(story.assistant, story.consent, CONSENT, resource=story.mail.uri, task_id="tsk_other"), "invalid_request")


def test_a_task_ended_by_a_person_is_not_reopened_by_the_agent(story: Story) -> None:
    token = story.token(story.mail)
    story.world.server.tasks.end(story.given["task_id"], by=BY)
    assert not story.world.active(story.mail, token)
    refused(story.exchange(resource=story.mail.uri), "invalid_request")
    refused(story.world.exchange(story.assistant, story.consent, CONSENT, resource=story.mail.uri), "invalid_request")


# Whatever happens is on record


def test_a_refusal_is_recorded_as_the_agents_and_its_id_is_told(story: Story) -> None:
    answer = story.exchange(resource=story.mail.uri, scope="mail:send")
    refused(answer, "invalid_scope")
    (record,) = story.world.ledger(id=answer.json["audit_id"])
    assert record["event"] == "token.refused"
    assert record["outcome"] == "deny"
    assert record["who"]["actors"] == [story.assistant.uri]
    assert record["error"] == "invalid_scope"
    assert record["layer"] == "scope"
    assert story.handover not in str(record)


def test_a_permit_is_recorded_with_the_whole_chain_and_what_each_layer_took(story: Story) -> None:
    handed = story.handed()
    (record,) = story.world.ledger(jti=claims_of(handed)["jti"], event="token.issued")
    assert f"{story.mail.uri} mail:read" in next(taken["pairs"] for taken in record["layers"] if taken["layer"] == "ceiling")
    token = story.world.exchange(story.booking, handed).ok()["access_token"]
    (record,) = story.world.ledger(jti=claims_of(token)["jti"], event="token.issued")
    assert record["who"]["actors"] == [story.booking.uri, story.assistant.uri]
    assert record["who"]["human"] == story.alice.id
    assert record["consent"] == story.consent
    assert record["scope"] == {story.travel.uri: ["travel:book", "travel:search"]}
    assert PASSWORD not in str(record)


def test_a_refusal_uses_the_assertion_up(story: Story) -> None:
    world = story.world
    members, _ = world.credentials(story.assistant)
    form = {"grant_type": EXCHANGE, "subject_token": story.handover, "subject_token_type": ACCESS_TOKEN, "resource": story.mail.uri}
    refused(world.post("/oauth/token", {**form, **members, "scope": "mail:send"}), "invalid_scope")
    refused(world.post("/oauth/token", {**form, **members}), "invalid_client", 401)


def test_after_everything_was_revoked_no_consent_works_however_often_it_is_tried(story: Story) -> None:
    token = story.token(story.mail)
    story.world.server.revocation.end(DEPLOYMENT, by=BY)
    assert not story.world.active(story.mail, token)
    for _ in range(4):
        refused(story.world.exchange(story.assistant, story.consent, CONSENT, resource=story.mail.uri), "invalid_request")
        refused(story.exchange(resource=story.mail.uri), "invalid_request")


def test_an_agent_that_is_suspended_and_resumed_gets_nothing_by_an_old_consent_however_often_it_tries(story: Story) -> None:
    story.world.server.agent_registry.suspend(story.assistant.id, by=BY)
    story.world.server.agent_registry.resume(story.assistant.id, by=BY)
    for _ in range(4):
        refused(story.world.exchange(story.assistant, story.consent, CONSENT, resource=story.mail.uri), "invalid_request")


def test_a_task_may_be_named_with_a_token_without_act(story: Story) -> None:
    world = story.world
    app = world.app(pairs=[(story.calendar, "calendar:read")])
    verifier = secrets.token_urlsafe(48)
    code = world.signed_in(story.alice).code(world.authorization(app, verifier, story.calendar, scope="calendar:read"))
    token = world.redeem(app, code, verifier).ok()["access_token"]
    world.server.agent_registry.entitle(story.assistant.id, audience=story.calendar.uri, target=story.calendar.uri, by=BY)
    asked = {"resource": story.calendar.uri}
    assert world.exchange(story.assistant, token, task_id=story.given["task_id"], **asked).ok()["task_id"] == story.given["task_id"]
    refused(world.exchange(story.assistant, token, task_id="tsk_other", **asked), "invalid_request")


def test_a_refusal_by_the_decision_is_recorded_with_whose_and_under_what(story: Story) -> None:
    answer = story.exchange(resource=story.mail.uri, scope="mail:send")
    (record,) = story.world.ledger(id=answer.json["audit_id"])
    assert record["who"]["human"] == story.alice.id
    assert (record["consent"], record["task"]) == (story.consent, story.given["task_id"])
    assert record["parent"] == claims_of(story.handover)["jti"]


def test_a_line_break_in_a_posted_authorization_request_is_a_bad_request(story: Story) -> None:
    for body in (b"client_id=x\r\nSet-Cookie: a=b", b"client_id=x\ny", b"a=%zz", b"a=\xff"):
        answer = story.world.http.send("POST", "/oauth/authorize", body, {"Content-Type": "application/x-www-form-urlencoded"})
        assert answer.status == 400, answer.status
