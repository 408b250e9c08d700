"""`deputy backup` and `deputy restore`: what comes back, what is dead, and what is refused."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.humans.models import SessionRow
from tests.cli.conftest import Deployment
from tests.world import BY, CONSENT, Answer, World, checkboxes, claims_of, hidden


class Story:
    """Alice has allowed her agent to act while she is away; a backup was made; then more happened."""

    def __init__(self, world: World) -> None:
        self.alice = world.human()
        self.api = world.resource("read")
        # By secret: after a new generation an assertion would have to wait.
        pairs = [(self.api, "read")]
        self.agent = world.agent(self.alice, ceiling=pairs, own=pairs, auth="client_secret_basic", jwks=None)
        self.browser = world.signed_in(self.alice)
        self.given = world.consented(self.browser, self.agent, self.api, away=True)
        self.token: str = world.own_token(self.agent, resource=self.api.uri).ok()["access_token"]
        assert world.ledger(event="token.issued", jti=claims_of(self.token)["jti"])

    def refresh(self, world: World) -> Any:
        form = {"grant_type": "refresh_token", "refresh_token": self.given["refresh_token"], "resource": self.api.uri}
        return world.token(self.agent, form)

    def approved(self, world: World) -> str:
        """The auth_req_id of what she has allowed her agent once."""
        members, headers = world.credentials(self.agent)
        form = {"login_hint": self.given["consent_id"], "resource": self.api.uri, **members}
        auth_req_id: str = world.post("/oauth/bc-authorize", form, headers).ok()["auth_req_id"]
        (path,) = re.findall(r'href="(/my/approvals/apr_[^"]+)"', self.browser.get("/my/approvals").text)
        page = self.browser.get(path)
        ticked = [("scope", value) for value in checkboxes(page, "scope")]
        assert self.browser.post(path, [*hidden(page), *ticked, ("decision", "allow")]).status == 303
        return auth_req_id

    def redeemed(self, world: World, auth_req_id: str) -> Answer:
        return world.token(self.agent, {"grant_type": "urn:openid:params:grant-type:ciba", "auth_req_id": auth_req_id})


def said(deployment: Deployment, *words: str | Path, code: int = 0) -> dict[str, Any]:
    result = deployment.deputy(*words, "--json")
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refused(deployment: Deployment, *words: str | Path) -> str:
    result = deployment.deputy(*words)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return result.output


def there_and_back(deployment: Deployment) -> None:
    where = deployment.folder / "backup"
    with deployment.running() as world:
        story = Story(world)
        used = story.approved(world)
        made = said(deployment, "backup", where)
        assert story.redeemed(world, used).status == 200
        # What happens after the backup is lost with a restore.
        late = world.human()
        second = story.refresh(world).ok()["access_token"]
        world.server.consents.withdraw(story.given["consent_id"], by=BY)
        assert world.ledger(event="consent.withdrawn")
    assert set(made["files"]) < {path.name for path in where.iterdir()}
    assert {path.stat().st_mode & 0o777 for path in where.iterdir()} == {0o600}
    assert where.stat().st_mode & 0o777 == 0o700

    found = said(deployment, "restore", where)
    assert Path(found["database_before"]).stat().st_mode & 0o777 == 0o600
    with deployment.running() as world:
        # Alive before the backup or after it: every token is dead, and so is the sign-in.
        for token in (story.token, second, story.given["access_token"]):
            assert not world.active(story.api, token)
        with world.server.database.reading() as session:
            assert session.scalars(select(SessionRow.ended_at)).all().count(None) == 0
        # The backup takes this refresh token for unused, though it was used since.
        assert story.refresh(world).error == "invalid_grant"
        # And so it does this approval.
        assert story.redeemed(world, used).error == "expired_token"
        # The registrations and the consent are the backup's; what was withdrawn later stands again, as `restore` says.
        assert world.browser().sign_in(late.username).status != 303
        fresh = world.exchange(story.agent, story.given["consent_id"], kind=CONSENT, resource=story.api.uri).ok()["access_token"]
        assert world.active(story.api, fresh)
    # The file of before speaks of entries that the restored ledger has not: it was put aside, and the chain holds.
    verified = said(deployment, "ledger", "verify", "--checkpoints", deployment.settings.checkpoints_file)
    assert verified["entries"] > found["entries"]
    if "checkpoints_before" in found:
        assert deployment.deputy("ledger", "verify", "--checkpoints", found["checkpoints_before"]).exit_code == 1


def test_a_backup_comes_back_and_every_token_is_dead(deployment: Deployment) -> None:
    there_and_back(deployment)


def test_a_backup_of_postgresql_comes_back_too(postgresql: Deployment) -> None:
    there_and_back(postgresql)


def test_a_restore_numbers_its_generation_beyond_every_one_that_was(deployment: Deployment) -> None:
    """Or a token of a later generation would be good again when its number is reached a second time."""
    where = deployment.folder / "backup"
    with deployment.running() as world:
        story = Story(world)
        said(deployment, "backup", where)
    for _ in range(2):
        deployment.stop_redis()
        deployment.start_redis()
        with deployment.running() as world:
            token = world.own_token(story.agent, resource=story.api.uri).ok()["access_token"]
    last = claims_of(token)["deputy"]["g"]
    said(deployment, "restore", where)
    with deployment.running() as world:
        assert not world.active(story.api, token)
        fresh = world.own_token(story.agent, resource=story.api.uri).ok()["access_token"]
        assert claims_of(fresh)["deputy"]["g"] > last


def test_what_is_no_backup_of_ours_changes_nothing(deployment: Deployment, tmp_path: Path) -> None:
    where = deployment.folder / "backup"
    with deployment.running() as world:
        Story(world)
        said(deployment, "backup", where)
        assert "not empty" in refused(deployment, "backup", where)
    before = _content(deployment)

    def spoilt(name: str) -> Path:
        copy = tmp_path / name
        shutil.copytree(where, copy)
        return copy

    def manifest(copy: Path, **members: Any) -> Path:
        file = copy / "manifest.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | members))
        return copy

    for name in ("deputy", "web", "relay", "valkey"):
        with (deployment.settings.var_dir / f"{name}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert "stop the server" in refused(deployment, "restore", where)
    assert "no backup" in refused(deployment, "restore", tmp_path)
    database = spoilt("a") / "deputy.sqlite"
    database.write_bytes(database.read_bytes()[:-1])
    assert "damaged" in refused(deployment, "restore", database.parent)
    (spoilt("b") / "checkpoints.jsonl").unlink()
    assert "damaged" in refused(deployment, "restore", tmp_path / "b")
    assert "form" in refused(deployment, "restore", manifest(spoilt("c"), form=2))
    assert "DEPUTY_ISSUER" in refused(deployment, "restore", manifest(spoilt("d"), issuer="https://other.example"))
    assert "newer" in refused(deployment, "restore", manifest(spoilt("e"), revision="9999"))
    assert "form" in refused(deployment, "restore", manifest(spoilt("f"), sha256={"../../etc/passwd": "0" * 64}))
    assert _content(deployment) == before


def _content(deployment: Deployment) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in deployment.settings.var_dir.glob("*") if path.suffix in {".sqlite", ".jsonl"}}


def test_the_key_encryption_key_is_in_no_backup(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEPUTY_KEY_ENCRYPTION_KEY")
    where = deployment.folder / "backup"
    with deployment.running() as world:
        Story(world)
        said(deployment, "backup", where)
    key = deployment.settings.own_key_file.read_bytes().strip()
    assert len(key) > 40
    assert not [path for path in where.iterdir() if key in path.read_bytes()]
    # Under another key nothing opens, and `restore` says so.
    deployment.settings.own_key_file.unlink()
    monkeypatch.setenv("DEPUTY_KEY_ENCRYPTION_KEY", "BBECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
    result = deployment.deputy("restore", where)
    assert result.exit_code == 0, result.output
    assert "do not open" in result.output


# Without Redis


def test_a_revocation_without_redis_is_recorded_and_in_force_at_the_next_start(deployment: Deployment) -> None:
    with deployment.running() as world:
        story = Story(world)
        token = world.exchange(story.agent, story.given["consent_id"], kind=CONSENT, resource=story.api.uri).ok()["access_token"]
        assert world.active(story.api, token)
    deployment.stop_redis()
    result = deployment.deputy("revoke", "agent", story.agent.uri)
    assert result.exit_code == 3, result.output
    assert "not yet in force" in result.output
    deployment.start_redis()
    with deployment.running() as world:
        assert not world.active(story.api, token)
        refusal = world.exchange(story.agent, story.given["consent_id"], kind=CONSENT, resource=story.api.uri)
        assert refusal.status == 400
        assert deployment.deputy("revoke", "agent", story.agent.uri).exit_code == 0


def test_a_fresh_secret_is_shown_though_only_the_database_has_it(deployment: Deployment) -> None:
    with deployment.running() as world:
        story = Story(world)
        app = world.app(pairs=[(story.api, "read")])
    deployment.stop_redis()
    for words in (("resource", "secret", story.api.uri), ("app", "secret", app.client_id)):
        shown = said(deployment, *words, code=3)
        assert len(shown["client_secret"]) > 40
    fresh = said(deployment, "resource", "secret", story.api.uri, code=3)["client_secret"]
    deployment.start_redis()
    with deployment.running() as world:
        api = replace(story.api, client_secret=fresh)
        token = world.own_token(story.agent, resource=story.api.uri).ok()["access_token"]
        assert world.active(api, token)
