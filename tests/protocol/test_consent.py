"""What a human allows: shown, chosen, bound to what was shown, made smaller or ended at once (protocol, section 6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.agents.models import AgentRow
from app.authorization.answer import Answers
from app.clients.models import ClientRow
from app.delegation.models import ConsentRow
from app.errors import Refused
from app.humans.models import HumanRow
from app.live.commit import Commit
from app.resources.models import ResourceRow
from app.tokens.models import FamilyRow
from app.vocabulary import Pair
from tests.protocol.answers import landed, new_verifier, no_redirect, refresh, refused, sent_back
from tests.world import BY, CONSENT, REDIRECT, Answer, Api, Browser, Party, Person, World, checkboxes, claims_of, hidden

OTHER = "https://agent.example/other"
DAY = 86_400


@dataclass
class Story:
    world: World
    alice: Person
    owner: Person
    calendar: Api
    mail: Api
    helper: Party
    agent: Party
    browser: Browser

    def page(self, browser: Browser | None = None, client: Party | None = None, *resources: Api, **more: Any) -> Answer:
        query = self.world.authorization(client or self.agent, "v" * 43, *(resources or (self.calendar, self.mail)), **more)
        answer = (browser or self.browser).authorize(query)
        assert answer.status == 200, answer.headers
        return answer

    def given(self, browser: Browser | None = None, *, away: bool = False, **chosen: Any) -> dict[str, Any]:
        """What the agent gets when she allows calendar and mail."""
        return self.world.consented(browser or self.browser, self.agent, self.calendar, self.mail, away=away, **chosen)

    def token(self, given: dict[str, Any], api: Api | None = None) -> str:
        return str(self.exchange(given, api).ok()["access_token"])

    def exchange(self, given: dict[str, Any], api: Api | None = None) -> Answer:
        return self.world.exchange(self.agent, given["access_token"], resource=(api or self.mail).uri)

    def sign_out(self, browser: Browser | None = None) -> None:
        at = browser or self.browser
        assert at.post("/logout", hidden(at.get("/logout"))).status == 303

    def consents(self) -> int:
        with self.world.server.database.reading() as session:
            return session.scalar(select(func.count()).where(ConsentRow.human == self.alice.id)) or 0


@pytest.fixture
def story(world: World) -> Story:
    alice, owner = world.human(), world.human()
    calendar = world.resource("calendar:read", "calendar:write", name="The calendar")
    mail = world.resource("mail:read", name="The mail", labels=["confidential"])
    helper = world.agent(owner, ceiling=[(calendar, "calendar:read")], name="The helper")
    agent = world.agent(
        owner,
        ceiling=[(calendar, "calendar:read"), (calendar, "calendar:write"), (mail, "mail:read")],
        hands_to=[helper],
        name="The assistant",
        purpose="Plans your days",
        redirect_uris=(REDIRECT, OTHER),
    )
    return Story(world, alice, owner, calendar, mail, helper, agent, world.signed_in(alice))


# What is shown


def test_the_page_says_who_asks_for_whom_for_what_how_long_and_what_never(story: Story) -> None:
    text = story.page(away=True).text
    for words in (
        "Let The assistant act for you?", story.agent.uri, f"Name of {story.owner.username}", f"Name of {story.alice.username}", "agent.example",
        "Plans your days", "The calendar", "The mail", "confidential", "Do calendar:read", "Do calendar:write", "Do mail:read",
        "The helper", "1 hour", "30 days", "Also while I am away", "It never acted for you before", "What it can never do",
    ):  # fmt: skip
        assert words in text, words


def test_only_what_is_asked_is_shown_and_away_only_where_it_is(story: Story) -> None:
    text = story.page(None, None, story.calendar, scope="calendar:read").text
    assert "Do calendar:read" in text
    assert "Do calendar:write" not in text
    assert "The mail" not in text
    assert 'name="away"' not in text
    assert "Only while you are signed in" in text


def test_the_page_counts_how_often_it_acted_before(story: Story) -> None:
    given = story.given(away=True)
    story.token(given)
    assert story.world.ledger(
        event="token.issued", consent=given["consent_id"], grant_type="urn:ietf:params:oauth:grant-type:token-exchange"
    )
    assert "It acted for you" in story.page().text
    assert "It never acted for you before" in story.page(story.world.signed_in(story.world.human())).text


# What she chooses


def test_what_she_unticks_is_not_given(story: Story) -> None:
    given = story.given(untick=[f"{story.calendar.uri} calendar:write", f"{story.mail.uri} mail:read"])
    assert given["scope"] == "calendar:read"
    assert claims_of(given["access_token"])["aud"] == story.calendar.uri
    refused(story.exchange(given), "invalid_target")
    refused(story.world.exchange(story.agent, given["access_token"], scope="calendar:write"), "invalid_scope")


def test_unticking_everything_is_asked_again_and_gives_nothing(story: Story) -> None:
    page = story.page()
    answer = story.browser.decide(page, untick=checkboxes(page, "scope"))
    assert answer.status == 400
    assert "Choose at least one thing" in answer.text
    assert story.consents() == 0
    assert landed(story.browser.decide(replace(answer, status=200)))["code"]


@pytest.mark.parametrize("seconds", [3600, DAY, 7 * DAY])
def test_a_shorter_time_ends_it_sooner(story: Story, seconds: int, later) -> None:
    given = story.given(away=True, lifetime=seconds)
    assert seconds - 10 <= given["authorization_expires_in"] <= seconds
    later(seconds - 100)
    answer = story.world.exchange(story.agent, given["consent_id"], CONSENT, resource=story.mail.uri).ok()
    assert answer["expires_in"] <= 100
    assert story.world.active(story.mail, answer["access_token"])
    later(seconds + 1)
    assert not story.world.active(story.mail, answer["access_token"])
    refused(story.world.exchange(story.agent, given["consent_id"], CONSENT, resource=story.mail.uri), "invalid_request")
    refused(refresh(story.world, story.agent, given["refresh_token"], resource=story.mail.uri), "invalid_grant")


def test_without_away_it_lasts_no_longer_than_the_sign_in(story: Story) -> None:
    assert story.given(lifetime=30 * DAY)["authorization_expires_in"] <= DAY


@pytest.mark.parametrize("lifetime", [90 * DAY, 31 * DAY, 2**31, 10**9])
def test_more_time_than_was_offered_is_refused(story: Story, lifetime: int) -> None:
    assert story.browser.decide(story.page(), lifetime=lifetime).status == 400
    assert story.consents() == 0


@pytest.mark.parametrize("changed", [("lifetime", "0"), ("lifetime", "-1"), ("lifetime", "x"), ("lifetime", "1e3"), ("lifetime", "3600.5")])
def test_a_time_that_is_none_is_refused(story: Story, changed: tuple[str, str]) -> None:
    page = story.page()
    form = [*hidden(page), *[("scope", value) for value in checkboxes(page, "scope")], ("decision", "allow"), changed]
    assert story.browser.post("/consent", form).status == 400
    assert story.consents() == 0


def test_more_than_was_shown_cannot_be_ticked(story: Story) -> None:
    other = story.world.resource("read")
    for scope in (
        f"{story.calendar.uri} calendar:write",
        f"{other.uri} read",
        f"{story.mail.uri} unknown",
        "x",
        "",
        f"{story.mail.uri}  mail:read",
    ):
        page = story.page(None, None, story.mail)
        form = [*hidden(page), ("scope", f"{story.mail.uri} mail:read"), ("scope", scope), ("lifetime", "3600"), ("decision", "allow")]
        assert story.browser.post("/consent", form).status == 400
    page = story.page(None, None, story.mail)
    form = [*hidden(page), ("scope", f"{story.mail.uri} mail:read"), ("lifetime", "3600"), ("away", "yes"), ("decision", "allow")]
    assert story.browser.post("/consent", form).status == 400
    assert story.consents() == 0


@pytest.mark.parametrize("decision", ["", "Allow", "ALLOW", "yes", "allow deny"])
def test_nothing_but_allow_allows(story: Story, decision: str) -> None:
    page = story.page()
    form = [*hidden(page), *[("scope", value) for value in checkboxes(page, "scope")], ("lifetime", "3600"), ("decision", decision)]
    assert story.browser.post("/consent", form).status == 400
    assert story.browser.post("/consent", [*form, ("decision", "allow")]).status == 400
    assert story.consents() == 0


@pytest.mark.rfc("6749", "4.1.2.1")
def test_denying_tells_the_client_and_leaves_nothing(story: Story) -> None:
    found = sent_back(story.browser.decide(story.page(), allow=False), "access_denied", story.world.issuer)
    assert found["state"] == "xyz"
    assert story.consents() == 0
    assert "Nothing may act for you" in story.browser.get("/my/agents").text
    assert story.world.ledger(
        event="authorization.refused", error="access_denied", who={"client": story.agent.client_id, "human": story.alice.id}
    )


def test_one_page_gives_one_answer(story: Story) -> None:
    page = story.page()
    assert landed(story.browser.decide(page))["code"]
    no_redirect(story.browser.decide(page))
    assert story.consents() == 1
    page = story.page()
    sent_back(story.browser.decide(page, allow=False), "access_denied", story.world.issuer)
    no_redirect(story.browser.decide(page))
    assert story.consents() == 1


def test_a_page_is_answered_by_whom_it_was_shown_to(story: Story) -> None:
    page = story.page()
    bob = story.world.signed_in(story.world.human())
    assert bob.decide(page).status == 403
    assert story.world.browser().decide(page).status == 403
    again = story.world.signed_in(story.alice)
    assert again.decide(page).status == 403
    story.sign_out()
    assert story.browser.decide(page).status == 403
    assert story.consents() == 0


# Bound to what was shown


def _rename(world: World, session: Session, story: Story) -> None:
    session.get_one(AgentRow, story.agent.id).name = "The assistant of the bank"


def _purpose(world: World, session: Session, story: Story) -> None:
    session.get_one(AgentRow, story.agent.id).purpose = "Sells your days"


def _hands_to_nobody(world: World, session: Session, story: Story) -> None:
    session.get_one(AgentRow, story.agent.id).hands_to = []


def _hands_to_more(world: World, session: Session, story: Story) -> None:
    session.get_one(AgentRow, story.helper.id).hands_to = [story.agent.id]


def _less(world: World, session: Session, story: Story) -> None:
    session.get_one(AgentRow, story.agent.id).ceiling = [[story.calendar.uri, "calendar:read"], [story.mail.uri, "mail:read"]]


def _more(world: World, session: Session, story: Story) -> None:
    row = session.get_one(ResourceRow, story.mail.id)
    row.scopes = row.scopes | {"mail:send": "Send mail"}
    agent = session.get_one(AgentRow, story.agent.id)
    agent.ceiling = [*agent.ceiling, [story.mail.uri, "mail:send"]]


def _words(world: World, session: Session, story: Story) -> None:
    session.get_one(ResourceRow, story.mail.id).scopes = {"mail:read": "Read and forward your mail"}


def _labels(world: World, session: Session, story: Story) -> None:
    session.get_one(ResourceRow, story.mail.id).labels = []


def _api_name(world: World, session: Session, story: Story) -> None:
    session.get_one(ResourceRow, story.mail.id).name = "The post office"


def _owner(world: World, session: Session, story: Story) -> None:
    session.get_one(HumanRow, story.owner.id).name = "Somebody Else"


def _serves(world: World, session: Session, story: Story) -> None:
    session.get_one(AgentRow, story.helper.id).serves = story.calendar.uri


CHANGES = [_rename, _purpose, _hands_to_nobody, _hands_to_more, _less, _more, _words, _labels, _api_name, _owner, _serves]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_what_changed_since_it_was_shown_is_shown_again_and_not_allowed(
    story: Story, change: Callable[[World, Session, Story], None]
) -> None:
    page = story.page()
    with story.world.server.database.transaction() as session:
        change(story.world, session, story)
    answer = story.browser.decide(page)
    assert answer.status == 400
    assert "has changed since the page was shown" in answer.text
    assert story.consents() == 0
    assert landed(story.browser.decide(replace(answer, status=200)))["code"]
    assert story.consents() == 1


def test_what_is_gone_since_it_was_shown_cannot_be_allowed(story: Story) -> None:
    def unregister(session: Session) -> None:
        session.get_one(ClientRow, story.agent.client_id).redirect_uris = [OTHER]

    deeds: list[Callable[[], None]] = [
        lambda: story.world.server.agent_registry.suspend(story.agent.id, by=BY),
        lambda: story.world.server.resource_registry.disable(story.mail.id, by=BY),
    ]
    undo: list[Callable[[], None]] = [
        lambda: story.world.server.agent_registry.resume(story.agent.id, by=BY),
        lambda: story.world.server.resource_registry.enable(story.mail.id, by=BY),
    ]
    for do, back in zip(deeds, undo, strict=True):
        page = story.page()
        do()
        no_redirect(story.browser.decide(page))
        no_redirect(story.browser.decide(page, allow=False))
        back()
    page = story.page()
    with story.world.server.database.transaction() as session:
        unregister(session)
    no_redirect(story.browser.decide(page))
    no_redirect(story.browser.decide(page, allow=False))
    assert story.consents() == 0


MEANWHILE: dict[str, Callable[[Story], object]] = {
    "she is disabled": lambda story: story.world.server.accounts.disable(story.alice.id, by=BY),
    "she is signed out everywhere": lambda story: story.world.server.sessions.end_all(story.alice.id, by=BY),
    "the agent is suspended": lambda story: story.world.server.agent_registry.suspend(story.agent.id, by=BY),
    "everything is revoked": lambda story: story.world.server.sessions.end_everything(by=BY),
}


@pytest.mark.parametrize("what", MEANWHILE)
@pytest.mark.parametrize("away", [False, True])
def test_what_ends_in_the_middle_of_her_answer_gets_nothing(story: Story, monkeypatch: pytest.MonkeyPatch, what: str, away: bool) -> None:
    """The deed is acknowledged after the page was used up and before the consent is written: it was first."""
    page, commit = story.page(away=away), Answers._commit

    def slowly(self: Answers, which: Commit) -> None:
        commit(self, which)
        monkeypatch.setattr(Answers, "_commit", commit)
        MEANWHILE[what](story)

    monkeypatch.setattr(Answers, "_commit", slowly)
    answer = story.browser.decide(page, away=away)
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "0"
    assert story.consents() == 0
    with story.world.server.database.reading() as session:
        assert session.scalar(select(func.count()).where(FamilyRow.human == story.alice.id)) == 0


def test_the_digest_of_what_was_shown_is_kept_and_recorded(story: Story) -> None:
    given = story.given()
    with story.world.server.database.reading() as session:
        row = session.get_one(ConsentRow, given["consent_id"])
        assert len(row.shown) == 64
        shown = row.shown
    (record,) = story.world.ledger(event="consent.given", consent=given["consent_id"])
    assert record["shown"] == shown


# While she is away, or not


def test_without_away_signing_out_ends_what_was_issued_and_what_could_be(story: Story) -> None:
    world, given = story.world, story.given()
    token = story.token(given)
    handed = world.exchange(story.agent, given["access_token"], audience=story.helper.uri).ok()["access_token"]
    deep = world.exchange(story.helper, handed).ok()["access_token"]
    assert world.active(story.mail, token)
    assert world.active(story.calendar, deep)
    story.sign_out()
    assert not world.active(story.mail, token)
    assert not world.active(story.calendar, deep)
    refused(story.exchange(given), "invalid_request")
    refused(world.exchange(story.helper, handed), "invalid_request")
    refused(world.exchange(story.agent, given["consent_id"], CONSENT, resource=story.mail.uri), "invalid_request")
    world.signed_in(story.alice)
    refused(story.exchange(given), "invalid_request")


def test_with_away_signing_out_ends_nothing(story: Story) -> None:
    given = story.given(away=True)
    token = story.token(given)
    story.sign_out()
    assert story.world.active(story.mail, token)
    assert story.exchange(given).status == 200
    assert story.world.exchange(story.agent, given["consent_id"], CONSENT, resource=story.calendar.uri).status == 200


def test_signing_out_ends_what_was_allowed_in_that_sign_in_and_no_other(story: Story) -> None:
    elsewhere = story.world.signed_in(story.alice)
    here, there = story.token(story.given()), story.token(story.given(elsewhere))
    story.sign_out()
    assert not story.world.active(story.mail, here)
    assert story.world.active(story.mail, there)


def test_a_sign_in_that_ran_out_ends_it_too(story: Story, later) -> None:
    given = story.given()
    later(DAY + 1)
    refused(story.exchange(given), "invalid_request")
    refused(story.world.exchange(story.agent, given["consent_id"], CONSENT, resource=story.mail.uri), "invalid_request")


def test_away_that_was_asked_for_and_not_ticked_is_not_away(story: Story) -> None:
    verifier = new_verifier()
    query = story.world.authorization(story.agent, verifier, story.mail, away=True)
    given = story.world.redeem(story.agent, story.browser.code(query, away=False), verifier).ok()
    assert "refresh_token" not in given
    story.sign_out()
    assert not story.world.active(story.mail, given["access_token"])


def test_a_new_password_ends_what_hung_on_the_sign_ins(story: Story) -> None:
    here, away = story.token(story.given()), story.token(story.given(away=True))
    story.world.server.accounts.set_password(story.alice.id, "another long passphrase", by=BY)
    assert not story.world.active(story.mail, here)
    assert story.world.active(story.mail, away)
    assert story.browser.get("/my/agents").status == 303


# Asked again


def test_an_agent_is_always_shown(story: Story) -> None:
    story.given(away=True)
    assert story.page(away=True).status == 200
    sent_back(
        story.browser.authorize(story.world.authorization(story.agent, "v" * 43, story.mail, prompt="none")),
        "consent_required",
        story.world.issuer,
    )


def test_an_application_is_asked_again_for_anything_more_and_for_nothing_less(story: Story) -> None:
    world = story.world
    pairs = [(story.calendar, "calendar:read"), (story.calendar, "calendar:write"), (story.mail, "mail:read")]
    app = world.app(pairs=pairs, redirect_uris=(REDIRECT, OTHER))

    def asked(*resources: Api, client: Party = app, browser: Browser | None = None, **more: Any) -> Answer:
        return (browser or story.browser).authorize(world.authorization(client, "v" * 43, *resources, **more))

    def again(answer: Answer) -> bool:
        if answer.status == 200:
            return True
        landed(answer, answer.headers["Location"].partition("?")[0])
        return False

    landed(story.browser.decide(asked(story.calendar, scope="calendar:read calendar:write")))
    assert not again(asked(story.calendar, scope="calendar:read calendar:write"))
    assert not again(asked(story.calendar, scope="calendar:read"))
    assert again(asked(story.calendar, scope="calendar:read", prompt="consent"))
    assert again(asked(story.mail, scope="mail:read"))
    assert again(asked(story.calendar, story.mail))
    assert again(asked(story.calendar, scope="calendar:read", away=True))
    assert again(asked(story.calendar, scope="calendar:read", client=replace(app, redirect_uri=OTHER)))
    assert again(asked(story.calendar, scope="calendar:read", client=world.app(pairs=pairs)))
    assert again(asked(story.calendar, scope="calendar:read", browser=world.signed_in(world.human())))
    assert again(asked(story.calendar, scope="calendar:read", browser=world.signed_in(story.alice)))


def test_what_was_unticked_is_asked_again(story: Story) -> None:
    world = story.world
    app = world.app(pairs=[(story.calendar, "calendar:read"), (story.calendar, "calendar:write")])
    query = world.authorization(app, "v" * 43, story.calendar)
    landed(story.browser.decide(story.browser.authorize(query), untick=[f"{story.calendar.uri} calendar:write"]))
    assert story.browser.authorize(query).status == 200
    narrower = world.authorization(app, "v" * 43, story.calendar, scope="calendar:read")
    assert story.browser.authorize(narrower).status == 303


def test_an_application_whose_consent_was_withdrawn_or_narrowed_asks_again(story: Story) -> None:
    world = story.world
    app = world.app(pairs=[(story.calendar, "calendar:read"), (story.calendar, "calendar:write")])
    query = world.authorization(app, "v" * 43, story.calendar)
    landed(story.browser.decide(story.browser.authorize(query)))
    landed(story.browser.authorize(query))
    (consent,) = world.server.consents.standing(story.alice.id, app.client_id)
    left = frozenset({Pair(story.calendar.uri, "calendar:read")})
    world.server.consents.narrow(consent.value.id, pairs=left, until=consent.value.until, by=BY)
    assert story.browser.authorize(query).status == 200
    world.server.consents.withdraw(consent.value.id, by=BY)
    assert story.browser.authorize(world.authorization(app, "v" * 43, story.calendar, scope="calendar:read")).status == 200


# Made smaller, ended


def test_withdrawing_ends_every_token_under_it_at_once_and_nothing_else(story: Story) -> None:
    world = story.world
    given, other = story.given(away=True), story.given(away=True)
    handed = world.exchange(story.agent, given["access_token"], audience=story.helper.uri).ok()["access_token"]
    below = [(story.mail, story.token(given)), (story.calendar, world.exchange(story.helper, handed).ok()["access_token"])]
    beside = story.token(other)
    assert all(world.active(api, token) for api, token in below)
    world.server.consents.withdraw(given["consent_id"], by=BY)
    assert not any(world.active(api, token) for api, token in below)
    assert world.active(story.mail, beside)
    refused(story.exchange(given), "invalid_request")
    refused(world.exchange(story.helper, handed), "invalid_request")
    refused(world.exchange(story.agent, given["consent_id"], CONSENT, resource=story.mail.uri), "invalid_request")
    refused(refresh(world, story.agent, given["refresh_token"], resource=story.mail.uri), "invalid_grant")
    assert refresh(world, story.agent, other["refresh_token"], resource=story.mail.uri).status == 200
    world.server.consents.withdraw(given["consent_id"], by=BY)


def test_a_code_of_a_withdrawn_consent_is_good_no_more(story: Story) -> None:
    verifier = new_verifier()
    code = story.browser.code(story.world.authorization(story.agent, verifier, story.mail))
    (held,) = story.world.server.consents.standing(story.alice.id, story.agent.client_id)
    story.world.server.consents.withdraw(held.value.id, by=BY)
    refused(story.world.redeem(story.agent, code, verifier), "invalid_grant")


def test_narrowing_ends_the_tokens_and_leaves_the_refresh_token_what_is_left(story: Story) -> None:
    world, given = story.world, story.given(away=True)
    tokens = [(api, story.token(given, api)) for api in (story.calendar, story.mail)]
    held = world.server.consents.find(given["consent_id"])
    assert held is not None
    left = frozenset({Pair(story.calendar.uri, "calendar:read")})
    world.server.consents.narrow(given["consent_id"], pairs=left, until=held.value.until - 10 * DAY, by=BY)
    assert not any(world.active(api, token) for api, token in tokens)
    refused(story.exchange(given, story.calendar), "invalid_request")
    body = refresh(world, story.agent, given["refresh_token"], resource=story.calendar.uri).ok()
    assert body["scope"] == "calendar:read"
    assert body["authorization_expires_in"] <= 20 * DAY
    assert world.active(story.calendar, body["access_token"])
    refused(refresh(world, story.agent, body["refresh_token"], resource=story.calendar.uri, scope="calendar:write"), "invalid_scope")
    assert refresh(world, story.agent, body["refresh_token"], resource=story.mail.uri).error in {"invalid_scope", "invalid_target"}
    assert claims_of(refresh(world, story.agent, body["refresh_token"]).ok()["access_token"])["scope"] == "calendar:read"
    alone = world.exchange(story.agent, given["consent_id"], CONSENT, resource=story.calendar.uri).ok()
    assert alone["scope"] == "calendar:read"


def test_a_consent_is_never_made_larger(story: Story) -> None:
    world, given = story.world, story.given(untick=[f"{story.mail.uri} mail:read"])
    held = world.server.consents.find(given["consent_id"])
    assert held is not None
    consent = held.value
    for pairs, until in (
        (consent.pairs | {Pair(story.mail.uri, "mail:read")}, consent.until),
        (consent.pairs, consent.until + 1),
        (frozenset(), consent.until),
    ):
        with pytest.raises(Refused):
            world.server.consents.narrow(given["consent_id"], pairs=pairs, until=until, by=BY)
    world.server.consents.withdraw(given["consent_id"], by=BY)
    with pytest.raises(Refused):
        world.server.consents.narrow(given["consent_id"], pairs=consent.pairs, until=consent.until, by=BY)


def test_what_the_operator_takes_from_the_ceiling_no_consent_gives_back(story: Story) -> None:
    from app.live.things import Kind, Thing

    given = story.given(away=True)
    with story.world.server.deeds.deed() as deed:
        deed.session.get_one(AgentRow, story.agent.id).ceiling = [[story.calendar.uri, "calendar:read"]]
        deed.change(Thing(Kind.AGENT, story.agent.id))
    assert story.exchange(given, story.calendar).ok()["scope"] == "calendar:read"
    assert story.exchange(given, story.mail).error in {"invalid_scope", "invalid_target"}
    body = refresh(story.world, story.agent, given["refresh_token"], resource=story.calendar.uri).ok()
    assert body["scope"] == "calendar:read"


def test_given_narrowed_and_withdrawn_are_recorded_without_names(story: Story) -> None:
    world, given = story.world, story.given(away=True)
    held = world.server.consents.find(given["consent_id"])
    assert held is not None
    left = frozenset({Pair(story.calendar.uri, "calendar:read")})
    world.server.consents.narrow(given["consent_id"], pairs=left, until=held.value.until, by=BY)
    world.server.consents.withdraw(given["consent_id"], by=BY)
    for event in ("consent.given", "consent.narrowed", "consent.withdrawn"):
        (record,) = world.ledger(event=event, consent=given["consent_id"])
        assert story.alice.username not in str(record)
        assert "@" not in str(record)
