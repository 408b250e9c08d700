"""What must be so, in plain Python: who allowed what to whom, what hangs on what, and what is dead.

Nothing here knows how the server does it. There are no epochs and no versions: when something ends, everything that was
born on it is dead, and stays so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

Pair = tuple[str, str]
Pairs = frozenset[Pair]

DEEPEST = 4
ANCESTORS = 8
LIFETIME = 300
CODE_LIFETIME = 60
SESSION_IDLE, SESSION_LIFETIME = 8 * 3600, 24 * 3600
SEEN_EVERY = 60
REFRESH_LIFETIME = 30 * 86400
CONFIDENTIAL, EXTERNAL, UNKNOWN = "confidential", "external-send", "unknown"
REDEEM = 300
"""Seconds a yes is good for."""
DANGEROUS = frozenset({CONFIDENTIAL, EXTERNAL})


class Hanging:
    """Something that ends with whatever it was born on."""

    hangs: frozenset[str]
    dead: str | None

    def kill(self, thing: str, why: str) -> None:
        if thing in self.hangs and self.dead is None:
            self.dead = why


@dataclass(eq=False)
class Human:
    id: str
    enabled: bool = True


@dataclass(eq=False)
class Session(Hanging):
    id: str
    human: Human
    expires: int
    seen: int
    hangs: frozenset[str] = frozenset()
    dead: str | None = None

    def usable(self, now: int) -> bool:
        return self.dead is None and self.human.enabled and now < self.expires and self.seen > now - SESSION_IDLE

    def use(self, now: int) -> None:
        if now - self.seen >= SEEN_EVERY:
            self.seen = now


@dataclass(eq=False)
class Resource:
    uri: str
    labels: frozenset[str]
    scope_labels: dict[str, frozenset[str]]
    bound_only: bool = False
    enabled: bool = True

    def touched(self, scopes: Iterable[str]) -> frozenset[str]:
        return self.labels.union(*(self.scope_labels.get(scope, frozenset()) for scope in scopes))


@dataclass(eq=False)
class Agent:
    uri: str
    owner: Human
    ceiling: Pairs
    hands_to: tuple[Agent, ...] = ()
    active: bool = True

    @property
    def depth(self) -> int:
        """How many agents in a row there can be when it is the first."""
        if not self.hands_to:
            return 1
        return DEEPEST if any(receiver.hands_to for receiver in self.hands_to) else 2


@dataclass(eq=False)
class Instance(Hanging):
    """A running copy of an agent, with a key of its own, until the agent's next end."""

    id: str
    agent: Agent
    key: int
    expires: int
    hangs: frozenset[str]
    dead: str | None = None

    def usable(self, now: int) -> bool:
        return self.dead is None and now < self.expires


@dataclass(eq=False)
class Consent(Hanging):
    id: str
    human: Human
    agent: Agent
    pairs: Pairs
    until: int
    away: bool
    hangs: frozenset[str]
    dead: str | None = None
    withdrawn: bool = False
    paused: bool = False
    uses: int | None = None
    """API tokens that may still be issued under it; None: any number."""
    forgotten: bool = False
    """Redis was emptied since: there may be fewer, never more."""

    def live(self, now: int) -> bool:
        return self.dead is None and not self.paused and now < self.until


@dataclass(eq=False)
class Task:
    id: str
    consent: Consent
    pairs: Pairs | None
    deadline: int
    generation: int
    default: bool = False
    ended: bool = False
    labels: frozenset[str] = frozenset()
    vague: bool = False
    """What it has touched was lost in part, with a Redis that was emptied."""
    uses: int | None = None
    """API tokens that may still be issued in it, or events reported; None: any number."""
    counts_events: bool = False
    at_once: int | None = None
    """API tokens of it that may be alive at the same time; None: any number."""
    cents: int | None = None
    """Of euros that may still be spent in it; None: any amount."""
    issued: list[Token] = field(default_factory=list, repr=False)
    """Its API tokens."""

    @property
    def is_reported(self) -> bool:
        """Whether it has a limit that reports count against."""
        return self.counts_events or self.cents is not None

    def live(self, now: int, generation: int) -> bool:
        return not self.ended and now < self.deadline and self.generation == generation


