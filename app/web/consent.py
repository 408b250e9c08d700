"""The consent page: what it shows, and what comes back from it (design: protocol, section 6)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Response
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest

from app.authorization.offer import Offer
from app.delegation.limits import Limits
from app.rim.headers import allow_form_action
from app.vocabulary import MAX_SCOPES, SCOPE_TOKEN, Pair, Pairs
from app.web.forms import single
from app.web.pages import Pages
from app.web.text import plain

SECONDS = re.compile(r"[1-9][0-9]{0,9}")
LIMITS = ("uses", "live_tokens", "amount")
"""Fields of the form, each a limit that can be lowered."""
LOWER = "A limit can be lowered here, not raised: a whole number, or an amount such as 250.00."


@dataclass(frozen=True, slots=True)
class Decision:
    """What the human did with the page. With `allow` False nothing else counts, and all of it is empty."""

    allow: bool
    pairs: Pairs = frozenset()
    lifetime: int = 0
    """Seconds; 0 where the page had nothing to choose."""
    away: bool = False
    limits: Mapping[str, str] = field(default_factory=dict)
    """What was typed, by the name of the limit; empty is what was proposed."""


def csrf_purpose(ticket: str) -> str:
    """What the token of a consent form is about: this request and no other."""
    return f"consent:{ticket}"


def render_consent(pages: Pages, offer: Offer, ticket: str, *, redirect_uri: str, problem: str = "") -> Response:
    """The page that asks. `problem`: a sentence about the last attempt. The form may end at `redirect_uri`."""
    allow_form_action(redirect_uri)
    return pages.render(
        "consent.html",
        400 if problem else 200,
        offer=offer,
        ticket=ticket,
        purpose=csrf_purpose(ticket),
        heading=_heading(offer),
        hands_on=bool(offer.hands_to) and offer.depth > 1,
        problem=problem,
    )


def lowered(typed: Mapping[str, str], held: Mapping[str, Any], *, is_agent: bool) -> Limits | None:
    """The limits chosen: those there are, or lower; for an agent also a number of uses where there is none.

    None for what is higher, or no limit at all. What is left empty stays as it is.
    """
    chosen = dict(held)
    for name, text in typed.items():
        if not text:
            continue
        if name == "amount" and name in chosen:
            chosen[name] = {**chosen[name], "max": text}
        elif SECONDS.fullmatch(text) and (name in chosen or (name == "uses" and is_agent)):
            chosen[name] = int(text)
        else:
            return None
    try:
        limits = Limits.parse(chosen)
    except ValueError:
        return None
    return limits if limits.within(Limits.parse(held)) else None


def read_limits(form: MultiDict[str, str]) -> Mapping[str, str]:
    """What was typed, by the name of the limit."""
    return {name: single(form, name).strip() for name in LIMITS}


def read_decision(form: MultiDict[str, str]) -> Decision:
    """The answer, read strictly: only the checkboxes of `scope` may repeat. Raises `BadRequest` for anything else."""
    decision, lifetime, away = single(form, "decision"), single(form, "lifetime"), single(form, "away")
    if decision == "deny":
        return Decision(allow=False)
    if decision != "allow" or away not in {"", "yes"} or (lifetime and not SECONDS.fullmatch(lifetime)):
        raise BadRequest("The form is not one of ours.")
    return Decision(
        allow=True,
        pairs=read_pairs(form),
        lifetime=int(lifetime or 0),
        away=away == "yes",
        limits=read_limits(form),
    )


def read_pairs(form: MultiDict[str, str]) -> Pairs:
    """What is ticked. Raises `BadRequest` for what our pages do not send."""
    values = form.getlist("scope")
    if len(values) > MAX_SCOPES:
        raise BadRequest("The form is not one of ours.")
    return frozenset(map(_pair, values))


def _pair(value: str) -> Pair:
    uri, separator, scope = value.partition(" ")
    if not uri or not separator or not SCOPE_TOKEN.fullmatch(scope):
        raise BadRequest("The form is not one of ours.")
    return Pair(uri, scope)


def _heading(offer: Offer) -> str:
    name = plain(offer.name, 80)
    if offer.kind == "agent":
        return f"Let {name} act for you?"
    return f"Give {name} access?" if offer.resources else f"Sign in to {name}?"
