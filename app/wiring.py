"""Every collaborator, built once, in dependency order. Nothing below fetches; everything is given."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app.agents.agent import Agents
from app.agents.enrolment import Enrolments
from app.agents.registry import AgentRegistry
from app.agents.trust import Trusts
from app.agents.workload import Workloads
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
from app.clients.instance import Instances
from app.clients.proof import Proofs
from app.clients.registry import AppRegistry
from app.database import NEWEST, Database
from app.delegation.allowance import Allowances
from app.delegation.consent import Consents
from app.delegation.task import Tasks
from app.errors import ConfigurationError, TemporarilyUnavailable
from app.fetch import Fetch
from app.grants.grant import Registers, deployment_cache
from app.humans.accounts import Accounts
from app.humans.passkeys import Passkeys
from app.humans.sessions import Sessions
from app.issuance import Issuance
from app.keys.encryption import KeyEncryption, ensure_own_key
from app.keys.remote import RemoteKeys
from app.keys.store import KeyStore
from app.keys.verifier import TokenVerifier
from app.live.commit import Live
from app.live.deeds import Deeds
from app.live.history import Histories
from app.oversight.administration import Administration
from app.oversight.caller import NAME, PATH, WORDS
from app.oversight.counting import Counting
from app.oversight.explain import Explain
from app.oversight.explorer import Explorer
from app.oversight.governance import Officers
from app.oversight.graph import Graphs
from app.oversight.inventory import Inventory
from app.oversight.kill import Kill
from app.oversight.office import Office
from app.oversight.target import Targets
from app.policy.policies import Policies
from app.resources.registry import ResourceRegistry, check_pairs
from app.resources.resource import Resources
from app.revocation import Revocation
from app.settings import Settings, load_settings, read_key_encryption_key
from app.tokens.approvals import Approvals
from app.tokens.calls import Calls
from app.tokens.families import Families
from app.tokens.hints import Hints
from app.tokens.instances import OwnInstance
from app.tokens.introspection import Introspection
from app.tokens.presented import PresentedTokens
from app.tokens.presented_here import TokensHere
from app.tokens.revoking import Revoking
from app.tokens.standing import Standing
from app.tokens.tasks import TaskRequests
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
    instances: Instances
    apps: AppRegistry
    accounts: Accounts
    sessions: Sessions
    passkeys: Passkeys
    resources: Resources
    resource_registry: ResourceRegistry
    agents: Agents
    agent_registry: AgentRegistry
    enrolments: Enrolments
    trusts: Trusts
    own_instance: OwnInstance
    consents: Consents
    tasks: Tasks
    histories: Histories
    policies: Policies
    revocation: Revocation
    presented: PresentedTokens
    authenticator: Authenticator
    tokens: TokenReader
    hints: Hints
    families: Families
    approvals: Approvals
    issuance: Issuance
    introspection: Introspection
    revoking: Revoking
    task_requests: TaskRequests
    requests: Requests
    offers: Offers
    answers: Answers
    sign_out_targets: SignOutTargets
    targets: Targets
    kill: Kill
    officers: Officers
    administration: Administration
    inventory: Inventory
    graphs: Graphs
    explorer: Explorer
    explain: Explain
    tokens_here: TokensHere
    office: Office


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
    histories, policies = Histories(live), Policies(live, deeds, second_person=settings.policy_second_person)
    revocation = Revocation(deeds)
    proofs = Proofs(
        tuple(filter(None, (settings.issuer, settings.mtls_url))), encryption.derive("dpop-nonce"), nonce_required=settings.dpop_nonce
    )
    trusts, remote = Trusts(live, deeds, clients, settings), RemoteKeys(Fetch(allow_loopback=settings.fetch_loopback).json)
    workloads = Workloads(live, clients, trusts, remote, settings)
    instances = Instances(live, deeds, settings.instances_per_agent)
    authenticator = Authenticator(live, clients, instances, settings.issuer, pepper, proofs)
    tokens, hints = TokenReader(settings.issuer, verifier), Hints(settings.issuer, verifier)
    presented = PresentedTokens(settings.issuer, live, agents, tokens, proofs)
    families = Families(database)
    approvals = Approvals(live, deeds, encryption.derive("auth-req-id"))
    standing = Standing(live, agents, instances, consents, tasks, histories, policies, approvals)
    allowances = Allowances(live)
    calls = Calls(live, histories, standing, allowances)
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
        hints=hints,
        instances=instances,
        trusts=trusts,
        approvals=approvals,
        deployment=deployment_cache(live),
    )
    resource_registry, agent_registry = ResourceRegistry(live, deeds, keys, settings, pepper), AgentRegistry(live, deeds, settings, pepper)
    enrolments = Enrolments(live, clients, agents, instances, proofs, settings, pepper)
    apps = AppRegistry(live, deeds, keys, pepper, check_pairs)
    explain = Explain(database, live, accounts, clients, agent_registry, resource_registry, policies)
    targets, kill = Targets(database), Kill(live, deeds, keys, Counting(live))
    return Server(
        settings=settings,
        database=database,
        live=live,
        deeds=deeds,
        encryption=encryption,
        keys=keys,
        clients=clients,
        instances=instances,
        apps=apps,
        accounts=accounts,
        sessions=sessions,
        passkeys=Passkeys(live, accounts, settings, encryption.derive("passkey")),
        resources=resources,
        resource_registry=resource_registry,
        agents=agents,
        agent_registry=agent_registry,
        trusts=trusts,
        enrolments=enrolments,
        own_instance=OwnInstance(presented, instances),
        consents=consents,
        tasks=tasks,
        histories=histories,
        policies=policies,
        revocation=revocation,
        presented=presented,
        authenticator=authenticator,
        tokens=tokens,
        hints=hints,
        families=families,
        approvals=approvals,
        issuance=Issuance(registers, authenticator, workloads, keys, accounts, revocation, policies, histories, allowances),
        introspection=Introspection(live, authenticator, resources, tokens, standing, calls, settings.deadline),
        revoking=Revoking(live, authenticator, agents, tokens, families, revocation),
        task_requests=TaskRequests(
            live,
            presented,
            authenticator,
            consents,
            tasks,
            histories,
            resources,
            tokens,
            allowances,
        ),
        requests=Requests(clients, agents, resources),
        offers=Offers(database, settings),
        answers=Answers(live, deeds, consents, families, settings),
        sign_out_targets=SignOutTargets(clients, hints),
        targets=targets,
        kill=kill,
        officers=Officers(database),
        administration=Administration(agent_registry, enrolments, resource_registry, accounts, policies, targets, kill),
        inventory=Inventory(database),
        graphs=Graphs(database),
        explorer=Explorer(database, keys.ledger_verification_key),
        explain=explain,
        tokens_here=TokensHere(live, resources, presented, standing),
        office=Office(
            database=database,
            agents=agent_registry,
            instances=instances,
            apps=apps,
            resources=resource_registry,
            consents=consents,
            tasks=tasks,
            policies=policies,
            approvals=approvals,
            targets=targets,
            kill=kill,
            explain=explain,
        ),
    )


def prepare(settings: Settings) -> list[str]:
    """Migrations, first keys, the server's own API, and the demo's people where asked for. Idempotent. Returns lines for the operator to read."""
    Path(settings.var_dir).mkdir(parents=True, exist_ok=True, mode=0o700)
    ensure_own_key(settings)
    database = Database.open(settings)
    try:
        if not _is_up_to_date(database):
            from app.schema import upgrade  # noqa: PLC0415  # Alembic takes long to import, and is seldom needed

            upgrade(settings)
        server = build(settings, database)
        server.keys.create_first()
        scopes = {scope.value: words for scope, words in WORDS.items()}
        server.resource_registry.keep_own(settings.issuer + PATH, name=NAME, scopes=scopes, by=NOBODY)
        return fill(server) if settings.demo else []
    finally:
        database.close()


def _is_up_to_date(database: Database) -> bool:
    try:
        return database.migration() == NEWEST
    except TemporarilyUnavailable:
        # Not there yet, damaged, or out of reach: who upgrades it says which.
        return False


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
