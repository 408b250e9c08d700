"""RFC 8705: tokens bound to the client certificate of a TLS connection that gunicorn itself terminates, with each grant."""

from __future__ import annotations

import base64
import json
import re
import secrets
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from cryptography import x509

from app.errors import Refused
from app.vocabulary import ConfirmationMethod
from tests import dpop
from tests.attacks.scene import another_app, world_of
from tests.certificates import SERVER, Authority, Held
from tests.dpop import Holder, ath
from tests.faults.node import HANG, Node, free_port, node, until
from tests.protocol.answers import code_at, new_verifier, push, recorded, refused
from tests.world import ACCESS_TOKEN, BY, CONSENT, Answer, Api, Browser, Party, Person, World, bearer, checkboxes, claims_of, hidden

pytestmark = pytest.mark.served
MTLS, JKT = ConfirmationMethod.X5T_S256, ConfirmationMethod.JKT
USERINFO = "/oauth/userinfo"


class OverTLS:
    """Over TLS connections of its own, with a certificate or without."""

    def __init__(self, base: str, authority: Path, certificate: Held | None = None) -> None:
        self._base, self._authority, self._certificate = base, authority, certificate
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.verify = str(authority)
        self._session.cert = str(certificate.path) if certificate is not None else None

    def send(self, method: str, path: str, body: bytes | None, headers: Any) -> Answer:
        answer = self._session.request(method, self._base + path, data=body, headers=dict(headers), allow_redirects=False, timeout=60)
        return Answer(answer.status_code, answer.headers, answer.content)

    def fresh(self) -> OverTLS:
        return OverTLS(self._base, self._authority, self._certificate)


@dataclass
class Place:
    """A node with a port for client certificates, and those who have some."""

    node: Node
    directory: Path
    authority: Authority
    one: Held
    other: Held
    connections: list[OverTLS] = field(default_factory=list)

    def over(self, certificate: Held | None) -> World:
        """The world as whoever connects with that certificate sees it."""
        made = OverTLS(self.node.settings.mtls_url, self.authority.path, certificate)
        self.connections.append(made)
        return World(self.node.server, made)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority(directory)
    server = authority.server()
    files = {"mtls_certificate": server.path, "mtls_key": server.path, "mtls_client_ca": authority.path}
    with node(workers=1, mtls_port=free_port(), mtls_workers=2, redis_timeout=2.0, deadline=30.0, **files) as made:
        made.start()
        here = Place(made, directory, authority, authority.client("one"), authority.client("other"))
        yield here
        for connection in here.connections:
            connection._session.close()


@dataclass
class Story:
    """Alice, her assistant, a booking agent it may hand work to; APIs that demand this or that; connections with this or that."""

    plain: World
    one: World
    other: World
    bare: World
    alice: Person
    browser: Browser
    api: Api
    assistant: Party
    booking: Party
    app: Party
    x5t: str
    x5t_other: str

    def code(self, client: Party, *apis: Api, scope: str = "read", away: bool = False, **more: str) -> tuple[str, str]:
        verifier = new_verifier()
        query = self.plain.authorization(client, verifier, *apis, scope=scope, away=away, **more)
        return code_at(self.browser, query, client.redirect_uri, away=away), verifier

    def given(self, world: World, *apis: Api) -> dict[str, Any]:
        """What the assistant gets for a code that it redeems there."""
        code, verifier = self.code(self.assistant, *(apis or (self.api,)), away=True)
        return world.redeem(self.assistant, code, verifier).ok()


@pytest.fixture
def story(place: Place) -> Story:
    plain = place.node.world()
    alice = plain.human()
    api = plain.resource("read")
    booking = plain.agent(alice, ceiling=[(api, "read")])
    assistant = plain.agent(alice, ceiling=[(api, "read")], own=[(api, "read")], hands_to=[booking])
    one, other, bare = place.over(place.one), place.over(place.other), place.over(None)
    browser = plain.signed_in(alice)
    return Story(
        plain, one, other, bare, alice, browser, api, assistant, booking, plain.app(pairs=[(api, "read")]), place.one.x5t, place.other.x5t
    )


