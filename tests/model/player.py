"""How each thing is done over HTTP and to the model together, and what every answer is held against."""

from __future__ import annotations

import json
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

from hypothesis.stateful import RuleBasedStateMachine
from sqlalchemy import select

from app.delegation.models import ConsentRow, TaskRow
from app.humans.models import SessionRow
from app.tokens.models import FamilyRow
from tests.copies import REGISTER, Copy
from tests.dpop import Holder, ask
from tests.model.cast import Cast
from tests.model.model import (
    CODE_LIFETIME,
    REDEEM,
    REFRESH_LIFETIME,
    SESSION_LIFETIME,
    Agent,
    Approval,
    Code,
    Consent,
    Family,
    Human,
    Instance,
    Model,
    Outcome,
    Pairs,
    Refresh,
    Session,
    Task,
    Token,
)
from tests.model.small import at, given, scope_of
from tests.model.stage import Stage
from tests.policies import SECOND
from tests.world import ACCESS_TOKEN, BY, CONSENT, EXCHANGE, Answer, Browser, Party, basic, checkboxes, claims_of, header_of, hidden

CIBA = "urn:openid:params:grant-type:ciba"


class Player(RuleBasedStateMachine):
    """One program. `stage` and `cast` are of the run; the model begins anew."""

    stage: ClassVar[Stage]
    cast: ClassVar[Cast]
    steps: ClassVar[int] = 0
    met: ClassVar[Counter[str]] = Counter()
    """What happened how often in the run: a run that met little proves little."""
    known: ClassVar[set[str]] = set()
    """Consents of programs before."""

    def __init__(self) -> None:
        super().__init__()
        cast, server = self.cast, self.stage.server
        if self.stage.moves_clock:
            # What programs before this one were told no to is forgotten.
            self.stage.advance(601)
        self.world = self.stage.world
        self.server = server
        for human, _ in cast.humans:
            if not human.enabled:
                server.accounts.enable(human.id, by=BY)
                human.enabled = True
        for agent in cast.agents:
            if not agent.active:
                server.agent_registry.resume(self._party(agent).id, by=BY)
                agent.active = True
        for resource in cast.resources:
            if not resource.enabled:
                server.resource_registry.enable(resource.uri, by=BY)
                resource.enabled = True
        for row in server.policies.list():
            if row.state == "active":
                server.policies.retire(row.name, by=SECOND)
        self.model = Model([human for human, _ in cast.humans], cast.resources, cast.agents, slack=self.stage.slack)
        self.browsers: dict[str, Browser] = {}
        self.concerned: list[Token] = []
        self.step = 0

    # How it is done

    def _seed(self, seed: int, what: str = "") -> None:
        self.stage.rng.seed(seed)
        self.met[f"{sys._getframe(1).f_code.co_name} {what}".strip()] += 1
        self.step += 1
        type(self).steps += 1

    def _sign_in(self, human: Human) -> Session | None:
        username = next(name for one, name in self.cast.humans if one is human)
        browser = self.world.browser()
        now = self.stage.now()
        answer = self.stage.answered(lambda: browser.sign_in(username))
        assert (answer.status == 303) == human.enabled, answer.text[:500]
        if not human.enabled:
            return None
        identifier = self._session_of(browser)
        session = Session(identifier, human, now + SESSION_LIFETIME, now, frozenset({f"human:{human.id}", f"session:{identifier}"}))
        self.model.sessions.append(session)
        self.browsers[identifier] = browser
        return session

    def _session_of(self, browser: Browser) -> str:
        """The id of what the browser's cookie is the secret of."""
        digest = sha256(self.stage.cookie(browser.http, "deputy").encode()).hexdigest()
        with self.server.database.reading() as session:
            return session.scalars(select(SessionRow.id).where(SessionRow.secret_hash == digest)).one()

    def _consent(
        self,
        session: Session | None,
        agent: Agent,
        pairs: Pairs,
        without: Pairs,
        lifetime: int,
        *,
        away: bool,
        redeem: bool,
        key: int | None,
        uses: int | None = None,
    ) -> None:
        """From the authorization request to the code, and mostly to the token."""
        if session is None:
            return
        model, party, browser = self.model, self._party(agent), self.browsers[session.id]
        places, names = sorted({uri for uri, _ in pairs}), sorted({scope for _, scope in pairs})
        asked = frozenset(pair for pair in agent.ceiling if pair[0] in places and pair[1] in names)
        chosen = asked - without or asked
        without = asked - chosen
        verifier = secrets.token_urlsafe(48)
        query = self.world.authorization(party, verifier, *places, scope=" ".join(names), away=away)
        now = self.stage.now()
        page = self.stage.answered(lambda: browser.authorize(query))
        expected = agent.active and all(one.enabled for one in model.resources if one.uri in places)
        usable = session.usable(now)
        if usable:
            session.use(now)
        if page.status != 200:
            assert not (expected and usable), (page.status, page.headers.get("Location"), page.text[:300])
            return
        assert expected and usable, page.text[:500]
        form = hidden(page)
        form += [("scope", value) for value in checkboxes(page, "scope") if tuple(value.split(" ")) not in without]
        form.append(("lifetime", str(lifetime)))
        form += [("away", value) for value in checkboxes(page, "away")] if away else []
        form += [("uses", str(uses))] if uses is not None else []
        form.append(("decision", "allow"))
        given = self.stage.answered(lambda: browser.post("/consent", form))
        assert given.status == 303 and "code=" in given.headers["Location"], (given.status, given.text[:500])
        code = self._granted(given, session, agent, chosen, now + lifetime, verifier, away=away)
        code.family.consent.uses = uses
        if self.stage.rng.random() < 0.1:
            twice = self.stage.answered(lambda: browser.post("/consent", form))
            assert "code=" not in twice.headers.get("Location", ""), "a page was answered twice"
        if redeem:
            self._redeem(code, None, None, key)

    def _granted(self, answer: Answer, session: Session, agent: Agent, pairs: Pairs, until: int, verifier: str, *, away: bool) -> Code:
        model = self.model
        value = parse_qs(urlsplit(answer.headers["Location"]).query)["code"][0]
        mine = (ConsentRow.human == session.human.id, ConsentRow.given_at >= self.stage.now() - 60)
        with self.server.database.reading() as rows:
            (row,) = [one for one in rows.scalars(select(ConsentRow).where(*mine)) if one.id not in self.known]
            family = rows.scalars(select(FamilyRow).where(FamilyRow.consent == row.id)).one()
            task = rows.scalars(select(TaskRow).where(TaskRow.consent == row.id)).one()
        self.known.add(row.id)
        limit = until if away else min(until, session.expires)
        assert abs(row.until - limit) <= self.stage.slack, (row.until, limit)
        things = {"deployment", f"human:{session.human.id}", f"client:{agent.uri}", f"agent:{agent.uri}"}
        if not away:
            things.add(f"session:{session.id}")
        consent = Consent(row.id, session.human, agent, pairs, row.until, away, frozenset(things))
        things |= {f"consent:{row.id}"}
        held = Family(family.id, consent, pairs, family.expires_at, frozenset(things | {f"family:{family.id}"}))
        assert family.expires_at <= self.stage.now() + REFRESH_LIFETIME
        code = Code(value, verifier, held, self.stage.now() + CODE_LIFETIME, model.generation, held.hangs)
        model.consents.append(consent)
        model.families.append(held)
        model.tasks.append(Task(task.id, consent, None, row.until, model.generation, default=True))
        model.codes.append(code)
        return code

    def _redeem(self, code: Code, place: str | None, scope: str | None, key: int | None) -> None:
        family, agent = code.family, code.family.consent.agent
        now = self.stage.now()
        outcome, audience = self.model.repeat(family, place, scope_of(scope), None, key, now)
        late = now >= code.expires
        gone = code.dead is not None or code.generation != self.model.generation
        form = {
            "grant_type": "authorization_code", "code": code.value, "code_verifier": code.verifier,
            "redirect_uri": self._party(agent).redirect_uri, **given(resource=place, scope=scope),
        }  # fmt: skip
        answer = self._ask(self._party(agent), form, key)
        if code.redeemed or gone or late or outcome.refused:
            self._refused(answer, outcome, sure=code.redeemed or gone or (late and self.stage.now() >= code.expires + self.stage.slack))
            if code.redeemed and agent.active and code.generation == self.model.generation:
                self._replayed(family, certain=not outcome.refused and not outcome.unsure and not gone and not late)
            if answer.status != 200:
                return
        token = self._issued(answer, outcome, agent, audience, (), family.consent, family)
        if token is None:
            return
        code.redeemed = True
        self._keep_refresh(answer, family, key)

    def _refresh(self, held: Refresh, place: str | None, scope: str | None, key: int | None) -> None:
        family, agent = held.family, held.family.consent.agent
        outcome, audience = self.model.repeat(family, place, scope_of(scope), held.key, key, self.stage.now())
        form = {"grant_type": "refresh_token", "refresh_token": held.value, **given(resource=place, scope=scope)}
        answer = self._ask(self._party(agent), form, key)
        if held.used:
            assert answer.status >= 400, "a refresh token was good twice"
            if agent.active:
                self._replayed(family, certain=True)
            return
        if outcome.refused:
            self._refused(answer, outcome, sure=True)
            return
        if self._issued(answer, outcome, agent, audience, (), family.consent, family) is not None:
            held.used = True
            self._keep_refresh(answer, family, key)

    def _keep_refresh(self, answer: Answer, family: Family, key: int | None) -> None:
        assert ("refresh_token" in answer.json) == family.consent.away
        if family.consent.away:
            self.model.refreshes.append(Refresh(answer.json["refresh_token"], family, key))

    def _replayed(self, family: Family, *, certain: bool) -> None:
        """A code or refresh token came again: all of its authorization is dead, unless the answer was no for another reason."""
        self._concern(lambda token: token.family is family)
        if certain:
            self.model.end(f"family:{family.id}")
        else:
            family.unsure = True

    def _exchange(
        self,
        actor: Agent,
        subject: Token | Consent,
        target: str | None,
        scope: str | None,
        key: int | None,
        task: Task | None = None,
        proof: Token | None = None,
        instance: Instance | None = None,
    ) -> Token | None:
        now = self.stage.now()
        outcome = self.model.exchange(actor, subject, target, scope_of(scope), key, now, task, proof, instance)
        if outcome.asks and instance is not None:
            # Questions are the agent's.
            return None
        value, kind = (subject.jwt, ACCESS_TOKEN) if isinstance(subject, Token) else (subject.id, CONSENT)
        where = {} if target is None else {"resource" if "/agents/" not in target else "audience": target}
        form = {
            "grant_type": EXCHANGE, "subject_token": value, "subject_token_type": kind, **where,
            **given(scope=scope, task_id=task.id if task is not None else None),
            **({"actor_token": proof.jwt, "actor_token_type": ACCESS_TOKEN} if proof is not None else {}),
        }  # fmt: skip
        answer = self._ask(self._party(actor), form, key, instance)
        if outcome.refused:
            self._refused(answer, outcome, sure=True)
            return None
        parents = (subject, *subject.parents) if isinstance(subject, Token) else ()
        consent = subject.consent if isinstance(subject, Token) else subject
        family = subject.family if isinstance(subject, Token) else None
        audience = target or next(iter(outcome.pairs))[0]
        return self._issued(answer, outcome, actor, audience, parents, consent, family, proof)

    def _refused(self, answer: Answer, outcome: Outcome, *, sure: bool) -> None:
        assert answer.status < 500
        self.met["refused: " + (outcome.refused or "used before, or late")] += 1
        if sure or outcome.refused:
            near = self.stage.slack and "ended dead time".split() and any(word in outcome.refused for word in ("dead", "ended", "time"))
            assert answer.status >= 400 or near, f"should have been refused: {outcome.refused}; {answer.text}"

    def _issued(
        self,
        answer: Answer,
        outcome: Outcome,
        agent: Agent,
        audience: str,
        parents: tuple[Token, ...],
        consent: Consent | None,
        family: Family | None,
        proof: Token | None = None,
    ) -> Token | None:
        if outcome.asks and answer.status != 200:
            self._asked(answer, outcome, agent, audience, parents, consent, family, proof)
            return None
        assert not outcome.asks, answer.text
        if answer.status != 200:
            assert outcome.unsure or self._near(outcome, parents, consent), f"should have been permitted: {answer.text} {outcome}"
            return None
        return self._add(answer, outcome, agent, audience, parents, consent, family)

    def _near(self, outcome: Outcome, parents: Sequence[Token], consent: Consent | None) -> bool:
        """Whether something ran out at about this moment."""
        slack, now = self.stage.slack, self.stage.now()
        ends = [outcome.end, *(token.end for token in parents), *([consent.until] if consent is not None else [])]
        return bool(slack) and any(end <= now + slack for end in ends)

    def _add(
        self,
        answer: Answer,
        outcome: Outcome,
        agent: Agent,
        audience: str,
        parents: tuple[Token, ...],
        consent: Consent | None,
        family: Family | None,
        *,
        approved: bool = False,
    ) -> Token:
        """The token is exactly what the model says, within its parent, and from now on looked at."""
        jwt = answer.json["access_token"]
        claims = claims_of(jwt)
        task = self._task_of(claims.get("txn"), outcome, consent)
        things = self._things(agent, audience, parents, consent, task, family)
        things |= {f"key:{header_of(jwt)['kid']}", f"token:{claims['jti']}"}
        if outcome.instance is not None:
            things.add(f"instance:{outcome.instance.id}")
            self.met["as an instance"] += 1
        receiver = self.model.agent(audience)
        token = Token(
            jwt=jwt, jti=claims["jti"], holder=receiver or agent, audience=audience, pairs=outcome.pairs, end=claims["exp"], path=outcome.path,
            depth=outcome.depth, key=outcome.key, parents=parents, consent=consent, task=task, family=family,
            generation=self.model.generation, policies=self.model.policies, hangs=frozenset(things),
            approved=approved,
        )  # fmt: skip
        self._check(token, claims, outcome, answer)
        self.met[f"permitted: {'hand-over' if token.handover else 'token'} of {len(token.path)}"] += 1
        self.model.tokens.append(token)
        if task is not None and (resource := self.model.resource(audience)) is not None:
            task.labels |= resource.touched(token.scopes)
            task.issued.append(token)
            if task.uses is not None and not task.counts_events:
                task.uses -= 1
            if task.consent.uses is not None:
                task.consent.uses -= 1
        self.concerned.append(token)
        return token

    def _things(
        self,
        agent: Agent,
        audience: str,
        parents: Sequence[Token],
        consent: Consent | None,
        task: Task | None,
        family: Family | None,
    ) -> set[str]:
        """All that what is made now hangs on."""
        things = {"deployment", f"agent:{agent.uri}", f"client:{agent.uri}"}
        things.add(f"agent:{audience}" if self.model.agent(audience) is not None else f"resource:{audience}")
        if consent is not None:
            things |= {f"consent:{consent.id}", *consent.hangs}
        if task is not None:
            things.add(f"task:{task.id}")
        if family is not None:
            things |= family.hangs
        for parent in parents[:1]:
            things |= parent.hangs
        return things

    def _asked(
        self,
        answer: Answer,
        outcome: Outcome,
        agent: Agent,
        audience: str,
        parents: tuple[Token, ...],
        consent: Consent | None,
        family: Family | None,
        proof: Token | None,
    ) -> None:
        """A human is asked; unless she said no to just that, or too often."""
        assert answer.status == 400 and consent is not None and outcome.task is not None, answer.text
        if answer.error != "authorization_pending":
            told_no = answer.error == "access_denied" and answer.json.get("layer", "human") in {"human", "limit"}
            assert told_no or outcome.unsure or self._near(outcome, parents, consent), answer.text
            return
        value = answer.json["auth_req_id"]
        kept = next((one for one in self.model.approvals if one.value == value), None)
        if kept is not None:
            assert (kept.actor, kept.audience, kept.pairs, kept.path, kept.key) == (
                agent,
                audience,
                outcome.pairs,
                outcome.path,
                outcome.key,
            )
            assert kept.state in {"waiting", "allowed"}
            assert (kept.proof is None) is (proof is None)
            kept.proof = proof
            return
        found = self.server.approvals.find(value)
        assert found is not None
        task = self._task_of(found.parameters.task, outcome, consent)
        assert task is not None
        things = self._things(agent, audience, parents, consent, task, family)
        self.model.approvals.append(
            Approval(
                value, found.id, agent, audience, outcome.pairs, outcome.path, outcome.depth, outcome.key, parents, consent, task, family,
                self.stage.now() + answer.json["expires_in"], frozenset(things), proof=proof,
            )
        )  # fmt: skip
        assert answer.json["expires_in"] <= self.server.settings.approval_lifetime
        self.met["asked"] += 1

    def _answer(self, approval: Approval, *, allow: bool) -> None:
        """The human finds the question on her page."""
        now = self.stage.now()
        human = approval.consent.human
        sessions = [one for one in self.model.sessions if one.human is human and one.usable(now)]
        if not sessions:
            return
        session = self.stage.rng.choice(sessions)
        session.use(now)
        browser, path = self.browsers[session.id], f"/my/approvals/{approval.id}"
        page = self.stage.answered(lambda: browser.get(path))
        form = hidden(page) + [("scope", value) for value in checkboxes(page, "scope")] if page.status == 200 else []
        said = self.stage.answered(lambda: browser.post(path, [*form, ("decision", "allow" if allow else "deny")]))
        done = said.status == 303 and "answered=" in said.headers["Location"]
        if not approval.waits(now - self.stage.slack):
            # Nobody says yes to what has ended; a no does no harm.
            assert not done or not allow, (approval, said.headers)
            return
        unsure = approval.family is not None and approval.family.unsure
        assert done or unsure or not approval.waits(now + self.stage.slack), (
            page.status,
            said.status,
            said.headers.get("Location"),
            said.text[-1500:],
        )
        if done:
            approval.state, approval.decided = "allowed" if allow else "denied", now
            self.met[f"said {'yes' if allow else 'no'}"] += 1

    def _poll(self, approval: Approval, key: int | None) -> None:
        outcome = self.model.poll(approval, key, self.stage.now())
        form = {"grant_type": CIBA, "auth_req_id": approval.value}
        if approval.proof is not None:
            form |= {"actor_token": approval.proof.jwt, "actor_token_type": ACCESS_TOKEN}
        answer = self._ask(self._party(approval.actor), form, key)
        if outcome.refused:
            self._refused(answer, outcome, sure=True)
            return
        if answer.status != 200:
            near = self.stage.now() + self.stage.slack >= approval.decided + REDEEM
            assert outcome.unsure or near or self._near(outcome, (), approval.consent), (
                f"should have been permitted: {answer.text} {outcome}"
            )
            return
        approval.state = "redeemed"
        token = self._add(
            answer, outcome, approval.actor, approval.audience, approval.parents, approval.consent, approval.family, approved=True
        )
        token.hangs |= approval.hangs
        self.met["approved"] += 1

    def _report(self, token: Token, labels: Sequence[str] = (), cents: int | None = None, currency: str = "EUR") -> None:
        """The API of the token says what was done with it, and for how much."""
        api, resource, task = self.cast.apis.get(token.audience), self.model.resource(token.audience), token.task
        if api is None or resource is None or task is None:
            return
        action = min(token.scopes)
        body: dict[str, Any] = {"token": token.jwt, "action": action, "labels": list(labels)}
        if cents is not None:
            body["amount"] = {"currency": currency, "value": f"{cents // 100}.{cents % 100:02}"}
        counted = task.uses is not None and task.counts_events
        spent = cents if task.cents is not None else None
        too_much = (counted and task.uses == 0) or (
            task.cents is not None and spent is not None and (currency != "EUR" or spent > task.cents)
        )
        gone = token.dead is not None or token.generation != self.model.generation
        now = self.stage.now()
        unsure = gone or (token.family is not None and token.family.unsure) or not task.live(now + self.stage.slack, self.model.generation)
        answer = self._json("POST", f"/tasks/{task.id}/events", body, basic(api.client_id, api.client_secret))
        assert answer.status == 200 or 400 <= answer.status < 500, answer.text
        if answer.status != 200:
            assert unsure or too_much or not resource.enabled, f"should have been counted: {answer.text} {token.jti}"
            self.met["report over the limit"] += too_much
            return
        active = answer.json["active"]
        assert not (gone and active), "a report with a dead token"
        assert not too_much, f"more than the limit was reported: {answer.text} {token.jti}"
        if active:
            task.labels |= resource.touched({action}) | frozenset(labels)
            self.met["report within a limit"] += counted or spent is not None
            if counted and task.uses is not None:
                task.uses -= 1
            if task.cents is not None and spent is not None:
                task.cents -= spent
        else:
            assert unsure, f"a report with a living token: {answer.text} {token.jti}"
            if labels or resource.touched({action}):
                # Recorded, and it may be counted against a task that is opened anew.
                task.vague = True

    def _task_of(self, name: str | None, outcome: Outcome, consent: Consent | None) -> Task | None:
        if consent is None or outcome.task is None:
            assert name is None
            return None
        task = outcome.task
        if not task.id:
            # The default task was opened anew, and this is its name.
            task.id = name or ""
            assert task.id not in {one.id for one in self.model.tasks}
            self.model.tasks.append(task)
        assert name == task.id
        return task

    def _check(self, token: Token, claims: Mapping[str, Any], outcome: Outcome, answer: Answer) -> None:
        path, act = [], claims.get("act")
        while act is not None:
            path.append(act["sub"])
            act = act.get("act")
        assert tuple(path) == token.path
        instance = outcome.instance.id if outcome.instance is not None else None
        assert (claims["act"] if token.path else claims).get("instance") == instance
        assert claims["aud"] == token.audience
        if token.handover:
            located = {
                (where, action) for entry in claims["authorization_details"] for where in entry["locations"] for action in entry["actions"]
            }
            assert located == token.pairs
        else:
            assert {(token.audience, scope) for scope in claims.get("scope", "").split()} == token.pairs
        assert 0 <= claims["exp"] - outcome.end <= self.stage.slack, (claims["exp"], outcome.end)
        holder = self.stage.holders[token.key].jkt if token.key is not None else None
        assert claims.get("cnf", {}).get("jkt") == holder
        if not token.handover:
            assert answer.json["token_type"] == ("DPoP" if holder else "Bearer")
        if token.parents:
            parent = token.parents[0]
            assert token.pairs <= parent.pairs
            assert token.end <= parent.end or token.approved
            assert token.path[-len(parent.path) :] == parent.path
            assert parent.key is None or token.key is not None
            before = claims_of(parent.jwt)
            # Who came before is told as it was, with its instance; a continuation speaks for itself.
            assert claims["act"].get("act") == (before["act"].get("act") if token.path == parent.path else before["act"])
            assert claims["deputy"]["d"] <= before["deputy"]["d"]
            assert (claims["sub"], claims["auth_time"]) == (before["sub"], before["auth_time"])
            # A default task may have been opened anew between the question and the token.
            assert claims["txn"] == before["txn"] or (token.approved and token.task is not None and token.task.default)
        if token.consent is not None:
            assert claims["sub"] == token.consent.human.id
            assert token.pairs <= token.consent.pairs
            assert token.end <= token.consent.until

    # Small things

    def _party(self, agent: Agent) -> Party:
        return self.cast.parties[agent.uri]

    def _ask(self, party: Party, form: Mapping[str, str], key: int | None, instance: Instance | None = None) -> Answer:
        def once() -> Answer:
            proof = self._proof(self.stage.holders[key]) if key is not None else None
            if instance is None:
                return ask(self.world, party, form, proof)
            copy, now = self.stage.holders[instance.key], self.stage.now()
            assert isinstance(copy, Copy)
            members = copy.assertion(self.world, party.client_id, iat=now, exp=now + 60)
            return self.world.post("/oauth/token", {**form, **members}, {"DPoP": proof} if proof is not None else {})

        return self.stage.answered(once)

    def _enrol(self, agent: Agent, hours: int) -> Instance:
        """A new copy of an agent that is active registers its key."""
        party = self._party(agent)
        copy, code = Copy(), self.server.enrolments.give(party.client_id, minutes=10, hours=hours, by=BY).code
        expires = self.stage.now() + hours * 3600

        def once() -> Answer:
            return copy.register(self.world, code, copy.proof(self.world, REGISTER, iat=self.stage.now()))

        answer = self.stage.answered(once)
        assert answer.status == 201, answer.text
        copy.told = answer.json
        assert abs(copy.told["instance_expires_at"] - expires) <= self.stage.slack
        self.stage.holders.append(copy)
        identifier = copy.told["instance_id"]
        hangs = frozenset({f"client:{agent.uri}", f"instance:{identifier}"})
        made = Instance(identifier, agent, len(self.stage.holders) - 1, copy.told["instance_expires_at"], hangs)
        self.model.instances.append(made)
        return made

    def _proof(self, holder: Holder) -> str:
        return holder.proof(self.world, iat=self.stage.now())

    def _own(self, agent: Agent) -> str | None:
        answer = self._ask(self._party(agent), {"grant_type": "client_credentials"}, None)
        assert (answer.status == 200) == agent.active, answer.text
        return str(answer.json["access_token"]) if agent.active else None

    def _json(self, method: str, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
        sent = {**headers, "Content-Type": "application/json"}
        return self.stage.answered(lambda: self.world.http.send(method, path, json.dumps(body).encode(), sent))

    def _lives(self, token: Token) -> bool:
        return bool(token.path) and token.dead is None and token.generation == self.model.generation and self.stage.now() < token.end

    def _usable(self, which: int, also: Callable[[Token], bool] = lambda _: True) -> Token:
        """Mostly one that lives, the younger the likelier."""
        tokens = self.model.tokens
        if which % 16:
            living = [one for one in tokens if self._lives(one)]
            tokens = [one for one in living if also(one)] or living or tokens
        return tokens[-1 - (which // 16) % len(tokens)]

    def _replenish(self) -> None:
        """A program in which everything is dead has nothing to show."""
        model, rng = self.model, self.stage.rng
        if any(self._lives(token) for token in model.tokens) and rng.random() < 0.95:
            return
        for agent in model.agents:
            if not agent.active and rng.random() < 0.5:
                self._switch_agent(agent)
        standing = [one for one in model.consents if one.away and one.live(self.stage.now()) and one.agent.active]
        if standing and rng.random() < 0.7:
            consent = rng.choice(standing)
            places = [*(agent.uri for agent in consent.agent.hands_to), *sorted({uri for uri, _ in consent.pairs})]
            self._exchange(consent.agent, consent, rng.choice(places), None, rng.choice([None, 0]))
            return
        human = rng.choice(model.humans)
        if not human.enabled:
            self.server.accounts.enable(human.id, by=BY)
            human.enabled = True
        usable = [session for session in model.sessions if session.usable(self.stage.now())]
        session = rng.choice(usable) if usable else self._sign_in(human)
        agent = rng.choice(model.agents[1:])
        places_there = {resource.uri for resource in model.resources if resource.enabled}
        pairs = frozenset(pair for pair in agent.ceiling if pair[0] in places_there)
        if pairs and agent.active:
            self._consent(session, agent, pairs, frozenset(), 8 * 3600, away=rng.random() < 0.7, redeem=True, key=rng.choice([None, 0]))

    def _switch_agent(self, agent: Agent) -> None:
        raise NotImplementedError

    def _living(self, consents: Sequence[Consent], which: int, also: Callable[[Consent], bool] = lambda _: True) -> Consent:
        now = self.stage.now()
        living = [one for one in consents if one.live(now) and also(one)]
        return at(living if living and which % 8 else consents, which // 8)

    def _codes(self) -> list[Code]:
        return self.model.codes[-6:]

    def _place(self, pairs: Pairs, which: int) -> str | None:
        places: list[str] = sorted({uri for uri, _ in pairs})
        return None if which % 8 == 0 or not places else at(places, which // 8)

    def _key(self, token: Token, key: int | None, which: int) -> int | None:
        """Mostly the token's own, where it has one."""
        return token.key if token.key is not None and which % 4 else key

    def _never(self, bad: bool, what: str, answer: Answer) -> None:
        assert not bad, (what, answer.text)
