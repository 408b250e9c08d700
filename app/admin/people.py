"""People: who holds which office, who may sign in."""

from __future__ import annotations

from flask import Blueprint, Response, request

from app.admin.desk import HERE, Desk, back, text
from app.errors import Refused
from app.humans.accounts import Accounts
from app.oversight.administration import Administration
from app.oversight.governance import Duty
from app.vocabulary import Role
from app.web.forms import single


def blueprint(desk: Desk, administration: Administration, accounts: Accounts) -> Blueprint:
    """The page of people, for those who may read everything."""
    pages = desk.blueprint("people", __name__)

    @pages.get("/people")
    def index() -> Response:
        desk.officer().check(Duty.READ_ALL)
        page = accounts.page(text("q", 200), after=text("after", 200))
        return desk.render("people.html", people=page.people, after=page.after, q=text("q", 200), roles=list(Role))

    @pages.post("/people/<human_id>/role")
    def role(human_id: str) -> Response:
        officer = desk.checked(f"role:{human_id}", f"{HERE}/people")
        asked = single(request.form, "role")
        if asked not in set(Role):
            raise Refused("there is no such role")
        administration.set_role(officer, human_id, Role(asked))
        return back(f"{HERE}/people", "role")

    @pages.post("/people/<human_id>/enable")
    def enable(human_id: str) -> Response:
        administration.enable_human(desk.checked(f"enable:{human_id}", f"{HERE}/people"), human_id)
        return back(f"{HERE}/people", "enabled")

    return pages
