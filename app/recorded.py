"""What the ledger gets of a token request: who asked for what on which evidence, and what came of it; ids only, no secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from app.agents.agent import Agent
from app.audit.events import TokenIssued, TokenRefused, Who
from app.clients.authenticate import AuthenticatedClient
from app.clients.request import ProtocolRequest
from app.delegation.authority import Authority
from app.errors import OAuthError
from app.grants.grant import Grant, Seen
from app.live.cache import Held
from app.live.models import stored_epochs
from app.policy.access import AccessRequest
from app.policy.cedar import Question
from app.tokens.mint import Prepared
from app.vocabulary import ConfirmationMethod, by_resource

Layers = tuple[Mapping[str, Any], ...]


class Known(NamedTuple):
    """What is known of a request when it goes wrong."""

    grant: Grant
    caller: AuthenticatedClient
    agent: Held[Agent] | None
    access: AccessRequest | None = None
    layers: Layers = ()
    question: Question | None = None
    forbidden_by: tuple[str, ...] = ()


def who_calls(caller: AuthenticatedClient, agent: Held[Agent] | None) -> Who:
    """Who asks, before anything is known of a human."""
    if agent is None:
        return Who(client=caller.client.client_id)
    instance = caller.instance.value.id if caller.instance is not None else None
    return Who(actors=(agent.value.uri,), client=caller.client.client_id, owner=agent.value.owner, instance=instance)


def who_asks(access: AccessRequest) -> Who:
    """Who asks, for whom."""
    actors = tuple(actor.sub for actor in access.authority.chain.actors)
    owner = access.agent.value.owner if access.agent is not None else None
    instance = access.instance.value.id if access.instance is not None else None
    return Who(actors=actors, human=access.human, client=access.client.value.client_id, owner=owner, instance=instance)


def refused(refusal: OAuthError, known: Known) -> TokenRefused:
    """What is known when it is refused: who asks for what, and as much of the evidence as was read."""
    grant, caller, agent, access, layers, question, forbidden_by = known
    asked, seen = _asked(grant.request), grant.seen
    who = replace(who_calls(caller, agent), human=seen.human)
    if access is not None:
        who = replace(who, human=access.human, actors=tuple(actor.sub for actor in access.authority.chain.actors) or who.actors)
        parent = access.lineage.parents[0] if access.lineage.parents else None
        task = access.task.value.id if access.task is not None else None
        seen = Seen(access.human, parent, access.lineage.consent, task, access.lineage.family)
    return TokenRefused(
        who=who,
        grant_type=grant.name.value,
        error=str(refusal.error),
        layer=refusal.layer,
        reason=refusal.reason,
        asked=asked,
        parent=seen.parent,
        consent=seen.consent,
        task=seen.task,
        layers=layers,
        question=question.recorded() if question is not None else None,
        evidence=evidence_of(access, access.authority) if access is not None else None,
        audience=access.target.audience if access is not None else None,
        family=seen.family,
        policies=access.policies if access is not None and forbidden_by else None,
        forbidden_by=forbidden_by or None,
        approval=grant.approval,
    )


def evidence_of(access: AccessRequest, began: Authority) -> dict[str, Any]:
    """What there was before the first layer: with it the record says what each of them took away."""
    facts: dict[str, Any] = {"scope": by_resource(began.pairs), "end": began.end, "depth": began.depth}
    if access.evidence:
        facts["actor_token"] = access.evidence[0]
    return facts


def _asked(request: ProtocolRequest) -> dict[str, Any]:
    """What was asked for, in the caller's words, cut to a length; never a token, code or secret."""
    words = {name: request.one(name) for name in ("scope", "requested_token_type", "subject_token_type", "task_id")}
    asked: dict[str, Any] = {name: value[:500] for name, value in words.items() if value is not None}
    targets = [target[:500] for target in (*request.many("resource"), *request.many("audience"))][:16]
    if targets:
        asked["target"] = targets
    return asked


def issued(prepared: Prepared) -> TokenIssued:
    """What is signed, and what it rests on."""
    access = prepared.permit.access
    bound = access.authority.confirmation.claim() if access.authority.confirmation is not None else {}
    agent = access.agent.value if access.agent is not None else None
    actors = tuple(actor.sub for actor in access.authority.chain.actors) or ((agent.uri,) if agent is not None else ())
    issues = [name for name, given in (("id_token", "openid" in access.openid), ("refresh_token", access.refreshable_until)) if given]
    asked: dict[str, Any] = {}
    if access.asked.scope is not None:
        asked["scope"] = sorted(access.asked.scope)
    if access.asked.pairs is not None:
        asked["pairs"] = by_resource(access.asked.pairs)
    if access.asked.amount is not None:
        asked["amount"] = access.asked.amount.stored("max")
    return TokenIssued(
        who=Who(
            actors=actors,
            human=access.human,
            client=access.client.value.client_id,
            instance=access.instance.value.id if access.instance is not None else None,
            owner=agent.owner if agent is not None else None,
        ),
        grant_type=access.grant_type.value,
        token=access.target.kind.value,
        jti=prepared.jti,
        audience=access.target.audience,
        scope=by_resource(access.authority.pairs),
        asked=asked,
        expires_at=access.authority.end,
        parent=access.lineage.parents[0] if access.lineage.parents else None,
        parents=access.lineage.parents,
        consent=access.lineage.consent,
        task=access.task.value.id if access.task is not None else None,
        family=access.lineage.family,
        session=access.lineage.session,
        generation=access.lineage.generation,
        hangs_on=stored_epochs(prepared.epochs),
        key=prepared.key.kid,
        jkt=bound.get(ConfirmationMethod.JKT.value),
        x5t_s256=bound.get(ConfirmationMethod.X5T_S256.value),
        layers=prepared.permit.layers,
        policies=access.policies,
        question=question.recorded() if (question := prepared.permit.question) is not None else None,
        evidence=evidence_of(access, prepared.permit.evidence),
        labels=sorted(access.touches) if access.task is not None else (),
        issues=issues,
        approval=access.lineage.approval,
        limits={"amount": access.authority.amount.stored("max")} if access.authority.amount is not None else None,
    )
