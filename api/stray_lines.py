"""What others write to this process's standard output and error (Ray, C++ libraries, child processes) as log lines.

They write to the file descriptors and know nothing of Python's logging. So these lead into pipes, whose lines another
process tells: this file as a program. It is the only one that writes to where standard output and error led before, and
the log's own lines come to it by a pipe too. Whatever ends this process, a kill or a library, what was written until
then is in those pipes or told: nothing is lost with the memory of a thread that had read it.
"""

from __future__ import annotations

import atexit
import io
import json
import logging
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import BinaryIO, TextIO

STDOUT, STDERR = 1, 2
NAMES = ("stdout", "stderr", "")  # of the pipes' lines; the log's own are told as they are
_END = os.urandom(16).hex()  # the last line of a pipe, and one line
_EXIT_SECONDS = 2.0
_AGAIN_SECONDS = 0.1
_LEVELS = {
    "D": logging.DEBUG,
    "I": logging.INFO,
    "W": logging.WARNING,
    "E": logging.ERROR,
    "C": logging.ERROR,
    "F": logging.ERROR,
}
# Ray's, from C++ and from Python: "[2026-01-31 12:00:00,000 W 17 23] ..." and "2026-01-31 12:00:00,000\tWARNING ...";
# C++ libraries': "E0131 12:00:00.000000 17 file.cc:23] ...".
_LEVEL = re.compile(
    r"(?:\[?\d{4}-\d\d-\d\d[ T][\d:,.]+\s+(?P<ray>[DIWECF])|(?P<glog>[IWEF])(?:\d{4}|\d{8}) \d\d:\d\d:)"
)
_OWN = "ropewalk: "  # why a command failed
_COLOUR = re.compile(r"\x1b\[[\d;]*m")

_given_back: Callable[[], None] | None = None


def take_over() -> TextIO:
    """Make log lines of whatever is written to standard output and error from now on, but for JSON on standard output,
    and return the stream for log handlers."""
    global _given_back
    outside = {descriptor: os.dup(descriptor) for descriptor in (STDOUT, STDERR)}
    readings = [_replaced(descriptor) for descriptor in outside]
    reading, writing = os.pipe()
    told = _start_telling(outside, [*readings, reading])
    log = os.fdopen(writing, "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # else what is printed comes late, or never
    _given_back = lambda: _give_back(outside, log, told)  # noqa: E731
    atexit.register(_given_back)
    return log


def is_taken_over() -> bool:
    """Whether this process's standard error leads into the log."""
    return _given_back is not None


def level_of(line: str) -> int:
    """The level that a line of Ray's names; what a command failed of is an error, and others are information."""
    if line.startswith(_OWN):
        return logging.ERROR
    found = _LEVEL.match(line)
    return _LEVELS[found["ray"] or found["glog"]] if found else logging.INFO


def log_object(seconds: float, level: int, logger: str, message: str) -> dict[str, object]:
    """A log line, before it is written as JSON."""
    return {
        "time": datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds"),
        "level": logging.getLevelName(level).lower(),
        "logger": logger,
        "message": message,
    }


def _replaced(descriptor: int) -> int:
    """Lead a descriptor of this process into a pipe, and return the pipe's other end."""
    reading, writing = os.pipe()
    os.dup2(writing, descriptor)
    os.close(writing)
    return reading


def _start_telling(outside: dict[int, int], readings: list[int]) -> int:
    """Have another process tell the pipes' lines, and return where it says that it has told them to their ends."""
    alive, _ = os.pipe()  # the other end is closed with this process
    told, telling = os.pipe()
    descriptors = (alive, telling, *readings)

    def start() -> subprocess.Popen[bytes]:
        """In a session of its own: what ends this process, as Ctrl-C does, does not end it."""
        return subprocess.Popen(
            [sys.executable, "-I", __file__, _END, *map(str, descriptors)],
            stdin=subprocess.DEVNULL,
            stdout=outside[STDOUT],
            stderr=outside[STDERR],
            pass_fds=descriptors,
            start_new_session=True,
        )

    threading.Thread(target=_keep_telling, args=(start, start()), name="stray lines", daemon=True).start()
    return told


def _keep_telling(start: Callable[[], subprocess.Popen[bytes]], teller: subprocess.Popen[bytes]) -> None:
    """Start it again should somebody kill it. This process holds the pipes' other ends too, so nobody's write fails."""
    while True:
        teller.wait()
        time.sleep(_AGAIN_SECONDS)
        teller = start()


def _give_back(outside: dict[int, int], log: TextIO, told: int) -> None:
    """Have told what is in the pipes before the process ends; children may hold their other ends for longer."""
    for stream in (sys.stdout, sys.stderr, log):
        stream.flush()
    for descriptor in (*outside, log.fileno()):
        os.write(descriptor, f"\n{_END}\n".encode())
    select.select([told], [], [], _EXIT_SECONDS)
    for descriptor, former in outside.items():
        os.dup2(former, descriptor)


# -- the process that tells -------------------------------------------------------------------------------------------


class _Teller:
    """Reads the pipes and tells their lines."""

    def __init__(self, end: str, telling: int, *readings: int) -> None:
        self._end = end.encode()
        self._telling = telling
        self.names = dict(zip(readings, NAMES, strict=True))
        self._rests = dict.fromkeys(readings, b"")
        self._ends = 0

    def read(self, reading: int) -> None:
        """What is there; at a pipe's end, an unfinished line too."""
        received = os.read(reading, 1 << 16)
        *whole, self._rests[reading] = (self._rests[reading] + received).split(b"\n")
        if not received:
            whole.append(self._rests.pop(reading))
        name = self.names[reading] if received else self.names.pop(reading)
        for line in whole:
            self._tell(line, name)

    def _tell(self, line: bytes, name: str) -> None:
        if line == self._end:
            self._ends += 1
            if self._ends == len(NAMES):
                os.write(self._telling, b".")
        elif not name:
            _write(sys.stderr.buffer, line)
        elif text := _plain(line):
            if name == NAMES[0] and _is_object(text):
                _write(sys.stdout.buffer, text.encode())
            else:
                told = log_object(time.time(), level_of(text), name, text)
                _write(sys.stderr.buffer, json.dumps(told).encode())


def _write(stream: BinaryIO, line: bytes) -> None:
    """Where nobody reads any more the line is dropped, or its writer would wait for ever."""
    if line:
        with suppress(OSError):
            stream.write(line + b"\n")
            stream.flush()


def _tell_lines(end: str, alive: int, telling: int, *readings: int) -> None:
    """While the other process lives; afterwards, what its children write for a moment longer is told too."""
    for ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # a service's stop may be told to all its processes
        signal.signal(ignored, signal.SIG_IGN)
    teller, waits = _Teller(end, telling, *readings), [alive]
    while teller.names and (
        ready := select.select([*teller.names, *waits], [], [], None if waits else _EXIT_SECONDS)[0]
    ):
        for reading in ready:
            if reading in waits:
                waits.clear()
            else:
                teller.read(reading)


def _plain(line: bytes) -> str:
    return _COLOUR.sub("", line.decode("utf-8", "replace")).rstrip()


def _is_object(text: str) -> bool:
    """Whether a line is a result of a command, which is JSON already."""
    try:
        return text.startswith("{") and isinstance(json.loads(text), dict)
    except ValueError:
        return False


if __name__ == "__main__":
    _tell_lines(sys.argv[1], *map(int, sys.argv[2:]))
