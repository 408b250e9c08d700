"""Agents: one of them with all there is to know, registering, changing, keys."""

from __future__ import annotations

from flask import Blueprint, Response, request

from app.admin import fields
from app.admin.desk import HERE, Desk, back
from app.admin.picture import picture
from app.agents.change import Change
from app.agents.models import AgentRow
from app.agents.registry import AgentRegistry
from app.errors import Refused
from app.humans.accounts import Accounts
from app.oversight.administration import Administration
from app.oversight.explorer import Explorer, Wanted
from app.oversight.governance import Duty, Officer
from app.oversight.graph import Graphs
from app.oversight.inventory import Inventory
from app.resources.registry import ResourceRegistry
from app.vocabulary import AgentState
from app.web.forms import single
from app.web.pages import see_other

RECENT = 15
"""Entries of the ledger on an agent's page."""


def blueprint(
    desk: Desk,
    administration: Administration,
    inventory: Inventory,
    graphs: Graphs,
    explorer: Explorer,
    accounts: Accounts,
) -> Blueprint:
    """The pages of agents."""
    pages = desk.blueprint("agents", __name__)
    agents, resources = administration.agents, administration.resources

    def home(agent_id: str) -> str:
        return f"{HERE}/agents/{agent_id}"

    @pages.get("/agents/<agent_id>")
    def show(agent_id: str) -> Response:
        return shown(agent_id)

    def shown(agent_id: str, problem: str = "", jwk: str = "") -> Response:
        officer = desk.officer()
        row = administration.agent(officer, agent_id)
        found = graphs.around_agent(row.id)
        return desk.render(
            "agent.html",
            400 if problem else 200,
            agent=row,
            detail=inventory.detail(row.id),
            keys=agents.keys(row.id),
            picture=picture(found),
            graph=found,
            recent=explorer.page(Wanted(agent=row.uri), RECENT),
            problem=problem,
            jwk=jwk,
        )

    @pages.get("/agents/new")
    def new() -> Response:
        officer = desk.officer()
        if not officer.may(Duty.GOVERN):
            officer.check(Duty.DRAFT)
        return form(None)

    @pages.post("/agents/new")
    def register() -> Response:
        officer = desk.checked("agent", f"{HERE}/agents/new")
        sent = request.form
        try:
            made = administration.register(
                officer,
                single(sent, "name"),
                owner=fields.person(accounts, single(sent, "owner")) if officer.governs else officer.id,
                purpose=single(sent, "purpose"),
                ceiling=fields.pairs(sent, "may"),
                own=fields.pairs(sent, "own"),
                hands_to=fields.receivers(agents, single(sent, "hands_to")),
                max_depth=fields.whole(sent, "max_depth"),
                redirect_uris=fields.lines(single(sent, "redirect_uris")),
                jwks=fields.jwks(single(sent, "jwks")),
                keyless=single(sent, "keyless") == "yes",
                draft=not officer.governs or single(sent, "draft") == "yes",
            )
        except Refused as refused:
            return form(None, str(refused))
        return back(home(made.id), "registered")

    @pages.get("/agents/<agent_id>/change")
    def edit(agent_id: str) -> Response:
        officer = desk.officer()
        row = administration.agent(officer, agent_id)
        if not officer.may(Duty.DESCRIBE, row.owner):
            officer.check(Duty.GOVERN)
        return form(row)

    @pages.post("/agents/<agent_id>/change")
    def change(agent_id: str) -> Response:
        officer = desk.checked(f"agent:{agent_id}", f"{home(agent_id)}/change")
        row = administration.agent(officer, agent_id)
        try:
            smaller = administration.change_agent(officer, row.id, _change(officer, agents, accounts))
        except Refused as refused:
            return form(row, str(refused))
        return back(home(row.id), "narrowed" if smaller else "changed")

    def form(row: AgentRow | None, problem: str = "") -> Response:
        """The form, with what is registered, or with what was typed when that was refused."""
        sent = request.form if problem else None
        return desk.render(
            "agent_form.html",
            400 if problem else 200,
            agent=row,
            **_fill(row, agents, resources, accounts),
            sent=sent,
            problem=problem,
            deepest=agents.deepest,
        )

    @pages.post("/agents/<agent_id>/keys")
    def keys(agent_id: str) -> Response:
        officer = desk.checked(f"keys:{agent_id}", home(agent_id))
        given = single(request.form, "jwk")
        try:
            if removed := single(request.form, "remove"):
                administration.remove_key(officer, agent_id, removed)
            else:
                held = fields.jwks(given)
                if held is None or len(held["keys"]) != 1:
                    raise Refused("paste one public key")
                administration.add_key(officer, agent_id, held["keys"][0])
        except Refused as refused:
            return shown(agent_id, str(refused), given)
        return see_other(f"{home(agent_id)}?done=key#keys")

    @pages.post("/agents/<agent_id>/enrol")
    def enrol(agent_id: str) -> Response:
        officer = desk.checked(f"enrol:{agent_id}", home(agent_id))
        made = administration.enrol(officer, agent_id)
        return desk.render("enrolment.html", agent=administration.agent(officer, agent_id), enrolment=made)

    return pages


def _change(officer: Officer, agents: AgentRegistry, accounts: Accounts) -> Change:
    sent = request.form
    words = Change(name=single(sent, "name"), purpose=single(sent, "purpose"))
    if not officer.governs:
        return words
    return Change(
        name=words.name,
        purpose=words.purpose,
        owner=fields.person(accounts, single(sent, "owner")),
        ceiling=fields.pairs(sent, "may"),
        own=fields.pairs(sent, "own"),
        hands_to=fields.receivers(agents, single(sent, "hands_to")),
        max_depth=fields.whole(sent, "max_depth"),
        redirect_uris=tuple(fields.lines(single(sent, "redirect_uris"))),
    )


def _fill(row: AgentRow | None, agents: AgentRegistry, resources: ResourceRegistry, accounts: Accounts) -> dict[str, object]:
    """What the fields hold at first."""
    shown = fields.matrix(resources, row)
    uris = [one.uri for one in shown]
    if row is None:
        return {
            "resources": shown,
            "held": {"may": set(), "own": set()},
            "more": {"may": "", "own": ""},
            "owner": "",
            "hands_to": "",
            "uris": "",
        }
    owner = accounts.find(row.owner)
    return {
        "resources": shown,
        "held": {"may": {tuple(pair) for pair in row.ceiling}, "own": {tuple(pair) for pair in row.own}},
        "more": {"may": fields.written(row.ceiling, uris), "own": fields.written(row.own, uris)},
        "owner": owner.username if owner is not None else "",
        "hands_to": "\n".join(agents.uris(row.hands_to)),
        "uris": "\n".join(agents.redirect_uris(row.id)),
        "drafts": AgentState.DRAFT,
    }
