"""The Flask application: every surface, registered in one visible list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Blueprint, Flask, Request, Response, request
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import Map, MapAdapter

from app.admin import agents, inventory, ledger, lifecycle, people, policies, resources, stop
from app.admin.desk import Desk
from app.api import blueprint as api
from app.api.doorkeeper import Doorkeeper
from app.database import Database, db, engine_options
from app.endpoints import (
    backchannel_authentication,
    evaluation,
    health,
    instances,
    introspection,
    metadata,
    pushed_authorization,
    revocation,
    tasks,
    token,
    userinfo,
)
from app.endpoints.guards import Guards
from app.ledger.queries import Queries
from app.oversight.activity import Activity
from app.oversight.caller import PATH
from app.oversight.news import News
from app.oversight.rehearsal import Rehearsal
from app.oversight.standing import Standing
from app.rim import logs, problems
from app.rim.authlib import DeputyServer
from app.rim.certificates import OfTheConnection, OfTheProxy
from app.rim.cookies import FormCookie, SignInCookie
from app.rim.csrf import CSRF
from app.rim.headers import Headers
from app.rim.metrics import Metrics
from app.rim.noise import Noise
from app.settings import Settings, load_settings
from app.web import activity, authorize, home, login, logout, my_agents, my_approvals, security
from app.web.approval import ShownApprovals
from app.web.pages import Pages
from app.wiring import Server, build

ROOT = Path(__file__).resolve().parent.parent
MAX_BODY = 262_144
COUNTING = frozenset(
    {
        "token",
        "introspection",
        "evaluation",
        "revocation",
        "pushed_authorization",
        "backchannel_authentication",
        "userinfo",
        "tasks",
        "instances",
        "api",
        "health",
    }
)
"""Blueprints that count requests themselves, or keep a node watched and are not limited."""


def application(settings: Settings | None = None, *, mutual_tls: bool = False) -> Flask:
    """The WSGI application; with `mutual_tls` the one to which clients connect directly, with their certificates."""
    settings = settings or load_settings()
    app = _Deputy("deputy", template_folder=str(ROOT / "templates"), static_folder=str(ROOT / "app" / "static"))
    app.config.update(
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(settings),
        MAX_CONTENT_LENGTH=MAX_BODY,
        MAX_FORM_MEMORY_SIZE=65_536,
        MAX_FORM_PARTS=200,
        SEND_FILE_MAX_AGE_DEFAULT=3600,
    )
    db.init_app(app)
    with app.app_context():
        server = build(settings, Database(db.engine))
    logs.configure()
    _surfaces(app, server, mutual_tls=mutual_tls)
    if mutual_tls:
        app.wsgi_app = OfTheConnection(app.wsgi_app)  # type: ignore[method-assign]
        return app
    if settings.client_certificate_header:
        app.wsgi_app = OfTheProxy(app.wsgi_app, settings.client_certificate_header)  # type: ignore[method-assign]
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=0)  # type: ignore[method-assign]
    return app


MOVED = "deputy-moved"
"""Under this name `app.extensions` has what streams watch the ledger with."""


class _NoSession(SessionInterface):
    """Flask's own session is not used: ours is a row, and its cookie a key to that."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> NullSession:
        return self._none

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """There is nothing to save."""


class _Paths(Map):
    """Another spelling of a path is another path: the router's own redirect would name a host the caller chose."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.merge_slashes = False


class _Deputy(Flask):
    url_map_class = _Paths

    session_interface = _NoSession()

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """By path and method alone: no address is ever made from what the Host header says."""
        if request is None:
            return None
        return MapAdapter(self.url_map, "", "/", "", "https", request.path, request.method)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Every view here is synchronous; asking each of them on each request costs more than some answers."""
        return func


def _surfaces(app: Flask, server: Server, *, mutual_tls: bool) -> None:
    settings, live, keys = server.settings, server.live, server.keys
    sign_in, form_cookie = SignInCookie(server.sessions, settings), FormCookie(settings)
    csrf = CSRF(server.encryption.derive("csrf"), sign_in, form_cookie)
    pages = Pages(sign_in, csrf, settings)
    noise, metrics = Noise(live, settings), Metrics()
    standing, done = Standing(live, server.histories), Activity(server.database)
    app.extensions[MOVED] = done.moved
    guards = Guards(noise, server.presented.proofs)
    front = authorize.FrontChannel(
        live=live,
        requests=server.requests,
        offers=server.offers,
        answers=server.answers,
        hints=server.hints,
        settings=settings,
        signer=server.encryption.derive("ticket"),
    )
    desk = Desk(pages, server.officers)
    desk.install(app)
    logs.install(app)
    metrics.install(app)
    Headers(settings).install(app)
    pages.install(app)
    problems.install(app, noise, pages.of)

    def limit() -> None:
        noise.admit(request.remote_addr or "")

    for blueprint in (
        token.blueprint(DeputyServer(server.issuance), guards),
        introspection.blueprint(server.introspection, keys, settings.issuer, guards),
        evaluation.blueprint(server.introspection, guards),
        revocation.blueprint(server.revoking, guards),
        pushed_authorization.blueprint(live, server.authenticator, server.requests, settings, guards),
        backchannel_authentication.blueprint(server.issuance, guards),
        userinfo.blueprint(server.accounts, server.presented, settings.issuer, guards),
        tasks.blueprint(server.task_requests, guards),
        instances.blueprint(server.enrolments, server.own_instance, guards),
        api.blueprint(
            server.office,
            Doorkeeper(settings.issuer + PATH, server.tokens_here, server.accounts),
            settings.issuer,
            guards,
        ),
        metadata.blueprint(metadata.Metadata(server.database, keys, settings), keys, guards),
        health.blueprint(live, keys, metrics, settings),
        home.blueprint(pages),
        login.blueprint(
            pages, server.accounts, server.sessions, server.passkeys, form_cookie, lambda target: authorize.landing(front, target)
        ),
        security.blueprint(pages, server.accounts, server.sessions, server.passkeys, done),
        logout.blueprint(pages, server.sessions, server.sign_out_targets.find),
        authorize.blueprint(pages, front),
        my_agents.blueprint(pages, standing, done, News(server.database), server.consents, server.tasks),
        activity.blueprint(pages, standing, done),
        my_approvals.blueprint(pages, server.approvals, ShownApprovals(server.database, server.policies), server.accounts, server.sessions),
        *_administration(desk, server),
    ):
        if blueprint.name not in COUNTING:
            if mutual_tls:
                # Nothing for browsers: what they sign in at has one address.
                continue
            blueprint.before_request(limit)
        app.register_blueprint(blueprint)


def _administration(desk: Desk, server: Server) -> tuple[Blueprint, ...]:
    """Everything under `/admin`."""
    deeds, explorer, accounts = server.administration, server.explorer, server.accounts
    return (
        inventory.blueprint(desk, server.inventory, server.graphs, explorer),
        agents.blueprint(desk, deeds, server.inventory, server.graphs, explorer, accounts),
        lifecycle.blueprint(desk, deeds),
        resources.blueprint(desk, deeds, server.graphs),
        policies.blueprint(desk, deeds, Rehearsal(server.database, server.policies), accounts),
        ledger.blueprint(desk, explorer, server.explain, Queries(server.database), accounts, server.agent_registry),
        people.blueprint(desk, deeds, accounts),
        stop.blueprint(desk, deeds),
    )
