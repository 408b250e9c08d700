"""A human's answer becomes a redirect: with a code bound to what she approved, or with an error (RFC 6749 §4.1.2)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit, urlunsplit

from sqlalchemy.orm import Session

from app import clock
from app.agents.models import AgentRow
from app.audit import serialize
from app.audit.events import AuthorizationRefused, CodeIssued, Who
from app.authorization.code import Code, expires_at, new_code
from app.authorization.offer import Offer
from app.authorization.pushed import once_pushed
from app.authorization.request import AuthorizationRequest, matches, redirect_host
from app.clients.models import ClientRow
from app.delegation.consent import Approval, Consent, Consents
from app.delegation.limits import NO_LIMITS, Limits
from app.errors import InvalidRequest, OAuthError, TemporarilyUnavailable
from app.humans.models import HumanRow, SessionRow
from app.humans.sessions import SignIn
from app.live.cache import Held
from app.live.commit import Commit, Live, Moved, Once, UsedTwice
from app.live.deeds import Deed, Deeds
from app.live.models import read_epochs
from app.live.things import DEPLOYMENT, Kind, Thing
from app.policy.access import SignedInAs
from app.settings import Settings
from app.tokens.families import Authorization, Families, new_family
from app.vocabulary import AgentState, Pairs, ScopeSet, by_resource

TICKET_SECONDS = 3600
"""Seconds an answered page is remembered, so that a second submit of it gives nothing."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the human chose on the page."""

    pairs: Pairs
    lifetime: int
    """Seconds from now."""
    away: bool
    limits: Limits = NO_LIMITS


class Answers:
    """Answers authorization requests."""

    def __init__(self, live: Live, deeds: Deeds, consents: Consents, families: Families, settings: Settings) -> None:
        self._live = live
        self._deeds = deeds
        self._consents = consents
        self._families = families
        self._settings = settings

    def standing(self, request: AuthorizationRequest, signed_in: SignIn) -> Held[Consent] | None:
        """A consent that already covers all an application asks, so that no page is needed. Agents are always shown."""
        if request.agent is not None or not request.pairs:
            return None
        for held in self._consents.standing(signed_in.human.id, request.client.value.client_id):
            consent = held.value
            shown = request.pairs <= consent.pairs and matches(request.redirect_uri, consent.redirect_uri)
            if shown and consent.away == request.away and consent.session in {None, signed_in.id}:
                return held
        return None

    def approve(self, request: AuthorizationRequest, signed_in: SignIn, offer: Offer, decision: Decision, ticket: str) -> str:
        """Write the consent down and give a code. Raises InvalidRequest for an answer that exceeds what was shown."""
        pairs = decision.pairs
        if not pairs <= request.pairs or decision.lifetime > offer.lifetimes[-1][0] or decision.lifetime <= 0:
            raise InvalidRequest("more than what was shown")
        if not decision.limits.within(request.limits):
            raise InvalidRequest("more than what was shown")
        if (decision.away and not request.away) or (request.pairs and not pairs):
            raise InvalidRequest("not what was shown")
        until = clock.timestamp() + decision.lifetime
        if not decision.away:
            until = min(until, signed_in.expires_at)
        agent = request.agent.value if request.agent is not None else None
        approval = Approval(
            human=signed_in.human.id,
            client_id=agent.client_id if agent is not None else request.client.value.client_id,
            agent=agent.id if agent is not None else None,
            pairs=pairs,
            depth=offer.depth,
            away=decision.away,
            session=signed_in.id,
            until=until,
            auth_time=signed_in.auth_time,
            acr=signed_in.acr,
            amr=signed_in.amr,
            redirect_uri=request.redirect_uri,
            shown=offer.digest,
            app=request.client.value.client_id if request.handover else None,
            owner=agent.owner if agent is not None else None,
            limits=decision.limits if agent is not None else NO_LIMITS,
            receivers=frozenset(offer.receivers),
        )
        # Used up first: neither a second submit nor a second tab may leave a second consent.
        self._commit(Commit(once=_marks(request, signed_in, ticket)))
        with self._deeds.deed() as deed:
            _check_still_there(deed.session, request, signed_in)
            # What goes on without her is a consent too, so that it ends when she said and can be withdrawn.
            consent = self._consents.give(deed, approval)[0] if pairs or decision.away else None
            authorization = self._authorize(deed, request, signed_in, consent, away=decision.away, pairs=pairs)
        return self._redirect(request, authorization, signed_in, once=())

    def proceed(self, request: AuthorizationRequest, signed_in: SignIn, consent: Held[Consent] | None) -> str:
        """Give a code without a page: a plain sign-in, or an application whose standing consent covers the request."""
        with self._deeds.deed() as deed:
            held = consent.value if consent is not None else None
            authorization = self._authorize(deed, request, signed_in, held, away=held.away if held else False, pairs=request.pairs)
        return self._redirect(request, authorization, signed_in, once=_marks(request, signed_in, None))

    def refuse(self, request: AuthorizationRequest, error: OAuthError, signed_in: SignIn | None, ticket: str | None = None) -> str:
        """The redirect that carries an error. With a signed-in human it is recorded."""
        if signed_in is not None:
            event = AuthorizationRefused(
                who=Who(human=signed_in.human.id, client=request.client.value.client_id),
                error=str(error.error),
                reason=error.reason,
                asked=by_resource(request.pairs),
            )
            self._commit(Commit(once=_marks(request, signed_in, ticket), record=serialize(event)[1]))
        return error_redirect(error, request.redirect_uri, request.state, self._settings.issuer)

    def _authorize(
        self, deed: Deed, request: AuthorizationRequest, signed_in: SignIn, consent: Consent | None, *, away: bool, pairs: Pairs
    ) -> Authorization:
        client_id = request.client.value.client_id
        _check_still_there(deed.session, request, signed_in)
        things = [DEPLOYMENT, Thing(Kind.HUMAN, signed_in.human.id), Thing(Kind.CLIENT, client_id)]
        if request.agent is not None:
            things.append(request.agent.thing)
        if consent is not None:
            things.append(Thing(Kind.CONSENT, consent.id))
        if not away:
            things.append(Thing(Kind.SESSION, signed_in.id))
        granted: ScopeSet = request.openid if away else request.openid - {"offline_access"}
        longest = clock.timestamp() + self._settings.refresh_lifetime
        authorization = Authorization(
            family=new_family(),
            client_id=client_id,
            human=signed_in.human.id,
            pairs=pairs,
            openid=granted if request.app else frozenset(),
            signed_in=SignedInAs(signed_in.auth_time, signed_in.acr, tuple(signed_in.amr)),
            born={**read_epochs(deed.session, things), **(consent.born if consent is not None else {})},
            consent=consent.id if consent is not None else None,
            session=None if away else signed_in.id,
            handover=request.agent.value.uri if request.handover and request.agent is not None else None,
            refreshable=away and not request.handover,
            expires_at=min(longest, consent.until) if consent is not None else longest,
        )
        self._families.begin(deed.session, authorization)
        return authorization

    def _redirect(self, request: AuthorizationRequest, authorization: Authorization, signed_in: SignIn, *, once: tuple[Once, ...]) -> str:
        code, put = new_code(
            Code(
                authorization=authorization,
                redirect_uri=request.redirect_uri,
                redirect_uri_sent=request.redirect_uri_sent,
                challenge=request.challenge,
                nonce=request.nonce,
                jkt=request.dpop_jkt,
                expires_at=expires_at(self._settings.code_lifetime),
            )
        )
        event = CodeIssued(
            who=Who(
                actors=(request.agent.value.uri,) if request.agent is not None else (),
                human=signed_in.human.id,
                client=authorization.client_id,
                owner=request.agent.value.owner if request.agent is not None else None,
            ),
            family=authorization.family,
            consent=authorization.consent,
            scope=by_resource(authorization.pairs),
            redirect_host=redirect_host(request.redirect_uri),
        )
        self._commit(Commit(epochs=authorization.born, once=once, put=(put,), record=serialize(event)[1]))
        return redirect(request.redirect_uri, {"code": code, "state": request.state, "iss": self._settings.issuer})

    def _commit(self, commit: Commit) -> None:
        try:
            self._live.commit(commit)
        except UsedTwice:
            raise InvalidRequest("this page was answered before") from None
        except Moved:
            raise TemporarilyUnavailable("something changed meanwhile", retry_after=0) from None