def bound(answer: Answer, x5t: str) -> str:
    """The answer's token, which is bound to that certificate; mutual TLS has no token_type of its own."""
    body = answer.ok()
    assert body["token_type"] in {"Bearer", "N_A"}
    assert claims_of(body["access_token"])["cnf"] == {"x5t#S256": x5t}
    return str(body["access_token"])


def borne(answer: Answer) -> str:
    body = answer.ok()
    assert "cnf" not in claims_of(body["access_token"])
    return str(body["access_token"])


# Each grant binds


@pytest.mark.rfc("8705", "3.1")
def test_an_agents_own_token_is_bound_to_the_certificate_it_connects_with(story: Story) -> None:
    token = bound(story.one.own_token(story.assistant, resource=story.api.uri), story.x5t)
    told = story.plain.introspect(story.api, token)
    assert (told["active"], told["token_type"], told["cnf"]) == (True, "Bearer", {"x5t#S256": story.x5t})
    (record,) = recorded(story.plain, "token.issued", story.assistant, jti=told["jti"])
    assert record["x5t_s256"] == story.x5t
    assert "jkt" not in record


def test_without_a_certificate_it_is_a_bearer_token_there_as_elsewhere(story: Story) -> None:
    for world in (story.bare, story.plain):
        assert "cnf" not in story.plain.introspect(story.api, borne(world.own_token(story.assistant, resource=story.api.uri)))


def test_a_code_gives_a_token_and_a_refresh_token_bound_to_the_certificate(story: Story) -> None:
    given = story.given(story.one)
    assert claims_of(given["access_token"])["cnf"] == {"x5t#S256": story.x5t}
    value = given["refresh_token"]
    for world, error in ((story.plain, "invalid_request"), (story.bare, "invalid_request"), (story.other, "invalid_grant")):
        refused(dpop.refresh(world, story.assistant, value), error)
    # A proof of some key is no certificate.
    refused(dpop.refresh(story.bare, story.assistant, value, Holder()), "invalid_request")
    again = dpop.refresh(story.one, story.assistant, value)
    bound(again, story.x5t)
    refused(dpop.refresh(story.other, story.assistant, again.json["refresh_token"]), "invalid_grant")
    bound(dpop.refresh(story.one, story.assistant, again.json["refresh_token"]), story.x5t)


def test_a_bearers_refresh_token_is_bound_from_the_first_certificate_on(story: Story) -> None:
    answer = dpop.refresh(story.one, story.assistant, story.given(story.plain)["refresh_token"])
    bound(answer, story.x5t)
    refused(dpop.refresh(story.plain, story.assistant, answer.json["refresh_token"]), "invalid_request")


def test_a_consent_gives_a_bound_token_while_the_human_is_away(story: Story) -> None:
    consent = story.given(story.plain)["consent_id"]
    bound(story.one.exchange(story.assistant, consent, CONSENT, resource=story.api.uri), story.x5t)


def test_requests_are_pushed_and_tokens_revoked_and_looked_at_there_too(story: Story) -> None:
    query = story.plain.authorization(story.assistant, new_verifier(), story.api, scope="read")
    assert push(story.one, story.assistant, query).status == 201
    token = bound(story.one.own_token(story.assistant, resource=story.api.uri), story.x5t)
    assert story.other.active(story.api, token)
    assert story.bare.revoke(story.assistant, token).status == 200
    assert not story.one.active(story.api, token)


# Exchange: whose certificate


def test_who_goes_on_must_connect_with_the_certificate_of_the_token(story: Story) -> None:
    token = story.given(story.one)["access_token"]
    for world in (story.plain, story.bare, story.other):
        refused(world.exchange(story.assistant, token), "invalid_request")
    again = bound(story.one.exchange(story.assistant, token), story.x5t)
    assert claims_of(again)["act"] == claims_of(token)["act"]
    for world in (story.plain, story.other):
        refused(world.exchange(story.assistant, again), "invalid_request")


