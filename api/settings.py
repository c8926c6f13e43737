"""Settings from the environment and from `.env`: no other module reads environment variables, save for RAY_ADDRESS.

ROPEWALK_HOME          embedded database, artifacts and logs             .ropewalk
ROPEWALK_DATABASE_URL  postgresql://...; empty: the embedded database    (empty)
ROPEWALK_HOST          address that `serve` binds                        127.0.0.1
ROPEWALK_PORT          port that `serve` binds                           8000
ROPEWALK_URL           server that the client commands talk to           http://HOST:PORT
ROPEWALK_API_KEY       key that the client commands send                 (none)
ROPEWALK_ARTIFACTS     where jobs leave files: a directory, s3://, gs:// HOME/artifacts
ROPEWALK_ROOTS         directories that specs may read from, : between   (none)
ROPEWALK_RATE_LIMIT    requests per key or address: N/PERIOD, or off     1200/minute
ROPEWALK_KEEP_ARTIFACTS    files of jobs, after their end, as 90d        (for good)
ROPEWALK_KEEP_STATES       what trainings resume from, after a rest      (for good)
ROPEWALK_KEEP_SCORE_CACHE  cached document scores                        (for good)
ROPEWALK_WEBHOOK_NETWORKS  networks that webhooks may lead into, , between  (public ones)
ROPEWALK_OIDC_ISSUER   whose tokens are taken beside keys; with AUDIENCE  (nobody's)
ROPEWALK_OIDC_AUDIENCE        for whom they must be
ROPEWALK_OIDC_OWNER_CLAIM     whose jobs are submitted with one           sub
ROPEWALK_OIDC_SCOPE_CLAIM     where its scopes are                        scope
ROPEWALK_OIDC_SCOPE_PREFIX    what ours begin with there                  ropewalk:
ROPEWALK_ROOT_PATH     prefix under which a proxy shows the server       (none)
ROPEWALK_LOG_FORMAT    text, or json: one object a line                  text
RAY_ADDRESS            Ray cluster to join; empty: a local one           (empty)
AWS_ENDPOINT_URL       a server that speaks S3, for s3://                (Amazon's)
OTEL_EXPORTER_OTLP_ENDPOINT  collector of spans, http://host:4318       (no spans)
ROPEWALK_CRASH_AT      for tests: end the controller at a named point    (never)
"""

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Self

from limits import RateLimitItem
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api.errors import InvalidSettings
from api.logs import LogFormat
from api.oidc_settings import OidcSettings, is_issuer_url
from api.rate_limits import parse_rate
from evaluation.models.user_path import user_path
from ropewalk.reading.durations import seconds_of
from service.artifacts.opening import open_store
from service.artifacts.store import ArtifactStore
from service.keep import Keep
from service.runtime.crash_points import POINTS, crash_at
from service.webhooks.addresses import networks_of

ENVIRONMENT_PREFIX = "ROPEWALK_"
MAX_PREFIX = 200  # characters
DATABASE_SCHEMES = ("postgresql://", "postgresql+psycopg://")


