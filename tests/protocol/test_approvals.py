"""A human in the loop: policies that ask, the exchange that waits, the page, the CIBA grant (OIDC CIBA Core, protocol §5)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.copies import enrolled
from tests.dpop import Holder, ask
from tests.policies import in_force
from tests.protocol.answers import recorded, refused
from tests.protocol.conftest import Later
from tests.protocol.test_tasks import Story, at_once, story
from tests.world import BY, CONSENT, EXCHANGE, PASSWORD, Answer, Browser, Party, checkboxes, claims_of, hidden

__all__ = ["story"]

CIBA = "urn:openid:params:grant-type:ciba"
MAIL = "Personal mail is sent only when its owner has seen it"


def asking(story: Story, scope: str = "mail:send", ask: str = "approval") -> str:
    """A policy that asks the human of this story only."""
    return (
        f'@ask("{ask}") forbid (principal, action, resource == Resource::"{story.mail.uri}") when {{ context.scopes.contains("{scope}") }};'
    )


@pytest.fixture
def careful(story: Story) -> Iterator[Story]:
    """Alice's assistant, where sending mail needs her yes."""
    with in_force(story.world.server, asking(story)):
        yield story


def sends(story: Story, **form: str) -> Answer:
    return story.exchange(story.mail, scope="mail:send", **form)


def asked(story: Story, **form: str) -> str:
    """The auth_req_id of a token that waits."""
    body = refused(sends(story, **form), "authorization_pending")
    assert (0 < body["expires_in"] <= 600) and body["interval"] == 5
    return str(body["auth_req_id"])


def poll(story: Story, auth_req_id: str, client: Party | None = None, **form: str) -> Answer:
    return story.world.token(client or story.assistant, {"grant_type": CIBA, "auth_req_id": auth_req_id, **form})


def backchannel(story: Story, client: Party | None = None, **form: str) -> Answer:
    client = client or story.assistant
    members, headers = story.world.credentials(client)
    hint = {} if {"id_token_hint", "login_hint_token"} & form.keys() else {"login_hint": story.consent}
    sent = {"scope": "openid mail:read", "resource": story.mail.uri, **hint, **form, **members}
    return story.world.post("/oauth/bc-authorize", {name: value for name, value in sent.items() if value}, headers)


def inbox(browser: Browser) -> list[str]:
    """Paths of the questions that wait."""
    page = browser.get("/my/approvals")
    assert page.status == 200, page.text
    return re.findall(r'class="button" href="(/my/approvals/apr_[^"]+)"', page.text)


def answer(
    browser: Browser,
    path: str | None = None,
    *,
    allow: bool = True,
    untick: tuple[str, ...] = (),
    password: str = "",
    page: Answer | None = None,
) -> Answer:
    """Look at a question (the only one), and answer it."""
    if path is None:
        (path,) = inbox(browser)
    page = page or browser.get(path)
    assert page.status == 200, page.text
    form = hidden(page) + [("scope", value) for value in checkboxes(page, "scope") if value.rsplit(" ", 1)[1] not in untick]
    if password:
        form.append(("password", password))
    return browser.post(path, [*form, ("decision", "allow" if allow else "deny")])


def allowed(story: Story, **more: Any) -> None:
    said = answer(story.browser, **more)
    assert said.status == 303 and "answered=" in said.headers["Location"], (said.status, said.text)


def records(story: Story, event: str, **having: Any) -> list[dict[str, Any]]:
    return recorded(story.world, event, story.assistant, **having)


# A policy asks, a human answers, one token is issued


def test_what_a_policy_asks_is_issued_once_she_has_said_yes(careful: Story) -> None:
    waiting = refused(sends(careful), "authorization_pending")
    auth_req_id = waiting["auth_req_id"]
    refused(poll(careful, auth_req_id), "authorization_pending")
    allowed(careful)
    given = poll(careful, auth_req_id).ok()
    claims = claims_of(given["access_token"])
    assert (claims["sub"], claims["act"]["sub"], claims["scope"]) == (careful.alice.id, careful.assistant.uri, "mail:send")
    assert given["consent_id"] == careful.consent and given["expires_in"] <= 300
    assert careful.world.active(careful.mail, given["access_token"])
    (question,) = records(careful, "approval.asked")
    assert question["id"] == waiting["audit_id"] and question["scope"] == {careful.mail.uri: ["mail:send"]}
    assert question["who"] == {
        "actors": [careful.assistant.uri], "human": careful.alice.id, "client": careful.assistant.client_id, "owner": careful.alice.id,
    }  # fmt: skip
    (yes,) = records(careful, "approval.allowed")
    assert yes["approval"] == question["approval"] and yes["parameters"] == question["parameters"]
    assert records(careful, "approval.redeemed", approval=question["approval"])
    (issued,) = careful.world.ledger(event="token.issued", jti=claims["jti"])
    assert issued["approval"] == question["approval"]


