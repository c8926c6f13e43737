"""What the settings say of an OpenID Connect issuer, checked as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True, slots=True)
class OidcSettings:
    """Whose tokens are taken, and how they are read."""

    issuer: str
    audience: str
    owner_claim: str = "sub"
    scope_claim: str = "scope"
    scope_prefix: str = "ropewalk:"


def is_issuer_url(url: str) -> bool:
    """Whether keys may be asked for there: over TLS, or on this machine."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        )
    except ValueError:
        return False
