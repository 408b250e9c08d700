"""Our own rules, which nothing switches off, in the order in which they explain."""

from app.policy.rules import (
    actor_chain,
    agent_active,
    ceiling,
    consent_covers,
    hand_over,
    instance_live,
    key_bound,
    lifetime,
    scope_asked,
    target_serves,
    task_runs,
)

RULES = (
    agent_active.rule,
    instance_live.rule,
    target_serves.rule,
    key_bound.rule,
    hand_over.rule,
    consent_covers.rule,
    ceiling.rule,
    task_runs.rule,
    scope_asked.rule,
    actor_chain.rule,
    lifetime.rule,
)
