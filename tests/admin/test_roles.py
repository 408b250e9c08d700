"""Who sees what and who may do what under `/admin`."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from app.oversight.governance import DANGEROUS, FRESH, OWNERS, Duty, Officer
from app.vocabulary import Role
from tests.admin.conftest import Desk, send
from tests.world import Answer, Browser


def paths(desk: Desk) -> dict[str, str]:
    """Every page there is to read."""
    return {
        "inventory": "/admin",
        "found": "/admin?q=Assistant&state=active",
        "graph": "/admin/graph",
        "agent": f"/admin/agents/{desk.assistant.id}",
        "apis": "/admin/resources",
        "api": f"/admin/resources/{desk.api.id}",
        "policies": "/admin/policies",
        "ledger": "/admin/ledger",
        "filtered": f"/admin/ledger?agent={desk.assistant.id}&outcome=permit",
        "explain": f"/admin/explain?ref={desk.jti}",
        "stop": "/admin/stop",
    }


FOR_ALL_EYES = {
    "people": "/admin/people",
    "export": "/admin/ledger/export",
}


def is_closed(answer: Answer) -> bool:
    """A 403 that tells nothing."""
    return answer.status == 403 and "Not for you" in answer.text and "agt_" not in answer.text


def test_nobody_comes_in_without_signing_in(desk: Desk) -> None:
    stranger = desk.world.browser()
    for path in [*paths(desk).values(), *FOR_ALL_EYES.values(), "/admin/agents/new"]:
        answer = stranger.get(path)
        assert answer.status == 303, path
        where = urlsplit(answer.headers["Location"])
        assert (where.path, parse_qs(where.query)["next"][0].partition("?")[0]) == ("/login", path.partition("?")[0])
    assert stranger.post("/admin/stop", {"what": "everything", "ref": ""}).status == 303


def test_somebody_without_an_office_learns_nothing(desk: Desk) -> None:
    for path in [*paths(desk).values(), *FOR_ALL_EYES.values(), "/admin/agents/new", "/admin/agents/agt_none", "/admin/resources/new"]:
        assert is_closed(desk.nobody.get(path)), path
    for path in ("/admin/stop", f"/admin/agents/{desk.assistant.id}/activate", f"/admin/people/{desk.alice.id}/role"):
        assert is_closed(desk.nobody.post(path, {"role": "operator"})), path
    assert "/admin" not in desk.nobody.get("/").text
    for browser in (desk.operator, desk.auditor, desk.owner):
        assert 'href="/admin"' in browser.get("/").text


@pytest.mark.parametrize("who", ["operator", "auditor"])
def test_operator_and_auditor_read_everything(desk: Desk, who: str) -> None:
    browser: Browser = getattr(desk, who)
    for path in [*paths(desk).values(), *FOR_ALL_EYES.values(), f"/admin/agents/{desk.stranger.id}"]:
        answer = browser.get(path)
        assert answer.status == 200, (path, answer.text[-1000:])


def test_an_auditor_changes_nothing(desk: Desk) -> None:
    for path in ("/admin/agents/new", f"/admin/agents/{desk.assistant.id}/change", "/admin/resources/new", "/admin/policies/new"):
        assert is_closed(desk.auditor.get(path)), path
    shown = desk.auditor.get(f"/admin/agents/{desk.assistant.id}").text
    assert "/change" not in shown and "/retire" not in shown and 'method="post"' not in shown
    preview = desk.auditor.get(f"/admin/stop?what=agent&ref={desk.assistant.id}")
    assert preview.status == 200
    assert "You may look, and not stop this" in preview.text
    assert 'method="post"' not in preview.text


def test_an_owner_sees_her_own_agents_and_no_others(desk: Desk) -> None:
    for name, path in paths(desk).items():
        answer = desk.owner.get(path)
        assert answer.status == 200, (name, answer.text[-1000:])
        assert desk.stranger.id not in answer.text, name
        assert "Agent of " not in answer.text, name
    for path in (
        f"/admin/agents/{desk.stranger.id}",
        f"/admin/agents/{desk.stranger.id}/change",
        f"/admin/agents/{desk.stranger.id}/retire",
        f"/admin/stop?what=agent&ref={desk.stranger.id}",
        f"/admin/stop?what=resource&ref={desk.api.id}",
        "/admin/stop?what=everything",
        *FOR_ALL_EYES.values(),
    ):
        assert is_closed(desk.owner.get(path)), path
    assert "nothing in the ledger fits" in desk.owner.get(f"/admin/ledger?agent={desk.stranger.id}").text.lower()


def test_an_owner_sees_no_entry_of_others_by_number(desk: Desk) -> None:
    (entry,) = [row for row in entries(desk) if row["record"]["event"] == "registered" and row["record"]["target"] == desk.stranger.id]
    assert desk.operator.get(f"/admin/ledger/{entry['seq']}").status == 200
    assert desk.owner.get(f"/admin/ledger/{entry['seq']}").status == 404


def entries(desk: Desk) -> list[dict[str, object]]:
    import json

    desk.world.ledger(event="registered", target=desk.stranger.id)
    lines = desk.operator.get("/admin/ledger/export").text.split("\n")
    found = [json.loads(line) for line in lines if line]
    return [{**one, "record": json.loads(one["record"])} for one in found if "record" in one]


def test_a_form_of_another_page_or_person_is_refused(desk: Desk) -> None:
    page = f"/admin/agents/{desk.assistant.id}/retire"
    assert desk.operator.post(page, {}).status == 403
    shown = desk.operator.get(f"/admin/agents/{desk.stranger.id}/retire")
    from tests.world import hidden

    assert desk.operator.post(page, hidden(shown)).status == 403
    assert desk.state(desk.assistant) == "active"


def test_a_dangerous_deed_wants_a_fresh_sign_in(desk: Desk, later: Callable[[int], None]) -> None:
    page = f"/admin/stop?what=task&ref={desk.task}"
    shown = desk.operator.get(page)
    assert shown.status == 200
    from tests.world import hidden

    form = hidden(shown)
    later(FRESH + 1)
    for answer in (desk.operator.get(page), desk.operator.post("/admin/stop", form)):
        assert answer.status == 303
        where = urlsplit(answer.headers["Location"])
        assert where.path == "/login"
        assert parse_qs(where.query)["next"] == [page]
    assert desk.world.server.tasks.row(desk.task).ended_at is None  # type: ignore[union-attr]
    # Reading and describing go on.
    assert desk.operator.get("/admin").status == 200
    assert send(desk.operator, f"/admin/agents/{desk.stranger.id}/change", owner="x", name="", purpose="").status in {303, 400}


def test_duties_are_what_they_say() -> None:
    operator, auditor, owner = (Officer("hum_1", "x", role, 0) for role in (Role.OPERATOR, Role.AUDITOR, Role.MEMBER))
    assert all(operator.may(duty) for duty in Duty)
    assert {duty for duty in Duty if auditor.may(duty, "hum_2")} == {Duty.READ, Duty.READ_ALL}
    assert {duty for duty in Duty if owner.may(duty, "hum_2")} == {Duty.DRAFT}
    assert {duty for duty in Duty if owner.may(duty, "hum_1")} == {Duty.DRAFT, *OWNERS}
    assert {duty for duty in Duty if owner.may(duty)} == {Duty.DRAFT}
    # An auditor who owns an agent still looks after it.
    assert auditor.may(Duty.STOP, "hum_1") and not auditor.may(Duty.GOVERN, "hum_1")
    assert DANGEROUS >= {Duty.STOP, Duty.GOVERN, Duty.KEYS}
