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
        ({"fetch_loopback": True}, "DEPUTY_FETCH_LOOPBACK"),
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


FILES: dict[str, object] = {"mtls_certificate": "server.pem", "mtls_key": "server.key", "mtls_client_ca": "ca.pem"}


@pytest.mark.parametrize(
    ("unsafe", "words"),
    [
        ({"mtls_port": 8443}, "DEPUTY_MTLS_CERTIFICATE"),
        ({"mtls_port": 8443, **FILES, "mtls_client_ca": None}, "DEPUTY_MTLS_CLIENT_CA"),
        ({"mtls_port": 8000, **FILES}, "DEPUTY_MTLS_PORT"),
        ({"mtls_port": 8443, **FILES, "mtls_url": "http://mtls.as.example"}, "DEPUTY_MTLS_URL"),
        ({"mtls_port": 8443, **FILES, "mtls_url": "https://mtls.as.example/x"}, "DEPUTY_MTLS_URL"),
        ({"mtls_url": "https://mtls.as.example"}, "DEPUTY_MTLS_URL"),
        ({"client_certificate_header": "Client-Cert"}, "DEPUTY_TRUSTED_PROXIES"),
        ({"client_certificate_header": "Client Cert", "trusted_proxies": 1}, "pattern"),
        ({"client_certificate_header": "Client_Cert", "trusted_proxies": 1}, "pattern"),
    ],
)
def test_client_certificates_are_taken_safely_or_not_at_all(unsafe: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_settings(**SAFE | unsafe)


def test_where_client_certificates_are_taken_follows_from_the_issuer() -> None:
    assert load_settings(**SAFE, **FILES, mtls_port=8443).mtls_url == "https://as.example:8443"
    assert load_settings(issuer="http://[::1]:8000", **FILES, mtls_port=8443).mtls_url == "https://[::1]:8443"
    assert load_settings(**SAFE | {"issuer": "https://as.example:444"}, **FILES, mtls_port=8443).mtls_url == "https://as.example:8443"
    assert not load_settings(**SAFE).mutual_tls
