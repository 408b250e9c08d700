"""`/my/agents`: what I allowed, until when, last used, and a way to end it."""

from __future__ import annotations

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

from app.audit.events import Who
from app.delegation.consent import Consents
from app.humans.sessions import SignIn
from app.web.forms import single
from app.web.pages import Pages, see_other
from app.web.standing import Allowed, Standing

HERE = "/my/agents"


def blueprint(pages: Pages, standing: Standing, consents: Consents) -> Blueprint:
    """The page of what a human allowed, and the two steps of withdrawing."""
    mine = Blueprint("my_agents", __name__, url_prefix=HERE)

    @mine.get("")
    def overview() -> Response:
        current = pages.sign_in.current()
        if current is None:
            return see_other(f"/login?next={HERE}")
        allowed, ended = standing.of(current.human.id)
        named = single(request.args, "withdrawn")
        withdrawn = next((one for one in ended if one.id == named), None)
        left = [one for one in allowed if withdrawn is not None and one.client_id == withdrawn.client_id]
        return pages.render("my_agents.html", standing=allowed, ended=ended, withdrawn=withdrawn, left=left)

    @mine.get("/<consent_id>/withdraw")
    def confirm(consent_id: str) -> Response:
        current = pages.sign_in.current()
        if current is None:
            return see_other(f"/login?next={HERE}")
        allowed = own(current, consent_id)
        if allowed.ended_at is not None:
            return see_other(HERE)
        others = [one for one in standing.of(current.human.id)[0] if one.client_id == allowed.client_id and one.id != consent_id]
        return pages.render("withdraw.html", consent=allowed, others=others, purpose=purpose(consent_id))

    @mine.post("/<consent_id>/withdraw")
    def withdraw(consent_id: str) -> Response:
        current = pages.sign_in.current()
        if current is None:
            return see_other(f"/login?next={HERE}")
        own(current, consent_id)
        pages.csrf.check(request.form, purpose(consent_id))
        consents.withdraw(consent_id, by=Who(human=current.human.id))
        return see_other(f"{HERE}?withdrawn={consent_id}")

    def own(current: SignIn, consent_id: str) -> Allowed:
        """The consent, if it is hers; anybody else's is as absent as one that never was."""
        allowed = standing.find(current.human.id, consent_id)
        if allowed is None:
            raise NotFound
        return allowed

    def purpose(consent_id: str) -> str:
        return f"withdraw:{consent_id}"

    return mine
