"""The command line, as an operator types it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from app.cli import COMMANDS, cli
from app.wiring import Server
from tests.world import CONSENT, PASSWORD, Party, World, claims_of

Deputy = Callable[..., Result]


@pytest.fixture
def deputy(server: Server) -> Deputy:
    def run(*words: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(cli, list(words), obj=lambda: server, input=stdin)

    return run


@pytest.fixture
def answer(deputy: Deputy) -> Callable[..., Any]:
    """Run with --json, and read what it says."""

    def run(*words: str, stdin: str | None = None) -> Any:
        result = deputy(*words, "--json", stdin=stdin)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


def name(prefix: str) -> str:
    return f"{prefix}-{secrets.token_hex(4)}"


def leaves(group: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(group, click.Group):
        return [(path, group)]
    return [leaf for word, command in group.commands.items() for leaf in leaves(command, (*path, word))]


ALL = [leaf for command in COMMANDS for leaf in leaves(command, (command.name or "",))]


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_command_says_what_it_does_and_is_documented(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    docs = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    assert f"`{' '.join(path)}" in docs, path
    for option in command.params:
        if isinstance(option, click.Option) and option.name not in {"as_json", "help"}:
            assert any(word in docs for word in option.opts), (path, option.opts)


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_everything_that_answers_answers_in_json(path: tuple[str, ...], command: click.Command) -> None:
    if path not in {("serve",), ("relay",)}:
        assert any(option.name == "as_json" for option in command.params), path


def test_a_person_is_registered_changed_disabled_and_let_in_again(world: World, deputy: Deputy, answer: Callable[..., Any]) -> None:
    username = name("carol")
    made = answer("human", "add", username, "--name", "Carol C.", "--email", "c@example.com", "--password-stdin", stdin=PASSWORD + "\n")
    assert made["id"].startswith("hum_")
    assert username in deputy("human", "list").stdout
    assert world.browser().sign_in(username).status == 303
    answer("human", "password", username, "--password-stdin", stdin="another good passphrase\n")
    assert world.browser().sign_in(username).status != 303
    assert world.browser().sign_in(username, "another good passphrase").status == 303
    answer("human", "disable", username)
    assert world.browser().sign_in(username, "another good passphrase").status != 303
    answer("human", "enable", username)
    assert world.browser().sign_in(username, "another good passphrase").status == 303


def test_a_refusal_is_one_sentence_and_changes_nothing(deputy: Deputy) -> None:
    for words in (
        ("human", "disable", "nobody-of-that-name"),
        ("human", "add", "two words", "--name", "x", "--email", "x", "--password-stdin"),
        ("resource", "add", "http://example.com", "--name", "x", "--scope", "a=b"),
        ("resource", "add", "https://x.example", "--name", "x", "--scope", "a"),
        ("resource", "add", "https://x.example", "--name", "x", "--scope", "openid=Sign in"),
        ("resource", "show", "https://nowhere.example"),
        ("agent", "add", "x", "--owner", "nobody-of-that-name", "--purpose", "x"),
        ("agent", "show", "agt_nowhere"),
        ("app", "add", "x", "--redirect-uri", "http://example.com/"),
        ("app", "add", "x", "--redirect-uri", "https://example.com/", "--auth", "tls_client_auth"),
        ("consent", "withdraw", "con_nowhere"),
        ("revoke", "token", "nothing"),
        ("revoke", "everything"),
        ("revoke", "key", "nothing"),
        ("key", "rotate", "--alg", "HS256"),
    ):
        result = deputy(*words, stdin=PASSWORD + "\n")
        assert result.exit_code == 1, (words, result.output)
        assert result.stderr.startswith("Error: ")
        assert len(result.stderr.splitlines()) == 1
        assert PASSWORD not in result.output


def test_an_api_and_an_agent_are_registered_and_work(world: World, deputy: Deputy, answer: Callable[..., Any], tmp_path: Path) -> None:
    alice = world.human()
    uri = f"https://{name('api')}.example"
    made = answer(
        "resource", "add", uri, "--name", "Calendar", "--scope", "cal:read=Read it", "--scope", "cal:write=Change it", "--label", "pii"
    )
    key = tmp_path / "agent.jwk"
    agent = answer(
        "agent", "add", name("Agent"), "--owner", alice.username, "--purpose", "Tests", "--resource", uri, "--scope", "cal:read",
        "--own-scope", "cal:read", "--redirect-uri", "https://agent.example/callback", "--key", str(key),
    )  # fmt: skip
    assert "client_secret" not in agent
    assert key.stat().st_mode & 0o777 == 0o600
    assert "d" in json.loads(key.read_text())
    shown = answer("agent", "show", agent["agent"])
    assert shown["scopes"] == [f"{uri} cal:read"]
    assert json.loads(key.read_text())["d"] not in json.dumps(shown)

    from joserfc.jwk import ECKey

    from tests.world import Api

    private = json.loads(key.read_text())
    party = Party(agent["client_id"], key=ECKey.import_key({k: private[k] for k in ("kty", "crv", "x", "y", "d")}))
    api = Api(uri, "", made["client_id"], made["client_secret"])
    token = world.own_token(party, resource=uri).ok()["access_token"]
    assert world.active(api, token)

    fresh = answer("resource", "secret", uri)
    assert world.post("/oauth/introspect", {"token": token}, _basic(made)).status == 401
    api = Api(uri, "", fresh["client_id"], fresh["client_secret"])
    assert world.active(api, token)

    answer("agent", "suspend", agent["agent"])
    assert not world.active(api, token)
    assert world.own_token(party, resource=uri).error == "invalid_client"
    answer("agent", "resume", agent["client_id"])
    assert not world.active(api, token)
    assert world.own_token(party, resource=uri).status == 200

    second = tmp_path / "second.jwk"
    keys = answer("agent", "key", "add", agent["agent"], str(second))["keys"]
    assert len(keys) == 2
    left = answer("agent", "key", "remove", agent["agent"], keys[0])["keys"]
    assert left == keys[1:]
    assert world.own_token(party, resource=uri).error == "invalid_client"
    assert deputy("agent", "key", "remove", agent["agent"], keys[1]).exit_code == 1

    answer("resource", "disable", uri)
    assert answer("resource", "show", uri)["enabled"] is False
    assert answer("resource", "show", uri)["bound"] == "not demanded"
    answer("resource", "add", uri + "/strict", "--name", "Strict", "--scope", "x=Do x", "--dpop-required")
    assert answer("resource", "show", uri + "/strict")["bound"] == "dpop"
    for way, said in (("dpop", "dpop"), ("mtls", "mtls"), ("any", "dpop or mtls")):
        answer("resource", "add", f"{uri}/{way}", "--name", "Strict", "--scope", "x=Do x", "--bound", way)
        assert answer("resource", "show", f"{uri}/{way}")["bound"] == said
    answer("resource", "enable", uri)
    answer("agent", "retire", agent["agent"])
    assert deputy("agent", "resume", agent["agent"]).exit_code == 1


def _basic(made: dict[str, str]) -> dict[str, str]:
    from tests.world import basic

    return basic(made["client_id"], made["client_secret"])


def test_an_existing_key_file_is_never_written_over(deputy: Deputy, world: World, tmp_path: Path) -> None:
    alice = world.human()
    key = tmp_path / "agent.jwk"
    for content in ("", "{}", "[]", "not json", '{"kty": "oct", "k": "AAAA"}'):
        key.write_text(content)
        result = deputy("agent", "add", "x", "--owner", alice.username, "--purpose", "x", "--key", str(key))
        assert result.exit_code == 1, content
        assert key.read_text() == content


def test_an_application_is_registered_and_signs_people_in(world: World, answer: Callable[..., Any]) -> None:
    api = world.resource("read")
    made = answer(
        "app", "add", name("App"), "--redirect-uri", "https://agent.example/callback", "--resource", api.uri, "--scope", "read",
        "--post-logout-redirect-uri", "https://agent.example/bye", "--id-token-alg", "EdDSA",
    )  # fmt: skip
    app = Party(made["client_id"], secret=made["client_secret"])
    verifier = secrets.token_urlsafe(48)
    code = world.signed_in(world.human()).code(world.authorization(app, verifier, scope="openid"))
    from tests.world import header_of

    assert header_of(world.redeem(app, code, verifier).ok()["id_token"])["alg"] == "EdDSA"
    fresh = answer("app", "secret", made["client_id"])
    assert fresh["client_secret"] != made["client_secret"]
    assert answer("app", "show", made["client_id"])["id_token_alg"] == "EdDSA"
    answer("app", "disable", made["client_id"])
    assert any(one["client_id"] == made["client_id"] and not one["enabled"] for one in answer("app", "list"))
    answer("app", "enable", made["client_id"])


def test_everything_that_can_be_revoked_is_dead_when_the_command_returns(world: World, answer: Callable[..., Any]) -> None:
    api = world.resource("read")
    alice = world.human()

    def issued() -> tuple[dict[str, Any], str, Party]:
        agent = world.agent(alice, ceiling=[(api, "read")])
        given = world.consented(world.signed_in(alice), agent, api, scope="read", away=True)
        token = world.exchange(agent, given["consent_id"], CONSENT, resource=api.uri).ok()["access_token"]
        assert world.active(api, token)
        return given, token, agent

    given, token, agent = issued()
    answer("revoke", "token", claims_of(token)["jti"])
    assert not world.active(api, token)
    given, token, agent = issued()
    answer("revoke", "token", "-", stdin=token + "\n")
    assert not world.active(api, token)
    given, token, agent = issued()
    assert [one for one in answer("consent", "list", "--human", alice.username) if one["consent"] == given["consent_id"]]
    answer("revoke", "consent", given["consent_id"])
    assert not world.active(api, token)
    given, token, agent = issued()
    answer("consent", "withdraw", given["consent_id"])
    assert not world.active(api, token)
    given, token, agent = issued()
    answer("revoke", "task", given["task_id"])
    assert not world.active(api, token)
    given, token, agent = issued()
    answer("revoke", "agent", agent.uri)
    assert not world.active(api, token)
    given, token, agent = issued()
    answer("revoke", "client", agent.client_id)
    assert not world.active(api, token)
    given, token, agent = issued()
    answer("revoke", "human", alice.username)
    assert not world.active(api, token)
    given, token, agent = issued()
    answer("revoke", "resource", api.uri)
    assert not world.active(api, token)
    given, token, agent = issued()
    family = claims_of(given["access_token"])["deputy"]["f"]
    answer("revoke", "family", family)
    assert world.token(agent, {"grant_type": "refresh_token", "refresh_token": given["refresh_token"]}).error == "invalid_grant"


def test_keys_are_listed_rotated_and_revoked(world: World, answer: Callable[..., Any]) -> None:
    api = world.resource("read")
    agent = world.agent(world.human(), own=[(api, "read")])
    from tests.world import header_of

    before = world.own_token(agent, resource=api.uri).ok()["access_token"]
    active = answer("key", "rotate")["active"]
    assert world.active(api, before)
    after = world.own_token(agent, resource=api.uri).ok()["access_token"]
    assert header_of(after)["kid"] == active
    answer("revoke", "key", header_of(before)["kid"])
    assert not world.active(api, before)
    assert world.active(api, after)
    listed = answer("key", "list")
    assert {one["state"] for one in listed["keys"]} >= {"active", "next", "revoked"}
    assert all("d" not in one for one in listed["ledger_jwks"]["keys"])
    answer("key", "rotate", "--ledger")


def test_the_ledger_is_read_and_verified(world: World, deputy: Deputy, answer: Callable[..., Any], tmp_path: Path) -> None:
    api = world.resource("read")
    agent = world.agent(world.human(), own=[(api, "read")])
    token = world.own_token(agent, resource=api.uri).ok()["access_token"]
    jti = claims_of(token)["jti"]
    assert world.ledger(jti=jti)
    result = deputy("ledger", "tail", "--jti", jti)
    assert "token.issued" in result.stdout
    assert agent.id in result.stdout
    assert token not in result.stdout
    assert json.loads(deputy("ledger", "tail", "--agent", agent.uri, "-n", "1", "--json").stdout)["record"]["who"]["actors"] == [agent.uri]
    assert jti in deputy("ledger", "custody", jti, "--json").stdout
    assert deputy("ledger", "custody", "tok_nothing").exit_code == 1
    verdict = answer("ledger", "verify")
    assert verdict["sound"] is True
    export = tmp_path / "ledger.jsonl"
    assert deputy("ledger", "export", "--output", str(export)).exit_code == 0
    assert jti in export.read_text()
    assert deputy("ledger", "export", "--output", str(export)).exit_code != 0
