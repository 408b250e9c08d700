"""Every collaborator, built once, in dependency order. Nothing below fetches; everything is given."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app.agents.agent import Agents
from app.agents.registry import AgentRegistry
from app.audit import record
from app.audit.events import NOBODY, KeyMoved
from app.authorization.answer import Answers
from app.authorization.offer import Offers
from app.authorization.request import Requests
from app.authorization.sign_out import SignOutTargets
from app.cli import cli
from app.cli.demo import fill
from app.cli.embedded import redis_url
from app.clients.authenticate import Authenticator
from app.clients.client import Clients
from app.clients.registry import AppRegistry
from app.database import Database, upgrade
from app.delegation.consent import Consents
from app.delegation.task import Tasks
from app.errors import ConfigurationError, TemporarilyUnavailable
from app.grants.grant import Registers, deployment_cache
from app.humans.accounts import Accounts
from app.humans.sessions import Sessions
from app.issuance import Issuance
from app.keys.encryption import KeyEncryption, ensure_own_key
from app.keys.store import KeyStore
from app.keys.verifier import TokenVerifier
from app.live.commit import Live
from app.live.deeds import Deeds
from app.resources.registry import ResourceRegistry, check_pairs
from app.resources.resource import Resources
from app.revocation import Revocation
from app.settings import Settings, load_settings, read_key_encryption_key
from app.tokens.families import Families
from app.tokens.hints import Hints
from app.tokens.introspection import Introspection
from app.tokens.revoking import Revoking
from app.tokens.verify import TokenReader


@dataclass(frozen=True, slots=True)
class Server:
    """The built collaborators, by name."""

    settings: Settings
    database: Database
    live: Live
    deeds: Deeds
    encryption: KeyEncryption
    keys: KeyStore
    clients: Clients
    apps: AppRegistry
    accounts: Accounts
    sessions: Sessions
    resources: Resources
    resource_registry: ResourceRegistry
    agents: Agents
    agent_registry: AgentRegistry
    consents: Consents
    tasks: Tasks
    revocation: Revocation
    authenticator: Authenticator
    tokens: TokenReader
    hints: Hints
    families: Families
    issuance: Issuance
    introspection: Introspection
    revoking: Revoking
    requests: Requests
    offers: Offers
    answers: Answers
    sign_out_targets: SignOutTargets


def build(settings: Settings, database: Database | None = None) -> Server:
    """Build a server. Touches neither SQL nor Redis until something is asked of it."""
    database = database or Database.open(settings)
    encryption = KeyEncryption(read_key_encryption_key(settings))
    live = Live(database, redis_url(settings), timeout=settings.redis_timeout, stall=settings.stream_stall)
    deeds = Deeds(live)
    keys = KeyStore(live, encryption, record=_record_key)
    pepper = encryption.derive("client-secret")
    verifier = TokenVerifier(keys)
    clients, agents, resources = Clients(live), Agents(live), Resources(live)
    accounts = Accounts(live, deeds, attempts=settings.login_attempts)
    sessions = Sessions(live, deeds, settings)
    consents, tasks = Consents(live, deeds), Tasks(live, deeds)
    revocation = Revocation(deeds)
    authenticator = Authenticator(live, clients, settings.issuer, pepper)
    tokens, hints = TokenReader(settings.issuer, verifier), Hints(settings.issuer, verifier)
    families = Families(database)
    registers = Registers(
        settings=settings,
        live=live,
        deeds=deeds,
        agents=agents,
        resources=resources,
        consents=consents,
        tasks=tasks,
        families=families,
        tokens=tokens,
        deployment=deployment_cache(live),
    )
    return Server(
        settings=settings,
        database=database,
        live=live,
        deeds=deeds,
        encryption=encryption,
        keys=keys,
        clients=clients,
        apps=AppRegistry(live, deeds, keys, pepper, check_pairs),
        accounts=accounts,
        sessions=sessions,
        resources=resources,
        resource_registry=ResourceRegistry(live, deeds, keys, settings, pepper),
        agents=agents,
        agent_registry=AgentRegistry(live, deeds, settings, pepper),
        consents=consents,
        tasks=tasks,
        revocation=revocation,
        authenticator=authenticator,
        tokens=tokens,
        hints=hints,
        families=families,
        issuance=Issuance(registers, authenticator, keys, accounts, revocation),
        introspection=Introspection(live, authenticator, resources, tokens, settings.deadline),
        revoking=Revoking(live, authenticator, agents, tokens, families, revocation),
        requests=Requests(clients, agents, resources),
        offers=Offers(database, settings),
        answers=Answers(live, deeds, consents, families, settings),
        sign_out_targets=SignOutTargets(clients, hints),
    )


def prepare(settings: Settings) -> list[str]:
    """Migrations, first keys, and the demo's people where asked for. Idempotent. Returns lines for the operator to read."""
    Path(settings.var_dir).mkdir(parents=True, exist_ok=True, mode=0o700)
    ensure_own_key(settings)
    upgrade(settings)
    server = build(settings)
    try:
        server.keys.create_first()
        return fill(server) if settings.demo else []
    finally:
        server.database.close()


def build_from_environment() -> Server:
    """The server of the `deputy` command: settings from the environment, the database brought up to date."""
    settings = load_settings()
    prepare(settings)
    return build(settings)


def prepare_from_environment() -> None:
    """What `deputy serve` does first, in a process of its own. Prints what the operator should read."""
    try:
        sys.stdout.writelines(line + "\n" for line in prepare(load_settings()))
    except (ConfigurationError, TemporarilyUnavailable) as error:
        sys.exit(f"deputy: {getattr(error, 'reason', error)}")


def main() -> None:
    """The `deputy` command."""
    try:
        cli(obj=build_from_environment)
    except ConfigurationError as error:
        sys.exit(f"deputy: {error}")


def _record_key(session: Session, move: str, facts: dict[str, str]) -> None:
    record(session, KeyMoved(who=NOBODY, move=move.removeprefix("key."), kid=facts["kid"], alg=facts["alg"]))
