"""What an operator ends, and what happens in the machine room."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from app.errors import Refused
from app.live.things import Kind, Thing
from app.vocabulary import SigningAlg
from tests.model.cast import ASKING, NEVER_BOTH, NO_WRITING
from tests.model.model import EXTERNAL, Agent, Human, Token
from tests.model.player import Player
from tests.model.small import at
from tests.policies import SECOND
from tests.world import BY, header_of

SWITCHED = ((NEVER_BOTH, "never_both"), (NO_WRITING, "no_writing"), (ASKING, "asks_to_send"))
"""Policies, and what the model calls it when they are on."""

ASKS = 2
"""Which of them asks a human."""


class Ends(Player):
    """Each takes a number that says which."""

    # Ends, by the operator

    def _end(self, *things: str) -> None:
        """The model's end of things that the server has just ended; what hung on them is looked at."""
        self._concern(lambda token: not token.hangs.isdisjoint(things))
        for thing in things:
            self.model.end(thing)

    def _concern(self, which: Callable[[Token], bool]) -> None:
        self.concerned += [token for token in self.model.tokens if token.dead is None and which(token)]

    def _concern_human(self, human: Human) -> None:
        self._concern(lambda token: token.consent is not None and token.consent.human is human)

    def _end_family(self, which: int) -> None:
        if self.model.families:
            family = at(self.model.families, which)
            self.server.revocation.family(family.id, by=BY)
            self._end(f"family:{family.id}")

    def _end_task(self, which: int) -> None:
        tasks = [task for task in self.model.tasks if task.generation == self.model.generation and not task.ended]
        if tasks:
            task = at(tasks, which)
            self._concern(lambda token: token.task is task)
            self.server.tasks.end(task.id, by=BY)
            self.model.end_task(task)

    def _withdraw(self, which: int) -> None:
        if self.model.consents:
            consent = self._living(self.model.consents, which)
            self._concern(lambda token: token.consent is consent)
            self.server.consents.withdraw(consent.id, by=BY)
            self.model.withdraw(consent)

    def _pause_or_resume(self, which: int) -> None:
        """All that one human allowed one agent."""
        if not self.model.consents:
            return
        paused = [one for one in self.model.consents if one.paused]
        consent = at(paused if paused and which % 2 else self.model.consents, which // 2)
        human, agent, now = consent.human, consent.agent, self.stage.now()
        held = self.model.standing(human, agent, now)
        if consent.paused:
            count = self.server.consents.resume(human.id, self._party(agent).client_id, by=BY)
            expected = sum(one.paused for one in held)
            for one in held:
                one.paused = False
        else:
            self._concern(lambda token: token.consent in held)
            count = self.server.consents.pause(human.id, self._party(agent).client_id, by=BY)
            expected = sum(not one.paused for one in held)
            self.model.pause(human, agent, now)
        # There may be more of programs before this one.
        assert count >= expected or self.stage.slack, (count, expected)

    def _revoke_agent(self, which: int) -> None:
        agent = at(self.model.agents, which)
        party = self._party(agent)
        self.server.revocation.end(Thing(Kind.AGENT, party.id), Thing(Kind.CLIENT, party.client_id), by=BY)
        self._end(f"agent:{agent.uri}", f"client:{agent.uri}")

    def _end_instance(self, which: int) -> None:
        """One that works, a new one where there is none; and now it is refused."""
        now = self.stage.now()
        able = [one for one in self.model.consents if one.away and one.live(now) and one.agent.active]
        living = [one for one in self.model.instances if one.usable(now)]
        if not living and not able:
            return
        instance = at(living, which) if living else self._enrol(at(able, which).agent, 1)
        self.server.instances.end(instance.id, by=BY)
        self._end(f"instance:{instance.id}")
        mine = [one for one in able if one.agent is instance.agent]
        if mine:
            self._exchange(instance.agent, at(mine, which), None, None, None, instance=instance)

    def _revoke_client(self, which: int) -> None:
        agent = at(self.model.agents, which)
        self.server.revocation.end(Thing(Kind.CLIENT, self._party(agent).client_id), by=BY)
        self._end(f"client:{agent.uri}")

    def _revoke_human(self, which: int) -> None:
        human = at(self.model.humans, which)
        self._concern_human(human)
        self.server.accounts.end_all(human.id, by=BY)
        self.model.end_human(human)

    def _revoke_resource(self, which: int) -> None:
        resource = at(self.model.resources, which)
        self.server.revocation.end(Thing(Kind.RESOURCE, self.cast.apis[resource.uri].id), by=BY)
        self._end(f"resource:{resource.uri}")

    def _revoke_key(self, which: int) -> None:
        if self.model.tokens:
            kid = header_of(self._usable(which).jwt)["kid"]
            self.server.keys.revoke(kid)
            self._end(f"key:{kid}")

    def _sign_out(self, which: int) -> None:
        if self.model.sessions:
            session = at(self.model.sessions, which)
            self.server.sessions.end(session.id, BY)
            self._concern(lambda token: f"session:{session.id}" in token.hangs)
            self.model.end_session(session)

    def _revoke_token(self, which: int) -> None:
        if not self.model.tokens:
            return
        token = self._usable(which)
        self.server.revocation.token(token.jti, token.end, by=BY)
        self._end(f"token:{token.jti}")

    def _given_back(self, which: int) -> None:
        """By the agent it was issued to, or by another, which does nothing."""
        if not self.model.tokens:
            return
        token = self._usable(which)
        issued_to = self.model.agent(token.path[0]) if token.path else token.holder
        agent = issued_to if which % 4 else at(self.model.agents, which // 4)
        assert agent is not None
        answer = self.stage.answered(lambda: self.world.revoke(self._party(agent), token.jwt))
        assert answer.status == (200 if agent.active else 401), answer.text
        self.concerned = [token]
        if agent is issued_to and agent.active and self.stage.now() < token.end:
            self._end(f"token:{token.jti}")

    def _everything(self, which: int) -> None:
        if which % 4:
            return
        self.server.sessions.end_everything(by=BY)
        for session in self.model.sessions:
            session.dead = session.dead or "everything"
        self._end("deployment")

    def _suspend_or_resume(self, which: int) -> None:
        stopped = [agent for agent in self.model.agents if not agent.active]
        self._switch_agent(at(stopped if stopped and which % 2 else self.model.agents, which // 2))

    def _switch_agent(self, agent: Agent) -> None:
        party = self._party(agent)
        if agent.active:
            self.server.agent_registry.suspend(party.id, by=BY)
            agent.active = False
            self._end(f"agent:{agent.uri}", f"client:{agent.uri}")
            return
        try:
            self.server.agent_registry.resume(party.id, by=BY)
        except Refused:
            assert not agent.owner.enabled, "an agent whose owner is enabled is not resumed"
        else:
            assert agent.owner.enabled, "nobody answers for an agent that was resumed"
            agent.active = True

    def _disable_or_enable_resource(self, which: int) -> None:
        resource = at(self.model.resources, which)
        if resource.enabled:
            self.server.resource_registry.disable(resource.uri, by=BY)
            resource.enabled = False
            self._end(f"resource:{resource.uri}")
        else:
            self.server.resource_registry.enable(resource.uri, by=BY)
            resource.enabled = True

    def _relabel(self, which: int) -> None:
        """What one may do at an API counts as sending to the outside from now on, or no longer."""
        resource = at(self.model.resources, which)
        scope = at(("read", "write", "send"), which // 4)
        if all((resource.uri, scope) not in agent.ceiling for agent in self.model.agents):
            return
        held = resource.scope_labels.get(scope, frozenset())
        resource.scope_labels = {**resource.scope_labels, scope: held ^ {EXTERNAL}}
        named = {name: sorted(labels) for name, labels in resource.scope_labels.items() if labels}
        self.server.resource_registry.change(resource.uri, scope_labels=named, by=BY)
        self._end(f"resource:{resource.uri}")

    def _disable_or_enable_human(self, which: int) -> None:
        human = at(self.model.humans, which)
        if human.enabled:
            self._concern_human(human)
            self.server.accounts.disable(human.id, by=BY)
            human.enabled = False
            self.model.end_human(human)
        else:
            self.server.accounts.enable(human.id, by=BY)
            human.enabled = True

    # The machine room

    def _policy(self, which: int) -> None:
        name, attribute = SWITCHED[which % len(SWITCHED)]
        on = getattr(self.model, attribute)
        if on:
            self.server.policies.retire(name, by=SECOND)
        else:
            self.server.policies.activate(name, None, by=SECOND)
        setattr(self.model, attribute, not on)
        self.model.policies += 1

    def _rotate(self, which: int) -> None:
        self.server.keys.rotate(SigningAlg.ES256)

    def _flush(self, which: int) -> None:
        """Redis loses its memory; half of the time with records that were on their way to the ledger."""
        if self.step > 10 and self.stage.may_flush():
            drained = which % 2 == 0
            self.stage.flush(drained=drained)
            self.model.new_generation(lost=not drained)

    def _restart(self, which: int) -> None:
        self.stage.restart(which % 2)

    ENDS: ClassVar[dict[str, Callable[[Ends, int], None]]] = {
        "token": _revoke_token, "token of its own": _given_back, "family": _end_family, "task": _end_task, "consent": _withdraw, "pause or resume": _pause_or_resume,
        "agent": _revoke_agent, "instance": _end_instance,
        "human": _revoke_human, "client": _revoke_client, "resource": _revoke_resource, "key": _revoke_key, "session": _sign_out,
        "suspend or resume": _suspend_or_resume, "disable or enable an API": _disable_or_enable_resource,
        "labels of an API": _relabel, "disable or enable a human": _disable_or_enable_human, "everything": _everything,
    }  # fmt: skip
    ACCIDENTS: ClassVar[dict[str, Callable[[Ends, int], None]]] = {
        "policy": _policy, "rotate": _rotate, "flush": _flush, "restart": _restart,
    }  # fmt: skip
