"""Settings from the environment and from `.env`: this module is the only reader of environment variables.

ROPEWALK_HOME          embedded database, artifacts and logs             .ropewalk
ROPEWALK_DATABASE_URL  postgresql://...; empty: the embedded database    (empty)
ROPEWALK_HOST          address that `serve` binds                        127.0.0.1
ROPEWALK_PORT          port that `serve` binds                           8000
ROPEWALK_URL           server that the client commands talk to           http://HOST:PORT
ROPEWALK_API_KEY       key that the client commands send                 (none)
RAY_ADDRESS            Ray cluster to join; empty: a local one           (empty)
"""

import ipaddress
from pathlib import Path

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from api.errors import InvalidSettings

ENVIRONMENT_PREFIX = "ROPEWALK_"
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
    ray_address: str | None = Field(None, validation_alias="RAY_ADDRESS")

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(DATABASE_SCHEMES):
            raise ValueError(f"must start with one of {', '.join(DATABASE_SCHEMES)}")
        return value

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/") if value else None

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
        raise InvalidSettings(_one_line(str(first["loc"][0]), first["msg"], first["input"])) from None


def _one_line(field: str, message: str, value: object) -> str:
    name = field if field.isupper() else f"{ENVIRONMENT_PREFIX}{field.upper()}"
    shown = "" if isinstance(value, SecretStr) or field in {"database_url", "api_key"} else f", but got {value!r}"
    rule = message.removeprefix("Value error, ").removeprefix("Input should be ").rstrip(".")
    rule = rule if rule.startswith("must") else f"must be {rule}"
    return f"{name} {rule}{shown}"


def http_url(host: str, port: int) -> str:
    """The address at which a local client reaches a server bound to `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