def test_a_new_actor_brings_a_certificate_of_its_own_and_must_bring_something(story: Story) -> None:
    token, key = story.given(story.one)["access_token"], Holder()
    piece = bound(story.one.exchange(story.assistant, token, audience=story.booking.uri), story.x5t)
    for world in (story.plain, story.bare):
        refused(world.exchange(story.booking, piece), "invalid_request")
    rebound = bound(story.other.exchange(story.booking, piece), story.x5t_other)
    refused(story.one.exchange(story.booking, rebound), "invalid_request")
    bound(story.other.exchange(story.booking, rebound), story.x5t_other)
    # A key is as good, for a new actor.
    by_key = dpop.exchange(story.plain, story.booking, piece, key).ok()["access_token"]
    assert claims_of(by_key)["cnf"] == {"jkt": key.jkt}


def test_what_is_bound_to_a_key_is_not_bound_to_a_certificate_by_the_same_actor(story: Story) -> None:
    """And the other way round; the thumbprints of both look alike."""
    world, key = story.plain, Holder()
    by_key = dpop.exchange(world, story.assistant, story.given(world)["access_token"], key).ok()["access_token"]
    refused(story.one.exchange(story.assistant, by_key), "invalid_dpop_proof")
    by_certificate = bound(story.one.exchange(story.assistant, story.given(world)["access_token"]), story.x5t)
    refused(dpop.exchange(story.bare, story.assistant, by_certificate, key), "invalid_request")
    # In a new actor's hands it may.
    piece = dpop.exchange(world, story.assistant, by_key, key, audience=story.booking.uri).ok()["access_token"]
    bound(story.other.exchange(story.booking, piece), story.x5t_other)


def test_with_both_what_is_bound_stays_so_and_what_is_not_is_bound_to_the_key(story: Story) -> None:
    key = Holder()
    fresh = dpop.own(story.one, story.assistant, key, resource=story.api.uri).ok()
    assert (fresh["token_type"], claims_of(fresh["access_token"])["cnf"]) == ("DPoP", {"jkt": key.jkt})
    token = story.given(story.one)["access_token"]
    bound(dpop.exchange(story.one, story.assistant, token, key), story.x5t)
    by_key = dpop.exchange(story.plain, story.assistant, story.given(story.plain)["access_token"], key).ok()["access_token"]
    assert claims_of(dpop.exchange(story.one, story.assistant, by_key, key).ok()["access_token"])["cnf"] == {"jkt": key.jkt}


def test_a_proof_may_name_the_address_it_was_sent_to(story: Story, place: Place) -> None:
    for origin in (place.node.settings.mtls_url, story.plain.issuer):
        proof = Holder().proof(story.plain, htu=origin + "/oauth/token")
        assert dpop.own(story.one, story.assistant, proof).ok()["token_type"] == "DPoP"
    refused(dpop.own(story.one, story.assistant, Holder().proof(story.plain, htu="https://127.0.0.1/oauth/token")), "invalid_dpop_proof")


def test_a_bound_actor_token_is_good_with_its_certificate_only(story: Story) -> None:
    token = story.given(story.plain)["access_token"]
    actor = {"actor_token": bound(story.one.own_token(story.assistant), story.x5t), "actor_token_type": ACCESS_TOKEN}
    for world in (story.plain, story.bare, story.other):
        refused(world.exchange(story.assistant, token, **actor), "invalid_request")
    bound(story.one.exchange(story.assistant, token, **actor), story.x5t)


def test_a_code_for_a_key_is_redeemed_with_that_key_and_no_certificate_instead(story: Story) -> None:
    key = Holder()
    code, verifier = story.code(story.assistant, story.api, dpop_jkt=key.jkt)
    refused(story.one.redeem(story.assistant, code, verifier), "invalid_dpop_proof")
    assert dpop.redeem(story.one, story.assistant, code, verifier, key).ok()["token_type"] == "DPoP"


def test_another_certificate_for_the_same_key_is_another_certificate(story: Story, place: Place) -> None:
    """RFC 8705 §7.2: who renews it exchanges anew, from the consent or a bearer's token."""
    token = story.given(story.one)["access_token"]
    renewed = place.over(place.authority.client("renewed", key=place.one.key))
    refused(renewed.exchange(story.assistant, token), "invalid_request")


