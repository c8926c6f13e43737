"""What others write to this process's standard output and error (Ray, C++ libraries, child processes) as log lines.

They write to the file descriptors and know nothing of Python's logging. So these lead into pipes, and a thread tells
each of their lines to the log, whose handler writes to where standard error led before. A process that is killed, or
that a library ends, tells nothing any more: a heir, this file as a program, waits for its end and tells what is left in
the pipes, its last words among them.
"""

from __future__ import annotations

import atexit
import io
import json
import logging
import os
import re
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TextIO

STDOUT, STDERR = 1, 2
NAMES = {STDOUT: "stdout", STDERR: "stderr"}
_END = os.urandom(16).hex().encode()  # the last line of a pipe, and one line
_EXIT_SECONDS = 2.0
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
    outside = {descriptor: _kept(descriptor) for descriptor in NAMES}
    readings = {descriptor: _replaced(descriptor) for descriptor in NAMES}
    _leave_an_heir(outside, readings)
    threads = [
        threading.Thread(
            target=_tell_lines, args=(readings[one], one, outside[STDOUT]), name=f"stray {NAMES[one]}", daemon=True
        )
        for one in NAMES
    ]
    for thread in threads:
        thread.start()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # else what is printed comes late, or never
    _given_back = lambda: _give_back(outside, threads)  # noqa: E731
    atexit.register(_given_back)
    return outside[STDERR]


def is_taken_over() -> bool:
    """Whether this process's standard error leads into the log."""
    return _given_back is not None


def level_of(line: str) -> int:
    """The level that a line of Ray's names; what a command failed of is an error, and others are information."""
    if line.startswith(_OWN):
        return logging.ERROR
    found = _LEVEL.match(line)
    return _LEVELS[found["ray"] or found["glog"]] if found else logging.INFO


def log_object(time: float, level: int, logger: str, message: str) -> dict[str, object]:
    """A log line, before it is written as JSON."""
    return {
        "time": datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds"),
        "level": logging.getLevelName(level).lower(),
        "logger": logger,
        "message": message,
    }


def _kept(descriptor: int) -> TextIO:
    return os.fdopen(os.dup(descriptor), "w", buffering=1, encoding="utf-8", errors="backslashreplace")


def _replaced(descriptor: int) -> int:
    """Lead a descriptor of this process into a pipe, and return the pipe's other end."""
    reading, writing = os.pipe()
    os.dup2(writing, descriptor)
    os.close(writing)
    return reading


def _lines(reading: int) -> Iterator[bytes]:
    """The lines of a pipe. What is there is taken when it can be told at once: what a thread has taken and has not told
    when its process ends is lost to the heir."""
    rest = b""
    while True:
        select.select([reading], [], [])
        received = os.read(reading, 1 << 16)
        *whole, rest = (rest + received).split(b"\n")
        yield from whole
        if not received:
            if rest:
                yield rest
            return


def _tell_lines(reading: int, descriptor: int, stdout: TextIO) -> None:
    logger = logging.getLogger(NAMES[descriptor])
    for line in _lines(reading):
        if line == _END:
            return
        text = _plain(line)
        if descriptor == STDOUT and _is_object(text):
            stdout.write(text + "\n")
        elif text:
            logger.log(level_of(text), "%s", text)


def _plain(line: bytes) -> str:
    return _COLOUR.sub("", line.decode("utf-8", "replace")).rstrip()


def _is_object(text: str) -> bool:
    """Whether a line is a result of a command, which is JSON already."""
    try:
        return text.startswith("{") and isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _give_back(outside: dict[int, TextIO], threads: list[threading.Thread]) -> None:
    """Tell what is in the pipes before the process ends; children may hold their other ends for longer."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for descriptor in NAMES:
        os.write(descriptor, b"\n" + _END + b"\n")
    for thread in threads:
        thread.join(_EXIT_SECONDS)
    for descriptor, stream in outside.items():
        os.dup2(stream.fileno(), descriptor)


# -- the heir ---------------------------------------------------------------------------------------------------------


def _leave_an_heir(outside: dict[int, TextIO], readings: dict[int, int]) -> None:
    """Start it, in a session of its own: what ends this process, as Ctrl-C does, does not end it."""
    alive, held = os.pipe()  # the other end is closed with this process
    os.set_inheritable(held, False)
    subprocess.Popen(
        [sys.executable, "-I", __file__, *map(str, (alive, *readings.values()))],
        stdin=subprocess.DEVNULL,
        stdout=outside[STDOUT],
        stderr=outside[STDERR],
        pass_fds=(alive, *readings.values()),
        start_new_session=True,
    )
    os.close(alive)


def _tell_what_is_left(alive: int, stdout: int, stderr: int) -> None:
    """When the process has ended; what its children write for a moment longer is told too."""
    os.read(alive, 1)
    rest = {stdout: b"", stderr: b""}
    while rest and (ready := select.select(list(rest), [], [], _EXIT_SECONDS)[0]):
        for reading in ready:
            received = os.read(reading, 1 << 16)
            *whole, rest[reading] = (rest[reading] + received).split(b"\n")
            if not received:
                whole.append(rest.pop(reading))
            for text in filter(None, map(_plain, whole)):
                _write_line(text, NAMES[STDOUT if reading == stdout else STDERR])


def _write_line(text: str, logger: str) -> None:
    line = log_object(datetime.now(UTC).timestamp(), level_of(text), logger, text)
    sys.stderr.write(json.dumps(line) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    _tell_what_is_left(*map(int, sys.argv[1:]))
