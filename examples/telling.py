"""What is printed: the steps, what a token says in plain words, what was refused."""

from __future__ import annotations

import base64
import json
import os
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

from configuration import SERVER

COLOURS = {"title": "1;36", "dim": "2", "good": "32", "refused": "33", "wrong": "1;31", "name": "1"}
KINDS = {
    "at+jwt": "an access token: an API takes it",
    "handover+jwt": "a hand-over: no API takes it, it can only be exchanged",
}
ONCE = {"typ", "txn", "auth_time"}
"""Claims that are told again only when they change."""

WIDTH = 100


class Teller:
    """Prints. `names` says what an identifier stands for."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self._coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._step = 0
        self._told: set[tuple[str, str]] = set()

    def step(self, title: str) -> None:
        """A step of the story."""
        self._step += 1
        self._line(f"\n{self._paint('title', f'{self._step}  {title}')}")

    def say(self, text: str) -> None:
        """A sentence or two."""
        for line in textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False) or [""]:
            self._line("  " + line)

    def done(self, text: str) -> None:
        """Something that worked."""
        self._line(f"  {self._paint('good', '✓')} {text}")

    def refused(self, what: str, code: str) -> None:
        """Something that was refused, as it should be."""
        self._line(f"  {self._paint('refused', '✗')} {what}: {self._paint('refused', 'refused, ' + code)}")

    def wrong(self, text: str) -> None:
        """Something that is not as it should be."""
        sys.stdout.flush()
        print(self._paint("wrong", f"Not as it should be: {text}"), file=sys.stderr, flush=True)

    def quiet(self, text: str) -> None:
        """A detail."""
        self._line("    " + self._paint("dim", text))

    def token(self, title: str, token: str) -> dict[str, Any]:
        """What a token says, claim by claim. Returns the claims, which nobody has verified here: that is the API's to do."""
        header, claims = (_decoded(part) for part in token.split(".")[:2])
        self._line(f"  {self._paint('name', title)}")
        for claim, value, words in self._explained(header, claims):
            if claim in ONCE and (claim, value) in self._told:
                continue
            self._told.add((claim, value))
            self._line(f"    {claim:<9} {self._paint('dim', f'{value:<36}')} {words}".rstrip())
        return claims

    def _explained(self, header: dict[str, Any], claims: dict[str, Any]) -> list[tuple[str, str, str]]:
        name = self._name
        handover = header["typ"] == "handover+jwt"
        rows = [
            ("typ", header["typ"], KINDS.get(header["typ"], "")),
            ("aud", _short(claims["aud"]), f"for {name(claims['aud'])} and nobody else"),
            ("sub", _short(claims["sub"]), f"on behalf of {name(claims['sub'])}"),
        ]
        actor, words = claims.get("act"), "done by {}"
        if actor is None:
            rows.append(("act", "none", f"no agent acts: {name(claims['sub'])} herself, through an application"))
        while actor is not None:
            rows.append(("act" if words.startswith("done") else "act.act", _short(actor["sub"]), words.format(name(actor["sub"]))))
            actor, words = actor.get("act"), "which had it from {}"
        if "may_act" in claims:
            rows.append(("may_act", _short(claims["may_act"]["sub"]), f"only {name(claims['may_act']['sub'])} may exchange it"))
        if handover:
            for entry in claims["authorization_details"]:
                (location,) = entry["locations"]
                rows.append(("reaches", _short(location), " ".join(entry["actions"])))
        else:
            rows.append(("scope", claims["scope"], "this and nothing else"))
        rows.append(("exp", str(claims["exp"]), f"gone in {_minutes(claims['exp'])}"))
        if "txn" in claims:
            rows.append(("txn", _short(claims["txn"]), "the piece of work, the same in every token and record of it"))
        if "auth_time" in claims:
            rows.append(("auth_time", str(claims["auth_time"]), f"when {name(claims['sub'])} signed in; no agent can make it younger"))
        return rows

    def _name(self, identifier: str) -> str:
        return self.names.get(identifier, identifier)

    def _paint(self, what: str, text: str) -> str:
        return f"\033[{COLOURS[what]}m{text}\033[0m" if self._coloured else text

    @staticmethod
    def _line(text: str) -> None:
        print(text, flush=True)


class NotAsExpected(Exception):
    """The story went another way."""


def expect(condition: object, otherwise: str) -> None:
    """Go on only if it is so."""
    if not condition:
        raise NotAsExpected(otherwise)


def expect_refusal(kind: type[Exception], code: str, act: Callable[[], object], what: str) -> None:
    """Go on only if `act` is refused with exactly that code."""
    try:
        act()
    except kind as refusal:
        found = str(getattr(refusal, "error", ""))
        expect(found == code, f"{what}: refused with {found}, and not with {code}")
        return
    raise NotAsExpected(f"{what}: not refused")


def _short(text: str) -> str:
    return "…" + text.removeprefix(SERVER) if text.startswith(SERVER + "/") else text


def _minutes(moment: int) -> str:
    left = moment - int(time.time())
    return f"{round(left / 60)} minutes" if left > 90 else f"{left} seconds"


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, unverified."""
    return _decoded(token.split(".")[1])


def _decoded(part: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found
