"""`/my/agents`: what I allowed, what is being done with it just now, and ways to narrow, pause and end it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from flask import Blueprint, Response, make_response, request
from werkzeug.exceptions import BadRequest, NotFound

from app import clock
from app.audit.events import Who
from app.delegation.consent import Consents
from app.delegation.limits import Limits
from app.delegation.task import Tasks
from app.errors import Refused
from app.humans.sessions import SignIn
from app.oversight.activity import Activity, Wanted
from app.oversight.news import New, News
from app.oversight.standing import ID, Allowed, Overview, Standing, Work
from app.oversight.telling import Told
from app.rim.headers import allow_live
from app.rim.streams import STREAM
from app.vocabulary import Pair
from app.web.consent import LOWER, SECONDS, lowered, read_limits, read_pairs
from app.web.forms import single
from app.web.pages import Pages, see_other

HERE = "/my/agents"
LATEST = 20
"""Entries of what was done lately that stand beside the agents; alike ones in one line."""

FRESH = 60
"""Seconds after which a page that shows itself anew does so although nothing was done: moments in words grow old."""


class _Shown(TypedDict):
    """What is on the page. `tag` changes when something else would be."""

    tag: str
    shown: Overview
    latest: tuple[Told, ...]
    news: tuple[New, ...]


SHORTER = ((3600, "1 hour"), (8 * 3600, "8 hours"), (86_400, "1 day"), (7 * 86_400, "7 days"), (30 * 86_400, "30 days"))


def blueprint(pages: Pages, standing: Standing, activity: Activity, news: News, consents: Consents, tasks: Tasks) -> Blueprint:
    """The page of what a human allowed, and what she can do about it."""
    mine = Blueprint("my_agents", __name__, url_prefix=HERE)
    pages.badge("agents", news.count)
    _consents(mine, pages, standing, consents)
    _work(mine, pages, standing, tasks)
    signed_in = pages.signed_in(HERE)

    @mine.get("")
    @signed_in
    def overview(current: SignIn) -> Response:
        still = single(request.args, "updates") == "off"
        if not still:
            allow_live()
        context = look(current)
        shown = context["shown"]
        return pages.render("my_agents.html", still=still, done=_done(request.args, current, shown, standing), **context)

    @mine.get("/live")
    def live() -> Response:
        """What the page shows, if that is another than was `seen`. A page that asks by itself is nobody's presence."""
        current = pages.sign_in.current(present=False)
        if current is None:
            gone = make_response("", 401)
            gone.headers["HX-Redirect"] = f"/login?next={HERE}"
            return gone
        if single(request.args, "seen") == _tag(activity.newest(current.human.id)):
            return make_response("", 204)
        return pages.render("_my_agents.html", alone=True, **look(current))

    @mine.get("/events")
    def events() -> Response:
        """A stream that says when there is something new, where the server makes one of it; else 204, and the page asks by itself."""
        current = pages.sign_in.current(present=False)
        if current is None:
            return make_response("", 401)
        request.environ[STREAM] = current.human.id
        return make_response("", 204)

    def look(current: SignIn) -> _Shown:
        # Asked before it is read: what comes in between is shown twice rather than never.
        tag, human = _tag(activity.newest(current.human.id)), current.human.id
        return {
            "tag": tag,
            "shown": standing.of(human),
            "latest": activity.page(Wanted(human), LATEST).lines,
            "news": news.unseen(human),
        }

    @mine.post("/seen")
    @signed_in
    def seen(current: SignIn) -> Response:
        upto = single(request.form, "upto")
        pages.csrf.check(request.form, f"seen:{upto}")
        if not SECONDS.fullmatch(upto):
            raise BadRequest("The form is not one of ours.")
        news.see(current.human.id, int(upto))
        return see_other(HERE)

    @mine.post("/pause")
    @signed_in
    def pause(current: SignIn) -> Response:
        return both_ways(current, "pause", "paused")

    @mine.post("/resume")
    @signed_in
    def resume(current: SignIn) -> Response:
        return both_ways(current, "resume", "resumed")

    def both_ways(current: SignIn, deed: str, done: str) -> Response:
        client_id = single(request.form, "client_id")
        pages.csrf.check(request.form, f"{deed}:{client_id}")
        if not ID.fullmatch(client_id):
            raise NotFound
        do = consents.pause if deed == "pause" else consents.resume
        do(current.human.id, client_id, by=Who(human=current.human.id))
        return see_other(f"{HERE}?{done}={client_id}")

    return mine


