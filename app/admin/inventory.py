"""`/admin`: the six questions of an inventory, and every agent."""

from __future__ import annotations

from urllib.parse import urlencode

from flask import Blueprint, Response, request

from app import clock
from app.admin.desk import HERE, Desk, text
from app.admin.picture import picture
from app.oversight.explorer import Explorer
from app.oversight.graph import Graphs
from app.oversight.inventory import Inventory, Wanted
from app.vocabulary import AgentState
from app.web.forms import single

DAY = 86_400


def blueprint(desk: Desk, inventory: Inventory, graphs: Graphs, explorer: Explorer) -> Blueprint:
    """The first screen, and the whole picture."""
    pages = desk.blueprint("inventory", __name__)

    @pages.get("")
    def index() -> Response:
        officer = desk.officer()
        mine = officer.sees_only
        state, owner = single(request.args, "state"), text("owner") or None
        wanted = Wanted(
            owner=mine or owner,
            state=state if state in set(AgentState) else None,
            text=text("q"),
            after=(text("after", 1000), text("then", 64)) if "then" in request.args else None,
        )
        page = inventory.page(wanted)
        kept = {name: value for name, value in (("q", wanted.text), ("state", wanted.state), ("owner", owner)) if value}
        more = f"{HERE}?{urlencode({**kept, 'after': page.after[0], 'then': page.after[1]})}#agents" if page.after else ""
        return desk.render(
            "inventory.html",
            summary=inventory.summary(mine),
            page=page,
            wanted=wanted,
            owners=inventory.owners(mine),
            states=list(AgentState),
            counts=explorer.counts(clock.timestamp() - DAY, mine),
            deeds=explorer.deeds() if officer.sees_all else None,
            more=more,
            filtered=bool(kept) or wanted.after is not None,
        )

    @pages.get("/graph")
    def graph() -> Response:
        officer = desk.officer()
        human, resource = text("human", 64), text("resource", 64)
        if officer.sees_all and human:
            found = graphs.around_human(human)
        elif officer.sees_all and resource:
            found = graphs.around_resource(resource)
        else:
            found = graphs.most_used(officer.sees_only)
        return desk.render("graph.html", picture=picture(found), graph=found, around=human or resource)

    return pages
