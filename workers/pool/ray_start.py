"""Where a Ray of our own keeps its files, and what becomes of its processes when it does not start."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from workers.errors import ScorerUnavailable

MARK = "ROPEWALK_RAY_START"  # in the environment of every process that a start has made, orphans too
#: Bytes: "/session_2026-01-31_12-00-00_123456_1234567/sockets/plasma_store" follows, and 107 are allowed.
MAX_DIRECTORY = 42
START_SECONDS = 240.0  # past which a start is ended; Ray itself gives up after half a minute of waiting for one process
START_ATTEMPTS = 3  # a machine at its limits needs more than one of Ray's half minutes
END_SECONDS = 10.0  # for the processes of a failed start to be gone

_log = logging.getLogger(__name__)


def short_directory() -> str | None:
    """A directory for Ray where its own choice would be too long for the names of sockets, as below the scratch
    directory of a batch job; None: Ray's own choice is short enough.

    Raises:
        ScorerUnavailable: the one below /tmp is somebody else's.
    """
    chosen = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    if len(os.fsencode(os.path.join(chosen, "ray"))) <= MAX_DIRECTORY:
        return None
    directory = Path(f"/tmp/ropewalk-ray-{os.geteuid()}")
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.is_symlink() or directory.lstat().st_uid != os.geteuid():
        raise ScorerUnavailable(f"Ray's directory must be ours, but {directory} is another user's: set RAY_TMPDIR")
    directory.chmod(0o700)
    return str(directory / "ray")  # Ray opens its own to everybody


def start_patiently(start: Callable[[], None]) -> None:
    """Start Ray on this machine, again where it did not come up in time; every attempt leaves nothing but the last one
    that succeeds.

    Raises:
        ScorerUnavailable: none did, or Ray refuses what it was asked for.
    """
    for attempt in range(1, START_ATTEMPTS + 1):
        try:
            with leaving_nothing():
                start()
            return
        except ScorerUnavailable:
            raise
        except Exception as error:  # Ray raises Exception itself, ConnectionError, RuntimeError, ValueError and its own
            reason = " ".join(str(error).split()) or type(error).__name__
            if attempt == START_ATTEMPTS or isinstance(error, ValueError):
                raise ScorerUnavailable(_did_not_start(reason, attempt)) from error
            _log.warning(
                "Ray did not start (%s): attempt %d of %d, as a machine at its limits needs more time",
                reason.rstrip("."),
                attempt + 1,
                START_ATTEMPTS,
            )


def _did_not_start(reason: str, attempts: int) -> str:
    tried = "" if attempts == 1 else f" in {attempts} attempts"
    return (
        f"Ray must start on this machine, but did not{tried}: {reason.rstrip('.')}; its logs are in "
        f"{_logs()}; see whether the machine has CPU, memory and disk left (`ropewalk doctor`), set RAY_TMPDIR where "
        "it cannot write there, or set RAY_ADDRESS to a cluster that runs"
    )


def _logs() -> str:
    return f"{short_directory() or Path(os.environ.get('RAY_TMPDIR') or '/tmp') / 'ray'}/session_latest/logs"


@contextlib.contextmanager
def leaving_nothing() -> Iterator[None]:
    """The block starts Ray. When it fails, is interrupted, or takes too long, none of the processes that it started is
    left: neither children nor what they have started and orphaned."""
    mark = uuid.uuid4().hex
    watch = threading.Timer(START_SECONDS, end_marked, args=(mark,))
    watch.daemon = True
    os.environ[MARK] = mark
    watch.start()
    try:
        yield
    except BaseException:
        end_marked(mark)
        raise
    finally:
        watch.cancel()
        del os.environ[MARK]


def end_marked(mark: str) -> None:
    """End the processes of a start, and those that they start meanwhile."""
    deadline = time.monotonic() + END_SECONDS
    while found := marked(mark):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            _log.warning("processes %s of a Ray that did not start are left", found)
            return
        time.sleep(0.1)


def marked(mark: str) -> list[int]:
    """The living processes of a start; none where the system does not show environments."""
    entry = f"{MARK}={mark}".encode()
    return [int(process.name) for process in Path("/proc").glob("[0-9]*") if _has(process, entry)]


def _has(process: Path, entry: bytes) -> bool:
    try:
        return entry in (process / "environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return False
