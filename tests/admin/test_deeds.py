"""What is done at the desk: registering, changing, keys, lifecycle, APIs, policies, people; each stands in the ledger."""

from __future__ import annotations

import json
import re
import secrets
from html import unescape
from typing import Any
from urllib.parse import urlencode

from joserfc.jwk import ECKey

from tests.admin.conftest import Desk, send
from tests.policies import text_of
from tests.world import CONSENT, Answer, Browser, Party, claims_of, hidden


def public_key() -> tuple[ECKey, str]:
    key = ECKey.generate_key("P-256")
    return key, json.dumps(key.as_dict(private=False) | {"kid": key.thumbprint(), "alg": "ES256"})


def landed(answer: Answer) -> str:
    assert answer.status == 303, (answer.status, text_on(answer))
    return answer.headers["Location"]


def text_on(answer: Answer) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", answer.text)))


def boxes(desk: Desk, *scopes: str) -> list[tuple[str, str]]:
    return [("may", f"{desk.api.uri} {scope}") for scope in scopes]


def submit(browser: Browser, page: str, fields: list[tuple[str, str]]) -> Answer:
    shown = browser.get(page)
    assert shown.status == 200, (shown.status, text_on(shown)[-500:])
    return browser.post(page, [*hidden(shown)[:1], *fields])


def words(name: str, owner: str, **more: str) -> list[tuple[str, str]]:
    held = {"name": name, "purpose": "Looks at days", "owner": owner, "max_depth": "2", "hands_to": "", "redirect_uris": "", **more}
    return list(held.items())


def test_an_operator_registers_an_agent_that_works_at_once(desk: Desk) -> None:
    world, (key, jwk) = desk.world, public_key()
    name = "Registered " + secrets.token_hex(3)
    fields = [*words(name, desk.alice.username, jwks=jwk, own_more=f"{desk.api.uri} read"), *boxes(desk, "read")]
    place = landed(submit(desk.operator, "/admin/agents/new", fields))
    row = world.server.agent_registry.get(name)
    assert place == f"/admin/agents/{row.id}?done=registered"
    assert (row.owner, row.state, row.ceiling, row.max_depth) == (desk.alice.id, "active", [[desk.api.uri, "read"]], 2)
    assert world.own_token(Party(row.client_id, key=key), resource=desk.api.uri).status == 200
    (record,) = world.ledger(event="registered", target=row.id)
    assert record["who"] == {"operator": desk.operator_id}
    assert "Registered." in desk.operator.get(place).text


def test_what_is_refused_is_said_and_what_was_typed_stays(desk: Desk) -> None:
    for fields, said in (
        (words("No key", desk.alice.username), "needs a public key"),
        (words("No owner", "nobody-there", jwks=public_key()[1]), "nobody has the username"),
        (words("Odd key", desk.alice.username, jwks="{"), "a JWK or a JWK Set"),
        (words("Private", desk.alice.username, jwks=json.dumps(ECKey.generate_key("P-256").as_dict(private=True))), "private key"),
        (words("Unknown API", desk.alice.username, jwks=public_key()[1], may_more="https://nowhere.example read"), "no resource"),
        (words("Unknown receiver", desk.alice.username, jwks=public_key()[1], hands_to="agt_nobody"), "no agent"),
    ):
        answer = submit(desk.operator, "/admin/agents/new", [*fields, *boxes(desk, "write")])
        assert answer.status == 400, fields
        assert said in text_on(answer), (said, text_on(answer))
        assert f'value="{fields[0][1]}"' in answer.text
        assert re.search(rf'value="{re.escape(desk.api.uri)} write"[^>]* checked', answer.text)
        assert not re.search(rf'value="{re.escape(desk.api.uri)} read"[^>]* checked', answer.text)


def test_an_owner_proposes_a_draft_that_an_operator_activates(desk: Desk) -> None:
    world, (key, jwk) = desk.world, public_key()
    name = "Proposed " + secrets.token_hex(3)
    fields = [*words(name, "somebody else", jwks=jwk, own_more=f"{desk.api.uri} read"), *boxes(desk, "read")]
    place = landed(submit(desk.owner, "/admin/agents/new", fields)).partition("?")[0]
    row = world.server.agent_registry.get(name)
    assert (row.owner, row.state) == (desk.alice.id, "draft")
    agent = Party(row.client_id, key=key, id=row.id, uri=row.uri)
    assert world.own_token(agent, resource=desk.api.uri).status == 401
    assert desk.owner.post(f"{place}/activate", hidden(desk.owner.get(place))).status == 403
    assert desk.state(agent) == "draft"
    assert landed(send(desk.operator, place, f"{place}/activate")) == f"{place}?done=active"
    assert world.own_token(agent, resource=desk.api.uri).status == 200