def test_an_approval_is_good_for_one_token(careful: Story) -> None:
    auth_req_id = asked(careful)
    allowed(careful)
    token = poll(careful, auth_req_id).ok()["access_token"]
    body = refused(poll(careful, auth_req_id), "invalid_grant")
    (record,) = careful.world.ledger(id=body["audit_id"])
    assert (record["layer"], record["reason"]) == ("approval", "used before")
    # What is derived from it is asked about anew.
    refused(careful.world.exchange(careful.assistant, token), "authorization_pending")
    assert careful.world.active(careful.mail, token)


def test_what_no_policy_asks_about_needs_nobody(careful: Story) -> None:
    careful.token(careful.mail, scope="mail:read")
    body = refused(careful.exchange(careful.mail, scope="mail:read mail:send"), "authorization_pending")
    assert body["permitted_scope"] == "mail:read"


def test_the_same_asked_with_another_token_is_a_new_question_where_the_first_was_revoked(story: Story) -> None:
    first, second = (story.exchange(story.mail).ok()["access_token"] for _ in range(2))

    def asked_with(token: str) -> str:
        answer = story.world.exchange(story.assistant, token, resource=story.mail.uri, scope="mail:send")
        return str(refused(answer, "authorization_pending")["auth_req_id"])

    with in_force(story.world.server, asking(story)):
        waits = asked_with(first)
        assert asked_with(second) == waits
        assert story.world.revoke(story.assistant, first).status == 200
        anew = asked_with(second)
        assert anew != waits
        found = story.world.server.approvals.find(anew)
        assert found is not None
        allowed(story, path=f"/my/approvals/{found.id}")
        assert claims_of(poll(story, anew).ok()["access_token"])["scope"] == "mail:send"


def test_the_same_asked_again_is_the_same_question(careful: Story) -> None:
    auth_req_id = asked(careful)
    assert asked(careful) == auth_req_id
    assert len(inbox(careful.browser)) == 1
    allowed(careful)
    assert asked(careful) == auth_req_id
    poll(careful, auth_req_id).ok()
    assert asked(careful) != auth_req_id


def test_a_no_stands_for_a_while(careful: Story, later: Later) -> None:
    auth_req_id = asked(careful)
    answer(careful.browser, allow=False)
    body = refused(poll(careful, auth_req_id), "access_denied")
    assert body["layer"] == "human"
    assert refused(sends(careful), "access_denied")["layer"] == "human"
    assert records(careful, "approval.denied")
    later(601)
    asked(careful)


@pytest.mark.parametrize(
    "changed",
    [
        {"scope": "mail:read mail:send"}, {"scope": "mail:read"}, {"resource": "https://elsewhere.example"}, {"audience": "https://elsewhere.example"},
        {"task_id": "tsk_other"}, {"subject_token": "x"}, {"authorization_details": "[]"}, {"binding_message": "Another"},
    ],
    ids=lambda changed: next(iter(changed)),
)  # fmt: skip
def test_parameters_that_come_with_it_change_nothing(careful: Story, changed: dict[str, str]) -> None:
    auth_req_id = asked(careful)
    allowed(careful)
    refused(poll(careful, auth_req_id, **changed), "invalid_request")
    assert claims_of(poll(careful, auth_req_id).ok()["access_token"])["scope"] == "mail:send"


def test_kept_parameters_that_somebody_changed_are_not_hers(careful: Story) -> None:
    from app.tokens.models import ApprovalRow

    auth_req_id = asked(careful)
    allowed(careful)
    with careful.world.server.database.transaction() as session:
        row = session.query(ApprovalRow).filter_by(human=careful.alice.id).one()
        row.parameters = {**row.parameters, "pairs": [[careful.mail.uri, "mail:read"], [careful.mail.uri, "mail:send"]]}
    refused(poll(careful, auth_req_id), "invalid_grant")


@pytest.mark.parametrize("days", [89, 91])
def test_a_question_is_shown_for_a_season_after_its_end(careful: Story, days: int) -> None:
    from app.tokens.models import ApprovalRow

    old = asked(careful)
    allowed(careful)
    token = poll(careful, old).ok()["access_token"]
    with careful.world.server.database.transaction() as session:
        session.query(ApprovalRow).filter_by(human=careful.alice.id).one().expires_at -= days * 86_400
    assert asked(careful) != old
    with careful.world.server.database.reading() as session:
        assert session.query(ApprovalRow).filter_by(human=careful.alice.id).count() == (2 if days < 90 else 1)
    refused(poll(careful, old), "invalid_grant")
    assert careful.world.active(careful.mail, token)


def test_another_agent_has_no_use_for_it(careful: Story) -> None:
    other = careful.world.agent(careful.alice, ceiling=[(careful.mail, "mail:send")])
    auth_req_id = asked(careful)
    allowed(careful)
    refused(poll(careful, auth_req_id, other), "invalid_grant")
    refused(poll(careful, "arq_" + "A" * 43), "invalid_grant")
    refused(poll(careful, ""), "invalid_request")
    poll(careful, auth_req_id).ok()


