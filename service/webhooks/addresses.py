"""Which addresses the service calls for its users: those of the public internet, and networks that the operator names.

A user may name any URL, and what is behind the operator's firewall answers the server. So a name is resolved here, each
address is checked, and the connection goes to the checked address: another answer of the DNS a moment later, and a
redirect, lead nowhere.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from service.errors import AddressNotAllowed

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS = {"http": 80, "https": 443}
MAX_URL = 2000  # characters
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A checked URL: where to connect, and what to say there."""

    url: SplitResult
    host: str
    port: int
    addresses: tuple[Address, ...]


def networks_of(text: str) -> tuple[Network, ...]:
    """Networks by prefix, with commas between them: "10.1.0.0/16,fd00::/8".

    Raises:
        ValueError: one is none.
    """
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def check_url(url: str, *, allowed: Sequence[Network] = ()) -> Target:
    """Where the URL leads now; `allowed`: networks beside the public internet.

    Raises:
        AddressNotAllowed: it is no URL to call, cannot be resolved, or one of its addresses may not be called.
    """
    split, host, port = _parts(url)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _refused(f"the host of a webhook's URL must be found, but {host} is not: {error}") from None
    addresses = tuple(dict.fromkeys(ipaddress.ip_address(str(one[4][0]).partition("%")[0]) for one in found))
    for address in addresses:
        if not is_allowed(address, allowed):
            said = f"got {host}" if host == str(address) else f"{host} is {address}"
            raise _refused(
                f"a webhook's URL must lead to the public internet or to a network of ROPEWALK_WEBHOOK_NETWORKS, "
                f"but {said}"
            )
    return Target(url=split, host=host, port=port, addresses=addresses)


def is_allowed(address: Address, allowed: Iterable[Network] = ()) -> bool:
    """Whether an address, and the one that is embedded in it, is public or in a network that is allowed."""
    inner = _embedded(address)
    if inner is not None:
        return is_allowed(inner, allowed)
    if any(address.version == network.version and address in network for network in allowed):
        return True
    return address.is_global and not (address.is_multicast or address.is_reserved)


def _embedded(address: Address) -> Address | None:
    """The IPv4 address that packets to this IPv6 address end at."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (None if teredo is None else teredo[1])


def _parts(url: str) -> tuple[SplitResult, str, int]:
    rule = "a webhook's URL must be like https://host/path, of printable ASCII, without user, password and fragment"
    if len(url) > MAX_URL or not (url.isascii() and url.isprintable()) or " " in url or "\\" in url:
        raise _refused(f"{rule}, and of at most {MAX_URL} characters")
    try:
        split = urlsplit(url)
        port = split.port
    except ValueError as error:
        raise _refused(f"{rule}, but: {error}") from None
    if split.scheme not in PORTS or not split.hostname or "@" in split.netloc or split.fragment or port == 0:
        raise _refused(rule if "@" in url else f"{rule}, but got {url!r}")
    return split, split.hostname, port or PORTS[split.scheme]


def _refused(message: str) -> AddressNotAllowed:
    return AddressNotAllowed(message, pointer="/url")