def fresh_agent(desk: Desk, **more: Any) -> tuple[Party, str, str]:
    world = desk.world
    agent = world.agent(desk.alice, ceiling=[(desk.api, "read"), (desk.api, "write")], **more)
    given = world.consented(world.signed_in(world.human()), agent, desk.api, scope="read write", away=True)
    token = world.exchange(agent, given["consent_id"], CONSENT, resource=desk.api.uri).ok()["access_token"]
    return agent, given["consent_id"], token


def test_taking_a_scope_away_ends_what_was_issued_and_adding_one_ends_nothing(desk: Desk) -> None:
    world = desk.world
    agent, consent, token = fresh_agent(desk)
    page, name = f"/admin/agents/{agent.id}/change", world.server.agent_registry.get(agent.id).name
    same = words(name, desk.alice.username, max_depth="4", redirect_uris="https://agent.example/callback")
    assert landed(submit(desk.operator, page, [*same, *boxes(desk, "read", "write"), ("own", f"{desk.api.uri} read")])).endswith(
        "done=changed"
    )
    assert world.active(desk.api, token)
    assert landed(submit(desk.operator, page, [*same, *boxes(desk, "read")])).endswith("done=narrowed")
    assert not world.active(desk.api, token)
    assert world.exchange(agent, consent, CONSENT, resource=desk.api.uri).status == 400
    (record,) = [one for one in world.ledger(event="changed", target=agent.id) if one["what"].get("ended")]
    assert record["what"]["ceiling"] == [[desk.api.uri, "read"]]


def test_an_owner_changes_words_and_nothing_else(desk: Desk) -> None:
    world = desk.world
    agent, _consent, token = fresh_agent(desk)
    page = f"/admin/agents/{agent.id}/change"
    everything = [("name", "Renamed"), ("purpose", "Another purpose"), ("owner", "human-x"), ("max_depth", "1"), *boxes(desk, "write")]
    assert landed(submit(desk.owner, page, everything)).endswith("done=changed")
    row = world.server.agent_registry.get(agent.id)
    assert (row.name, row.purpose, row.owner, len(row.ceiling), row.max_depth) == ("Renamed", "Another purpose", desk.alice.id, 2, 4)
    assert world.active(desk.api, token)
    (record,) = world.ledger(event="changed", target=agent.id)
    assert record["who"] == {"human": desk.alice.id}
    assert record["what"] == {"changed": ["name", "purpose"], "ended": False}


def test_an_owner_stops_her_agent_and_an_operator_lets_it_in_again(desk: Desk) -> None:
    world = desk.world
    agent, _consent, token = fresh_agent(desk)
    preview = desk.owner.get(f"/admin/stop?what=agent&ref={agent.id}")
    assert preview.status == 200
    numbers = dict(zip(("tokens", "consents", "tasks", "agents", "people"), re.findall(r"<dd>([\d,]+)</dd>", preview.text), strict=True))
    # One from the code, one from the exchange.
    assert numbers == {"tokens": "2", "consents": "1", "tasks": "1", "agents": "1", "people": "1"}
    done = desk.owner.post("/admin/stop", [*hidden(preview), ("keep_out", "yes")])
    assert done.status == 200
    assert re.findall(r"<dd>([\d,]+)</dd>", done.text) == ["2", "1", "1", "1", "1"]
    assert not world.active(desk.api, token)
    assert desk.state(agent) == "suspended"
    page = f"/admin/agents/{agent.id}"
    assert "Let it in again" not in desk.owner.get(page).text
    assert landed(send(desk.operator, page, f"{page}/activate")) == f"{page}?done=active"
    assert not world.active(desk.api, token)
    (counted,) = world.ledger(event="revocation.counted", target=agent.id)
    assert (counted["who"], counted["tokens"]) == ({"human": desk.alice.id}, 2)