def _check_still_there(session: Session, request: AuthorizationRequest, signed_in: SignIn) -> None:
    """Nobody was disabled, suspended or signed out since the request was read; deeds wait for each other.

    What is given now is born under the epochs of now: it must not be given by or to whom they just ended.
    Raises `TemporarilyUnavailable`; whoever comes again hears what has changed.
    """
    held, human = session.get(SessionRow, signed_in.id), session.get(HumanRow, signed_in.human.id)
    client = session.get(ClientRow, request.client.value.client_id)
    agent = session.get(AgentRow, request.agent.value.id) if request.agent is not None else None
    there = (
        held is not None
        and held.ended_at is None
        and held.expires_at > clock.timestamp()
        and human is not None
        and human.enabled
        and client is not None
        and client.enabled
        and (request.agent is None or (agent is not None and agent.state == AgentState.ACTIVE))
    )
    if not there:
        raise TemporarilyUnavailable("something ended meanwhile", retry_after=0)


def _marks(request: AuthorizationRequest, signed_in: SignIn, ticket: str | None) -> tuple[Once, ...]:
    """What any answer uses up: the pushed request, and the page it was shown on."""
    marks = [once_pushed(request.request_uri, TICKET_SECONDS)] if request.request_uri is not None else []
    if ticket is not None:
        marks.append(Once("ticket", f"{signed_in.id} {ticket}", TICKET_SECONDS))
    return tuple(marks)


def redirect(redirect_uri: str, parameters: dict[str, str | None]) -> str:
    """The redirect URI with parameters added to its query; what is None is left out."""
    parts = urlsplit(redirect_uri)
    query = urlencode({name: value for name, value in parameters.items() if value is not None})
    return urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query))


def error_redirect(error: OAuthError, redirect_uri: str, state: str | None, issuer: str) -> str:
    """An error response with `iss` (RFC 6749 §4.1.2.1, RFC 9207 §2)."""
    return redirect(redirect_uri, {"error": str(error.error), "error_description": str(error.description), "state": state, "iss": issuer})