def test_another_human_sees_and_answers_nothing(careful: Story) -> None:
    auth_req_id = asked(careful)
    (path,) = inbox(careful.browser)
    page = careful.browser.get(path)
    bob = careful.world.signed_in(careful.world.human())
    assert inbox(bob) == []
    assert bob.get(path).status == 404
    assert bob.post(path, [*hidden(page), ("decision", "allow"), ("scope", f"{careful.mail.uri} mail:send")]).status == 404
    assert careful.world.browser().get(path).status == 303
    refused(poll(careful, auth_req_id), "authorization_pending")


def test_an_expired_question_gives_nothing(careful: Story, later: Later) -> None:
    auth_req_id = asked(careful)
    (path,) = inbox(careful.browser)
    page = careful.browser.get(path)
    later(601)
    assert inbox(careful.browser) == []
    assert "over=1" in answer(careful.browser, path, page=page).headers["Location"]
    refused(poll(careful, auth_req_id), "expired_token")
    refused(poll(careful, auth_req_id), "expired_token")
    assert len(records(careful, "approval.expired")) == 1


def test_a_yes_is_good_for_five_minutes(careful: Story, later: Later) -> None:
    auth_req_id = asked(careful)
    allowed(careful)
    later(301)
    refused(poll(careful, auth_req_id), "expired_token")


def test_who_polls_too_fast_is_told_to_slow_down(careful: Story) -> None:
    auth_req_id = asked(careful)
    refused(poll(careful, auth_req_id), "authorization_pending")
    refused(poll(careful, auth_req_id), "slow_down")
    allowed(careful)
    poll(careful, auth_req_id).ok()


def test_an_assertion_is_used_up_by_waiting(careful: Story) -> None:
    from tests.protocol.answers import asserted

    world = careful.world
    auth_req_id = asked(careful)
    for form in ({"grant_type": CIBA, "auth_req_id": auth_req_id}, {
        "grant_type": EXCHANGE, "subject_token": careful.consent, "subject_token_type": CONSENT, "resource": careful.mail.uri, "scope": "mail:send",
    }):  # fmt: skip
        assertion = world.assertion(careful.assistant)
        refused(world.post("/oauth/token", asserted(assertion, form)), "authorization_pending")
        refused(world.post("/oauth/token", asserted(assertion, form)), "invalid_client", 401)


def test_fifty_at_once_get_one_token(careful: Story) -> None:
    auth_req_id = asked(careful)
    allowed(careful)
    answers = at_once(50, lambda _at: poll(careful, auth_req_id))
    assert sorted(answer.status for answer in answers) == [200] + [400] * 49
    assert {answer.error for answer in answers if answer.status == 400} == {"invalid_grant"}
    assert len(careful.world.ledger(event="token.issued", grant_type=CIBA, consent=careful.consent)) == 1


# Bounds


def test_the_hundredth_question_is_refused_and_recorded(careful: Story) -> None:
    tasks = [careful.task() for _ in range(30)]
    answers = [sends(careful, task_id=task) for task in tasks]
    assert [answer.error for answer in answers[:20]] == ["authorization_pending"] * 20
    for one in answers[20:]:
        assert refused(one, "access_denied")["layer"] == "limit"
    (record,) = careful.world.ledger(id=answers[-1].json["audit_id"])
    assert (record["event"], record["layer"]) == ("token.refused", "limit")
    assert len(inbox(careful.browser)) == 20
    # What hangs on an ended task waits for nobody, and makes room.
    careful.end(tasks[0])
    assert len(inbox(careful.browser)) == 19
    assert sends(careful, task_id=tasks[25]).error == "authorization_pending"


def test_a_question_that_runs_out_soon_keeps_its_place_for_a_while(careful: Story, later: Later) -> None:
    def ask_briefly(number: int) -> Answer:
        return backchannel(careful, binding_message=f"Number {number}", requested_expiry="1")

    first = ask_briefly(0).ok()["auth_req_id"]
    for number in range(1, 20):
        ask_briefly(number).ok()
    later(2)
    refused(poll(careful, first), "expired_token")
    assert inbox(careful.browser) == []
    assert refused(ask_briefly(20), "access_denied", 403)["layer"] == "limit"
    later(660)
    ask_briefly(20).ok()


def test_questions_asked_at_once_are_one_question(careful: Story) -> None:
    answers = at_once(20, lambda _at: sends(careful))
    assert len({answer.json["auth_req_id"] for answer in answers}) == 1
    assert len(inbox(careful.browser)) == 1


