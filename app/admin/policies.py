"""Policies: write, validate, try on the past, put in force."""

from __future__ import annotations

from flask import Blueprint, Response, request

from app import clock
from app.admin.desk import HERE, Desk, back, text
from app.admin.fields import person
from app.errors import NotFound, Refused
from app.humans.accounts import Accounts
from app.oversight.administration import Administration
from app.oversight.governance import Duty, NotYours
from app.oversight.rehearsal import Rehearsal
from app.policy.ready import ready_made
from app.web.forms import single

DAYS = (1, 7, 30)
DAY = 86_400


def blueprint(desk: Desk, administration: Administration, rehearsal: Rehearsal, accounts: Accounts) -> Blueprint:
    """The pages of policies. An owner reads them too: they are the rules her agents work under."""
    pages = desk.blueprint("policies", __name__)
    policies = administration.policies

    def home(name: str, version: int) -> str:
        return f"{HERE}/policies/{name}/{version}"

    @pages.get("/policies")
    def index() -> Response:
        rows = policies.list()
        newest = {row.name: row for row in reversed(rows)}
        active = {row.name: row for row in rows if row.state == "active"}
        offered = [one for one in ready_made() if one.name not in newest]
        people = accounts.named(row.owner for row in rows)
        return desk.render(
            "policies.html", newest=sorted(newest.values(), key=lambda row: row.name), active=active, offered=offered, people=people
        )

    @pages.get("/policies/<name>/<int:version>")
    def show(name: str, version: int) -> Response:
        row = policies.get(name, version)
        days = next((days for days in DAYS if text("days", 3) == str(days)), None)
        tried = rehearsal.replay(name, version, clock.timestamp() - days * DAY) if days and desk.officer().sees_all else None
        reference, verdict, problem = text("ref", 100), None, ""
        if reference and desk.officer().sees_all:
            try:
                verdict = rehearsal.ask(name, version, reference)
            except (NotFound, Refused) as refused:
                problem = f"{str(refused).capitalize()}."
        return desk.render(
            "policy.html",
            404 if problem else 200,
            policy=row,
            versions=[one for one in policies.list() if one.name == name],
            owner=accounts.find(row.owner),
            makers=accounts.named((row.made_by, row.activated_by or "")),
            days=days,
            choices=DAYS,
            tried=tried,
            reference=reference,
            verdict=verdict,
            problem=problem,
        )

    @pages.get("/policies/new")
    def new() -> Response:
        desk.officer().check(Duty.GOVERN)
        name = text("name", 63)
        made = next((one for one in ready_made() if one.name == name), None)
        held = next((row for row in policies.list() if row.name == name), None)
        owner = accounts.find(held.owner) if held is not None else None
        return form(
            name=name,
            text=held.text if held is not None else made.text if made is not None else "",
            rule=held.rule if held is not None else made.rule if made is not None else "",
            owner=owner.username if owner is not None else "",
        )

    @pages.post("/policies/new")
    def save() -> Response:
        officer = desk.checked("policy", f"{HERE}/policies/new")
        sent = {name: single(request.form, name) for name in ("name", "text", "rule", "owner")}
        written = sent["text"].replace("\r\n", "\n")
        try:
            row = administration.save_policy(officer, sent["name"], written, owner=person(accounts, sent["owner"]), rule=sent["rule"])
        except Refused as refused:
            return form(**sent, problem=str(refused))
        return back(home(row.name, row.version), "saved")

    def form(*, problem: str = "", **held: str) -> Response:
        if not desk.officer().governs:
            raise NotYours
        return desk.render("policy_form.html", 400 if problem else 200, held=held, problem=problem)

    @pages.post("/policies/<name>/<int:version>/activate")
    def activate(name: str, version: int) -> Response:
        officer = desk.checked(f"activate-policy:{name}:{version}", home(name, version))
        administration.activate_policy(officer, name, version)
        return back(home(name, version), "activated")

    @pages.post("/policies/<name>/<int:version>/retire")
    def retire(name: str, version: int) -> Response:
        administration.retire_policy(desk.checked(f"retire-policy:{name}", home(name, version)), name)
        return back(home(name, version), "withdrawn")

    return pages
