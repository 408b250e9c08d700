"""Who exists cannot be found out: unknown, wrong, suspended and retired are one answer and one amount of work (RFC 9700 §4)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from app.keys.jwk import generate_client_key, public_part
from app.keys.signer import SigningKey, import_signing_key
from app.live.things import Kind, Thing
from app.vocabulary import SigningAlg, new_id
from tests.attacks.counting import counted
from tests.attacks.scene import Scene, elsewhere, refused, unique
from tests.copies import Copy, code_for
from tests.forge import forge
from tests.issuers import Issuer, attest
from tests.world import ASSERTION, BY, PASSWORD, Answer, Party, Person, basic

PATHS = ("/oauth/token", "/oauth/introspect", "/oauth/revoke", "/oauth/par")
KEYS: dict[SigningAlg, SigningKey] = {alg: import_signing_key(generate_client_key(alg), alg) for alg in SigningAlg}
"""The attacker's own."""

Send = Callable[[str], Answer]


def seen(answer: Answer) -> tuple[int, bytes, dict[str, str]]:
    """Everything an attacker sees of an answer but the request's own id."""
    headers = {name: value for name, value in dict(answer.headers).items() if name not in {"X-Request-Id", "Date"}}
    return answer.status, answer.body, headers


def measured(send: Callable[[], Answer]) -> tuple[Answer, Counter[str]]:
    with counted() as work:
        answer = send()
    return answer, work


@pytest.fixture(scope="module")
def known(scene: Scene) -> dict[str, str]:
    """A `client_id` of every sort there is, and of none."""
    registry = scene.world.server.agent_registry
    rsa = scene.world.agent(scene.bob, jwks={"keys": [public_part(generate_client_key(SigningAlg.RS256))]})
    two = scene.world.agent(
        scene.bob, jwks={"keys": [public_part(generate_client_key(SigningAlg.ES256)), public_part(generate_client_key(SigningAlg.ES256))]}
    )
    suspended, retired, quiet = scene.world.agent(scene.bob), scene.world.agent(scene.bob), scene.world.agent(scene.bob)
    silent = scene.world.agent(scene.bob, auth="client_secret_basic", jwks=None)
    registry.suspend(suspended.id, by=BY)
    registry.retire(retired.id, by=BY)
    registry.suspend(silent.id, by=BY)
    disabled = scene.world.app()
    scene.world.server.apps.disable(disabled.client_id, by=BY)
    return {
        "unknown": new_id("agc"),
        "another unknown": "x",
        "agent with a key": scene.agent.client_id,
        "agent with an RSA key": rsa.client_id,
        "agent with two keys": two.client_id,
        "agent with a secret": scene.keyless.client_id,
        "agent nobody has heard of lately": quiet.client_id,
        "suspended agent": suspended.client_id,
        "suspended agent with a secret": silent.client_id,
        "retired agent": retired.client_id,
        "application": scene.app.client_id,
        "application that posts": scene.posting.client_id,
        "public application": scene.public.client_id,
        "disabled application": disabled.client_id,
        "resource": scene.api.client_id,
    }


def one_answer(known: dict[str, str], send: Send, *, but: str = "") -> None:
    """Every `client_id` gets the same answer for the same work, the first time and the second."""
    for turn in range(2):
        answers = {who: measured(lambda client_id=client_id: send(client_id)) for who, client_id in known.items() if who != but}  # type: ignore[misc]
        reference, work = answers["unknown"]
        refused(reference, "invalid_client", 401)
        for who, (answer, its_work) in answers.items():
            assert seen(answer) == seen(reference), who
            if turn == 0:
                # A worker imports the keys of a client once, when it first hears its name.
                del its_work["import"]
            assert its_work == work, (who, its_work, work)


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_secret_by_basic(scene: Scene, known: dict[str, str], path: str) -> None:
    one_answer(
        known, lambda client_id: scene.world.post(path, {"grant_type": "client_credentials", "token": "x"}, basic(client_id, "wrong"))
    )