def test_who_says_no_five_times_is_left_alone(careful: Story) -> None:
    tasks = [careful.task() for _ in range(6)]
    for task in tasks[:5]:
        asked(careful, task_id=task)
        answer(careful.browser, allow=False)
    assert refused(sends(careful, task_id=tasks[5]), "access_denied")["layer"] == "limit"


# What ends while it waits


def withdrawn(story: Story) -> None:
    story.world.server.consents.withdraw(story.consent, by=BY)


def suspended(story: Story) -> None:
    story.world.server.agent_registry.suspend(story.assistant.id, by=BY)
    story.world.server.agent_registry.resume(story.assistant.id, by=BY)


def disabled(story: Story) -> None:
    story.world.server.resource_registry.disable(story.mail.uri, by=BY)
    story.world.server.resource_registry.enable(story.mail.uri, by=BY)


@pytest.mark.parametrize("happens", [withdrawn, suspended, disabled], ids=lambda happens: happens.__name__)
@pytest.mark.parametrize("when", ["waiting", "allowed"])
def test_what_ends_takes_its_questions_along(careful: Story, happens: Callable[[Story], None], when: str) -> None:
    auth_req_id = asked(careful)
    (path,) = inbox(careful.browser)
    page = careful.browser.get(path)
    if when == "allowed":
        allowed(careful)
    happens(careful)
    if when == "waiting":
        assert inbox(careful.browser) == []
        assert "over=1" in answer(careful.browser, path, page=page).headers["Location"]
    refused(poll(careful, auth_req_id), "invalid_grant")
    assert records(careful, "approval.expired")
    refused(poll(careful, auth_req_id), "expired_token")


def test_a_task_that_ended_takes_its_questions_along(careful: Story) -> None:
    task = careful.task()
    auth_req_id = asked(careful, task_id=task)
    allowed(careful)
    careful.end(task)
    refused(poll(careful, auth_req_id), "invalid_grant")


def test_a_suspended_agent_cannot_even_ask_for_it(careful: Story) -> None:
    auth_req_id = asked(careful)
    allowed(careful)
    careful.world.server.agent_registry.suspend(careful.assistant.id, by=BY)
    refused(poll(careful, auth_req_id), "invalid_client", 401)


def test_a_revoked_subject_token_takes_its_question_along_and_an_expired_one_does_not(careful: Story, later: Later) -> None:
    world = careful.world
    for ends in (True, False):
        subject = careful.token(careful.mail, careful.task(), scope="mail:read")
        with in_force(world.server, asking(careful, "mail:read")):
            auth_req_id = refused(world.exchange(careful.assistant, subject), "authorization_pending")["auth_req_id"]
            allowed(careful)
            if ends:
                world.revoke(careful.assistant, subject)
                refused(poll(careful, auth_req_id), "invalid_grant")
            else:
                later(290)
                assert claims_of(subject)["exp"] - world_now() <= 10
                token = poll(careful, auth_req_id).ok()["access_token"]
                assert claims_of(token)["exp"] > claims_of(subject)["exp"]


def world_now() -> int:
    from app import clock

    return clock.timestamp()


# Narrowed


def test_she_may_allow_less(story: Story) -> None:
    with in_force(story.world.server, asking(story)):
        auth_req_id = refused(story.exchange(story.mail), "authorization_pending")["auth_req_id"]
        allowed(story, untick=("mail:send",))
        given = poll(story, auth_req_id).ok()
        assert given["scope"] == claims_of(given["access_token"])["scope"] == "mail:read"
        (yes,) = records(story, "approval.allowed")
        assert yes["scope"] == {story.mail.uri: ["mail:read"]}


def test_she_cannot_allow_more_nothing_or_what_she_was_not_shown(careful: Story) -> None:
    auth_req_id = asked(careful)
    (path,) = inbox(careful.browser)
    page = careful.browser.get(path)
    form = hidden(page)
    more = [("scope", f"{careful.mail.uri} mail:send"), ("scope", f"{careful.mail.uri} mail:read"), ("decision", "allow")]
    assert "over=1" in careful.browser.post(path, [*form, *more]).headers["Location"]
    assert careful.browser.post(path, [*form, ("decision", "allow")]).status == 400
    stale = [(name, "0" * 64 if name == "shown" else value) for name, value in form]
    assert "changed since" in careful.browser.post(path, [*stale, more[0], ("decision", "allow")]).text
    without = [(name, value) for name, value in form if name != "csrf_token"]
    assert careful.browser.post(path, [*without, more[0], ("decision", "allow")]).status == 403
    refused(poll(careful, auth_req_id), "authorization_pending")


# Policies that ask, and others


def test_a_policy_that_forbids_outweighs_one_that_asks(careful: Story) -> None:
    plain = f'forbid (principal, action, resource == Resource::"{careful.mail.uri}") when {{ context.scopes.contains("mail:send") }};'
    with in_force(careful.world.server, plain) as name:
        body = refused(sends(careful), "access_denied")
        assert (body["layer"], body["policy"]) == ("policy", name)
        assert inbox(careful.browser) == []


