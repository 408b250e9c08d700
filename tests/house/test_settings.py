"""What is unsafe does not start, and says why; what is secret is in no repr and no message."""

from __future__ import annotations

import pytest

from app.errors import ConfigurationError
from app.settings import Settings, load_settings
from tests.conftest import KEY

SAFE: dict[str, object] = {
    "environment": "production",
    "issuer": "https://as.example",
    "key_encryption_key": KEY,
    "redis_url": "rediss://redis.example:6379/0",
    "database_url": "postgresql+psycopg://deputy@db.example/deputy",
}


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"DEPUTY_{name.upper()}", raising=False)


def test_production_starts_with_what_it_needs() -> None:
    settings = load_settings(**SAFE)
    assert settings.secure
    assert settings.environment == "production"


@pytest.mark.parametrize(
    ("unsafe", "words"),
    [
        ({"demo": True}, "DEPUTY_DEMO"),
        ({"issuer": "http://as.example"}, "DEPUTY_ISSUER"),
        ({"issuer": "http://127.0.0.1:8000"}, "DEPUTY_ISSUER"),
        ({"issuer": ""}, "DEPUTY_ISSUER"),
        ({"key_encryption_key": ""}, "DEPUTY_KEY_ENCRYPTION_KEY"),
        ({"redis_url": ""}, "DEPUTY_REDIS_URL"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_production_refuses_what_is_unsafe(unsafe: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_settings(**SAFE | unsafe)


@pytest.mark.parametrize(
    "issuer",
    [
        "https://as.example/", "https://as.example/tenant", "https://as.example?x=y", "https://as.example#x", "http://as.example",
        "ftp://as.example", "as.example", "https://", "javascript:alert(1)",
    ],
)  # fmt: skip
def test_an_issuer_is_an_https_origin_and_nothing_more(issuer: str) -> None:
    with pytest.raises(ConfigurationError, match="DEPUTY_ISSUER"):
        load_settings(issuer=issuer)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("access_token_lifetime", 901), ("handover_lifetime", 901), ("code_lifetime", 61), ("max_depth", 9), ("max_depth", 0), ("port", 0),
        ("port", 65536), ("workers", 0), ("redis_timeout", 0), ("redis_timeout", 6), ("deadline", 0), ("rate_failures", 0),
        ("trusted_proxies", 6), ("trusted_proxies", -1), ("environment", "staging"), ("appendfsync", "no"),
    ],
)  # fmt: skip
def test_an_impossible_value_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError):
        load_settings(**{name: value})


def test_no_secret_is_shown() -> None:
    secrets = {
        "operations_token": "opens-the-metrics",
        "database_url": "postgresql+psycopg://x:opens-sql@db/x",
        "redis_url": "redis://:opens-redis@r",
    }
    settings = load_settings(**SAFE | secrets)
    for shown in (repr(settings), str(settings)):
        assert KEY not in shown
        assert "opens-" not in shown
