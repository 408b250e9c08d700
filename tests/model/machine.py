"""The machine: anything that people, agents, operators and accidents may do, in any order, against the model."""

from __future__ import annotations

from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from sqlalchemy import func, select

from app.errors import Refused
from app.ledger.models import EntryRow
from tests.model.ends import ASKS, Ends
from tests.model.model import CONFIDENTIAL, EXTERNAL, LIFETIME, Agent, Instance, Outcome, Task, Token
from tests.model.small import at, named, some
from tests.world import BY, Api, basic, bearer, claims_of

picks = st.integers(0, 255)
keys = st.sampled_from([None, None, 0, 1])
scopes = st.sampled_from([None, None, "read", "write", "send", "read write", "read send", "admin"])
seeds = st.integers(0, 65_535)

LOOKED_AT = 3
"""Other tokens that are looked at after each step, besides those it concerned."""

CONCERNED = 10
KEPT = 60
"""Tokens that are looked at at all; older ones that are dead are let go."""

ENDED = [*Ends.ENDS, "token of its own", "token of its own", "token", "task", "consent"]
"""Drawn by number: names are drawn unevenly, and some would be ended hardly ever."""


LIMITS: list[dict[str, Any]] = [
    {}, {}, {"uses": 1}, {"uses": 2}, {"uses": 5}, {"uses": 2, "counts": "events"}, {"live_tokens": 1}, {"live_tokens": 2},
    {"amount": {"currency": "EUR", "max": "100.00"}},
]  # fmt: skip
"""Of tasks."""


TIMES = [None, None, None, None, 1, 3, 8]
"""API tokens that a consent allows."""