def test_a_new_no_outweighs_her_yes_and_kills_what_was_issued_on_it(careful: Story) -> None:
    first = asked(careful)
    allowed(careful)
    token = poll(careful, first).ok()["access_token"]
    second = asked(careful)
    allowed(careful)
    # Something changed, but not for this token: the policy that asked has her answer.
    with in_force(careful.world.server, 'forbid (principal, action, resource) when { context.operation == "never" };'):
        assert careful.world.active(careful.mail, token)
        plain = asking(careful).partition(") ")[2]
        with in_force(careful.world.server, plain):
            assert not careful.world.active(careful.mail, token)
            assert refused(poll(careful, second), "access_denied")["layer"] == "policy"
    assert careful.world.active(careful.mail, token)


def test_a_policy_she_was_not_told_of_is_not_answered(careful: Story) -> None:
    auth_req_id = asked(careful)
    allowed(careful)
    with in_force(careful.world.server, asking(careful)) as name:
        body = refused(poll(careful, auth_req_id), "access_denied")
        assert (body["layer"], body["policy"]) == ("approval", name)
        # Asked again, it is another question, for both reasons.
        again = asked(careful)
        assert again != auth_req_id
        allowed(careful)
        poll(careful, again).ok()


def test_as_itself_an_agent_has_nobody_to_ask(story: Story) -> None:
    world = story.world
    clerk = world.agent(story.alice, own=[(story.mail, "mail:send")])
    with in_force(world.server, asking(story)) as name:
        body = refused(world.own_token(clerk, resource=story.mail.uri), "access_denied")
        assert (body["layer"], body["policy"]) == ("policy", name)


# Fresh sign-ins


def test_a_sign_in_that_is_fresh_enough_needs_nobody(story: Story) -> None:
    with in_force(story.world.server, asking(story, ask="sign-in:300")):
        story.token(story.mail, scope="mail:send")


def test_an_old_sign_in_is_renewed_on_the_page(story: Story, later: Later) -> None:
    later(400)
    with in_force(story.world.server, asking(story, ask="sign-in:300")):
        body = refused(sends(story), "authorization_pending")
        assert (body["max_age"], body["acr_values"]) == (300, "urn:deputy:acr:password")
        (path,) = inbox(story.browser)
        assert 'name="password"' in story.browser.get(path).text
        assert answer(story.browser, path, password="wrong").status == 401
        assert answer(story.browser, path).status == 401
        refused(poll(story, body["auth_req_id"]), "authorization_pending")
        allowed(story, password=PASSWORD)
        given = poll(story, body["auth_req_id"]).ok()
        assert claims_of(given["access_token"])["auth_time"] >= world_now() - 10
        assert story.world.active(story.mail, given["access_token"])
        # She goes on as the same session, under a new secret.
        assert story.browser.get("/my/agents").status == 200
        with in_force(story.world.server, 'forbid (principal, action, resource) when { context.operation == "never" };'):
            assert story.world.active(story.mail, given["access_token"])


def test_who_is_at_the_browser_anyway_is_sent_there_again(story: Story, later: Later) -> None:
    world = story.world
    agent = world.agent(story.alice, ceiling=[(story.mail, "mail:send")])
    given = world.consented(story.browser, agent, story.mail, scope="mail:send", away=True)
    later(400)
    with in_force(world.server, asking(story, ask="sign-in:300")) as name:
        form = {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}
        body = refused(world.token(agent, form), "insufficient_user_authentication")
        assert (body["max_age"], body["acr_values"], body["policy"]) == (300, "urn:deputy:acr:password", name)
    # A refusal has not used it up.
    world.token(agent, form).ok()


# Asked of its own accord


def test_an_agent_asks_by_itself(story: Story) -> None:
    message = "Booking 4711"
    waiting = backchannel(story, binding_message=message, requested_expiry="60").ok()
    assert set(waiting) == {"auth_req_id", "expires_in", "interval"}
    assert waiting["expires_in"] <= 60
    (path,) = inbox(story.browser)
    page = story.browser.get(path).text
    assert message in page and "of its own accord" in page and "Know that it is you" in page
    allowed(story)
    given = poll(story, waiting["auth_req_id"]).ok()
    assert given["scope"] == "mail:read openid"
    identity = claims_of(given["id_token"])
    assert (identity["sub"], identity["aud"]) == (story.alice.id, story.assistant.client_id)
    (question,) = records(story, "approval.asked")
    assert question["grant_type"] == CIBA and "forbidden_by" not in question


def test_metadata_says_so(story: Story) -> None:
    found = story.world.get("/.well-known/openid-configuration").ok()
    assert found["backchannel_authentication_endpoint"] == story.world.issuer + "/oauth/bc-authorize"
    assert found["backchannel_token_delivery_modes_supported"] == ["poll"]
    assert CIBA in found["grant_types_supported"]


