"""The token of a server on this machine: who can read the server's home is its operator, and needs no key.

Nothing on the way adds it by itself, as a proxy adds its own address: a server behind one asks strangers for it, too.
"""

import ipaddress
import os
from pathlib import Path

import httpx

TOKEN_FILE = "token"
DEFAULT_HOME = ".ropewalk"


def local_token(url: str, home: Path | None = None) -> str | None:
    """What to send to a server at `url` without a key; None where it is on another machine, or has no token here.

    `home`: the server's, default ROPEWALK_HOME, else .ropewalk in the working directory.
    """
    if not is_here(url):
        return None
    place = home or Path(os.environ.get("ROPEWALK_HOME") or DEFAULT_HOME)
    try:
        token = (place.expanduser() / TOKEN_FILE).read_text(encoding="ascii").strip()
    except (OSError, RuntimeError, ValueError):
        return None
    return token if token.isprintable() and " " not in token else None


def is_here(url: str) -> bool:
    """Whether the URL is of this machine's loopback."""
    try:
        host = httpx.URL(url).host
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except (httpx.InvalidURL, ValueError):
        return False