def test_what_a_human_was_asked_for_with_a_certificate_is_issued_to_that_certificate(story: Story) -> None:
    consent = story.given(story.plain)["consent_id"]
    members, headers = story.one.credentials(story.assistant)
    form = {"scope": "openid read", "resource": story.api.uri, "login_hint": consent, **members}
    asked = story.one.post("/oauth/bc-authorize", form, headers).ok()
    page = story.browser.get("/my/approvals").text
    (path,) = re.findall(r'class="button" href="(/my/approvals/apr_[^"]+)"', page)
    shown = story.browser.get(path)
    ticked = [("scope", value) for value in checkboxes(shown, "scope")]
    assert story.browser.post(path, [*hidden(shown), *ticked, ("decision", "allow")]).status == 303
    redeem = {"grant_type": "urn:openid:params:grant-type:ciba", "auth_req_id": asked["auth_req_id"]}
    for world in (story.plain, story.bare, story.other):
        refused(world.token(story.assistant, redeem), "invalid_request")
    bound(story.one.token(story.assistant, redeem), story.x5t)


# APIs that demand it


@pytest.mark.parametrize("demanded", [(MTLS,), (JKT,), (MTLS, JKT)])
def test_an_api_is_issued_only_what_is_bound_as_it_demands(story: Story, demanded: tuple[ConfirmationMethod, ...]) -> None:
    world, key = story.plain, Holder()
    api = world.resource("read", bound=demanded)
    agent = world.agent(story.alice, ceiling=[(api, "read")], own=[(api, "read")])
    error = "invalid_dpop_proof" if JKT in demanded else "invalid_request"
    refused(world.own_token(agent, resource=api.uri), error)
    by_certificate, by_key = story.one.own_token(agent, resource=api.uri), dpop.own(world, agent, key, resource=api.uri)
    for answer, method in ((by_certificate, MTLS), (by_key, JKT)):
        if method in demanded:
            assert list(claims_of(answer.ok()["access_token"])["cnf"]) == [method.value]
        else:
            refused(answer, error)


# At this server's own endpoints


def test_userinfo_takes_a_bound_token_over_a_connection_with_its_certificate(story: Story) -> None:
    code, verifier = story.code(story.app, scope="openid email")
    token = bound(story.one.redeem(story.app, code, verifier), story.x5t)
    assert story.one.get(USERINFO, bearer(token)).ok()["sub"] == story.alice.id
    for world in (story.plain, story.bare, story.other):
        refused(world.get(USERINFO, bearer(token)), "invalid_token", 401)
    key = Holder()
    proof = key.proof(story.plain, USERINFO, htm="GET", ath=ath(token))
    for world in (story.one, story.bare):
        refused(world.http.send("GET", USERINFO, None, {"Authorization": f"DPoP {token}", "DPoP": proof}), "invalid_token", 401)


def test_tasks_are_opened_and_ended_with_a_bound_token_over_its_connection_only(story: Story) -> None:
    given = story.given(story.plain)
    token = bound(story.one.own_token(story.assistant), story.x5t)
    body = json.dumps({"consent_id": given["consent_id"], "purpose": "A piece of work"}).encode()
    headers = {**bearer(token), "Content-Type": "application/json"}
    for world in (story.plain, story.bare, story.other):
        refused(world.http.send("POST", "/tasks", body, headers), "invalid_token", 401)
    task = story.one.opened(token, given["consent_id"])
    refused(story.other.http.send("POST", f"/tasks/{task}/end", None, bearer(token)), "invalid_token", 401)
    story.one.ended(token, task)


# What is no good certificate


def test_a_certificate_of_nobody_known_or_out_of_time_or_for_something_else_ends_the_connection(story: Story, place: Place) -> None:
    stranger = Authority(place.directory, "stranger")
    for bad in (
        stranger.client("strangers"),
        place.authority.client("expired", days=(-3, -1)),
        place.authority.client("early", days=(2, 3)),
        place.authority.client("servers", use=SERVER),
        stranger._own,
    ):
        with pytest.raises(requests.ConnectionError):
            place.over(bad).own_token(story.assistant)
    borne(story.bare.own_token(story.assistant))


