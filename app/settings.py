"""Every knob. Each comes from the environment with the prefix DEPUTY_; unsafe values refuse to boot."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import ConfigurationError

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class Settings(BaseSettings):
    """The settings of one node. `DEPUTY_<NAME>` in the environment; nothing is read anywhere else."""

    model_config = SettingsConfigDict(env_prefix="DEPUTY_", frozen=True, extra="ignore")

    environment: Literal["development", "production"] = "development"
    """`production` refuses demo people, http issuers and a key-encryption key made by itself."""

    issuer: str = ""
    """The issuer identifier, without a path or trailing slash (RFC 8414 §2). Empty: http://127.0.0.1:PORT, development only."""

    bind_host: str = "127.0.0.1"
    """Address that gunicorn listens on."""

    port: int = Field(8000, ge=1, le=65535)
    """Port that gunicorn listens on."""

    policy_second_person: bool = False
    """Whether a policy is activated by another operator than the one who wrote it."""

    workers: int = Field(2, ge=1, le=64)
    """gunicorn worker processes."""

    threads: int = Field(4, ge=1, le=64)
    """Threads of each worker, for answers that may take a while."""

    var_dir: Path = Path("var")
    """Where the embedded database, the embedded Valkey, checkpoints and lock files live."""

    keys_dir: Path = Path("keys")
    """Where a key-encryption key made by ourselves lives, 0600. Never committed, never backed up."""

    database_url: str = Field("", repr=False)
    """SQLAlchemy URL; may hold a password. Empty: SQLite in `var_dir`. PostgreSQL: postgresql+psycopg://…"""

    redis_url: str = Field("", repr=False)
    """May hold a password. Redis 7 or Valkey, a single primary: redis://, rediss:// or unix://. Empty: the embedded Valkey."""

    redis_timeout: float = Field(0.25, gt=0, le=5)
    """Seconds a Redis call may take before the answer is 503."""

    appendfsync: Literal["everysec", "always"] = "everysec"
    """Durability of the embedded Valkey's append-only file. `always`: the last second's records survive a power cut."""

    key_encryption_key: SecretStr = SecretStr("")
    """32 bytes, base64url. Encrypts private keys at rest; the session and pepper secrets derive from it."""

    key_encryption_key_file: Path | None = None
    """A file that holds `key_encryption_key`."""

    allow_embedded: bool = False
    """Lets production use the embedded Valkey."""

    demo: bool = False
    """Fill an empty database with the demo's people and things. Refused in production."""

    demo_port: int = Field(9101, ge=1024, le=65533)
    """First of the three ports on which the demo's APIs listen."""

    allow_agent_secrets: bool = False
    """Lets an operator register an agent with a shared secret. Such secrets expire after `agent_secret_days`."""

    agent_secret_days: int = Field(30, ge=1, le=365)
    """Days an agent's shared secret is good for."""

    access_token_lifetime: int = Field(300, ge=10, le=900)
    """Seconds an access token lives by default; 900 is the cap."""

    handover_lifetime: int = Field(300, ge=10, le=900)
    """Seconds a hand-over token lives."""

    code_lifetime: int = Field(60, ge=5, le=60)
    """Seconds an authorization code may wait."""

    request_uri_lifetime: int = Field(90, ge=10, le=600)
    """Seconds a pushed authorization request may wait (RFC 9126 §2.2)."""

    approval_lifetime: int = Field(600, ge=60, le=3000)
    """Seconds a human has to answer an agent's question, where the agent does not say (`requested_expiry`)."""

    refresh_lifetime: int = Field(30 * 86400, ge=60)
    """Seconds a refresh token family lives at most; for an agent its consent is the tighter bound."""

    consent_lifetime: int = Field(30 * 86400, ge=60)
    """Seconds a consent lasts unless the human shortens it."""

    max_depth: int = Field(4, ge=1, le=8)
    """`act` objects a delegated token may nest."""

    instance_hours: int = Field(24, ge=1, le=168)
    """Hours a running copy of an agent may live at most; each trust and enrolment says how many it gives."""

    instances_per_agent: int = Field(100, ge=1, le=10_000)
    """Running copies of one agent that may live at once."""

    fetch_loopback: bool = False
    """Lets URLs be fetched from this machine, and from it over http. Development only."""

    session_idle: int = Field(8 * 3600, ge=60)
    """Seconds without a request after which a sign-in session ends."""

    session_lifetime: int = Field(24 * 3600, ge=60)
    """Seconds after which a sign-in session ends in any case."""

    dpop_nonce: bool = False
    """DPoP proofs must contain a nonce of ours (RFC 9449 §8): proofs made in advance are good for nothing."""

    mtls_port: int = Field(0, ge=0, le=65535)
    """Port on which gunicorn itself terminates TLS and asks for client certificates (RFC 8705). 0: none."""

    mtls_bind_host: str = "127.0.0.1"
    """Address of that port. Clients connect to it directly: what stands between must not terminate TLS."""

    mtls_certificate: Path | None = None
    """The server's certificate and what it needs of its chain, PEM."""

    mtls_key: Path | None = None
    """The certificate's private key, PEM, without a password."""

    mtls_client_ca: Path | None = None
    """The authorities whose client certificates are taken, PEM."""

    mtls_workers: int = Field(1, ge=1, le=64)
    """gunicorn worker processes for that port."""

    mtls_url: str = ""
    """Where clients find what takes their certificates (`mtls_endpoint_aliases`). Empty: the issuer's host with `mtls_port`."""

    client_certificate_header: str = Field("", pattern=r"^([A-Za-z][A-Za-z0-9-]{1,63})?$")
    """The header in which a trusted proxy passes on the client certificate it has verified. Empty: no header is believed."""

    rate_client: int = Field(6000, ge=0)
    """Token and pushed authorization requests a client may make in a minute, over all workers. 0: no limit."""

    rate_address: int = Field(12000, ge=0)
    """Requests one address may make in a minute to one worker. 0: no limit."""

    rate_failures: int = Field(60, ge=1)
    """Failed client authentications one address may make in a minute before it must wait."""

    login_attempts: int = Field(10, ge=1)
    """Wrong passwords for one username, or from one address times five, in five minutes before it must wait."""

    trusted_proxies: int = Field(0, ge=0, le=5)
    """How many reverse proxies stand in front; that many X-Forwarded-* entries are believed."""

    operations_token: SecretStr = SecretStr("")
    """Bearer token that opens /metrics and the details of /readyz from other addresses than loopback."""

    stream_stall: float = Field(5.0, gt=0)
    """Seconds the oldest record may wait for the ledger before issuance stops."""

    deadline: float = Field(2.0, gt=0)
    """Seconds after a request's arrival beyond which nothing is issued for it and no token called active."""

    @model_validator(mode="after")
    def _safe(self) -> Settings:
        issuer = self.issuer or f"http://127.0.0.1:{self.port}"
        parts = urlsplit(issuer)
        if parts.scheme not in {"https", "http"} or not parts.hostname or parts.path or parts.query or parts.fragment:
            raise ValueError("DEPUTY_ISSUER must be an https URL without a path, trailing slash, query or fragment")
        if parts.scheme == "http" and (self.environment == "production" or parts.hostname not in LOOPBACK_HOSTS):
            raise ValueError("DEPUTY_ISSUER must be https; http is for a loopback address in development only")
        object.__setattr__(self, "issuer", issuer)
        self._safe_certificates(parts.hostname)
        if not self.database_url:
            object.__setattr__(self, "database_url", f"sqlite:///{self.var_dir.resolve() / 'deputy.sqlite'}")
        if self.environment == "production":
            self._safe_in_production()
        return self

    def _safe_certificates(self, host: str) -> None:
        if self.client_certificate_header and not self.trusted_proxies:
            raise ValueError(
                "DEPUTY_CLIENT_CERTIFICATE_HEADER needs DEPUTY_TRUSTED_PROXIES: without a proxy in front anybody could send it"
            )
        if self.mtls_port and not (self.mtls_certificate and self.mtls_key and self.mtls_client_ca):
            raise ValueError("DEPUTY_MTLS_PORT needs DEPUTY_MTLS_CERTIFICATE, DEPUTY_MTLS_KEY and DEPUTY_MTLS_CLIENT_CA")
        if self.mtls_port == self.port:
            raise ValueError("DEPUTY_MTLS_PORT is another than DEPUTY_PORT")
        if self.mtls_port and not self.mtls_url:
            object.__setattr__(self, "mtls_url", f"https://{f'[{host}]' if ':' in host else host}:{self.mtls_port}")
        if not self.mtls_url:
            return
        if not self.mutual_tls:
            raise ValueError(
                "DEPUTY_MTLS_URL needs DEPUTY_MTLS_PORT or DEPUTY_CLIENT_CERTIFICATE_HEADER: nothing would take certificates there"
            )
        parts = urlsplit(self.mtls_url)
        if parts.scheme != "https" or not parts.hostname or parts.path or parts.query or parts.fragment:
            raise ValueError("DEPUTY_MTLS_URL must be an https URL without a path, trailing slash, query or fragment")

    def _safe_in_production(self) -> None:
        if self.demo:
            raise ValueError("DEPUTY_DEMO puts people with known passwords into the database; production refuses it")
        if self.fetch_loopback:
            raise ValueError("DEPUTY_FETCH_LOOPBACK lets the server fetch from its own machine; production refuses it")
        if not self.key_encryption_key.get_secret_value() and self.key_encryption_key_file is None:
            raise ValueError("production needs DEPUTY_KEY_ENCRYPTION_KEY or DEPUTY_KEY_ENCRYPTION_KEY_FILE")
        if not self.redis_url and not self.allow_embedded:
            raise ValueError("production needs DEPUTY_REDIS_URL, or DEPUTY_ALLOW_EMBEDDED=1 to keep the embedded Valkey")

    @property
    def mutual_tls(self) -> bool:
        """Whether client certificates are taken at all."""
        return bool(self.mtls_port or self.client_certificate_header)

    @property
    def secure(self) -> bool:
        """Whether the issuer is https, and with it every cookie `Secure` and `__Host-`."""
        return self.issuer.startswith("https://")

    @property
    def checkpoints_file(self) -> Path:
        """The append-only file of signed checkpoints, outside the database."""
        return self.var_dir / "checkpoints.jsonl"

    @property
    def own_key_file(self) -> Path:
        """Where a key-encryption key made by ourselves is kept."""
        return self.keys_dir / "key-encryption.key"


def load_settings(**overrides: object) -> Settings:
    """Settings from the environment. Raises `ConfigurationError` with a sentence for the operator."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks each value
    except ValueError as error:
        lines = [str(e["msg"]).removeprefix("Value error, ") for e in error.errors()] if hasattr(error, "errors") else [str(error)]
        raise ConfigurationError("; ".join(lines)) from None


def read_key_encryption_key(settings: Settings) -> bytes:
    """The 32 bytes of the key-encryption key. Raises `ConfigurationError` when there is none or it is malformed."""
    text = settings.key_encryption_key.get_secret_value()
    if not text:
        path = settings.key_encryption_key_file or settings.own_key_file
        try:
            text = path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigurationError(f"no key-encryption key: cannot read {path}") from None
    try:
        key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 32:
        raise ConfigurationError("the key-encryption key must be 32 bytes in base64url")
    return key
