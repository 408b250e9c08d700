"""`/oauth/authorize` and the answer of its page (RFC 6749 §4.1.1, RFC 9126 §4, OIDC Core §3.1.2, protocol §6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import quote, urlencode

from flask import Blueprint, Response, request
from itsdangerous import BadSignature, URLSafeTimedSerializer

from app import clock
from app.authorization.answer import Answers, error_redirect
from app.authorization.answer import Decision as Answer
from app.authorization.offer import Offers
from app.authorization.pushed import read_pushed
from app.authorization.request import AuthorizationRequest, NoRedirect, Parameters, Redirected, Requests
from app.errors import AccessDenied, ConsentRequired, InvalidRequest, InvalidRequestURI, LoginRequired, OAuthError
from app.humans.sessions import SignIn
from app.keys.verifier import JWTRefused
from app.live.commit import Live
from app.rim.form import FORM, parse_parameters
from app.settings import Settings
from app.tokens.hints import Hints
from app.vocabulary import new_id
from app.web.consent import LOWER, csrf_purpose, lowered, read_decision, render_consent
from app.web.forms import single
from app.web.login import Onward
from app.web.pages import Pages, see_other

HERE = "/oauth/authorize"
FRESH = "fresh_after"
"""Our own parameter beside a request that asked for a new sign-in: since when; signed, for that request alone."""
MAX_QUERY = 8192
TICKET_SECONDS = 1800
MANY = frozenset({"resource"})
SIGN_IN_AGAIN = frozenset({"login", "select_account"})
"""Prompts that want a new sign-in; at the sign-in page another account can be chosen as well."""
CHANGED = "What this request asks for has changed since the page was shown. Please look again."


@dataclass(frozen=True, slots=True)
class FrontChannel:
    """What the authorization endpoint works with. `signer`: a key for tickets, from `KeyEncryption.derive("ticket")`."""

    live: Live
    requests: Requests
    offers: Offers
    answers: Answers
    hints: Hints
    settings: Settings
    signer: bytes = field(repr=False)

    def read(self, encoded: str) -> tuple[AuthorizationRequest, Parameters]:
        """The request behind a query string, pushed or not. Raises NoRedirect, Redirected."""
        try:
            if len(encoded) > MAX_QUERY:
                raise InvalidRequest("the request is too long")
            parameters = parse_parameters(encoded.encode("utf-8", "surrogatepass"), MANY | {"client_id", "redirect_uri", *_TOLERATED})
            request_uri = (parameters.get("request_uri") or ("",))[0]
            client_id = (parameters.get("client_id") or ("",))[0]
            if request_uri:
                return self.requests.parse(read_pushed(self.live, request_uri, client_id), request_uri=request_uri), parameters
        except (InvalidRequest, InvalidRequestURI) as error:
            raise NoRedirect(error) from None
        return self.requests.parse(parameters), parameters

    def serializer(self, purpose: str) -> URLSafeTimedSerializer:
        """Signs what goes through the browser and comes back."""
        return URLSafeTimedSerializer(self.signer, salt=purpose)


_TOLERATED = (
    "response_type", "scope", "state", "nonce", "code_challenge", "code_challenge_method", "prompt", "max_age",
    "response_mode", "id_token_hint", "login_hint", "acr_values", "request", "claims", "authorization_details", "limits", "dpop_jkt",
)  # fmt: skip
"""Repeats of these are found by the request itself, which may answer them by a redirect."""


def blueprint(pages: Pages, front: FrontChannel) -> Blueprint:
    """The authorization endpoint and `/consent`."""
    authorize = Blueprint("authorize", __name__)

    @authorize.get(HERE)
    def ask() -> Response:
        return answer(request.query_string.decode("ascii", "replace"))

    @authorize.post(HERE)
    def ask_by_post() -> Response:
        # OIDC Core §3.1.2.1 wants POST too. It goes on as a GET, so that the page can be reloaded.
        body = request.get_data(cache=False)
        if request.mimetype != FORM or len(body) > MAX_QUERY or request.query_string:
            return pages.error(400)
        try:
            parse_parameters(body)
        except InvalidRequest:
            return pages.error(400)
        return see_other(f"{HERE}?{body.decode('ascii', 'replace')}")

    def answer(encoded: str, problem: str = "") -> Response:
        try:
            asked, parameters = front.read(encoded)
        except NoRedirect as refused:
            return pages.error(400, text=f"This request cannot be answered: {_plainly(refused.error)}")
        except Redirected as refused:
            return see_other(error_redirect(refused.error, refused.redirect_uri, refused.state, front.settings.issuer))
        signed_in = pages.sign_in.current()
        if signed_in is None or (_aged(asked, signed_in) and not _renewed(front, parameters, encoded, signed_in)):
            return sign_in_first(asked, signed_in, encoded)
        try:
            _check_hint(front.hints, asked, signed_in)
        except OAuthError as error:
            return see_other(front.answers.refuse(asked, error, signed_in))
        return consent_or_code(asked, signed_in, encoded, problem)

    def sign_in_first(asked: AuthorizationRequest, signed_in: SignIn | None, encoded: str) -> Response:
        if "none" in asked.prompt:
            return see_other(front.answers.refuse(asked, LoginRequired("prompt=none"), signed_in))
        if signed_in is not None or asked.prompt & SIGN_IN_AGAIN:
            encoded = _without_fresh(encoded)
            encoded = f"{encoded}&{urlencode({FRESH: front.serializer('fresh').dumps([clock.timestamp(), _digest(encoded)])})}"
        return see_other(f"/login?next={quote(f'{HERE}?{encoded}', safe='')}")

    def consent_or_code(asked: AuthorizationRequest, signed_in: SignIn, encoded: str, problem: str = "") -> Response:
        standing = front.answers.standing(asked, signed_in)
        # A program that proves nothing is shown each time: another could be asking in its name (RFC 8252 §8.6).
        needs_page = asked.unproven or ((asked.agent is not None or bool(asked.pairs)) and standing is None)
        if "none" in asked.prompt and needs_page:
            return see_other(front.answers.refuse(asked, ConsentRequired("prompt=none"), signed_in))
        if not needs_page and "consent" not in asked.prompt:
            return see_other(front.answers.proceed(asked, signed_in, standing))
        offer = front.offers.offer(asked, signed_in)
        ticket = front.serializer("ticket").dumps([encoded, signed_in.id, offer.digest, new_id("tkt")])
        return render_consent(pages, offer, ticket, redirect_uri=asked.redirect_uri, problem=problem)

    @authorize.post("/consent")
    def decide() -> Response:
        ticket = single(request.form, "ticket")
        pages.csrf.check(request.form, csrf_purpose(ticket))
        signed_in = pages.sign_in.current()
        try:
            encoded, session, digest, nonce = front.serializer("ticket").loads(ticket, max_age=TICKET_SECONDS)
        except (BadSignature, ValueError):
            return pages.error(400, text="This page had been open for too long. Go back to the program and start again.")
        if signed_in is None or signed_in.id != session:
            return pages.error(403)
        try:
            asked, _parameters = front.read(encoded)
        except (NoRedirect, Redirected):
            return pages.error(400, text="This request was answered before, has run out, or is no longer allowed.")
        offer = front.offers.offer(asked, signed_in)
        decision = read_decision(request.form)
        if not decision.allow:
            return see_other(front.answers.refuse(asked, AccessDenied("the human said no", layer="human"), signed_in, nonce))
        if offer.digest != digest:
            return answer(encoded, CHANGED)
        if asked.pairs and not decision.pairs:
            return answer(encoded, "Choose at least one thing to allow, or deny the request.")
        if (limits := lowered(decision.limits, offer.limits, is_agent=offer.kind == "agent")) is None:
            return answer(encoded, LOWER)
        chosen = Answer(decision.pairs, decision.lifetime or offer.lifetimes[-1][0], decision.away, limits)
        return see_other(front.answers.approve(asked, signed_in, offer, chosen, nonce))

    return pages.guard(authorize)


def landing(front: FrontChannel, target: str) -> Onward | None:
    """What a sign-in leads to: the authorization request behind an internal path."""
    path, _, query = target.partition("?")
    if path != HERE:
        return None
    try:
        asked = front.read(query)[0]
    except NoRedirect:
        return None
    except Redirected as refused:
        return Onward(refused.redirect_uri, "", agent=False)
    agent = asked.agent.value if asked.agent is not None else None
    return Onward(asked.redirect_uri, agent.name if agent is not None else asked.client.value.name, agent=agent is not None)


def _renewed(front: FrontChannel, parameters: Parameters, encoded: str, signed_in: SignIn) -> bool:
    """Whether she signed in since this very request asked her to: what we signed says when that was."""
    signed = (parameters.get(FRESH) or ("",))[0]
    try:
        moment, digest = front.serializer("fresh").loads(signed, max_age=TICKET_SECONDS)
    except (BadSignature, ValueError, TypeError):
        return False
    return bool(signed_in.auth_time >= moment and digest == _digest(_without_fresh(encoded)))


def _without_fresh(encoded: str) -> str:
    return "&".join(field for field in encoded.split("&") if not field.startswith(FRESH + "="))


def _digest(encoded: str) -> str:
    return sha256(encoded.encode("utf-8", "surrogatepass")).hexdigest()


def _check_hint(hints: Hints, asked: AuthorizationRequest, signed_in: SignIn) -> None:
    if asked.id_token_hint is None:
        return
    try:
        hint = hints.read(asked.id_token_hint)
    except JWTRefused as refused:
        raise InvalidRequest(f"id_token_hint: {refused.reason}") from None
    if hint.subject != signed_in.human.id:
        raise LoginRequired("id_token_hint names somebody else")


def _plainly(error: OAuthError) -> str:
    return {
        "unknown client": "the program that sent you here is not registered.",
        "redirect_uri is not registered": "the address it wants you sent back to is not registered for that program.",
        "redirect_uri is required": "it does not say where to send you back to.",
    }.get(error.reason, "it is malformed, has run out, or was answered before.")


def _aged(asked: AuthorizationRequest, signed_in: SignIn) -> bool:
    """Whether the sign-in is older than the request allows (OIDC Core §3.1.2.1 `prompt`, `max_age`)."""
    aged = asked.max_age is not None and clock.timestamp() - signed_in.auth_time > asked.max_age
    return aged or bool(asked.prompt & SIGN_IN_AGAIN)
