"""An authorization request, parsed and checked against what is registered (RFC 6749 §4.1.1, RFC 8707 §2, OIDC Core §3.1.2.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from app.agents.agent import Agent, Agents
from app.clients.client import Client, Clients
from app.delegation.limits import NO_LIMITS, Limits
from app.errors import (
    InvalidAuthorizationDetails,
    InvalidRequest,
    InvalidScope,
    InvalidTarget,
    OAuthError,
    RequestNotSupported,
    UnauthorizedClient,
    UnsupportedResponseType,
)
from app.keys.strict import json_object
from app.live.cache import Held
from app.resources.resource import Resource, Resources
from app.vocabulary import OPENID_SCOPES, THUMBPRINT, ClientKind, Pair, Pairs, ScopeSet, parse_scope

CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?(/.*)?")
THIS_COMPUTER = "a program on this computer"
MAX_STATE = 2048
MAX_RESOURCES = 16
SINGLE = (
    "response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge", "code_challenge_method",
    "prompt", "max_age", "response_mode", "id_token_hint", "login_hint", "acr_values", "request_uri", "request", "claims",
    "authorization_details", "limits", "dpop_jkt", "display", "ui_locales",
)  # fmt: skip
PROMPTS = frozenset({"none", "login", "consent", "select_account"})


class NoRedirect(Exception):
    """The request names no client or no redirect URI of that client: the browser gets a page, never a redirect."""

    def __init__(self, error: OAuthError) -> None:
        super().__init__(error.reason)
        self.error = error


class Redirected(Exception):
    """The request is refused by a redirect to the client, with `error`, `state` and `iss` (RFC 6749 §4.1.2.1)."""

    def __init__(self, error: OAuthError, redirect_uri: str, state: str | None) -> None:
        super().__init__(error.reason)
        self.error = error
        self.redirect_uri = redirect_uri
        self.state = state


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """What a client asks of a human's browser. Everything in it is registered and allowed to be asked."""

    client: Held[Client]
    redirect_uri: str
    redirect_uri_sent: bool
    state: str | None
    nonce: str | None
    challenge: str
    pairs: Pairs
    openid: ScopeSet
    agent: Held[Agent] | None
    """The agent to consent for: the client's own, or the one an application hands over to."""
    app: bool
    """Whether the client is an application (with an agent too: it asks for a hand-over)."""
    prompt: frozenset[str]
    max_age: int | None
    id_token_hint: str | None
    dpop_jkt: str | None
    """RFC 7638 thumbprint of the key that the code is to be bound to (RFC 9449 §10)."""
    limits: Limits = NO_LIMITS
    """What the agent proposes that all its work under the consent may use up; the human may lower it."""
    request_uri: str | None = None
    resources: tuple[Held[Resource], ...] = ()

    @property
    def handover(self) -> bool:
        """Whether an application asks for a hand-over to an agent."""
        return self.app and self.agent is not None

    @property
    def away(self) -> bool:
        """Whether access for while the human is away is asked for."""
        return "offline_access" in self.openid

    @property
    def unproven(self) -> bool:
        """Whether any program on the human's computer could be asking: the client proves nothing, and it listens there."""
        return not self.client.value.confidential and redirect_host(self.redirect_uri) == THIS_COMPUTER


Parameters = Mapping[str, tuple[str, ...]]


