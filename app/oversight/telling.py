"""The ledger in plain words: one record, one sentence, for the human in whose name it was done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app import clock
from app.audit import events
from app.ledger.firsts import came_alone
from app.oversight.names import Names, Record

MOST = 3
"""Resources named in one sentence."""

MINUTE, HOUR, DAY = 60, 3600, 86400


class Part(NamedTuple):
    """A piece of a sentence. Nothing but our own words can be trusted; whoever shows the others makes them harmless."""

    text: str
    kind: str = "ours"
    """`ours`; or what others wrote: a `name`, or `words`."""


@dataclass(frozen=True, slots=True)
class Told:
    """One thing that happened."""

    seq: int
    at: int
    """Seconds since 1970."""
    tone: str
    """`use`: an agent got or did something; `pass`: handed work on; `no`: was refused; `work`: began or ended a task; `you`: a deed of yours."""
    parts: tuple[Part, ...]
    jti: str = ""
    used: bool = False
    """Whether an API has seen the token of this entry."""
    alone: bool = False
    """Whether the agent came back without its human."""
    count: int = 1
    """How many times in a row."""

    @property
    def day(self) -> str:
        """The day it happened, UTC: `2026-12-23`."""
        return f"{clock.at(self.at):%Y-%m-%d}"


Words = tuple[str, Sequence[Part]]
"""Tone and sentence."""

WHY = {
    "consent": "you did not allow it, or no longer do",
    "scope": "it asked for more than it may have",
    "target": "that is not among what you allowed",
    "task": "its task has ended",
    "limit": "its limit is used up",
    "policy": "a rule of your organisation forbids it",
    "hand-over": "it may not pass work to that agent",
    "subject_token": "what it held is no longer valid",
    "chain": "too many agents in a row",
    "proof": "it could not prove that it holds its key",
    "lifetime": "its time was up",
    "human": "you said no",
    "approval": "it had no answer of yours that covers it",
}
"""Why something was refused, by the layer that refused."""

PAUSED = "the consent is paused"


def tell(seq: int, record: Record, names: Names) -> Told | None:
    """The sentence for a record; None for what is no news to anybody."""
    teller = WORDS.get(record["event"]) or ACCOUNT.get(record["event"])
    said = teller(record, names) if teller is not None else None
    if said is None:
        return None
    tone, parts = said
    return Told(
        seq,
        record["at"] // 1000,
        tone,
        tuple(parts),
        record.get("jti", ""),
        used=record["event"] == events.TokenFirstUsed.name,
        alone=record["event"] == events.TokenIssued.name and came_alone(record),
    )


def name(text: str) -> Part:
    """A part that somebody else wrote."""
    return Part(text, "name")


def words(text: str) -> Part:
    """A part that somebody else wrote, and that is no name."""
    return Part(text, "words")


def actor(record: Record, names: Names) -> list[Part]:
    """Who acted, and who had asked for it: `Booking agent, asked by Executive assistant,`."""
    uris = record["who"].get("actors", ())
    if not uris:
        client = record["who"].get("client")
        return [name(names.client(client)) if client else Part("Something")]
    parts = [name(names.agent(uris[0]))]
    for uri in uris[1:]:
        parts += [Part(", asked by "), name(names.agent(uri))]
    return [*parts, Part(",")] if len(uris) > 1 else parts


def length(seconds: int) -> str:
    """A length of time in words, rounded: `5 minutes`."""
    for size, unit in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        count = (seconds + size // 2) // size
        if seconds >= size - size // 20 and count:
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "less than a minute"


def reach(scope: Mapping[str, Sequence[str]], names: Names) -> list[Part]:
    """What may be done where: `Travel: book trips; Mail: read your mail`."""
    parts: list[Part] = []
    for uri in sorted(scope, key=lambda uri: (names.target(uri), uri))[:MOST]:
        parts += [Part("; ")] if parts else []
        parts += [name(names.target(uri)), Part(": "), words(", ".join(_lower(names.words(uri, one)) for one in scope[uri]))]
    if len(scope) > MOST:
        parts.append(Part(f" and {len(scope) - MOST} more"))
    return parts


def why(record: Record) -> str:
    """Why it was refused."""
    if record.get("reason") == PAUSED:
        return "you have paused it"
    return WHY.get(record.get("layer", ""), "the request was not in order")


def _issued(record: Record, names: Names) -> Words | None:
    who, scope = actor(record, names), record["scope"]
    lasts = Part(f", for {length(record['expires_at'] - record['at'] // 1000)}")
    if record["token"] == "userinfo":
        return "use", [*who, Part(" signed you in and saw who you are")]
    if record["token"] == "handover":
        audience = record["audience"]
        if audience in record["who"].get("actors", ())[:1]:
            return "use", [*who, Part(" began with what you allowed: "), *reach(scope, names), lasts]
        return "pass", [*who, Part(" handed work to "), name(names.target(audience)), Part(": "), *reach(scope, names), lasts]
    return "use", [*who, Part(" got access to "), *reach(scope, names), lasts]


def _refused(record: Record, names: Names) -> Words | None:
    targets = record.get("asked", {}).get("target", ())
    where = [Part(" to "), *_list(names.target(uri) for uri in targets[:MOST])] if targets else []
    return "no", [*actor(record, names), Part(" was refused access"), *where, Part(f": {why(record)}")]


def _used(record: Record, names: Names) -> Words | None:
    return "use", [*actor(record, names), Part(" used its access to "), name(names.target(record["resource"]))]


def _forbidden(record: Record, names: Names) -> Words | None:
    return "no", [
        *actor(record, names), Part(" lost access to "), name(names.target(record["resource"])),
        Part(": a rule of your organisation forbids it now"),
    ]  # fmt: skip


def _reported(record: Record, names: Names) -> Words | None:
    return "use", [name(names.target(record["resource"])), Part(" reports: "), *actor(record, names), Part(" did “"), *_deed(record, names)]


def _consumed(record: Record, names: Names) -> Words | None:
    return "use", [name(names.target(record["resource"])), Part(" let "), *actor(record, names), Part(" do “"), *_deed(record, names)]


def _not_carried_out(record: Record, names: Names) -> Words | None:
    refused = [name(names.target(record["resource"])), Part(" did not let "), *actor(record, names), Part(" do “")]
    return "no", [*refused, *_deed(record, names), Part(f": {why(record)}")]


def _deed(record: Record, names: Names) -> list[Part]:
    amount = record.get("amount")
    cost = f" ({amount['currency']} {amount['value']})" if amount else ""
    return [words(_lower(names.words(record["resource"], record["action"]))), Part(f"”{cost}")]


def _given(record: Record, names: Names) -> Words | None:
    client = record["who"].get("client", "")
    until = Part(f", for {length(record['until'] - record['at'] // 1000)}")
    what = [Part(": "), *reach(record["scope"], names)] if record["scope"] else []
    return "you", [Part("You allowed "), name(names.client(client)), *what, until]


def _over_consent(verb: str) -> Callable[[Record, Names], Words | None]:
    def told(record: Record, names: Names) -> Words | None:
        client = record["who"].get("client") or names.client_of(record["consent"]) or ""
        who = record["who"]
        doer = actor(record, names) if who.get("actors") else [Part("An operator" if who.get("operator") else "You")]
        return "you", [*doer, Part(f" {verb} "), name(names.client(client))]

    return told


def _opened(record: Record, names: Names) -> Words | None:
    if record["cause"] != "asked":
        return None
    return "work", [*actor(record, names), Part(" began a task: “"), words(record.get("purpose", "")), Part("”")]


def _revoked(record: Record, names: Names) -> Words | None:
    who = record["who"]
    doer = actor(record, names) if who.get("actors") else [Part("An operator" if who.get("operator") else "You")]
    if record["kind"] == "task":
        purpose = names.purpose(record["target"])
        what = [Part(" “"), words(purpose), Part("”")] if purpose else [Part(" its work without a named task")]
        return "work", [*doer, Part(" ended" if who.get("actors") else " stopped"), *what]
    if record["kind"] in {"token", "family"}:
        return "work", [*doer, Part(" gave access back" if who.get("actors") else " ended an access")]
    if record["kind"] == "human":
        return "you", [*doer, Part(" stopped everything that acted for you")]
    return None


def _not_authorized(record: Record, names: Names) -> Words | None:
    client = record["who"].get("client", "")
    if record["error"] == "access_denied":
        return "you", [Part("You said no to "), name(names.client(client))]
    return "no", [name(names.client(client)), Part(" asked for something and did not get it")]


def _asked(record: Record, names: Names) -> Words | None:
    return "work", [*actor(record, names), Part(" asks you for "), *reach(record["scope"], names)]


def _answered(verb: str) -> Callable[[Record, Names], Words | None]:
    def told(record: Record, names: Names) -> Words | None:
        who = record["who"]
        client = who.get("client") or names.client_of(record.get("consent", "")) or ""
        asker = actor(record, names) if who.get("actors") else [name(names.client(client))]
        return "you", [Part(f"{'An operator' if who.get('operator') else 'You'} {verb} "), *asker]

    return told


def _unanswered(record: Record, names: Names) -> Words | None:
    return "no", [Part("A question of "), *actor(record, names), Part(" was over before it was used")]


def _signed_in(record: Record, _names: Names) -> Words | None:
    return "you", [Part("You signed in with a passkey" if "mfa" in record["amr"] else "You signed in with your password")]


def _not_signed_in(record: Record, _names: Names) -> Words | None:
    return "no", [Part(f"Somebody tried to sign in as you and could not: {record['reason']}")]


def _signed_out(record: Record, _names: Names) -> Words | None:
    return "you", [Part("An operator ended a sign-in of yours" if record["who"].get("operator") else "A sign-in of yours was ended")]


CHANGES = {
    "passkey_added": "You added a passkey",
    "passkey_renamed": "You gave a passkey another name",
    "passkey_removed": "You removed a passkey",
}


def _changed(record: Record, _names: Names) -> Words | None:
    what = record["what"]
    if "password" in what.get("changed", ()):
        return "you", [Part(f"{'An operator' if record['who'].get('operator') else 'You'} changed your password")]
    known = next((words for name, words in CHANGES.items() if name in what), None)
    return ("you", [Part(known)]) if known is not None else None


WORDS: dict[str, Callable[[Record, Names], Words | None]] = {
    events.TokenIssued.name: _issued,
    events.TokenRefused.name: _refused,
    events.TokenFirstUsed.name: _used,
    events.TokenForbidden.name: _forbidden,
    events.TaskReported.name: _reported,
    events.CallConsumed.name: _consumed,
    events.CallRefused.name: _not_carried_out,
    events.ConsentGiven.name: _given,
    events.ConsentNarrowed.name: _over_consent("made smaller what you allowed"),
    events.ConsentWithdrawn.name: _over_consent("withdrew what you allowed"),
    events.ConsentPaused.name: _over_consent("paused"),
    events.ConsentResumed.name: _over_consent("resumed"),
    events.TaskOpened.name: _opened,
    events.ApprovalAsked.name: _asked,
    events.ApprovalAllowed.name: _answered("said yes to"),
    events.ApprovalDenied.name: _answered("said no to"),
    events.ApprovalExpired.name: _unanswered,
    events.Revoked.name: _revoked,
    events.AuthorizationRefused.name: _not_authorized,
}
"""What is told of what agents did, and of what she decided about them."""

ACCOUNT: dict[str, Callable[[Record, Names], Words | None]] = {
    events.SignedIn.name: _signed_in,
    events.SignInFailed.name: _not_signed_in,
    events.SignedOut.name: _signed_out,
    events.Changed.name: _changed,
}
"""What is told of her own account."""

AGENTS, SECURITY = frozenset(WORDS), frozenset(ACCOUNT)


def _list(texts: Iterable[str]) -> list[Part]:
    parts: list[Part] = []
    for text in texts:
        parts += [Part(" and "), name(text)] if parts else [name(text)]
    return parts


def _lower(words: str) -> str:
    """As it stands in a sentence: `Book flights` becomes `book flights`, `HR files` stays."""
    return words[:1].lower() + words[1:] if words[1:2].islower() or words[1:2] == " " else words