class Machine(Ends):
    """One program."""

    # What a program begins with

    @initialize(seed=seeds, away=st.booleans())
    def begin(self, seed: int, away: bool) -> None:
        self._seed(seed)
        session = self._sign_in(self.model.humans[0])
        agent = self.model.agents[3]
        self._consent(session, agent, agent.ceiling, frozenset(), 30 * 86400, away=away, redeem=True, key=0)

    # People

    @rule(seed=seeds, who=picks, agent=picks, asked=picks, answer=picks, lifetime=picks, away=st.booleans(), key=keys)
    def consent(self, seed: int, who: int, agent: int, asked: int, answer: int, lifetime: int, away: bool, key: int | None) -> None:
        """As asked, or less of it, or only so many times."""
        self._seed(seed)
        now = self.stage.now()
        usable = [session for session in self.model.sessions if session.usable(now)]
        if not usable or who % 8 == 7:
            session = self._sign_in(at(self.model.humans, who // 8))
        else:
            session = at(usable if who % 8 else self.model.sessions, who // 8)
        chosen = at(self.model.agents, agent)
        pairs = some(chosen.ceiling, asked) or chosen.ceiling
        without = some(pairs, answer & 0b10101) if answer % 3 == 0 else frozenset()
        seconds = (3600, 8 * 3600, 86400, 30 * 86400)[lifetime % 4]
        self._consent(session, chosen, pairs, without, seconds, away=away, redeem=lifetime % 8 != 7, key=key, uses=at(TIMES, answer))

    @rule(seed=seeds, which=picks, kept=picks, sooner=st.sampled_from([0, 0, 30, 200, 600]))
    def narrow(self, seed: int, which: int, kept: int, sooner: int) -> None:
        self._seed(seed)
        if not self.model.consents:
            return
        consent = self._living(self.model.consents, which)
        pairs = some(consent.pairs, kept) or consent.pairs
        until = min(consent.until, self.stage.now() + sooner) if sooner else consent.until
        self._concern(lambda token: token.consent is consent)
        try:
            self.server.consents.narrow(consent.id, pairs=named(pairs), until=until, by=BY)
        except Refused:
            assert consent.withdrawn
        else:
            self.model.narrow(consent, pairs, until)

    # Agents

    @rule(seed=seeds, which=picks, place=picks, scope=scopes, key=keys)
    def redeem(self, seed: int, which: int, place: int, scope: str | None, key: int | None) -> None:
        """A code; also one that was used before, or ran out."""
        self._seed(seed)
        if not self._codes():
            return
        code = at(self._codes(), which)
        self._redeem(code, self._place(code.family.pairs, place), scope, key)

    @rule(seed=seeds, which=picks, place=picks, scope=scopes, key=keys)
    def refresh(self, seed: int, which: int, place: int, scope: str | None, key: int | None) -> None:
        """A refresh token, mostly the newest of a family; also one that was used before."""
        self._seed(seed)
        if not self.model.refreshes:
            return
        fresh = [one for one in self.model.refreshes if not one.used]
        held = at(fresh if fresh and which % 8 else self.model.refreshes, which)
        self._refresh(held, self._place(held.family.pairs, place), scope, key if held.key is None or which % 4 == 0 else held.key)

    @rule(seed=seeds, which=picks, actor=picks, where=picks, scope=scopes, key=keys)
    def exchange(self, seed: int, which: int, actor: int, where: int, scope: str | None, key: int | None) -> None:
        """By its holder, now and then by somebody else; for an API, an agent, or without saying."""
        self._seed(seed)
        self._replenish()
        if not self.model.tokens:
            return
        token = self._usable(which)
        holder = token.holder if actor % 8 else at(self.model.agents, actor // 8)
        places = [resource.uri for resource in self.model.resources] + [agent.uri for agent in self.model.agents]
        self._exchange(holder, token, None if where % 8 == 7 else at(places, where // 8), scope, self._key(token, key, which))

    @rule(seed=seeds, which=picks, where=picks, key=keys)
    def hand_over(self, seed: int, which: int, where: int, key: int | None) -> None:
        """To an agent, which mostly goes on with it at once."""
        self._seed(seed)
        self._replenish()
        if not self.model.tokens:
            return
        token = self._usable(which, lambda one: bool(one.holder.hands_to))
        receivers = token.holder.hands_to or tuple(self.model.agents)
        passed = self._exchange(token.holder, token, at(receivers, where).uri, None, self._key(token, key, which))
        if passed is not None and which % 4:
            onward = passed.holder.hands_to if where % 3 == 0 else ()
            place = at(onward, where).uri if onward else self._place(passed.pairs, where | 1)
            self._exchange(passed.holder, passed, place, None, key if key is not None else passed.key)

    @rule(seed=seeds, which=picks, where=picks, key=keys)
    def narrower(self, seed: int, which: int, where: int, key: int | None) -> None:
        """One exchange that should mostly do: for a resource within reach."""
        self._seed(seed)
        self._replenish()
        if not self.model.tokens:
            return
        token = self._usable(which)
        place = self._place(token.pairs, where | 1)
        self._exchange(token.holder, token, place, None, self._key(token, key, which))

    @rule(seed=seeds, which=picks, actor=picks, where=picks, scope=scopes, key=keys, task=picks)
    def come_back(self, seed: int, which: int, actor: int, where: int, scope: str | None, key: int | None, task: int) -> None:
        """By the consent's id, in a task that is named or not."""
        self._seed(seed)
        if not self.model.consents:
            return
        consent = self._living(self.model.consents, which, lambda one: one.away)
        holder = consent.agent if actor % 8 else at(self.model.agents, actor // 8)
        receivers = [agent.uri for agent in holder.hands_to]
        target_uri = at(receivers, where) if receivers and where % 4 == 0 else self._place(consent.pairs, where)
        tasks = [one for one in self.model.tasks if not one.default and (one.consent is consent or task % 16 == 1)]
        self._exchange(holder, consent, target_uri, scope, key, task=at(tasks, task // 16) if tasks and task % 2 else None)

    @rule(seed=seeds, which=picks, actor=picks, proof=picks, where=picks, key=keys)
    def with_an_actor_token(self, seed: int, which: int, actor: int, proof: int, where: int, key: int | None) -> None:
        """The agent's own token beside what it exchanges: mostly a fresh one, now and then one of before or of another."""
        self._seed(seed)
        self._replenish()
        if not self.model.tokens:
            return
        token = self._usable(which)
        chosen = self._key(token, key, which)
        if proof % 4:
            presented = self._own_token(token.holder if actor % 8 else at(self.model.agents, actor // 8), chosen if proof % 3 else None)
        else:
            presented = at(self.model.tokens, proof // 4)
        if presented is not None:
            self._exchange(token.holder, token, self._place(token.pairs, where | 1), None, chosen, proof=presented)

    @rule(seed=seeds, which=picks, hours=st.sampled_from([1, 1, 2, 12]), where=picks)
    def start_an_instance(self, seed: int, which: int, hours: int, where: int) -> None:
        """A copy of an agent registers a key of its own, and mostly begins to work."""
        self._seed(seed)
        now = self.stage.now()
        able = [one for one in self.model.consents if one.away and one.live(now) and one.agent.active]
        agent = at(able, which).agent if able else at(self.model.agents, which)
        if not agent.active:
            return
        instance = self._enrol(agent, hours)
        if able:
            consent = at(able, which)
            self._exchange(agent, consent, self._place(consent.pairs, where), None, self._bound_to(instance, where), instance=instance)

    @rule(seed=seeds, which=picks, copy=picks, where=picks, back=st.booleans())
    def as_an_instance(self, seed: int, which: int, copy: int, where: int, back: bool) -> None:
        """A copy goes on with what its agent holds, its siblings' too, or comes back to the consent."""
        self._seed(seed)
        self._replenish()
        now = self.stage.now()
        instances = [one for one in self.model.instances if one.usable(now)] if copy % 8 else self.model.instances
        if not instances:
            return
        instance = at(instances, copy // 8)
        agent, key = instance.agent, self._bound_to(instance, where)
        consents = [one for one in self.model.consents if one.agent is agent]
        tokens = [one for one in self.model.tokens if one.holder is agent and self._lives(one)]
        if tokens and not back:
            token = tokens[-1 - which % len(tokens)]
            target = at(agent.hands_to, where // 8).uri if agent.hands_to and where % 3 == 0 else self._place(token.pairs, where | 1)
            self._exchange(agent, token, target, None, key, instance=instance)
        elif consents:
            consent = self._living(consents, which, lambda one: one.away)
            self._exchange(agent, consent, self._place(consent.pairs, where), None, key, instance=instance)

    def _bound_to(self, instance: Instance, where: int) -> int | None:
        """An instance proves no other key than its own, or none."""
        return None if where % 4 == 0 else instance.key

    def _own_token(self, agent: Agent, key: int | None) -> Token | None:
        """One for the issuer alone."""
        before = self.stage.now()
        answer = self._ask(self._party(agent), {"grant_type": "client_credentials"}, key)
        assert (answer.status == 200) == agent.active, answer.text
        if not agent.active:
            return None
        return self._add(
            answer, Outcome(end=before + LIFETIME, key=key), agent, claims_of(answer.json["access_token"])["aud"], (), None, None
        )

    @rule(seed=seeds, which=picks, kept=picks, seconds=st.sampled_from([30, 400, 3600]), limit=picks)
    def open_task(self, seed: int, which: int, kept: int, seconds: int, limit: int) -> None:
        """With a limit or none, which is then tried at once."""
        self._seed(seed)
        if not self.model.consents:
            return
        consent = self._living(self.model.consents, which)
        agent = consent.agent
        pairs = some(consent.pairs, kept) or consent.pairs
        places, names = sorted({uri for uri, _ in pairs}), sorted({scope for _, scope in pairs})
        body: dict[str, Any] = {
            "consent_id": consent.id, "purpose": "A piece of work", "resources": places, "scopes": names, "expires_in": seconds,
        }  # fmt: skip
        limits = at(LIMITS, limit)
        if limits:
            body["limits"] = limits
        own = self._own(agent)
        if own is None:
            return
        before = self.stage.now()
        answer = self._json("POST", "/tasks", body, bearer(own))
        if answer.status != 201:
            assert 400 <= answer.status < 500, answer.text
            self._never(consent.live(self.stage.now() + self.stage.slack), "a live consent opens no task", answer)
            return
        self._never(not consent.live(before - self.stage.slack), "a task under a dead consent", answer)
        within = frozenset(pair for pair in consent.pairs if pair[0] in places and pair[1] in names)
        assert {(uri, scope) for uri, found in answer.json["resources"].items() for scope in found} == within
        deadline = answer.json["expires_at"]
        assert deadline <= min(consent.until, self.stage.now() + seconds)
        task = Task(
            answer.json["task_id"], consent, within, deadline, self.model.generation, uses=limits.get("uses"),
            counts_events=limits.get("counts") == "events", at_once=limits.get("live_tokens"), cents=10_000 if "amount" in limits else None,
        )  # fmt: skip
        self.model.tasks.append(task)
        if not limits or not consent.away:
            return
        # One more than it may.
        tokens = (0 if task.counts_events else task.uses or 0) or task.at_once or 0
        for _ in range(tokens + 1):
            self._exchange(agent, consent, self._place(within, which | 1), None, 0, task=task)
        for token in task.issued[:1]:
            for _ in range((task.uses or 0) + 1 if task.counts_events else 2 if task.cents else 0):
                self._report(token, cents=6000)

    @rule(seed=seeds, which=picks, allow=picks, at_once=st.booleans())
    def answer_a_question(self, seed: int, which: int, allow: int, at_once: bool) -> None:
        """Yes or no; mostly the agent comes for the token."""
        self._seed(seed)
        if not self.model.approvals:
            return
        waiting = [one for one in self.model.approvals if one.waits(self.stage.now())]
        approval = at(waiting if waiting and which % 8 else self.model.approvals, which // 8)
        self._answer(approval, allow=allow % 3 != 0)
        if at_once:
            self._poll(approval, approval.key)

    @rule(seed=seeds, which=picks, allow=picks)
    def wish_to_send(self, seed: int, which: int, allow: int) -> None:
        """What a policy may want a human to approve, from the question to the token."""
        self._seed(seed)
        mail = self.model.resources[1].uri
        now = self.stage.now()
        able = [one for one in self.model.consents if one.away and one.live(now) and (mail, "send") in one.pairs]
        if not able:
            return
        if not self.model.asks_to_send and which % 2:
            self.ACCIDENTS["policy"](self, ASKS)
        consent, known = at(able, which), len(self.model.approvals)
        self._exchange(consent.agent, consent, mail, "send", None)
        for approval in self.model.approvals[known:]:
            self._answer(approval, allow=allow % 3 != 0)
            self._poll(approval, approval.key)

    @rule(seed=seeds, which=picks, key=keys)
    def poll(self, seed: int, which: int, key: int | None) -> None:
        self._seed(seed)
        if not self.model.approvals:
            return
        approval = self.model.approvals[-1 - which % 8 % len(self.model.approvals)]
        self._poll(approval, key if which % 4 == 0 else approval.key)

    @rule(
        seed=seeds,
        which=picks,
        labels=st.sampled_from([[], [CONFIDENTIAL], [EXTERNAL], ["other"]]),
        cents=st.sampled_from([None, None, 1, 1000, 6000]),
        currency=st.sampled_from(["EUR", "EUR", "EUR", "USD"]),
    )
    def report(self, seed: int, which: int, labels: list[str], cents: int | None, currency: str) -> None:
        """By the API, of what was done with a token; every other time of a task with a limit, where there is one."""
        self._seed(seed)
        self._replenish()
        if not self.model.tokens:
            return
        token = self._usable(which, lambda one: which % 2 == 0 or (one.task is not None and one.task.is_reported))
        self._report(token, labels, cents, currency)

    @rule(seed=seeds, which=picks, again=st.sampled_from(["", "", "assertion", "proof"]), key=keys)
    def own_token(self, seed: int, which: int, again: str, key: int | None) -> None:
        """An agent's own token for an API; what proves it works at most once."""
        self._seed(seed)
        agent = at(self.model.agents, which)
        party, calendar = self._party(agent), self.model.resources[0]
        form = {"grant_type": "client_credentials", "resource": calendar.uri}
        if again:
            members, headers = self.world.credentials(party)
            if again == "proof":
                headers = {**headers, "DPoP": self._proof(self.stage.holders[0])}
            first = self.stage.answered(lambda: self.world.post("/oauth/token", {**form, **members}, headers))
            if again == "proof":
                members, _ = self.world.credentials(party)
            second = self.stage.answered(lambda: self.world.post("/oauth/token", {**form, **members}, headers))
            assert second.status in {400, 401}, (first.text, second.text)
            return
        before = self.stage.now()
        answer = self._ask(party, form, key)
        well = agent.active and calendar.enabled
        assert (answer.status == 200) == well, (agent, answer.text)
        if well:
            mine = Outcome(pairs=frozenset({(calendar.uri, "read")}), end=before + LIFETIME, key=key)
            self._add(answer, mine, agent, calendar.uri, (), None, None)

    @precondition(lambda self: self.stage.moves_clock)
    @rule(seed=seeds, seconds=st.sampled_from([1, 1, 2, 2, 5, 5, 29, 61, 150, 299, 301, 3601, 9 * 3600, 25 * 3600, 31 * 86400]))
    def move_the_clock(self, seed: int, seconds: int) -> None:
        self._seed(seed)
        self.stage.advance(seconds if seconds < 60 or self.stage.rng.random() < 0.2 else 1)

    @rule(seed=seeds, what=picks, which=picks)
    def end(self, seed: int, what: int, which: int) -> None:
        """By the operator. What can be switched off comes on again the same way."""
        name = at(ENDED, what)
        note(f"# {name}")
        self._seed(seed, name)
        self.ENDS[name](self, which)

    @rule(seed=seeds, what=st.sampled_from(["policy", "policy", "policy", "rotate", "rotate", "flush", "restart"]), which=picks)
    def meanwhile(self, seed: int, what: str, which: int) -> None:
        """In the machine room."""
        self._seed(seed, what)
        self.ACCIDENTS[what](self, which)

    # What must hold after each step

    @invariant()
    def dead_is_dead_and_alive_is_alive(self) -> None:
        tokens = self.model.tokens
        if len(tokens) > KEPT:
            kept = [token for token in tokens if token.dead is None][-KEPT:]
            self.model.tokens = tokens = [token for token in tokens if token.dead is None or token in tokens[-KEPT // 2 :]][
                -2 * KEPT :
            ] or kept
        concerned = self.concerned if len(self.concerned) <= CONCERNED else self.stage.rng.sample(self.concerned, CONCERNED)
        others = [token for token in tokens if token not in concerned]
        for token in (*concerned, *self.stage.rng.sample(others, min(LOOKED_AT, len(others)))):
            self._look(token)
        self.concerned = []

    def teardown(self) -> None:
        for token in self.model.tokens:
            self._look(token)
        self._records()
        for instance in self.model.instances:
            # As many may live as may: the next program has its own.
            if instance.usable(self.stage.now()):
                self.server.instances.end(instance.id, by=BY)

    def _look(self, token: Token) -> None:
        api = self.cast.apis.get(token.audience)
        before = self.stage.now()
        if api is None:
            # Taken by no resource, ever.
            api = next(iter(self.cast.apis.values()))
            assert not self._active(api, token.jwt)
            return
        answer = self.stage.answered(
            lambda: self.world.post("/oauth/introspect", {"token": token.jwt}, basic(api.client_id, api.client_secret))
        )
        expected = self.model.alive(token, before, self.stage.slack)
        if answer.status != 200:
            raise AssertionError(answer.text)
        said = answer.json["active"]
        self.met["active" if said else "inactive"] += 1
        if expected is not None:
            assert said is expected, f"{token.jti} is {'active' if said else 'inactive'}; the model: {token.dead or expected}; {token}"
        if said:
            claims = claims_of(token.jwt)
            assert {name: answer.json[name] for name in answer.json if name in claims} == {
                name: value for name, value in claims.items() if name in answer.json
            }
            if self.stage.rng.random() < 0.8:
                return
            other = next(one for uri, one in self.cast.apis.items() if uri != token.audience)
            assert not self._active(other, token.jwt)

    def _active(self, api: Api, jwt: str) -> bool:
        form, credentials = {"token": jwt}, basic(api.client_id, api.client_secret)
        return bool(self.stage.answered(lambda: self.world.post("/oauth/introspect", form, credentials)).ok()["active"])

    def _records(self) -> None:
        """Every token that is called active has exactly one record."""
        self.stage.drain()
        for token in self.model.tokens:
            if self.model.alive(token, self.stage.now(), self.stage.slack):
                with self.server.database.reading() as session:
                    which = (EntryRow.jti == token.jti, EntryRow.event == "token.issued")
                    assert session.scalar(select(func.count()).select_from(EntryRow).where(*which)) == 1, token.jti