class Settings(BaseSettings):
    """What the environment says; frozen."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    home: Path = Path(".ropewalk")
    database_url: SecretStr | None = None
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    url: str | None = None
    api_key: SecretStr | None = None
    artifacts: str | None = None
    s3_endpoint: str | None = Field(None, validation_alias="AWS_ENDPOINT_URL")
    roots: Annotated[tuple[Path, ...], NoDecode] = ()
    rate_limit: str = "1200/minute"
    keep_artifacts: str | None = None
    keep_states: str | None = None
    keep_score_cache: str | None = None
    webhook_networks: str = ""
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_owner_claim: str = "sub"
    oidc_scope_claim: str = "scope"
    oidc_scope_prefix: str = "ropewalk:"
    root_path: str | None = None
    log_format: LogFormat = "text"
    otlp_endpoint: str | None = Field(None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    ray_address: str | None = Field(None, validation_alias="RAY_ADDRESS")
    crash_at: str | None = None

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(DATABASE_SCHEMES):
            raise ValueError(f"must start with one of {', '.join(DATABASE_SCHEMES)}")
        return value

    @field_validator("artifacts")
    @classmethod
    def _is_a_store(cls, value: str | None) -> str | None:
        open_store(value, Path())
        return value

    @field_validator("roots", mode="before")
    @classmethod
    def _is_a_list_of_directories(cls, value: object) -> object:
        roots = [user_path(part) for part in value.split(os.pathsep) if part] if isinstance(value, str) else value
        if isinstance(roots, list) and not all(root.is_absolute() for root in roots):
            raise ValueError(f"must be absolute paths with {os.pathsep} between them")
        return roots

    @field_validator("rate_limit")
    @classmethod
    def _is_a_rate(cls, value: str) -> str:
        try:
            parse_rate(value)
        except ValueError:
            raise ValueError("must be a number per second, minute, hour or day, such as 1200/minute, or off") from None
        return value

    @field_validator("keep_artifacts", "keep_states", "keep_score_cache")
    @classmethod
    def _is_a_duration(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                seconds_of(value)
            except ValueError:
                raise ValueError("must be a whole number of s, m, h, d or w, as 12h or 90d") from None
        return value

    @field_validator("webhook_networks")
    @classmethod
    def _are_networks(cls, value: str) -> str:
        try:
            networks_of(value)
        except ValueError as error:
            raise ValueError(f"must be networks such as 10.1.0.0/16,fd00::/8: {error}") from None
        return value

    @field_validator("oidc_issuer")
    @classmethod
    def _is_an_issuer(cls, value: str | None) -> str | None:
        if value is not None and (not is_issuer_url(value) or "?" in value or "#" in value):
            raise ValueError("must be the issuer's https:// URL, without a query")
        return value

    @model_validator(mode="after")
    def _names_issuer_and_audience(self) -> Self:
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise ValueError("ROPEWALK_OIDC_ISSUER and ROPEWALK_OIDC_AUDIENCE must be given together")
        return self

    @field_validator("api_key")
    @classmethod
    def _fits_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        key = "" if value is None else value.get_secret_value()
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise ValueError("must be printable ASCII without spaces")
        return value

    @field_validator("root_path")
    @classmethod
    def _is_a_path(cls, value: str | None) -> str | None:
        path = (value or "").rstrip("/")
        if path and not is_prefix(path):
            raise ValueError("must be a path such as /ropewalk, of letters, digits and . _ ~ -")
        return path or None

    @field_validator("crash_at")
    @classmethod
    def _is_a_crash_point(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                crash_at(value)
        except ValueError:
            raise ValueError(f"must be one of {', '.join(POINTS)}, and :N for the N-th time") from None
        return value

    @field_validator("url", "otlp_endpoint", "s3_endpoint")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/") if value else None

    @property
    def requests(self) -> RateLimitItem | None:
        """How often one requester may ask; None: as often as it likes."""
        return parse_rate(self.rate_limit)

    @property
    def keep(self) -> Keep:
        """How long things are kept."""
        artifacts, states, cache = (
            None if text is None else float(seconds_of(text))
            for text in (self.keep_artifacts, self.keep_states, self.keep_score_cache)
        )
        return Keep(artifacts=artifacts, states=states, score_cache=cache)

    def store(self, home: Path) -> ArtifactStore:
        """Where jobs leave files; nothing is asked of it yet."""
        return open_store(self.artifacts, home, s3_endpoint=self.s3_endpoint)

    @property
    def oidc(self) -> OidcSettings | None:
        """Whose tokens are taken; None: nobody's."""
        if self.oidc_issuer is None or self.oidc_audience is None:
            return None
        return OidcSettings(
            issuer=self.oidc_issuer,
            audience=self.oidc_audience,
            owner_claim=self.oidc_owner_claim,
            scope_claim=self.oidc_scope_claim,
            scope_prefix=self.oidc_scope_prefix,
        )

    @property
    def server_url(self) -> str:
        """Where the client commands find the server: `ROPEWALK_URL`, else the address that `serve` would bind."""
        return self.url or http_url(self.host, self.port)

    @property
    def database(self) -> str | None:
        """The database URL with its password; None: the embedded database under `home`."""
        return self.database_url.get_secret_value() if self.database_url else None

    @property
    def key(self) -> str | None:
        """The API key that the client commands send."""
        return self.api_key.get_secret_value() if self.api_key else None


def tell_ray_address(settings: Settings) -> None:
    """Put RAY_ADDRESS into the environment, where Ray looks, and `workers` for where a spec's scorer will run: `.env`
    may have it alone."""
    if settings.ray_address is not None:
        os.environ["RAY_ADDRESS"] = settings.ray_address


def load_settings(**overrides: object) -> Settings:
    """The settings of this process; `overrides` (command-line options) win where they are not None.

    Raises:
        InvalidSettings: names the first variable that breaks its rule, on one line.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        if not first["loc"]:  # of several together
            raise InvalidSettings(first["msg"].removeprefix("Value error, ")) from None
        raise InvalidSettings(_one_line(str(first["loc"][0]), first["msg"], first["input"])) from None


def _one_line(field: str, message: str, value: object) -> str:
    name = field if field.isupper() else f"{ENVIRONMENT_PREFIX}{field.upper()}"
    # An @ may follow a password in a URL.
    secret = isinstance(value, SecretStr) or field in {"database_url", "api_key"} or "@" in str(value)
    shown = "" if secret else f", but got {value!r}"
    rule = message.removeprefix("Value error, ").removeprefix("Input should be ").rstrip(".")
    rule = rule if rule.startswith("must") else f"must be {rule}"
    return f"{name} {rule}{shown}"


def http_url(host: str, port: int) -> str:
    """The address at which a local client reaches a server bound to `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def is_prefix(text: str) -> bool:
    """Whether `text` can stand before our paths: segments of letters, digits and . _ ~ -, each behind a slash."""
    return len(text) <= MAX_PREFIX and re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", text) is not None


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
