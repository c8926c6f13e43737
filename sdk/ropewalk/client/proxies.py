"""Proxies that the environment names (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY): none leads to a server on this machine."""

import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

from ropewalk.client.errors import BadInput
from ropewalk.client.token import is_here


def direct(address: httpx.URL) -> Mapping[str, None]:
    """The mounts of a client: straight to `address` where that is this machine, however NO_PROXY spells it."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return {f"all://{host}": None} if is_here(str(address)) else {}


@contextmanager
def usable_proxies() -> Iterator[None]:
    """What httpx says of a proxy that it cannot use, on one line.

    Raises:
        BadInput: the environment names such a proxy.
    """
    try:
        yield
    except (ImportError, ValueError) as error:
        names = sorted(f"{scheme.upper()}_PROXY" for scheme in urllib.request.getproxies() if scheme != "no")
        raise BadInput(
            f"a proxy must be one that the client can use, but {' or '.join(names)} names another: {error}; "
            "pip install 'httpx[socks]' makes SOCKS proxies usable, NO_PROXY leaves the server out"
        ) from error