def test_a_retired_agent_does_not_come_back(desk: Desk) -> None:
    agent, _consent, token = fresh_agent(desk)
    page = f"/admin/agents/{agent.id}"
    assert landed(send(desk.owner, f"{page}/retire", f"{page}/retire")) == f"{page}?done=retired"
    assert desk.state(agent) == "retired"
    assert not desk.world.active(desk.api, token)
    shown = desk.operator.get(page).text
    assert "/activate" not in shown and "/change" not in shown
    for reference in ("activate", "keys"):
        # Whoever made the form up is refused by the register.
        assert desk.operator.post(f"{page}/{reference}", {}).status == 403


def test_keys_are_added_and_removed_without_an_outage(desk: Desk) -> None:
    world = desk.world
    agent = world.agent(desk.alice, own=[(desk.api, "read")])
    page, (key, jwk) = f"/admin/agents/{agent.id}", public_key()
    assert landed(send(desk.owner, page, f"{page}/keys", jwk=jwk)).endswith("done=key#keys")
    second = Party(agent.client_id, key=key)
    assert world.own_token(agent, resource=desk.api.uri).status == world.own_token(second, resource=desk.api.uri).status == 200
    assert send(desk.owner, page, f"{page}/keys", remove=agent.key.thumbprint()).status == 303  # type: ignore[union-attr]
    assert world.own_token(agent, resource=desk.api.uri).status == 401
    assert world.own_token(second, resource=desk.api.uri).status == 200
    refused = send(desk.owner, page, f"{page}/keys", jwk="nonsense")
    assert (refused.status, "a JWK or a JWK Set" in text_on(refused)) == (400, True)


def test_a_code_for_one_running_copy_is_shown_once(desk: Desk) -> None:
    agent = desk.world.agent(desk.alice, own=[(desk.api, "read")])
    page = f"/admin/agents/{agent.id}"
    shown = send(desk.owner, page, f"{page}/enrol")
    assert shown.status == 200
    assert "shown this once" in shown.text
    assert re.search(r'<code class="id">[A-Za-z0-9_-]{20,}</code>', shown.text)


def test_an_api_is_registered_changed_closed_and_opened(desk: Desk) -> None:
    world, uri = desk.world, f"https://desk-{secrets.token_hex(4)}.example"
    fields = [
        ("uri", uri), ("name", "Mail"), ("scopes", "mail:read = Read mail\nmail:send = Send mail"), ("labels", "personal"),
        ("scope_labels", "mail:send = external-send"), ("alg", "ES256"),
    ]  # fmt: skip
    shown = submit(desk.operator, "/admin/resources/new", fields)
    assert shown.status == 200
    row = world.server.resource_registry.get(uri)
    secret = re.findall(r'<code class="id">([^<]+)</code>', shown.text)[1]
    from tests.world import Api

    api = Api(uri, row.id, row.client_id, secret)
    agent = world.agent(desk.alice, own=[(api, "mail:read"), (api, "mail:send")])
    token = world.own_token(agent, resource=uri).ok()["access_token"]
    assert world.active(api, token)
    page = f"/admin/resources/{row.id}"
    change = [("name", "Mail"), ("scopes", "mail:read = Read mail"), ("labels", "personal"), ("scope_labels", "")]
    assert landed(submit(desk.operator, f"{page}/change", change)) == f"{page}?done=narrowed"
    assert not world.active(api, token)
    assert world.own_token(agent, resource=uri, scope="mail:send").error == "invalid_scope"
    token = world.own_token(agent, resource=uri, scope="mail:read").ok()["access_token"]
    closed = send(desk.operator, f"/admin/stop?what=resource&ref={row.id}", "/admin/stop", keep_out="yes")
    assert closed.status == 200
    assert not world.active(api, token)
    assert landed(send(desk.operator, page, f"{page}/enable")) == f"{page}?done=open"
    assert not world.active(api, token)
    fresh = re.findall(r'<code class="id">([^<]+)</code>', send(desk.operator, page, f"{page}/secret").text)[1]
    assert fresh != secret
    assert world.active(Api(uri, row.id, row.client_id, fresh), world.own_token(agent, resource=uri).ok()["access_token"])


def test_agents_are_found_by_their_owner(desk: Desk) -> None:
    owner = desk.world.human()
    agent = desk.world.agent(owner)
    for looked_for in (owner.username, f"name of {owner.username}"):
        found = desk.operator.get("/admin?" + urlencode({"q": looked_for})).text
        assert agent.id in found
        assert desk.assistant.id not in found