@pytest.mark.parametrize("path", PATHS)
def test_a_wrong_secret_in_the_body(scene: Scene, known: dict[str, str], path: str) -> None:
    form = {"grant_type": "client_credentials", "token": "x", "client_secret": "wrong"}
    one_answer(known, lambda client_id: scene.world.post(path, {**form, "client_id": client_id}))


@pytest.mark.parametrize("alg", SigningAlg)
@pytest.mark.parametrize("kid", ["none", "attacker's", "the agent's"])
def test_an_assertion_of_a_key_nobody_registered(scene: Scene, known: dict[str, str], alg: SigningAlg, kid: str) -> None:
    assert scene.agent.key is not None
    kids = {"none": {}, "attacker's": {"kid": KEYS[alg].kid}, "the agent's": {"kid": scene.agent.key.thumbprint()}}
    now = int(time.time())

    def send(client_id: str, *, named: bool = False) -> Answer:
        claims = {"iss": client_id, "sub": client_id, "aud": scene.world.issuer, "iat": now, "exp": now + 60, "jti": unique()}
        form = {"client_assertion": forge({"alg": alg.value, **kids[kid]}, claims, KEYS[alg]), "client_assertion_type": ASSERTION}
        more = {"client_id": client_id} if named else {}
        return scene.world.post("/oauth/token", {"grant_type": "client_credentials", **form, **more})

    one_answer(known, send)
    one_answer(known, lambda client_id: send(client_id, named=True))


def test_the_word_of_a_platform_that_is_not_taken(scene: Scene) -> None:
    """An unknown issuer, a claim that does not fit, a bad signature, an unknown kid: one answer and one work."""
    issuer, stranger = Issuer(), Issuer()
    issuer.trusted(scene.world, scene.agent)
    copy = Copy()
    assert attest(scene.world, issuer.says(scene.world), copy).status == 200
    words = {
        "unknown": lambda: stranger.says(scene.world),
        "another repository": lambda: issuer.says(scene.world, repository="acme/other"),
        "a bad signature": lambda: Issuer(issuer.name).says(scene.world, {"kid": issuer.kid}),
        "an unknown kid": lambda: Issuer(issuer.name).says(scene.world),
        "another audience": lambda: issuer.says(scene.world, aud="https://other.example"),
        "expired": lambda: issuer.says(scene.world, iat=int(time.time()) - 400, exp=int(time.time()) - 100),
    }
    answers = {}
    for what, word in words.items():
        made = word()
        answers[what] = measured(lambda made=made: attest(scene.world, made, copy))  # type: ignore[misc]
    reference, work = answers["unknown"]
    refused(reference, "invalid_client", 401)
    for what, (answer, its_work) in answers.items():
        assert seen(answer) == seen(reference), what
        # The keys of a trust are imported for whoever names its issuer with its claims: both are no secrets.
        del its_work["import"]
        assert its_work == work, what


def test_an_enrolment_code_that_is_none(scene: Scene) -> None:
    used = code_for(scene.world, scene.agent)
    assert Copy().register(scene.world, used).status == 201
    answers = [Copy().register(scene.world, code) for code in ("enr_" + "x" * 43, "x", None)]
    assert len({(answer.status, answer.body) for answer in answers}) == 1
    told = Copy().register(scene.world, used).json
    assert {name: told[name] for name in ("error", "error_description")} == answers[0].json


def test_naming_a_client_that_must_prove_itself(scene: Scene, known: dict[str, str]) -> None:
    """A public application says who it is and no more; that it exists is no secret."""
    form = {"grant_type": "client_credentials"}
    one_answer(known, lambda client_id: scene.world.post("/oauth/token", {**form, "client_id": client_id}), but="public application")