class Requests:
    """Reads authorization requests."""

    def __init__(self, clients: Clients, agents: Agents, resources: Resources) -> None:
        self._clients = clients
        self._agents = agents
        self._resources = resources

    def parse(self, parameters: Parameters, *, request_uri: str | None = None) -> AuthorizationRequest:
        """The request. Raises `NoRedirect` until client and redirect URI are proven to belong together, then `Redirected`."""
        client, redirect_uri = self._where(parameters)
        state = _first(parameters, "state")
        try:
            return self._what(parameters, client, redirect_uri, request_uri)
        except OAuthError as error:
            raise Redirected(error, redirect_uri, state if state is None or len(state) <= MAX_STATE else None) from None

    def _where(self, parameters: Parameters) -> tuple[Held[Client], str]:
        for name in ("client_id", "redirect_uri"):
            if len(parameters.get(name, ())) > 1:
                raise NoRedirect(InvalidRequest(f"{name} twice"))
        client_id = _first(parameters, "client_id")
        # From SQL, here and below: no commit compares what a page shows and a redirect trusts with Redis.
        held = self._clients.reread(client_id) if client_id is not None else None
        if held is None or held.value.kind is ClientKind.RESOURCE or not held.value.enabled:
            raise NoRedirect(InvalidRequest("unknown client"))
        asked = _first(parameters, "redirect_uri")
        registered = held.value.redirect_uris
        if asked is None:
            if len(registered) != 1 or "openid" in (_first(parameters, "scope") or "").split(" "):
                raise NoRedirect(InvalidRequest("redirect_uri is required"))
            return held, registered[0]
        if not any(matches(asked, one) for one in registered):
            raise NoRedirect(InvalidRequest("redirect_uri is not registered"))
        return held, asked

    def _what(self, parameters: Parameters, client: Held[Client], redirect_uri: str, request_uri: str | None) -> AuthorizationRequest:
        _check_form(parameters)
        challenge = _challenge(parameters)
        agent = None
        if client.value.kind is ClientKind.AGENT:
            self._agents.reread(client.value.client_id)
            agent = self._agents.of_client(client.value.client_id)
        app = agent is None
        if agent is not None and not agent.value.active:
            raise UnauthorizedClient("the agent is not active")
        targets = self._targets(parameters)
        handed = [target for target in targets if isinstance(target.value, Agent)]
        if handed:
            if not app or len(targets) > 1:
                raise InvalidTarget("a hand-over is asked by an application, for one agent")
            agent = self._agents.named(handed[0].value.uri)
        scope = _scope(parameters)
        openid = scope & OPENID_SCOPES if scope is not None else frozenset[str]()
        if not app and openid - {"offline_access"}:
            raise InvalidScope("an agent does not sign humans in")
        ceiling = agent.value.ceiling if agent is not None else client.value.pairs
        pairs = _pairs(ceiling, None if scope is None else scope - OPENID_SCOPES, targets, whole=bool(handed), signs_in="openid" in openid)
        resources = tuple(held for uri in sorted({pair.resource for pair in pairs}) if (held := self._resource(uri)))
        pairs = pairs & frozenset[Pair]().union(*(held.value.pairs for held in resources if held.value.enabled))
        if not pairs and "openid" not in openid:
            raise InvalidScope("nothing that could be granted")
        return AuthorizationRequest(
            client=client,
            redirect_uri=redirect_uri,
            redirect_uri_sent=_first(parameters, "redirect_uri") is not None,
            state=_first(parameters, "state"),
            nonce=_first(parameters, "nonce"),
            challenge=challenge,
            pairs=pairs,
            openid=openid,
            agent=agent,
            app=app,
            prompt=_prompt(parameters),
            max_age=_max_age(parameters),
            id_token_hint=_first(parameters, "id_token_hint"),
            dpop_jkt=_first(parameters, "dpop_jkt"),
            limits=_limits(parameters, agent),
            request_uri=request_uri,
            resources=resources,
        )

    def _targets(self, parameters: Parameters) -> list[Held[Resource] | Held[Agent]]:
        targets: list[Held[Resource] | Held[Agent]] = []
        for name in dict.fromkeys(value for value in parameters.get("resource", ()) if value):
            self._agents.reread(name)
            found = self._resource(name) or self._agents.named(name)
            if found is None or (isinstance(found.value, Resource) and not found.value.enabled):
                raise InvalidTarget("unknown or disabled resource")
            targets.append(found)
        return targets

    def _resource(self, uri: str) -> Held[Resource] | None:
        self._resources.reread(uri)
        return self._resources.named(uri)


def matches(asked: str, registered: str) -> bool:
    """Byte for byte, but for the port of a loopback IP literal (RFC 8252 §7.3)."""
    if asked == registered:
        return True
    ours, theirs = LOOPBACK.fullmatch(registered), LOOPBACK.fullmatch(asked)
    return ours is not None and theirs is not None and ours[1] == theirs[1] and ours[3] == theirs[3]


def redirect_host(redirect_uri: str) -> str:
    """Where the browser is sent, for a human to read."""
    parts = urlsplit(redirect_uri)
    if LOOPBACK.fullmatch(redirect_uri) or parts.scheme not in {"http", "https"}:
        return THIS_COMPUTER
    return parts.hostname or redirect_uri