def test_the_hints(story: Story) -> None:
    backchannel(story, login_hint=story.alice.id).ok()
    token = story.token(story.mail, scope="mail:read")
    backchannel(story, login_hint_token=token).ok()
    first = backchannel(story, login_hint=story.alice.id, binding_message="First").ok()
    (path,) = [path for path in inbox(story.browser) if "First" in story.browser.get(path).text]
    answer(story.browser, path)
    signed = poll(story, first["auth_req_id"]).ok()
    backchannel(story, id_token_hint=signed["id_token"]).ok()
    refused(backchannel(story, login_hint=""), "invalid_request")
    refused(backchannel(story, login_hint_token=token, login_hint=story.consent), "invalid_request")
    refused(backchannel(story, id_token_hint=token), "invalid_request")
    refused(backchannel(story, login_hint_token="x"), "invalid_request")


def test_an_agent_asks_only_who_has_a_live_consent_for_it(story: Story) -> None:
    world, other = story.world, story.world.agent(story.alice, ceiling=[(story.mail, "mail:read")])
    stranger = world.human()
    bodies = [
        refused(backchannel(story, login_hint=stranger.id), "unknown_user_id"),
        refused(backchannel(story, login_hint="hum_nobody"), "unknown_user_id"),
        refused(backchannel(story, other), "unknown_user_id"),
        refused(backchannel(story, other, login_hint=story.alice.id), "unknown_user_id"),
        refused(backchannel(story, login_hint="con_nobody"), "unknown_user_id"),
    ]
    assert len({body["error_description"] for body in bodies}) == 1
    withdrawn(story)
    refused(backchannel(story), "unknown_user_id")
    app = world.app()
    refused(backchannel(story, app), "unauthorized_client")


def test_a_hint_that_is_over(story: Story, later: Later) -> None:
    token = story.token(story.mail, scope="mail:read")
    later(301)
    refused(backchannel(story, login_hint_token=token), "expired_login_hint_token")


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"scope": "openid"}, "invalid_scope"),
        ({"scope": "openid mail:delete"}, "invalid_scope"),
        ({"scope": "openid offline_access mail:read"}, "invalid_scope"),
        ({"resource": "https://elsewhere.example"}, "invalid_target"),
        ({"resource": ""}, "invalid_target"),
        ({"binding_message": "x" * 201}, "invalid_binding_message"),
        ({"binding_message": "two\nlines"}, "invalid_binding_message"),
        ({"binding_message": "\u202egnp.exe"}, "invalid_binding_message"),
        ({"requested_expiry": "0"}, "invalid_request"),
        ({"requested_expiry": "soon"}, "invalid_request"),
        ({"acr_values": "urn:other"}, "unmet_authentication_requirements"),
        ({"request": "eyJ"}, "invalid_request"),
        ({"authorization_details": '[{"type": "payment"}]'}, "invalid_authorization_details"),
        ({"task_id": "tsk_other"}, "invalid_request"),
    ],
)
def test_a_question_that_is_not_understood_is_not_asked(story: Story, form: dict[str, str], error: str) -> None:
    body = refused(backchannel(story, **form), error)
    assert story.world.ledger(id=body["audit_id"])
    assert inbox(story.browser) == []


def test_what_a_policy_forbids_is_not_asked(story: Story) -> None:
    plain = asking(story, "mail:read").partition(") ")[2]
    with in_force(story.world.server, plain):
        refused(backchannel(story), "access_denied", 403)
    assert inbox(story.browser) == []


def test_a_consent_for_when_she_is_there_lets_her_agent_ask(story: Story) -> None:
    world = story.world
    agent = world.agent(story.alice, ceiling=[(story.mail, "mail:read")])
    consent = world.consented(story.browser, agent, story.mail, scope="mail:read")["consent_id"]
    there = replace(story, assistant=agent, consent=consent)
    auth_req_id = backchannel(there).ok()["auth_req_id"]
    allowed(there)
    poll(there, auth_req_id).ok()
    # Signed out, it is over.
    auth_req_id = backchannel(there).ok()["auth_req_id"]
    page = story.browser.get("/logout")
    story.browser.post("/logout", hidden(page))
    refused(poll(there, auth_req_id), "invalid_grant")


# Keys


def test_what_was_asked_with_a_key_is_issued_to_that_key(careful: Story) -> None:
    holder, other, world = Holder(), Holder(), careful.world
    form = {
        "grant_type": EXCHANGE,
        "subject_token": careful.consent,
        "subject_token_type": CONSENT,
        "resource": careful.mail.uri,
        "scope": "mail:send",
    }
    auth_req_id = refused(ask(world, careful.assistant, form, holder), "authorization_pending")["auth_req_id"]
    allowed(careful)
    redeem = {"grant_type": CIBA, "auth_req_id": auth_req_id}
    refused(ask(world, careful.assistant, redeem), "invalid_dpop_proof")
    refused(ask(world, careful.assistant, redeem, other), "invalid_dpop_proof")
    given = ask(world, careful.assistant, redeem, holder).ok()
    assert (given["token_type"], claims_of(given["access_token"])["cnf"]) == ("DPoP", {"jkt": holder.jkt})