@dataclass(eq=False)
class Family(Hanging):
    id: str
    consent: Consent
    pairs: Pairs
    expires: int
    hangs: frozenset[str]
    dead: str | None = None
    unsure: bool = False
    """It may have ended: a replay that was refused for another reason as well."""


@dataclass(eq=False)
class Code(Hanging):
    value: str
    verifier: str
    family: Family
    expires: int
    generation: int
    hangs: frozenset[str]
    redeemed: bool = False
    dead: str | None = None


@dataclass(eq=False)
class Refresh:
    value: str
    family: Family
    key: int | None
    used: bool = False


@dataclass(eq=False)
class Token(Hanging):
    jwt: str
    jti: str
    holder: Agent
    """Who may exchange it."""
    audience: str
    pairs: Pairs
    end: int
    path: tuple[str, ...]
    """URIs of the agents, the current one first; empty for an agent's own."""
    depth: int
    key: int | None
    parents: tuple[Token, ...]
    """The nearest first."""
    consent: Consent | None
    task: Task | None
    family: Family | None
    generation: int
    policies: int
    hangs: frozenset[str]
    approved: bool = False
    """Issued because its human said yes to just this."""
    dead: str | None = None

    @property
    def handover(self) -> bool:
        return "/agents/" in self.audience

    @property
    def scopes(self) -> frozenset[str]:
        return frozenset(scope for _, scope in self.pairs)


@dataclass(eq=False)
class Approval(Hanging):
    """A question to a human: one token, for exactly this."""

    value: str
    id: str
    actor: Agent
    audience: str
    pairs: Pairs
    path: tuple[str, ...]
    depth: int
    key: int | None
    parents: tuple[Token, ...]
    consent: Consent
    task: Task
    family: Family | None
    expires: int
    hangs: frozenset[str]
    state: str = "waiting"
    decided: int = 0
    proof: Token | None = None
    """The `actor_token` that was shown; whoever comes for the token shows one again."""
    dead: str | None = None

    def waits(self, now: int) -> bool:
        return self.state == "waiting" and self.dead is None and now < self.expires


@dataclass(frozen=True)
class Outcome:
    """What an exchange must give: nothing and why, or exactly this. `unsure`: either is right."""

    refused: str = ""
    unsure: bool = False
    asks: bool = False
    """A human must say yes first."""
    pairs: Pairs = frozenset()
    end: int = 0
    path: tuple[str, ...] = ()
    depth: int = 0
    key: int | None = None
    task: Task | None = None
    instance: Instance | None = None
    """Who asked, where it was a running copy."""


def refused(why: str) -> Outcome:
    return Outcome(refused=why)


