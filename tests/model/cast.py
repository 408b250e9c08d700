"""People and things that all programs of a run play with, registered once."""

from __future__ import annotations

from dataclasses import dataclass

from app.vocabulary import ConfirmationMethod
from tests.model.model import CONFIDENTIAL, EXTERNAL, Agent, Human, Resource
from tests.policies import WRITER, text_of
from tests.world import Api, Party, World

NO_WRITING, NEVER_BOTH, ASKING = "machine-no-writing", "machine-never-both", "machine-asking"
"""The policies that are switched on and off."""


@dataclass
class Cast:
    """People and things, registered once for all programs of a run."""

    humans: list[tuple[Human, str]]
    apis: dict[str, Api]
    parties: dict[str, Party]
    resources: list[Resource]
    agents: list[Agent]


def cast_of(world: World) -> Cast:
    people = [world.human(), world.human()]
    humans = [Human(person.id) for person in people]
    # Names that are the same in each run: what a program does depends on nothing but its numbers.
    calendar = world.resource("read", "write", labels=[CONFIDENTIAL], uri="https://calendar.example")
    mail = world.resource("read", "send", scope_labels={"send": [EXTERNAL]}, uri="https://mail.example")
    files = world.resource("read", "write", "admin", bound=[ConfirmationMethod.JKT], uri="https://files.example")
    apis = [(calendar, ("read", "write")), (mail, ("read", "send")), (files, ("read", "write", "admin"))]
    everything = [(api, scope) for api, names in apis for scope in names]
    ceilings = {
        "clerk": [(calendar, "read"), (mail, "read"), (files, "read")],
        "booker": [(calendar, "read"), (calendar, "write"), (mail, "read"), (mail, "send")],
        "helper": everything[:-1],
        "head": everything,
    }
    receivers = {"clerk": (), "booker": ("clerk",), "helper": ("clerk", "booker"), "head": ("booker", "helper")}
    parties: dict[str, Party] = {}
    agents: dict[str, Agent] = {}
    for name, ceiling in ceilings.items():
        party = world.agent(
            people[0], ceiling=ceiling, own=[(calendar, "read")], hands_to=[parties[one] for one in receivers[name]], name=name
        )
        parties[name] = party
        agents[name] = Agent(
            party.uri, humans[0], frozenset((api.uri, scope) for api, scope in ceiling), tuple(agents[one] for one in receivers[name])
        )
    resources = [
        Resource(calendar.uri, frozenset({CONFIDENTIAL}), {}),
        Resource(mail.uri, frozenset(), {"send": frozenset({EXTERNAL})}),
        Resource(files.uri, frozenset(), {}, bound_only=True),
    ]
    for name, text in (
        (NO_WRITING, f'forbid (principal, action, resource == Resource::"{calendar.uri}") when {{ context.scopes.contains("write") }};'),
        (NEVER_BOTH, text_of("confidential-then-external")),
        (
            ASKING,
            f'@ask("approval") forbid (principal, action, resource == Resource::"{mail.uri}") when {{ context.scopes.contains("send") }};',
        ),
    ):
        world.server.policies.add(name, text, owner=people[0].id, rule="A rule of the machine", by=WRITER)
    return Cast(
        humans=[(human, person.username) for human, person in zip(humans, people, strict=True)],
        apis={api.uri: api for api, _ in apis},
        parties={party.uri: party for party in parties.values()},
        resources=resources,
        agents=list(agents.values()),
    )
