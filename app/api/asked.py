"""What the API is asked. Members named in the path come from there; the others from the query of a GET, or the JSON body of a POST."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.oversight.target import MAX_REFERENCE, What
from app.policy.policies import MAX_RULE, MAX_TEXT
from app.vocabulary import AgentState

MOST = 100
"""Things on a page."""

WRITTEN = r"^[^\x00]*$"
"""Words of people: no NUL, which no body may hold."""

WORD = r"^[A-Za-z0-9_-]{1,64}$"
"""What any identifier of this server looks like."""


def _whole(value: object) -> object:
    """`2.0` is an integer as JSON Schema has it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Id = Annotated[str, Field(pattern=WORD)]
Size = Annotated[int, Field(ge=1, le=MOST, description="How many on a page at most.")]
Uri = Annotated[str, Field(pattern=r"^[!-~]{1,300}$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Version = Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(_whole)]


class Asked(BaseModel):
    """What is asked: nothing that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Asked):
    """Nothing more than the path says."""


class Paged(Asked):
    """A page of a list that is in the order of ids."""

    after: Annotated[Id | None, Field(description="`next` of the page before.")] = None
    limit: Size = 50


class WhichAgents(Paged):
    """Which agents."""

    state: AgentState | None = None
    owner: Annotated[Id | None, Field(description="Id of a human.")] = None


class OneAgent(Asked):
    """One agent."""

    agent: Annotated[Id, Field(description="Its id, or its client_id.")]


class OneInstance(Asked):
    """One instance."""

    instance: Id


class WhichConsents(Paged):
    """Which consents."""

    human: Id | None = None
    agent: Annotated[Id | None, Field(description="Id of an agent.")] = None


class OneConsent(Asked):
    """One consent."""

    consent: Id


class WhichTasks(Paged):
    """Which tasks."""

    human: Id | None = None
    agent: Annotated[Id | None, Field(description="Id of an agent.")] = None
    consent: Id | None = None


class OneTask(Asked):
    """One task."""

    task: Id


class ToStop(Asked):
    """What to stop."""

    what: What
    reference: Annotated[
        str, Field(max_length=MAX_REFERENCE, pattern=WRITTEN, description="Its id, URI, username or jti; empty for `everything`.")
    ] = ""


class ToKill(ToStop):
    """What to stop, and whether to keep it out."""

    keep_out: Annotated[
        bool, Field(description="Suspend or disable it as well, until it is let in again: an agent, owner, human or resource.")
    ] = False


class WhichEntries(Asked):
    """Which entries of the ledger: where everything agrees that is given."""

    event: Annotated[str | None, Field(pattern=r"^[a-z_]{1,20}\.[a-z_]{1,20}$|^[a-z_]{1,40}$")] = None
    outcome: Annotated[str | None, Field(pattern="^(permit|deny|done)$")] = None
    human: Id | None = None
    agent: Annotated[Uri | None, Field(description="URI of the agent that acted.")] = None
    client_id: Id | None = None
    consent: Id | None = None
    task: Id | None = None
    jti: Id | None = None
    before: Annotated[int | None, Field(ge=1, le=2**53 - 1, description="`next` of the page before.")] = None
    limit: Size = 50


class OneDecision(Asked):
    """One decision."""

    reference: Annotated[Id, Field(description="A token's jti, or the id of a record: an audit_id.")]


class OneResource(Asked):
    """One API."""

    resource: Annotated[Id, Field(description="Its id.")]


class OneApplication(Asked):
    """One application."""

    client_id: Id


class OnePolicy(Asked):
    """A policy."""

    policy: Name


class OnePolicyVersion(OnePolicy):
    """A version of a policy."""

    version: Annotated[Version | None, Field(description="The newest, if not given.")] = None


class NewPolicy(OnePolicy):
    """The next version of a policy."""

    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT, pattern=WRITTEN, description="In Cedar.")]
    rule: Annotated[
        str, Field(min_length=1, max_length=MAX_RULE, pattern=WRITTEN, description="The law, contract or rule of conduct it carries out.")
    ]


class PolicyToActivate(OnePolicy):
    """Which version to put in force: named, so that it is the one that was read."""

    version: Version


class OneApproval(Asked):
    """One question."""

    approval: Id
