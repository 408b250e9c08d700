"""One run of the machine: so many programs, then the whole ledger."""

from __future__ import annotations

import os
from collections import Counter

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.cast import cast_of
from tests.model.machine import Machine
from tests.model.stage import Stage

HALF = int(os.environ.get("MACHINE_STEPS", "20000")) // 2
"""What one of the two files plays in this process."""

PROGRAM = 100
"""Steps of one program at most."""

MEETS = frozenset(
    {
        "permitted: token of 1", "permitted: token of 2", "permitted: token of 3", "permitted: hand-over of 1", "permitted: hand-over of 2",
        "permitted: token of 0", "approved", "said yes", "said no", "active", "inactive", "refused: policy", "refused: scope",
        "refused: ended", "refused: may not hand over", "refused: not the holder", "refused: out of reach",
        "refused: the subject token is dead", "refused: used before, or late", "refused: bound to a key, and none was proven",
        "refused: bound to another key", "refused: the resource demands a key", "meanwhile flush", "meanwhile restart",
        "meanwhile rotate", "meanwhile policy", "end everything", "end human", "end task", "end key", "end pause or resume", "refused: limit",
        "refused: the actor token is dead", "refused: not the actor's own token for the issuer", "with_an_actor_token",
        "as an instance", "refused: the instance has ended", "end instance", "refused: limit, at once", "refused: limit, of the consent", "report over the limit",
        "report within a limit",
    }
)  # fmt: skip
"""What a run of some thousand steps must have met to prove anything."""


def run(stage: Stage, steps: int, *, meets: frozenset[str] = frozenset(), name: str = "Machine") -> None:
    """So many steps in all. A failure is made small (MACHINE_SHRINK=0: is not) and printed as a program.

    The programs are the same each time, and others under another name.
    """
    machine = type(name, (Machine,), {"stage": stage, "cast": cast_of(stage.world), "steps": 0, "known": set(), "met": Counter()})
    run_state_machine_as_test(
        machine,
        settings=settings(
            # Not every program is of full length.
            max_examples=-(-steps * 6 // (PROGRAM * 5)),
            stateful_step_count=PROGRAM,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate] if os.environ.get("MACHINE_SHRINK") == "0" else [Phase.generate, Phase.shrink],
        ),
    )
    stage.verify()
    for what, count in sorted(machine.met.items()):
        print(f"{count:>7}  {what}")
    assert machine.steps >= steps * 0.8, machine.steps
    assert meets <= machine.met.keys(), meets - machine.met.keys()