def headers_of(certificate: Held) -> Iterator[dict[str, str]]:
    encoded = base64.b64encode(certificate.der).decode()
    for name in (
        "Client-Cert",
        "X-Client-Cert",
        "X-SSL-Client-Cert",
        "Ssl-Client-Cert",
        "X-Forwarded-Tls-Client-Cert",
        "Deputy.Client-Certificate",
    ):
        for value in (f":{encoded}:", quote(certificate.pem), encoded):
            yield {name: value}
    yield {"X-Forwarded-Client-Cert": f"Hash={certificate.x5t};Cert={quote(certificate.pem)}"}


def test_no_header_is_believed_to_hold_a_certificate(story: Story, place: Place) -> None:
    for headers in headers_of(place.one):
        for world in (story.plain, story.bare):
            members, more = world.credentials(story.assistant)
            borne(world.post("/oauth/token", {"grant_type": "client_credentials", **members}, {**more, **headers}))
    members, more = story.other.credentials(story.assistant)
    headers = {**more, "Client-Cert": f":{base64.b64encode(place.one.der).decode()}:"}
    bound(story.other.post("/oauth/token", {"grant_type": "client_credentials", **members}, headers), story.x5t_other)


def test_there_is_nothing_for_browsers_there(story: Story) -> None:
    for path in (
        "/",
        "/login",
        "/consent",
        "/my/agents",
        "/oauth/authorize",
        "/oauth/jwks",
        "/.well-known/openid-configuration",
    ):
        answer = story.one.get(path)
        assert answer.status == 404, path
        assert "Set-Cookie" not in answer.headers
    assert story.one.get("/healthz").status == 200


def test_a_killed_listener_comes_back_and_certificates_are_taken_again(story: Story, place: Place) -> None:
    place.node.kill_child("mtls")

    def back() -> bool:
        answer = place.over(place.one).own_token(story.assistant, resource=story.api.uri)
        return answer.status == 200 and claims_of(answer.json["access_token"])["cnf"] == {"x5t#S256": story.x5t}

    assert until(back, "the port for client certificates")


def test_a_renewed_certificate_of_the_server_is_used_without_a_restart(story: Story, place: Place) -> None:
    used = place.node.settings.mtls_certificate
    assert used is not None

    def shown() -> bytes:
        address = ("127.0.0.1", place.node.settings.mtls_port)
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(address, ca_certs=str(place.authority.path)))

    renewed = place.authority.server("renewed-server")
    assert shown() != renewed.der
    renewed.path.replace(used)
    assert shown() == renewed.der
    borne(place.over(None).own_token(story.assistant))


@pytest.mark.parametrize("missing", ["mtls_certificate", "mtls_client_ca"])
def test_with_files_that_cannot_be_used_a_node_does_not_start_and_says_so(place: Place, missing: str) -> None:
    files = {"mtls_certificate": place.one.path, "mtls_key": place.one.path, "mtls_client_ca": place.authority.path}
    with node(workers=1, mtls_port=free_port(), **files | {missing: place.directory / "missing.pem"}) as made:
        assert made.spawn().wait(HANG) == 1
        assert "DEPUTY_MTLS_CLIENT_CA cannot be used" in made.said()


def test_callers_who_say_nothing_keep_nobody_out(story: Story, place: Place) -> None:
    """In the middle of a handshake, or of a request; more of them than there are threads."""
    settings = place.node.settings
    context = ssl.create_default_context(cafile=place.authority.path)
    with ExitStack() as silent:
        for number in range(4 * settings.mtls_workers * settings.threads):
            caller = silent.enter_context(socket.create_connection(("127.0.0.1", settings.mtls_port)))
            if number % 2:
                caller.sendall(b"\x16\x03\x01\x02\x00\x01")
                continue
            # Whether its handshake is answered is nobody's business here.
            caller.settimeout(0.2)
            with suppress(OSError):
                held = silent.enter_context(context.wrap_socket(caller, server_hostname="127.0.0.1"))
                held.sendall(b"POST /oauth/token HTTP/1.1\r\nHost: x\r\n")
        bound(place.over(place.one).own_token(story.assistant, resource=story.api.uri), story.x5t)