def test_introspection_is_for_those_who_prove_themselves(scene: Scene, known: dict[str, str]) -> None:
    """RFC 7662 §2.1: a public application is refused like a stranger."""

    def send(client_id: str) -> Answer:
        return scene.world.post("/oauth/introspect", {"token": scene.handover, "client_id": client_id})

    one_answer(known, send, but="public application")
    assert seen(send(known["public application"])) == seen(send(known["unknown"]))


def test_the_client_itself_a_moment_after_it_was_suspended(scene: Scene) -> None:
    """The right key of a suspended agent is told nothing that a stranger is not."""
    agent = scene.world.agent(scene.bob, own=[(scene.api, "read")])
    assert scene.world.own_token(agent).status == 200
    scene.world.server.agent_registry.suspend(agent.id, by=BY)
    stranger = Party(new_id("agc"), key=agent.key)
    assert seen(scene.world.own_token(agent)) == seen(scene.world.own_token(stranger))


def test_a_resource_is_told_the_same_of_every_token_that_is_not_its_own(scene: Scene) -> None:
    tokens = {
        "unknown": "x" * 43, "another API's": scene.world.exchange(scene.agent, scene.handover, resource=scene.other.uri).ok()["access_token"],
        "a hand-over": scene.handover, "an agent's own": scene.world.own_token(scene.agent).ok()["access_token"], "a consent": str(scene.given["consent_id"]),
    }  # fmt: skip
    sent = basic(scene.api.client_id, scene.api.client_secret)
    answers = {seen(scene.world.post("/oauth/introspect", {"token": token}, sent))[1] for token in tokens.values()}
    assert answers == {b'{"active":false}'}


# People


def sign_in(scene: Scene, username: str, password: str) -> tuple[Answer, Counter[str]]:
    browser = elsewhere(scene.world)
    browser.get("/login")
    with counted() as work:
        answer = browser.sign_in(username, password)
    return answer, work


def body_of(answer: Answer, username: str) -> str:
    """The page but for what differs in every rendering."""
    import re

    text = answer.text.replace(username, "USERNAME")
    return re.sub(r'name="csrf_token" value="[^"]*"', "", text)


def test_an_unknown_a_wrong_and_a_disabled_sign_in_are_one_page_and_one_work(scene: Scene) -> None:
    world = scene.world
    disabled = world.human()
    world.server.accounts.disable(disabled.id, by=BY)
    people: dict[str, tuple[Person, str]] = {
        "unknown": (Person("", unique("human")), PASSWORD),
        "wrong password": (scene.bob, "wrong password"),
        "disabled, wrong password": (disabled, "wrong password"),
        "disabled, right password": (disabled, PASSWORD),
        "unknown, long password": (Person("", unique("human")), "p" * 1024),
    }
    found = {who: sign_in(scene, person.username, password) for who, (person, password) in people.items()}
    reference, work = found["unknown"]
    assert work["password"] == 1
    for who, (answer, its_work) in found.items():
        assert answer.status == 401, who
        assert body_of(answer, people[who][0].username) == body_of(reference, people["unknown"][0].username), who
        assert its_work == work, (who, its_work, work)


def test_a_consent_of_somebody_else_is_as_absent_as_none(scene: Scene) -> None:
    browser = scene.world.signed_in(scene.bob)
    pages = {browser.get(f"/my/agents/{consent}/withdraw").text for consent in (scene.given["consent_id"], new_id("con"), "x")}
    assert len(pages) == 1


def test_the_thing_that_was_changed_is_read_again(scene: Scene) -> None:
    """A refusal is never told from memory: a client switched on elsewhere is let in by the next request."""
    agent = scene.world.agent(scene.bob, own=[(scene.api, "read")])
    scene.world.server.agent_registry.suspend(agent.id, by=BY)
    refused(scene.world.own_token(agent), "invalid_client", 401)
    scene.world.server.agent_registry.resume(agent.id, by=BY)
    assert scene.world.own_token(agent).status == 200
    with scene.world.server.deeds.deed() as deed:
        deed.change(Thing(Kind.CLIENT, agent.client_id))
    assert scene.world.own_token(agent).status == 200
