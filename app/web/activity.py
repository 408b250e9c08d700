"""`/my/activity`: all that was done in my name, by agent and by day, a page at a time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from flask import Blueprint, Response, request
from werkzeug.exceptions import BadRequest

from app.humans.sessions import SignIn
from app.oversight.activity import Activity, Wanted
from app.oversight.standing import ID, Standing
from app.web.forms import single
from app.web.pages import Pages

HERE = "/my/activity"
NUMBER = re.compile(r"[1-9][0-9]{0,17}")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def blueprint(pages: Pages, standing: Standing, activity: Activity) -> Blueprint:
    """The page of what was done in a human's name."""
    done = Blueprint("activity", __name__)

    @done.get(HERE)
    @pages.signed_in(HERE)
    def overview(current: SignIn) -> Response:
        agent, day, before = (single(request.args, name) for name in ("agent", "day", "before"))
        if (agent and not ID.fullmatch(agent)) or (before and not NUMBER.fullmatch(before)):
            raise BadRequest
        since = _midnight(day) if day else None
        wanted = Wanted(
            current.human.id,
            client_id=agent or None,
            since=since,
            until=None if since is None else since + int(timedelta(days=1).total_seconds()),
            before=int(before) if before else None,
        )
        page = activity.page(wanted)
        kept = {name: value for name, value in (("agent", agent), ("day", day)) if value}
        return pages.render(
            "activity.html",
            here="activity",
            page=page,
            clients=standing.clients(current.human.id),
            agent=agent,
            day=day,
            older=f"{HERE}?{urlencode({**kept, 'before': page.older})}" if page.older is not None else "",
            newest=f"{HERE}?{urlencode(kept)}".rstrip("?") if before else "",
        )

    return done


def _midnight(day: str) -> int:
    """The first second of a day, UTC, as all our pages count. Raises `BadRequest`."""
    if not DAY.fullmatch(day):
        raise BadRequest
    try:
        return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise BadRequest from None