# tls_client_auth: the certificate says who it is


SPIFFE = "spiffe://example.org/agents/"


def known_by(story: Story, name: str, **more: Any) -> Party:
    """An agent with no key and no secret: its certificate has that name."""
    made = story.plain.agent(story.alice, own=[(story.api, "read")], auth="tls_client_auth", jwks=None, certificate_name=name, **more)
    return replace(made, key=None)


def own_token(world: World, client_id: str, **form: str) -> Answer:
    return world.post("/oauth/token", {"grant_type": "client_credentials", "client_id": client_id, **form})


@pytest.mark.rfc("8705", "2.1")
def test_a_certificate_with_the_registered_name_authenticates_its_agent(story: Story, place: Place) -> None:
    name = SPIFFE + secrets.token_hex(4)
    uri, dns = x509.UniformResourceIdentifier, x509.DNSName
    held = place.authority.client("spiffe", uri(name))
    for agent, certificate in (
        (known_by(story, f"san_uri:{name}"), held),
        (known_by(story, f"san_uri:{name}"), place.authority.client("more", dns("x.example"), uri(SPIFFE + "x"), uri(name))),
        (known_by(story, f"san_dns:{name[9:20]}.example"), place.authority.client("dns", dns(f"{name[9:20]}.example"))),
    ):
        token = bound(own_token(place.over(certificate), agent.client_id, resource=story.api.uri), certificate.x5t)
        assert claims_of(token)["sub"] == agent.uri
        # One method for each request, the registered one, wherever it asks.
        assert place.over(certificate).revoke(agent, token).status == 200
        assert not story.plain.active(story.api, token)


def test_nothing_else_authenticates_it_and_nobody_learns_whether_it_is_there(story: Story, place: Place) -> None:
    name = SPIFFE + secrets.token_hex(4)
    agent, uri = known_by(story, f"san_uri:{name}"), x509.UniformResourceIdentifier
    certificates = [
        place.authority.client(f"wrong-{number}", *names)
        for number, names in enumerate((
            (), (uri(name + "/"),), (uri(name.upper()),), (uri(SPIFFE),), (x509.DNSName("example.org"),), (x509.RFC822Name("a@example.org"),),
        ))
    ]  # fmt: skip
    named = place.authority.client(name)  # as its subject's common name, which is not asked
    worlds = [story.plain, story.bare, story.one, *(place.over(one) for one in (*certificates, named))]
    said = set()
    for world in worlds:
        for client_id in (agent.client_id, "agc_nobody"):
            answer = own_token(world, client_id)
            refused(answer, "invalid_client", 401)
            said.add(answer.body)
    assert len(said) == 1
    right = place.over(place.authority.client("right", uri(name)))
    assert own_token(right, agent.client_id).status == 200
    # Who has a key signs; who has a name for its certificate does not.
    refused(own_token(right, story.assistant.client_id), "invalid_client", 401)
    refused(right.own_token(replace(agent, key=story.assistant.key)), "invalid_client", 401)
    story.plain.server.agent_registry.suspend(agent.id, by=BY)
    refused(own_token(right, agent.client_id), "invalid_client", 401)


def test_a_public_clients_certificate_binds_and_does_not_authenticate(story: Story) -> None:
    public = story.plain.app(pairs=[(story.api, "read")], auth="none")
    code, verifier = story.code(public, story.api, away=True)
    answer = story.one.redeem(public, code, verifier)
    bound(answer, story.x5t)
    refused(dpop.refresh(story.plain, public, answer.json["refresh_token"]), "invalid_request")
    bound(dpop.refresh(story.one, public, answer.json["refresh_token"]), story.x5t)


