"""Machines of their own as far as the network goes: Linux network namespaces, each with one wire to this one."""

from __future__ import annotations

import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Host:
    """One machine; `gateway` is this machine's address on the wire between them."""

    name: str
    wire: str
    gateway: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What runs a command there."""
        return ("ip", "netns", "exec", self.name)

    def cut_off(self) -> None:
        """Pull the plug: what is sent from now on is lost, on both sides, and nobody is told."""
        _ip("link", "set", self.wire, "down")


def why_impossible() -> str | None:
    """Why no such machine can be made here; None where they can."""
    if shutil.which("ip") is None:
        return "network namespaces need the command ip (package iproute2)"
    name = f"rwtry{uuid.uuid4().hex[:6]}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        return f"network namespaces cannot be made here: {tried.stderr.strip()}"
    _ip("netns", "delete", name)
    return None


@contextmanager
def hosts(count: int) -> Iterator[tuple[Host, ...]]:
    """`count` machines that reach this one and not each other; gone at the end."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(_host(number)) for number in range(count))


@contextmanager
def _host(number: int) -> Iterator[Host]:
    mark = uuid.uuid4().hex[:6]
    host = Host(name=f"rw{mark}", wire=f"rw{mark}", gateway=f"10.231.{number}.1")
    _ip("netns", "add", host.name)
    try:
        _ip("link", "add", host.wire, "type", "veth", "peer", "name", "wire0", "netns", host.name)
        _ip("addr", "add", f"{host.gateway}/24", "dev", host.wire)
        _ip("link", "set", host.wire, "up")
        inside = ("-n", host.name)
        _ip(*inside, "link", "set", "lo", "up")
        _ip(*inside, "addr", "add", f"10.231.{number}.2/24", "dev", "wire0")
        _ip(*inside, "link", "set", "wire0", "up")
        yield host
    finally:
        _ip("netns", "delete", host.name)  # the wire goes with it


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
