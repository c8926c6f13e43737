"""What others write to this process's standard error (Ray, C++ libraries, child processes) as log lines of ours.

They write to the file descriptor and know nothing of Python's logging. So it leads into a pipe, and a thread tells each
of its lines to the log, whose handler writes to where the descriptor led before.
"""

import atexit
import logging
import os
import re
import threading
from typing import TextIO

STDERR = 2
_END = os.urandom(16).hex().encode()  # the last line of the pipe, and one line
_EXIT_SECONDS = 2.0
_LEVELS = {
    "D": logging.DEBUG,
    "I": logging.INFO,
    "W": logging.WARNING,
    "E": logging.ERROR,
    "C": logging.ERROR,
    "F": logging.ERROR,
}
# Ray's, from C++ and from Python: "[2026-01-31 12:00:00,000 W 17 23] ..." and "2026-01-31 12:00:00,000\tWARNING ...".
_LEVEL = re.compile(r"\[?\d{4}-\d\d-\d\d[ T][\d:,.]+\s+(?P<level>[DIWECF])")

logger = logging.getLogger("stderr")


def take_over_stderr() -> TextIO:
    """Make log lines of whatever is written to standard error from now on, and return the stream for log handlers."""
    outside = os.fdopen(os.dup(STDERR), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    reading, writing = os.pipe()
    os.dup2(writing, STDERR)
    os.close(writing)
    thread = threading.Thread(target=_tell_lines, args=(reading,), name="stray lines", daemon=True)
    thread.start()
    atexit.register(_give_back, outside, thread)
    return outside


def level_of(line: str) -> int:
    """The level that a line of Ray's names; others are information."""
    found = _LEVEL.match(line)
    return _LEVELS[found["level"]] if found else logging.INFO


def _tell_lines(reading: int) -> None:
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            if line.rstrip(b"\n") == _END:
                return
            if text := line.decode("utf-8", "replace").rstrip():
                logger.log(level_of(text), "%s", text)


def _give_back(outside: TextIO, thread: threading.Thread) -> None:
    """Tell what is in the pipe before the process ends; children may hold its other end for longer."""
    os.write(STDERR, b"\n" + _END + b"\n")
    thread.join(_EXIT_SECONDS)
    os.dup2(outside.fileno(), STDERR)