def test_only_a_whole_name_is_registered_and_only_where_certificates_are_taken(story: Story, world: World) -> None:
    for name in (
        "",
        "spiffe://example.org/x",
        "san_uri:",
        "san_uri:x",
        "san_ip:127.0.0.1",
        "san_dns:*.example",
        "san_dns:",
        "san_uri:spiffe://é",
    ):
        with pytest.raises(Refused):
            known_by(story, name)
    with pytest.raises(Refused):
        story.plain.agent(story.alice, certificate_name="san_uri:spiffe://example.org/x")
    with pytest.raises(Refused, match="DEPUTY_MTLS_PORT"):
        world.agent(world.human(), auth="tls_client_auth", jwks=None, certificate_name="san_uri:spiffe://example.org/x")


# Clients that get no bearer token


@pytest.mark.rfc("8705", "3.4")
def test_an_agent_registered_so_gets_only_tokens_bound_to_a_certificate(story: Story) -> None:
    agent, key = story.plain.agent(story.alice, own=[(story.api, "read")], bound=[MTLS]), Holder()
    for form in ({"resource": story.api.uri}, {}):
        refused(story.plain.own_token(agent, **form), "invalid_request")
        refused(dpop.own(story.plain, agent, key, **form), "invalid_request")
        bound(story.one.own_token(agent, **form), story.x5t)


# Metadata


@pytest.mark.rfc("8705", "5")
def test_metadata_says_so_and_where(story: Story, place: Place) -> None:
    told = story.plain.get("/.well-known/oauth-authorization-server").ok()
    assert told["tls_client_certificate_bound_access_tokens"] is True
    assert "tls_client_auth" in told["token_endpoint_auth_methods_supported"]
    aliases = told["mtls_endpoint_aliases"]
    assert set(aliases) == {"token_endpoint", "pushed_authorization_request_endpoint", "introspection_endpoint", "revocation_endpoint", "userinfo_endpoint", "backchannel_authentication_endpoint"}  # fmt: skip
    for name, url in aliases.items():
        assert url == told[name].replace(story.plain.issuer, place.node.settings.mtls_url)


def test_where_no_certificates_are_taken_metadata_is_silent(world: World) -> None:
    told = world.get("/.well-known/oauth-authorization-server").ok()
    assert not {"tls_client_certificate_bound_access_tokens", "mtls_endpoint_aliases"} & told.keys()
    assert "tls_client_auth" not in told["token_endpoint_auth_methods_supported"]


# Behind a proxy that terminates TLS


@pytest.fixture
def proxied(world: World) -> Iterator[World]:
    with another_app(world.server.settings, trusted_proxies=1, client_certificate_header="Client-Cert") as made:
        yield world_of(world.server, made)


Form = Callable[[Held], str]


@pytest.mark.rfc("9440", "2.1")
@pytest.mark.parametrize(
    "written", [lambda held: f":{base64.b64encode(held.der).decode()}:", lambda held: quote(held.pem)], ids=["9440", "nginx"]
)
def test_a_trusted_proxy_may_pass_the_certificate_on(proxied: World, place: Place, written: Form) -> None:
    agent = proxied.agent(proxied.human())
    members, headers = proxied.credentials(agent)
    form = {"grant_type": "client_credentials", **members}
    bound(proxied.post("/oauth/token", form, {**headers, "Client-Cert": written(place.one)}), place.one.x5t)
    borne(proxied.own_token(agent))


def test_what_a_proxy_passes_on_that_is_no_certificate_is_refused(proxied: World, place: Place) -> None:
    agent = proxied.agent(proxied.human())
    good = base64.b64encode(place.one.der).decode()
    for bad in (
        good,
        f":{good}",
        f":{good}:, :{good}:",
        ":eA==:",
        ":%:",
        "::",
        ":",
        "x",
        quote(place.one.pem[:-40]),
        ":" + "A" * 20_000 + ":",
    ):
        members, headers = proxied.credentials(agent)
        answer = proxied.post("/oauth/token", {"grant_type": "client_credentials", **members}, {**headers, "Client-Cert": bad})
        refused(answer, "invalid_request")