def _first(parameters: Parameters, name: str) -> str | None:
    values = parameters.get(name, ())
    return (values[0] or None) if values else None


def _check_form(parameters: Parameters) -> None:
    for name, values in parameters.items():
        if name != "resource" and len(values) > 1:
            raise InvalidRequest(f"{name[:40]} twice" if name in SINGLE else "a parameter twice")
    if len(parameters.get("resource", ())) > MAX_RESOURCES:
        raise InvalidTarget("too many resources")
    if _first(parameters, "request") is not None:
        raise RequestNotSupported("request objects are not supported")
    if _first(parameters, "authorization_details") is not None:
        raise InvalidAuthorizationDetails("not supported at the authorization endpoint; use resource, scope and limits")
    if (jkt := _first(parameters, "dpop_jkt")) is not None and not THUMBPRINT.fullmatch(jkt):
        raise InvalidRequest("dpop_jkt is not a thumbprint")
    _check_response(parameters)
    for name in ("state", "nonce"):
        # As JSON has it: the nonce must fit into an ID token, which is signed when there is no saying no any more.
        value = _first(parameters, name)
        if value is not None and (len(value) > MAX_STATE or (name == "nonce" and len(orjson.dumps(value)) > MAX_STATE + 2)):
            raise InvalidRequest(f"{name} is too long")


def _check_response(parameters: Parameters) -> None:
    response_type = _first(parameters, "response_type")
    if response_type is None:
        raise InvalidRequest("response_type is required")
    if response_type != "code":
        raise UnsupportedResponseType("only code")
    if _first(parameters, "response_mode") not in {None, "query"}:
        raise InvalidRequest("only response_mode=query")


def _challenge(parameters: Parameters) -> str:
    challenge, method = _first(parameters, "code_challenge"), _first(parameters, "code_challenge_method")
    if challenge is None or method != "S256" or not CHALLENGE.fullmatch(challenge):
        raise InvalidRequest("PKCE with S256 is required")
    return challenge


def _scope(parameters: Parameters) -> ScopeSet | None:
    text = _first(parameters, "scope")
    if text is None:
        return None
    try:
        return parse_scope(text)
    except ValueError as error:
        raise InvalidScope(str(error)) from None


def _pairs(ceiling: Pairs, scope: ScopeSet | None, targets: list[Held[Resource] | Held[Agent]], *, whole: bool, signs_in: bool) -> Pairs:
    """Asked (resource, scope) pairs, all within the ceiling. Leaving scope out means the client's own for those resources."""
    named = {target.value.uri for target in targets}
    within = ceiling if whole or not named else frozenset(pair for pair in ceiling if pair.resource in named)
    if scope is None or (not scope and not signs_in):
        pairs = within
    elif not scope and not named:
        # openid alone: a sign-in, no API.
        return frozenset()
    else:
        pairs = frozenset(pair for pair in within if pair.scope in scope) if scope else within
        if scope - {pair.scope for pair in pairs}:
            raise InvalidScope("unknown, or above what is registered")
    if not whole and not named and len({pair.resource for pair in pairs}) > 1:
        raise InvalidTarget("several resources: name them")
    if not whole and named - {pair.resource for pair in pairs}:
        raise InvalidTarget("nothing may be asked for one of the resources")
    return pairs


def _limits(parameters: Parameters, agent: Held[Agent] | None) -> Limits:
    text = _first(parameters, "limits")
    if text is None:
        return NO_LIMITS
    if agent is None:
        raise InvalidRequest("limits are of what agents do", layer="limit")
    try:
        return Limits.parse(json_object(text.encode("utf-8", "surrogatepass")))
    except ValueError as error:
        raise InvalidRequest(str(error), layer="limit") from None


def _prompt(parameters: Parameters) -> frozenset[str]:
    prompt = frozenset((_first(parameters, "prompt") or "").split()) - {""}
    if not prompt <= PROMPTS or ("none" in prompt and len(prompt) > 1):
        raise InvalidRequest("prompt is not acceptable")
    return prompt


def _max_age(parameters: Parameters) -> int | None:
    text = _first(parameters, "max_age")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidRequest("max_age is not acceptable")
    return int(text)
