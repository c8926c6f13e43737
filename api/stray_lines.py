"""What others write to this process's standard output and error (Ray, C++ libraries, child processes) as log lines.

They write to the file descriptors and know nothing of Python's logging. So these lead into pipes, whose lines another
process tells: this file as a program. A thread of this process would take what it has read and not told with it when a
kill or a library ends it. The log's own lines are written by its handler, to where standard error led before.
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
from typing import TextIO

STDOUT, STDERR = 1, 2
NAMES = {STDOUT: "stdout", STDERR: "stderr"}
_END = os.urandom(16).hex()  # the last line of a pipe, and one line
_EXIT_SECONDS = 2.0
_AGAIN_SECONDS = 0.1
_SHORT_SECONDS = 1.0  # a teller that ends within these has failed
_MOST_STARTS = 5  # of tellers that fail, one after the other
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
    outside = {descriptor: os.dup(descriptor) for descriptor in NAMES}
    told = _start_telling(outside, {descriptor: _replaced(descriptor) for descriptor in NAMES})
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # else what is printed comes late, or never
    process = os.getpid()
    _given_back = lambda: _give_back(outside, told, process)  # noqa: E731
    atexit.register(_given_back)
    return os.fdopen(os.dup(outside[STDERR]), "w", buffering=1, encoding="utf-8", errors="backslashreplace")


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


def _start_telling(outside: dict[int, int], readings: dict[int, int]) -> int:
    """Have another process tell the pipes' lines, and return where it says that it has told one of them to its end."""
    alive, _ = os.pipe()  # the other end is closed with this process
    told, telling = os.pipe()
    descriptors = (alive, telling, *readings.values())

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

    def tell_here() -> None:
        _tell_lines(_END, *descriptors, writing=(outside[STDOUT], outside[STDERR]))

    threading.Thread(target=_keep_telling, args=(start, start(), tell_here), name="stray lines", daemon=True).start()
    return told


def _keep_telling(
    start: Callable[[], subprocess.Popen[bytes]], teller: subprocess.Popen[bytes], tell_here: Callable[[], None]
) -> None:
    """Start it again should somebody kill it. This process holds the pipes' other ends too, so nobody's write fails;
    where no process can be started that lives, this one tells, or all who write would wait for ever."""
    starts, began = 1, time.monotonic()
    while starts < _MOST_STARTS:
        teller.wait()
        starts = 1 if time.monotonic() - began > _SHORT_SECONDS else starts + 1
        time.sleep(_AGAIN_SECONDS)
        began = time.monotonic()
        with suppress(OSError):  # no memory for a process, as after a kill for want of it
            teller = start()
    tell_here()


def _give_back(outside: dict[int, int], told: int, process: int) -> None:
    """Have told what is in the pipes before the process ends; children may hold their other ends for longer."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if os.getpid() == process:  # and no child that goes on with a copy of it
        for descriptor in NAMES:
            os.write(descriptor, f"\n{_END}\n".encode())
        until = time.monotonic() + _EXIT_SECONDS
        for _ in NAMES:
            if select.select([told], [], [], max(0.0, until - time.monotonic()))[0]:
                os.read(told, 1)
    for descriptor, former in outside.items():
        os.dup2(former, descriptor)


# -- the process that tells -------------------------------------------------------------------------------------------


def _tell_lines(
    end: str, alive: int, telling: int, stdout: int, stderr: int, *, writing: tuple[int, int] = (STDOUT, STDERR)
) -> None:
    """Of both pipes until they end: by a thread for each, as the reader of one may be slow."""
    threads = [
        threading.Thread(target=_tell_pipe, args=(end.encode(), alive, telling, reading, name, writing))
        for reading, name in zip((stdout, stderr), NAMES.values(), strict=True)
    ]
    for thread in threads:
        thread.daemon = True
        thread.start()
    for thread in threads:
        thread.join()


def _tell_pipe(end: bytes, alive: int, telling: int, reading: int, name: str, writing: tuple[int, int]) -> None:
    """While the other process lives; afterwards, what its children write for a moment longer is told too."""
    rest, waits = b"", [alive]
    while ready := select.select([reading, *waits], [], [], None if waits else _EXIT_SECONDS)[0]:
        if reading not in ready:
            waits = []
            continue
        received = os.read(reading, 1 << 16)
        *whole, rest = (rest + received).split(b"\n")
        for line in whole if received else [*whole, rest]:
            if line == end:
                with suppress(OSError):  # who waits for it may have given up
                    os.write(telling, b".")
            elif text := _plain(line):
                _tell(text, name, writing)
        if not received:
            return


def _tell(text: str, name: str, writing: tuple[int, int]) -> None:
    """Where nobody reads any more the line is dropped, or its writer would wait for ever."""
    to_stdout = name == NAMES[STDOUT] and _is_object(text)
    line = text if to_stdout else json.dumps(log_object(time.time(), level_of(text), name, text))
    left = memoryview(line.encode() + b"\n")
    with suppress(OSError):
        while left:
            left = left[os.write(writing[0 if to_stdout else 1], left) :]


def _plain(line: bytes) -> str:
    return _COLOUR.sub("", line.decode("utf-8", "replace")).rstrip()


def _is_object(text: str) -> bool:
    """Whether a line is a result of a command, which is JSON already."""
    try:
        return text.startswith("{") and isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


if __name__ == "__main__":
    for _ignored in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # a service's stop may be told to all its processes
        signal.signal(_ignored, signal.SIG_IGN)
    _tell_lines(sys.argv[1], *map(int, sys.argv[2:]))