def test_what_one_running_copy_asked_is_for_that_copy(careful: Story) -> None:
    world = careful.world
    first, second = enrolled(world, careful.assistant), enrolled(world, careful.assistant)
    form = {"resource": careful.mail.uri, "scope": "mail:send"}
    auth_req_id = refused(first.exchange(world, careful.consent, CONSENT, bound=False, **form), "authorization_pending")["auth_req_id"]
    # Another copy, and the agent itself, ask questions of their own.
    assert (
        refused(second.exchange(world, careful.consent, CONSENT, bound=False, **form), "authorization_pending")["auth_req_id"]
        != auth_req_id
    )
    for path in inbox(careful.browser):
        answer(careful.browser, path)
    redeem = {"grant_type": CIBA, "auth_req_id": auth_req_id}
    refused(second.ask(world, redeem, bound=False), "invalid_grant")
    refused(poll(careful, auth_req_id), "invalid_grant")
    claims = claims_of(first.ask(world, redeem, bound=False).ok()["access_token"])
    assert claims["act"]["instance"] == first.told["instance_id"]


# Chains and hand-overs


def test_the_chain_is_kept(story: Story) -> None:
    world = story.world
    second = world.agent(story.alice, ceiling=[(story.mail, "mail:read")], name="Booker")
    first = world.agent(story.alice, ceiling=[(story.mail, "mail:read")], hands_to=[second], name="Planner")
    given = world.consented(story.browser, first, story.mail, scope="mail:read", away=True)["access_token"]
    handed = world.exchange(first, given, audience=second.uri).ok()["access_token"]
    with in_force(world.server, asking(story, "mail:read")):
        auth_req_id = refused(world.exchange(second, handed), "authorization_pending")["auth_req_id"]
        (path,) = inbox(story.browser)
        page = story.browser.get(path).text
        assert "Booker" in page and "Planner" in page
        assert answer(story.browser, path).status == 303
        claims = claims_of(poll(story, auth_req_id, second).ok()["access_token"])
    assert (claims["act"]["sub"], claims["act"]["act"]["sub"]) == (second.uri, first.uri)


def test_a_hand_over_is_asked_about_too(story: Story) -> None:
    world = story.world
    second = world.agent(story.alice, ceiling=[(story.mail, "mail:read")], name="Booker")
    first = world.agent(story.alice, ceiling=[(story.mail, "mail:read")], hands_to=[second])
    given = world.consented(story.browser, first, story.mail, scope="mail:read", away=True)["access_token"]
    text = f'@ask("approval") forbid (principal, action == Action::"hand_over", resource == Agent::"{second.uri}");'
    with in_force(world.server, text):
        auth_req_id = refused(world.exchange(first, given, audience=second.uri), "authorization_pending")["auth_req_id"]
        (path,) = inbox(story.browser)
        assert "hand to Booker" in story.browser.get(path).text
        answer(story.browser, path)
        handed = poll(story, auth_req_id, first).ok()
    assert claims_of(handed["access_token"])["aud"] == second.uri
    world.exchange(second, handed["access_token"]).ok()
    # Taken off the list meanwhile, it is not handed over: the rules run again.


def test_an_actor_token_is_shown_again(careful: Story) -> None:
    world = careful.world
    kind = "urn:ietf:params:oauth:token-type:access_token"
    actor = {"actor_token": careful.own, "actor_token_type": kind}
    auth_req_id = asked(careful, **actor)
    allowed(careful)
    refused(poll(careful, auth_req_id), "invalid_request")
    own = world.own_token(careful.assistant).ok()["access_token"]
    poll(careful, auth_req_id, actor_token=own, actor_token_type=kind).ok()


# Limits and give-back


def test_what_a_limit_refuses_has_not_used_the_approval_up(careful: Story) -> None:
    task = careful.task(limits={"live_tokens": 1})
    auth_req_id = asked(careful, task_id=task)
    allowed(careful)
    token = careful.token(careful.mail, task, scope="mail:read")
    assert refused(poll(careful, auth_req_id), "access_denied")["layer"] == "limit"
    assert records(careful, "approval.returned")
    assert careful.world.active(careful.mail, token)


