"""From draft to active to retired. Suspending is the kill switch with the agent kept out (`stop.py`)."""

from __future__ import annotations

from flask import Blueprint, Response

from app.admin.desk import HERE, Desk, back
from app.oversight.administration import Administration
from app.oversight.governance import Duty
from app.oversight.target import What


def blueprint(desk: Desk, administration: Administration) -> Blueprint:
    """The deeds of an agent's lifecycle."""
    pages = desk.blueprint("lifecycle", __name__)

    def home(agent_id: str) -> str:
        return f"{HERE}/agents/{agent_id}"

    @pages.post("/agents/<agent_id>/activate")
    def activate(agent_id: str) -> Response:
        administration.activate(desk.checked(f"activate:{agent_id}", home(agent_id)), agent_id)
        return back(home(agent_id), "active")

    @pages.get("/agents/<agent_id>/retire")
    def ask_to_retire(agent_id: str) -> Response:
        officer = desk.officer()
        row = administration.agent(officer, agent_id)
        officer.check(Duty.STOP, row.owner)
        target = administration.targets.find(What.AGENT, row.id)
        return desk.render("retire.html", agent=row, count=administration.preview(officer, target))

    @pages.post("/agents/<agent_id>/retire")
    def retire(agent_id: str) -> Response:
        administration.retire(desk.checked(f"retire:{agent_id}", f"{home(agent_id)}/retire"), agent_id)
        return back(home(agent_id), "retired")

    return pages
