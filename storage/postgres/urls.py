"""Database URLs: what is accepted, with one server or several, and how they are told without their password."""

from __future__ import annotations

import re

import sqlalchemy as sa
from sqlalchemy import exc

from storage.errors import InvalidDatabaseUrl

DRIVER = "postgresql+psycopg"
ACCEPTED = ("postgresql", DRIVER)
DEFAULT_PORT = "5432"

# The hosts of a URL with several, as libpq writes them: between :// or the last @ and the path or the query.
_SEVERAL_HOSTS = re.compile(r"(?P<before>[^:/]+://(?:[^/?]*@)?)(?P<hosts>[^/?@]*,[^/?@]*)(?P<after>[/?].*)?$")
_HOST = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<name>[^:\[\]]*))(?::(?P<port>\d*))?")


def parse_url(url: str) -> sa.URL:
    """The URL with our driver.

    Raises:
        InvalidDatabaseUrl: the rule and the scheme; never the rest, where a password may be.
    """
    rule = "the database URL must start with postgresql:// or postgresql+psycopg://"
    scheme = url.split(":", 1)[0]
    if scheme not in ACCEPTED:
        raise InvalidDatabaseUrl(f"{rule}, but got {scheme!r}" if "://" in url else f"{rule}, but it has no scheme")
    try:
        return _with_several_hosts(url).set(drivername=DRIVER)
    except (exc.ArgumentError, ValueError):
        raise InvalidDatabaseUrl(f"{rule} and read user:password@host:port/database after it") from None


def _with_several_hosts(url: str) -> sa.URL:
    """SQLAlchemy reads several servers from the query alone; libpq, and whoever copies its URLs, has them in the place
    of the one: `host1:5432,host2:5432`."""
    found = _SEVERAL_HOSTS.fullmatch(url)
    if found is None:
        return sa.make_url(url)
    hosts = [_HOST.fullmatch(host) for host in found["hosts"].split(",")]
    if None in hosts:
        raise ValueError("a host must be a name, or an address in brackets, and a port")
    parts = [(host["v6"] or host["name"], host["port"] or DEFAULT_PORT) for host in hosts if host is not None]
    parsed = sa.make_url(found["before"] + (found["after"] or ""))
    return parsed.update_query_dict(
        {"host": ",".join(name for name, _ in parts), "port": ",".join(port for _, port in parts)}
    )


def place(url: sa.URL) -> str:
    """Where the server is, without user and password."""
    host = url.host or url.query.get("host") or "localhost"
    port = url.port or url.query.get("port") or DEFAULT_PORT
    return f"PostgreSQL at {host}, port {port}"


def mask(text: str, password: object) -> str:
    """`text` without the password."""
    return text.replace(str(password), "***") if password else text