def test_apis_are_found_by_name_or_uri(desk: Desk) -> None:
    mark = secrets.token_hex(4)
    apis = [desk.world.resource("read", name=f"{mark} {number:02}") for number in range(11)]
    assert 'type="search"' in desk.auditor.get("/admin/resources").text
    for looked_for in (f"{mark.upper()} 07", apis[7].uri):
        found = desk.auditor.get("/admin/resources?" + urlencode({"q": looked_for})).text
        assert re.findall(r"/admin/resources/(res_[^\"]+)", found) == [apis[7].id]
    assert "No API is called that." in desk.auditor.get("/admin/resources?q=" + mark[::-1] + "%25").text


def test_a_policy_is_validated_tried_and_put_in_force(desk: Desk) -> None:
    world, name = desk.world, "desk-" + secrets.token_hex(4)
    agent, consent, token = fresh_agent(desk)
    asked = {"name": name, "rule": "A rule of the house", "owner": desk.alice.username}
    refused = submit(desk.operator, "/admin/policies/new", [*asked.items(), ("text", "permit (principal, action, resource);")])
    assert (refused.status, "can only forbid" in text_on(refused)) == (400, True)
    text = f'forbid (principal == Agent::"{agent.uri}", action, resource);'
    page = landed(submit(desk.operator, "/admin/policies/new", [*asked.items(), ("text", text)])).partition("?")[0]
    assert page == f"/admin/policies/{name}/1"
    world.ledger(event="token.issued", jti=claims_of(token)["jti"])
    tried = text_on(desk.operator.get(f"{page}?ref={claims_of(token)['jti']}"))
    assert f"Then it was permitted . With this version, policies would forbid it : {name}" in tried
    replayed = text_on(desk.auditor.get(f"{page}?days=1"))
    assert re.search(r"\d+ of [\d,]+ decisions would be another", replayed)
    assert f"refused by {name}" in replayed
    assert world.active(desk.api, token)
    try:
        assert landed(send(desk.operator, page, f"{page}/activate")) == f"{page}?done=activated"
        assert not world.active(desk.api, token)
    finally:
        assert landed(send(desk.operator, page, f"{page}/retire")) == f"{page}?done=withdrawn"
    assert world.exchange(agent, consent, CONSENT, resource=desk.api.uri).status == 200
    assert desk.operator.get(f"{page}?ref={secrets.token_hex(4)}").status == 404
    made = desk.operator.get("/admin/policies/new?name=four-eyes")
    assert unescape(made.text).count(text_of("four-eyes").splitlines()[0]) >= 1


def test_roles_are_given_and_nobody_takes_her_own(desk: Desk) -> None:
    world, person = desk.world, desk.world.human()
    page = f"/admin/people?q={person.username}"
    assert landed(send(desk.operator, page, f"/admin/people/{person.id}/role", role="auditor")) == "/admin/people?done=role"
    assert world.server.accounts.find(person.id).role == "auditor"  # type: ignore[union-attr]
    assert world.signed_in(person).get("/admin/people").status == 200
    assert f"/admin/people/{desk.operator_id}/role" not in desk.operator.get("/admin/people").text
    (record,) = world.ledger(event="changed", target=person.id)
    assert record["what"] == {"role": "auditor"}
    stopped = send(desk.operator, f"/admin/stop?what=human&ref={person.id}", "/admin/stop", keep_out="yes")
    assert stopped.status == 200
    assert world.browser().sign_in(person.username).status != 303
    assert landed(send(desk.operator, page, f"/admin/people/{person.id}/enable")) == "/admin/people?done=enabled"
    assert world.browser().sign_in(person.username).status == 303


def test_everything_is_not_stopped_by_a_button_alone(desk: Desk) -> None:
    page = "/admin/stop?what=everything"
    assert landed(send(desk.operator, page, "/admin/stop")) == page
    assert desk.world.active(desk.api, desk.token)


def test_what_is_named_and_is_not_there(desk: Desk) -> None:
    for path in (
        "/admin/agents/agt_none",
        "/admin/resources/res_none",
        "/admin/policies/none/1",
        "/admin/ledger/999999999",
        "/admin/agents/%00",
    ):
        assert desk.operator.get(path).status == 404, path
    found = desk.operator.get("/admin/stop?what=task&ref=tsk_none")
    assert (found.status, "No task tsk_none." in found.text) == (404, True)
    assert desk.operator.get("/admin/ledger?human=nobody-at-all").status == 400
    assert desk.operator.get("/admin/ledger?since=yesterday").status == 400
    assert desk.operator.get("/admin/explain?ref=tok_0000000000000000000000").status == 404
