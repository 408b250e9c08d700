"""The kill switch: first what it would end, then the deed, with its own count. What ended stays ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select

from app import clock
from app.agents.models import AgentRow
from app.agents.registry import stop_agent
from app.audit import record
from app.audit.events import RevocationCounted, Who
from app.clients.instance import end_instance
from app.clients.models import InstanceRow
from app.delegation.consent import end_consent
from app.delegation.models import ConsentRow, TaskRow
from app.delegation.task import end_task
from app.errors import Refused
from app.humans.accounts import end_human
from app.humans.sessions import end_deployment
from app.keys.store import KeyStore
from app.live.commit import Live
from app.live.deeds import Deed, Deeds
from app.live.models import DeniedTokenRow
from app.live.things import Kind, Thing
from app.oversight.counting import Count, Counting
from app.oversight.target import KEEPS_OUT, Target, What
from app.resources.registry import disable_resource
from app.revocation.revocation import deny_token, end_things
from app.vocabulary import AgentState

LONGEST = 900
"""Seconds a token lives at most: how long a jti is worth remembering. What a token says of itself is not believed here."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Ends anything that something hangs on."""

    live: Live
    deeds: Deeds
    keys: KeyStore
    counting: Counting

    def preview(self, target: Target) -> Count:
        """What would end, at the entry it names. Changes nothing. Raises `TemporarilyUnavailable`."""
        return self.counting.now(target)

    def end(self, target: Target, *, keep_out: bool = False, by: Who) -> Count:
        """End all that hangs on the target, then count what that was, and record the count.

        `keep_out`: it cannot begin anew until an operator lets it. Raises `NotYetInForce` (nothing is counted then), `Refused`.
        """
        if keep_out and target.what not in KEEPS_OUT:
            raise Refused(f"a {target.what} cannot be kept out; what ended may be asked for again")
        if target.what is What.KEY:
            deed, spared = self.keys.revoke(target.id), False
        else:
            with self.deeds.deed() as deed:
                spared = _is_over(deed, target)
                _end(deed, target, keep_out=keep_out, by=by)
        count = self.counting.before(deed, target, spared=spared)
        with self.live.database.transaction() as session:
            record(session, _counted(target, count, by))
        return count


FOR_GOOD: dict[What, Callable[[Deed, str, Who], object]] = {
    What.TASK: end_task,
    What.CONSENT: end_consent,
    What.INSTANCE: end_instance,
}
"""What does not go on after its end, and says so in its own row."""


def _end(deed: Deed, target: Target, *, keep_out: bool, by: Who) -> None:
    match target.what:
        case What.TOKEN:
            deny_token(deed, target.id, clock.timestamp() + LONGEST, by)
        case What.TASK | What.CONSENT | What.INSTANCE as what:
            FOR_GOOD[what](deed, target.id, by)
        case What.AGENT:
            _end_agent(deed, deed.session.get_one(AgentRow, target.id), keep_out=keep_out, by=by)
        case What.OWNER:
            for row in deed.session.scalars(select(AgentRow).where(AgentRow.owner == target.id).order_by(AgentRow.id)).all():
                _end_agent(deed, row, keep_out=keep_out, by=by)
        case What.HUMAN:
            end_human(deed, target.id, keep_out=keep_out, by=by)
        case What.RESOURCE if keep_out:
            disable_resource(deed, target.id, by)
        case What.EVERYTHING:
            end_deployment(deed, by)
        case what:
            end_things(deed, Thing(Kind(what.value), target.id), by=by)


def _end_agent(deed: Deed, row: AgentRow, *, keep_out: bool, by: Who) -> None:
    if keep_out and row.state == AgentState.ACTIVE:
        stop_agent(deed, row.id, AgentState.SUSPENDED, by)
    else:
        end_things(deed, Thing(Kind.AGENT, row.id), Thing(Kind.CLIENT, row.client_id), by=by)


def _is_over(deed: Deed, target: Target) -> bool:
    """Whether it ended for good before: what is ended again ends nothing."""
    match target.what:
        case What.TOKEN:
            return deed.session.get(DeniedTokenRow, target.id) is not None
        case What.TASK:
            return deed.session.get_one(TaskRow, target.id).ended_at is not None
        case What.INSTANCE:
            return deed.session.get_one(InstanceRow, target.id).ended_at is not None
        case What.CONSENT:
            return deed.session.get_one(ConsentRow, target.id).ended_at is not None
        case _:
            return False


def _counted(target: Target, count: Count, by: Who) -> RevocationCounted:
    return RevocationCounted(
        who=by,
        kind=target.what.value,
        target=target.id,
        tokens=count.tokens,
        consents=count.consents,
        tasks=count.tasks,
        agents=count.agents,
        humans=count.humans,
        entry=count.entry,
        complete=count.complete,
    )