def _consents(mine: Blueprint, pages: Pages, standing: Standing, consents: Consents) -> None:
    """Withdrawing and narrowing one consent."""
    signed_in = pages.signed_in(HERE)

    @mine.get("/<consent_id>/withdraw")
    @signed_in
    def confirm(current: SignIn, consent_id: str) -> Response:
        allowed = own(current, consent_id)
        if allowed.ended_at is not None:
            return see_other(HERE)
        party = standing.of(current.human.id).party(allowed.client_id)
        others = [one for one in party.allowed if one.id != consent_id] if party is not None else []
        return pages.render("withdraw.html", consent=allowed, others=others, purpose=f"withdraw:{consent_id}")

    @mine.post("/<consent_id>/withdraw")
    @signed_in
    def withdraw(current: SignIn, consent_id: str) -> Response:
        own(current, consent_id)
        pages.csrf.check(request.form, f"withdraw:{consent_id}")
        consents.withdraw(consent_id, by=Who(human=current.human.id))
        return see_other(f"{HERE}?withdrawn={consent_id}")

    @mine.get("/<consent_id>/narrow")
    @signed_in
    def choose(current: SignIn, consent_id: str) -> Response:
        allowed = own(current, consent_id)
        return see_other(HERE) if allowed.ended_at is not None else show_narrow(allowed)

    def show_narrow(allowed: Allowed, problem: str = "") -> Response:
        left = allowed.until - clock.timestamp()
        return pages.render(
            "narrow.html",
            400 if problem else 200,
            consent=allowed,
            problem=problem,
            shorter=[choice for choice in SHORTER if choice[0] < left],
            purpose=f"narrow:{allowed.id}",
        )

    @mine.post("/<consent_id>/narrow")
    @signed_in
    def narrow(current: SignIn, consent_id: str) -> Response:
        allowed = own(current, consent_id)
        pages.csrf.check(request.form, f"narrow:{consent_id}")
        if allowed.ended_at is not None:
            return see_other(HERE)
        held = frozenset(Pair(at.uri, action.scope) for at in allowed.resources for action in at.actions)
        pairs, lifetime = read_pairs(request.form), single(request.form, "lifetime")
        if lifetime and not SECONDS.fullmatch(lifetime):
            raise BadRequest("The form is not one of ours.")
        if held and not pairs:
            return show_narrow(allowed, "Leave it at least one thing, or withdraw everything.")
        if (limits := lowered(read_limits(request.form), allowed.bounds, is_agent=allowed.is_agent)) is None:
            return show_narrow(allowed, LOWER)
        until = min(allowed.until, clock.timestamp() + int(lifetime)) if lifetime else allowed.until
        if (pairs, until, limits) != (held, allowed.until, Limits.parse(allowed.bounds)):
            try:
                consents.narrow(consent_id, pairs=pairs, until=until, limits=limits, by=Who(human=current.human.id))
            except Refused:
                return show_narrow(own(current, consent_id), "It was changed meanwhile. This is what is left.")
        return see_other(f"{HERE}?narrowed={consent_id}")

    def own(current: SignIn, consent_id: str) -> Allowed:
        """The consent, if it is hers; anybody else's is as absent as one that never was."""
        allowed = standing.find(current.human.id, consent_id)
        if allowed is None:
            raise NotFound
        return allowed


def _work(mine: Blueprint, pages: Pages, standing: Standing, tasks: Tasks) -> None:
    """Stopping one piece of work."""
    signed_in = pages.signed_in(HERE)

    @mine.get("/tasks/<task_id>/stop")
    @signed_in
    def confirm_stop(current: SignIn, task_id: str) -> Response:
        allowed, work = own_work(current, task_id)
        return pages.render("stop.html", consent=allowed, work=work, purpose=f"stop:{task_id}")

    @mine.post("/tasks/<task_id>/stop")
    @signed_in
    def stop(current: SignIn, task_id: str) -> Response:
        pages.csrf.check(request.form, f"stop:{task_id}")
        _, work = own_work(current, task_id)
        tasks.end(work.id, by=Who(human=current.human.id))
        return see_other(f"{HERE}?stopped={work.consent}")

    def own_work(current: SignIn, task_id: str) -> tuple[Allowed, Work]:
        found = standing.work(current.human.id, task_id)
        if found is None:
            raise NotFound
        return found


def _tag(newest: int) -> str:
    return f"{newest}.{clock.timestamp() // FRESH}"


def _done(args: Mapping[str, str], current: SignIn, shown: Overview, standing: Standing) -> tuple[str, str] | None:
    """Whom and what the last deed was about, for the line at the top; None when there was none."""
    for what in ("withdrawn", "narrowed", "stopped"):
        allowed = standing.find(current.human.id, args[what]) if what in args else None
        if allowed is not None:
            left = what == "withdrawn" and shown.party(allowed.client_id) is not None
            ended = allowed.ended_at is not None
            return ("withdrawn, not all" if left else what, allowed.name) if ended or what != "withdrawn" else None
    for what in ("paused", "resumed"):
        party = shown.party(args[what]) if what in args else None
        if party is not None and party.paused == (what == "paused"):
            return what, party.one.name
    return None
