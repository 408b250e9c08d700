"""An explanation for programs: the command line and the JSON API say the same."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from app.ledger.queries import Entry
from app.oversight.explain import Explanation


def facts(made: Explanation) -> dict[str, Any]:
    """For programs."""
    after = made.afterwards
    return {
        "decision": _entry(made.entry),
        "state": made.state,
        "ended_by": _entry(made.ended) if made.ended is not None else None,
        "layers": [asdict(layer) for layer in made.layers],
        "missing": made.missing,
        "policies": made.policies,
        "limits": made.limits,
        "approval": [_entry(entry) for entry in made.approval],
        "custody": [_entry(entry) for entry in made.custody.links],
        "seen": [_entry(entry) for entry in after.seen] if after is not None else [],
        "derived": [_entry(entry) for entry in after.derived] if after is not None else [],
        "endings": [_entry(entry) for entry in after.endings] if after is not None else [],
        "names": made.names,
        "complete": made.complete,
    }


def _entry(entry: Entry) -> dict[str, Any]:
    """`seq` is null for a record that is not in the ledger yet."""
    return {"seq": entry.seq or None, "record": entry.record}