@dataclass
class Model:
    """Everything there is, and the rules of what must be."""

    humans: list[Human]
    resources: list[Resource]
    agents: list[Agent]
    generation: int = 1
    policies: int = 0
    """Counts the changes of the policies in force."""
    slack: int = 0
    """Seconds by which the moment of an answer is not known."""
    no_writing: bool = False
    never_both: bool = False
    asks_to_send: bool = False
    approvals: list[Approval] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    consents: list[Consent] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    families: list[Family] = field(default_factory=list)
    codes: list[Code] = field(default_factory=list)
    refreshes: list[Refresh] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)

    def resource(self, uri: str) -> Resource | None:
        return next((one for one in self.resources if one.uri == uri), None)

    def agent(self, uri: str) -> Agent | None:
        return next((one for one in self.agents if one.uri == uri), None)

    # What ends, and with it everything born on it

    def end(self, thing: str) -> None:
        for one in self._hanging():
            one.kill(thing, thing)

    def narrow(self, consent: Consent, pairs: Pairs, until: int) -> None:
        """Access tokens, codes and questions under it die; refresh tokens go on within what is left."""
        consent.pairs, consent.until = pairs, until
        for one in (*self.tokens, *self.codes, *self.approvals):
            one.kill(f"consent:{consent.id}", "narrowed")

    def pause(self, human: Human, agent: Agent, now: int) -> None:
        """What was issued dies as if narrowed; nothing is issued until it is resumed."""
        for consent in self.standing(human, agent, now):
            if not consent.paused:
                consent.paused = True
                self.narrow(consent, consent.pairs, consent.until)

    def standing(self, human: Human, agent: Agent, now: int) -> list[Consent]:
        """Those neither withdrawn nor run out, paused or not."""
        mine = (one for one in self.consents if one.human is human and one.agent is agent)
        return [one for one in mine if not one.withdrawn and now < one.until]

    def withdraw(self, consent: Consent) -> None:
        consent.dead, consent.withdrawn = consent.dead or "withdrawn", True
        self.end(f"consent:{consent.id}")

    def end_task(self, task: Task) -> None:
        task.ended = True
        self.end(f"task:{task.id}")

    def end_session(self, session: Session) -> None:
        session.dead = session.dead or "ended"
        self.end(f"session:{session.id}")

    def end_human(self, human: Human) -> None:
        for session in self.sessions:
            if session.human is human:
                session.dead = session.dead or "ended"
        self.end(f"human:{human.id}")

    def new_generation(self, *, lost: bool) -> None:
        self.generation += 1
        for consent in self.consents:
            consent.forgotten = True
        if lost:
            for task in self.tasks:
                task.vague = True

    def _hanging(self) -> Iterator[Hanging]:
        yield from self.sessions
        yield from self.consents
        yield from self.families
        yield from self.codes
        yield from self.tokens
        yield from self.approvals
        yield from self.instances

    # What lives

    def alive(self, token: Token, now: int, slack: int = 0) -> bool | None:
        """Whether its resource must hear "active"; None: either is right."""
        if token.dead is not None or token.generation != self.generation or now >= token.end + slack:
            return False
        if (resource := self.resource(token.audience)) is not None and not resource.enabled:
            return False
        unsure = (token.family is not None and token.family.unsure) or now >= token.end - slack
        if token.policies != self.policies and resource is not None:
            forbidden = self.forbidden(resource, token.scopes, token.task)
            if forbidden is None:
                return None
            if forbidden or (self.wants_human(resource, token.scopes) and not token.approved):
                return False
        return None if unsure else True

    def forbidden(self, resource: Resource | None, scopes: Iterable[str], task: Task | None) -> bool | None:
        """Whether a policy forbids a token for these scopes, or (None as resource) a hand-over. None: not to be told."""
        scopes = frozenset(scopes)
        if self.no_writing and resource is self.resources[0] and "write" in scopes:
            return True
        if not self.never_both:
            return False
        labels = resource.touched(scopes) if resource is not None else frozenset()
        touched = task.labels if task is not None else frozenset()
        if UNKNOWN in touched and labels & DANGEROUS:
            return True
        if task is not None and task.vague:
            # Of what it touched before, the server may know less; or more, where a report came too late.
            return None
        return DANGEROUS <= touched | labels

    def wants_human(self, resource: Resource | None, scopes: Iterable[str]) -> bool:
        return self.asks_to_send and resource is self.resources[1] and "send" in scopes

    def default_task(self, consent: Consent, now: int) -> Task | None | str:
        """The default task; its absence where a person ended it; `new` where a fresh one must be opened."""
        mine = [task for task in self.tasks if task.consent is consent and task.default]
        last = mine[-1]
        if last.ended:
            return None
        return last if last.live(now, self.generation) else "new"

    def used_up(self, resource: Resource | None, task: Task, now: int) -> str | None:
        """The limit that lets no further API token be issued, nothing where none does; None: not to be told."""
        if resource is None:
            return ""
        if task.uses == 0 and not task.counts_events:
            return "limit"
        consent = task.consent
        if consent.uses == 0:
            return "limit, of the consent"
        unsure = None if consent.uses is not None and consent.forgotten else ""
        if task.at_once is None:
            return unsure
        if sum(token.dead is None and now + self.slack < token.end for token in task.issued) >= task.at_once:
            return "limit, at once"
        # One that was ended goes on counting until it runs out, or it does not.
        return unsure if sum(now - self.slack < token.end for token in task.issued) < task.at_once else None

    # What an exchange must give

    def exchange(
        self,
        actor: Agent,
        subject: Token | Consent,
        target: str | None,
        scope: frozenset[str] | None,
        key: int | None,
        now: int,
        task: Task | None = None,
        proof: Token | None = None,
        instance: Instance | None = None,
    ) -> Outcome:
        """`task`: the one named; only with a consent as subject. `proof`: the `actor_token`. `instance`: the copy of the actor that asks."""
        if not actor.active:
            return refused("the agent is suspended")
        if instance is not None and not instance.usable(now):
            return refused("the instance has ended")
        if proof is not None and (problem := self._no_proof(proof, actor, key, now)):
            return refused(problem)
        if isinstance(subject, Token):
            if subject.dead is not None or subject.generation != self.generation or now >= subject.end:
                return refused("the subject token is dead")
            if subject.holder is not actor:
                return refused("not the holder")
            if subject.consent is None or subject.task is None:
                return refused("an agent's own token")
            consent, held, pairs, end = subject.consent, subject.task, subject.pairs, subject.end
            path, depth, bound, line = subject.path, subject.depth, subject.key, len(subject.parents) + 1
            unsure = subject.family is not None and subject.family.unsure
        else:
            consent, pairs, end = subject, subject.pairs, subject.until
            path, depth, bound, line, unsure = (), subject.agent.depth, None, 0, False
            if consent.agent is not actor or not consent.away:
                return refused("not its consent")
            if not consent.live(now):
                return refused("the consent has ended")
            named = task or self.default_task(consent, now)
            if named is None:
                return refused("the default task was ended by a person")
            held = self._fresh(consent, now) if isinstance(named, str) else named
            if held.consent is not consent:
                return refused("another consent's task")
        if not consent.live(now) or not held.live(now, self.generation):
            return refused("consent or task has ended")
        new_actor = not path or path[0] != actor.uri
        acting = (actor.uri, *path) if new_actor else path
        if target is None:
            places = {uri for uri, _ in pairs}
            if len(places) != 1:
                return refused("which resource?")
            (target,) = places
        found = self._within(actor, target, pairs & consent.pairs & actor.ceiling, pairs, held)
        if isinstance(found, str):
            return refused(found)
        left = found if scope is None else frozenset(pair for pair in found if pair[1] in scope)
        if not left or (scope is not None and not scope <= {one for _, one in found}):
            return refused("scope")
        if len(acting) > min(depth, consent.agent.depth) or line > ANCESTORS:
            return refused("too deep")
        outcome = self._bound(target, bound, key, new_actor=new_actor)
        if outcome:
            return refused(outcome)
        within = [*([proof.end] if proof is not None else []), *([instance.expires] if instance is not None else [])]
        end = min(end, consent.until, held.deadline, now + LIFETIME, *within)
        if end <= now:
            return refused("no time left")
        resource = self.resource(target)
        forbidden = self.forbidden(resource, {one for _, one in left}, held)
        if forbidden:
            return refused("policy")
        asks = self.wants_human(resource, {one for _, one in left})
        used_up = self.used_up(resource, held, now)
        if used_up and not asks:
            return refused(used_up)
        return Outcome(
            "", unsure or None in (forbidden, used_up), asks, left, end, acting, min(depth, consent.agent.depth), key, held, instance
        )

    def _no_proof(self, proof: Token, actor: Agent, key: int | None, now: int) -> str:
        """Why it is no `actor_token` of that agent, or nothing."""
        if proof.dead is not None or proof.generation != self.generation or now >= proof.end:
            return "the actor token is dead"
        if proof.path or proof.holder is not actor or self.resource(proof.audience) is not None:
            return "not the actor's own token for the issuer"
        return "the actor token is bound to another key" if proof.key is not None and proof.key != key else ""

    def _within(self, actor: Agent, target: str, pairs: Pairs, reach: Pairs, task: Task) -> Pairs | str:
        if task.pairs is not None:
            pairs &= task.pairs
        resource = self.resource(target)
        if resource is not None:
            if not resource.enabled:
                return "the resource is disabled"
            if all(uri != target for uri, _ in reach):
                return "out of reach"
            return frozenset(pair for pair in pairs if pair[0] == target)
        receiver = self.agent(target)
        if receiver is None or not receiver.active or receiver not in actor.hands_to:
            return "may not hand over"
        return pairs & receiver.ceiling

    def _bound(self, target: str, bound: int | None, key: int | None, *, new_actor: bool) -> str:
        if bound is not None and key is None:
            return "bound to a key, and none was proven"
        if bound is not None and key != bound and not new_actor:
            return "bound to another key"
        resource = self.resource(target)
        return "the resource demands a key" if resource is not None and resource.bound_only and key is None else ""

    def _fresh(self, consent: Consent, now: int) -> Task:
        """The default task that takes the place of one that a new generation ended. Not among the tasks until it has a name."""
        last = [task for task in self.tasks if task.consent is consent and task.default][-1]
        return Task("", consent, None, consent.until, self.generation, True, False, last.labels | {UNKNOWN}, last.vague)

    def repeat(
        self, family: Family, place: str | None, scope: frozenset[str] | None, bound: int | None, key: int | None, now: int
    ) -> tuple[Outcome, str]:
        """What redeeming a code or refresh token of a family must give, and for which audience."""
        consent = family.consent
        agent = consent.agent
        if not agent.active:
            return refused("the agent is suspended"), ""
        if family.dead is not None or not consent.live(now) or now >= family.expires:
            return refused("ended"), ""
        named = self.default_task(consent, now)
        if named is None:
            return refused("the default task was ended by a person"), ""
        task = self._fresh(consent, now) if isinstance(named, str) else named
        reach = {uri for uri, _ in family.pairs}
        if place is not None and place not in reach:
            return refused("not what was authorized"), ""
        audience = place or (agent.uri if len(reach) > 1 else next(iter(reach)))
        pairs = family.pairs & consent.pairs & agent.ceiling
        resource = self.resource(audience)
        if resource is not None:
            if not resource.enabled:
                return refused("the resource is disabled"), ""
            pairs = frozenset(pair for pair in pairs if pair[0] == audience)
        left = pairs if scope is None else frozenset(pair for pair in pairs if pair[1] in scope)
        if not left or (scope is not None and not scope <= {one for _, one in pairs}):
            return refused("scope"), ""
        if problem := self._bound(audience, bound, key, new_actor=False):
            return refused(problem), ""
        end = min(family.expires, consent.until, task.deadline, now + LIFETIME)
        forbidden = self.forbidden(resource, {one for _, one in left}, task)
        if forbidden:
            return refused("policy"), ""
        asks = self.wants_human(resource, {one for _, one in left})
        used_up = self.used_up(resource, task, now)
        if used_up and not asks:
            return refused(used_up), ""
        unsure = family.unsure or None in (forbidden, used_up)
        return Outcome("", unsure, asks, left, end, (agent.uri,), agent.depth, key, task), audience

    def poll(self, approval: Approval, key: int | None, now: int) -> Outcome:
        """What the agent must get that comes with an answered question: everything but the answer is looked at anew."""
        consent, actor = approval.consent, approval.actor
        if not actor.active:
            return refused("the agent is suspended")
        if approval.state != "allowed" or now >= approval.decided + REDEEM:
            return refused(f"the question is {approval.state}, or too old")
        if approval.dead is not None or not consent.live(now):
            return refused("what the question hangs on has ended")
        task = approval.task
        if not task.live(now, self.generation) and task.default:
            named = self.default_task(consent, now)
            if named is None:
                return refused("the default task was ended by a person")
            task = self._fresh(consent, now) if isinstance(named, str) else named
        if not task.live(now, self.generation):
            return refused("the task has ended")
        found = self._within(actor, approval.audience, approval.pairs & consent.pairs & actor.ceiling, approval.pairs, task)
        if isinstance(found, str) or found != approval.pairs:
            return refused("not all of it is to be had any more")
        if problem := self._bound(approval.audience, approval.key, key, new_actor=False):
            return refused(problem)
        if approval.proof is not None and (problem := self._no_proof(approval.proof, actor, key, now)):
            return refused(problem)
        resource = self.resource(approval.audience)
        forbidden = self.forbidden(resource, {one for _, one in approval.pairs}, task)
        if forbidden:
            return refused("policy")
        used_up = self.used_up(resource, task, now)
        if used_up:
            return refused(used_up)
        unsure = None in (forbidden, used_up) or (approval.family is not None and approval.family.unsure)
        end = min(consent.until, task.deadline, now + LIFETIME, *([approval.proof.end] if approval.proof is not None else []))
        return Outcome("", unsure, False, approval.pairs, end, approval.path, approval.depth, key, task)
