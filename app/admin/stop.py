"""The kill switch: choose, look at what would end, then end it."""

from __future__ import annotations

from flask import Blueprint, Response, request

from app.admin.desk import HERE, Desk, text
from app.errors import NotFound, Refused
from app.oversight.administration import Administration, may_own
from app.oversight.governance import Duty, NotYours
from app.oversight.target import KEEPS_OUT, Target, What
from app.web.forms import single
from app.web.pages import see_other

WORDS = {
    What.AGENT: ("An agent", "its identifier, client_id, or its name if only one has it"),
    What.OWNER: ("All agents of a person", "her username"),
    What.HUMAN: ("All that acts for a person", "her username"),
    What.RESOURCE: ("All tokens for an API", "its URI"),
    What.CONSENT: ("A consent", "con_…"),
    What.TASK: ("A task", "tsk_…"),
    What.INSTANCE: ("One running copy of an agent, for good", "its id, as its agent’s page shows it"),
    What.TOKEN: ("A token, and what was derived from it", "its jti, tok_…"),
    What.FAMILY: ("An authorization with its refresh token", "fam_…"),
    What.CLIENT: ("All that a client was given", "its client_id"),
    What.KEY: ("All that a signing key signed", "its kid"),
    What.EVERYTHING: ("Everything", "nothing"),
}
"""What each kind is called, and what to name it by."""


def blueprint(desk: Desk, administration: Administration) -> Blueprint:
    """The pages of the kill switch."""
    pages = desk.blueprint("stop", __name__)

    @pages.get("/stop")
    def choose() -> Response:
        what, reference = text("what", 20), text("ref")
        if what not in set(What):
            return chooser()
        try:
            target = administration.targets.find(What(what), reference)
        except (NotFound, Refused) as refused:
            return chooser(what, reference, f"{str(refused).capitalize()}.")
        return preview(target)

    def chooser(what: str = "", reference: str = "", problem: str = "") -> Response:
        officer = desk.officer()
        offered = {kind: words for kind, words in WORDS.items() if officer.sees_all or may_own(Target(kind, "", "", ""))}
        return desk.render("stop.html", 404 if problem else 200, kinds=offered, what=what, reference=reference, problem=problem)

    def preview(target: Target) -> Response:
        officer = desk.officer()
        count = administration.preview(officer, target)
        may = officer.may(Duty.STOP if may_own(target) else Duty.GOVERN, target.owner)
        if may:
            # Asked for before the button is shown, so that nobody presses it in vain.
            officer.check(Duty.STOP if may_own(target) else Duty.GOVERN, target.owner)
        return desk.render(
            "stop_preview.html",
            target=target,
            words=WORDS[target.what][0],
            count=count,
            may=may,
            keeps_out=target.what in KEEPS_OUT,
        )

    @pages.post("/stop")
    def stop() -> Response:
        what, reference = single(request.form, "what"), single(request.form, "ref")
        if what not in set(What):
            raise NotYours
        target = administration.targets.find(What(what), reference)
        officer = desk.checked(f"stop:{what}:{reference}", f"{HERE}/stop?what={what}&ref={reference}")
        keep_out = single(request.form, "keep_out") == "yes"
        if target.what is What.EVERYTHING and single(request.form, "sure") != "everything":
            return see_other(f"{HERE}/stop?what=everything")
        count = administration.stop(officer, target, keep_out=keep_out)
        earlier = {name: single(request.form, name) for name in ("tokens", "entry")}
        return desk.render("stopped.html", target=target, words=WORDS[target.what][0], count=count, keep_out=keep_out, earlier=earlier)

    return pages
