"""The Flask application: every surface, registered in one visible list."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, Request, Response, request
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import Map, MapAdapter

from app.database import Database, db, engine_options
from app.endpoints import health, introspection, metadata, pushed_authorization, revocation, token, userinfo
from app.endpoints.guards import Guards
from app.rim import logs, problems
from app.rim.authlib import DeputyServer
from app.rim.cookies import FormCookie, SignInCookie
from app.rim.csrf import CSRF
from app.rim.headers import Headers
from app.rim.metrics import Metrics
from app.rim.noise import Noise
from app.settings import Settings, load_settings
from app.web import authorize, home, login, logout, my_agents
from app.web.pages import Pages
from app.web.standing import Standing
from app.wiring import Server, build

ROOT = Path(__file__).resolve().parent.parent
MAX_BODY = 262_144
COUNTING = frozenset({"token", "introspection", "revocation", "pushed_authorization", "userinfo", "health"})
"""Blueprints that count requests themselves, or keep a node watched and are not limited."""


def application(settings: Settings | None = None) -> Flask:
    """The WSGI application."""
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
    _surfaces(app, server)
    if settings.trusted_proxies:
        hops = settings.trusted_proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=hops, x_proto=hops, x_host=0)  # type: ignore[method-assign]
    return app


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


def _surfaces(app: Flask, server: Server) -> None:
    settings, live, keys = server.settings, server.live, server.keys
    sign_in, form_cookie = SignInCookie(server.sessions, settings), FormCookie(settings)
    csrf = CSRF(server.encryption.derive("csrf"), sign_in, form_cookie)
    pages = Pages(sign_in, csrf, settings)
    noise, metrics = Noise(live, settings), Metrics()
    guards = Guards(noise)
    front = authorize.FrontChannel(
        live=live,
        requests=server.requests,
        offers=server.offers,
        answers=server.answers,
        hints=server.hints,
        settings=settings,
        signer=server.encryption.derive("ticket"),
    )
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
        revocation.blueprint(server.revoking, guards),
        pushed_authorization.blueprint(live, server.authenticator, server.requests, settings, guards),
        userinfo.blueprint(live, server.accounts, server.tokens, settings.issuer, guards),
        metadata.blueprint(metadata.Metadata(server.database, keys, settings), keys, guards),
        health.blueprint(live, keys, metrics, settings),
        home.blueprint(pages),
        login.blueprint(pages, server.accounts, server.sessions, form_cookie, lambda target: authorize.landing(front, target)),
        logout.blueprint(pages, server.sessions, server.sign_out_targets.find),
        authorize.blueprint(pages, front),
        my_agents.blueprint(pages, Standing(server.database), server.consents),
    ):
        if blueprint.name not in COUNTING:
            blueprint.before_request(limit)
        app.register_blueprint(blueprint)