def test_a_limit_is_kept_with_the_question_and_shown(careful: Story) -> None:
    world, task = careful.world, careful.task(limits={"amount": {"currency": "EUR", "max": "80.00"}})

    def details(most: str) -> str:
        entry = {"type": "resource_access", "locations": [careful.mail.uri], "actions": ["mail:send"]}
        return json.dumps([{**entry, "limits": {"amount": {"currency": "EUR", "max": most}}}])

    auth_req_id = asked(careful, task_id=task, authorization_details=details("30.00"))
    (path,) = inbox(careful.browser)
    assert "at most 30.00 EUR in all" in careful.browser.get(path).text
    allowed(careful)
    given = poll(careful, auth_req_id).ok()
    assert given["authorization_details"] == json.loads(details("30.00"))
    answer = world.exchange(careful.assistant, given["access_token"], authorization_details=details("30.01"))
    refused(answer, "invalid_authorization_details")


# Pages


def test_the_page_says_what_is_asked_and_why(careful: Story) -> None:
    task = careful.task(purpose="Answer the mail of Monday")
    asked(careful, task_id=task)
    (path,) = inbox(careful.browser)
    page = careful.browser.get(path)
    for words in ("Answer the mail of Monday", "Do mail:send", careful.assistant.uri, "A rule of the tests", "Allow once"):
        assert words in page.text, words
    assert "<script" not in page.text.lower()
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_the_navigation_counts_what_waits(careful: Story) -> None:
    assert 'id="badge-approvals"></span>' in careful.browser.get("/my/agents").text
    asked(careful)
    assert 'id="badge-approvals">1<' in careful.browser.get("/my/agents").text
    answer(careful.browser, allow=False)
    assert 'id="badge-approvals"></span>' in careful.browser.get("/my/agents").text


def test_without_a_sign_in_there_is_only_the_way_there(careful: Story) -> None:
    stranger = careful.world.browser()
    assert stranger.get("/my/approvals").headers["Location"] == "/login?next=/my/approvals"
    assert stranger.post("/my/approvals/apr_x", {"decision": "allow"}).status == 303


# What operators see


def deputy(story: Story, *words: str) -> Any:
    from click.testing import CliRunner

    from app.cli import cli

    result = CliRunner().invoke(cli, [*words, "--json"], obj=lambda: story.world.server)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_an_operator_lists_what_waits_and_says_no(careful: Story) -> None:
    auth_req_id = asked(careful)
    (row,) = deputy(careful, "approval", "list", "--human", careful.alice.username)
    assert (row["agent"], row["audience"], row["scopes"]) == (careful.assistant.uri, careful.mail.uri, [f"{careful.mail.uri} mail:send"])
    assert deputy(careful, "approval", "deny", row["approval"])["denied"]
    assert refused(poll(careful, auth_req_id), "access_denied")["layer"] == "human"
    assert inbox(careful.browser) == deputy(careful, "approval", "list", "--human", careful.alice.username) == []
    (record,) = records(careful, "approval.denied")
    assert record["who"]["operator"] == "command line"


def test_a_question_and_its_token_are_explained(careful: Story) -> None:
    waiting = refused(sends(careful), "authorization_pending")
    told = deputy(careful, "explain", waiting["audit_id"])
    assert (told["state"], told["policies"]["forbidden_by"]) == ("asked", [waiting["policy"]])
    allowed(careful)
    token = poll(careful, waiting["auth_req_id"]).ok()["access_token"]
    for reference in (waiting["audit_id"], claims_of(token)["jti"]):
        told = deputy(careful, "explain", reference)
        events = [one["record"]["event"] for one in told["approval"]]
        assert events == ["approval.asked", "approval.allowed", "approval.redeemed"]
        assert {layer["name"] for layer in told["layers"]} >= {"policy", "consent_covers"}


def test_a_trial_of_a_policy_tells_what_would_be_asked(story: Story) -> None:
    plain, softer = asking(story).partition(") ")[2], asking(story)
    permitted = claims_of(story.token(story.mail, scope="mail:send"))["jti"]
    with in_force(story.world.server, plain):
        no = refused(sends(story), "access_denied")["audit_id"]
    with in_force(story.world.server, softer) as name:
        question = refused(sends(story), "authorization_pending")
        allowed(story)
        approved = claims_of(poll(story, question["auth_req_id"]).ok()["access_token"])["jti"]
        assert story.world.ledger(event="token.issued", jti=approved)
        ids = {story.world.ledger(event="token.issued", jti=permitted)[0]["id"]: "permitted", no: "refused"}

        def differing(text: str) -> dict[str, tuple[str, str]]:
            story.world.server.policies.add(name, text, owner="hum_test", rule="A rule of the tests", by=BY)
            rows = deputy(story, "policy", "replay", name)["differences"]
            known = {*ids, question["audit_id"], story.world.ledger(event="token.issued", jti=approved)[0]["id"]}
            return {row["id"]: (row["was"], row["would_be"]) for row in rows if row["id"] in known}

        assert differing(softer) == {one: (was, f"asked of a human by {name}") for one, was in ids.items()}
        harder = differing(plain)
        assert harder[question["audit_id"]] == ("asked of a human", f"refused by {name}")
        assert len(harder) == 3 and no not in harder
