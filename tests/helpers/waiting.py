"""Waiting for what other threads and processes do: by looking, with a generous limit."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

SECONDS = 120.0
_TAIL = 3000  # characters of a log that say why


def wait_until(condition: Callable[[], bool], seconds: float = SECONDS, *, log: Path | None = None) -> None:
    """Return when `condition` holds; fails after `seconds`, with the end of `log`."""
    began = time.monotonic()
    deadline = began + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(log.read_text()[-_TAIL:] if log is not None else f"not within {seconds} s")
        # What takes long is looked at less often: looking costs what waits for it as well.
        time.sleep(min(0.02 + (time.monotonic() - began) / 20, 0.25))


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that is dead but not yet collected by its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def free_port() -> int:
    """A port that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
