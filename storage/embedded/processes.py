"""What the embedded server needs to know of files and processes."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def locked(path: Path, mode: int) -> int:
    """A file descriptor that holds the file's lock in `mode` until it is closed, or its process dies."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, mode)
    return fd


def works_in(pid: int, directory: Path) -> bool:
    """Whether the process's working directory is `directory`, as that of every process of a PostgreSQL server is.

    True where the system cannot tell: PostgreSQL's own checks decide then. Where it tells of one's own processes only,
    even root that may not trace others (a container's), every process of the directory's owner is taken for one.
    """
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == directory.resolve()
    except FileNotFoundError:  # gone, or no /proc here
        return not Path("/proc/self/cwd").exists()
    except PermissionError:
        return _has_owner_of(directory, pid)


def _has_owner_of(directory: Path, pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}").stat().st_uid == directory.stat().st_uid
    except FileNotFoundError:
        return False


def processes_in(directory: Path) -> list[int]:
    """The processes that work in `directory`; none where the system cannot tell."""
    numbers = [int(entry.name) for entry in Path("/proc").glob("[0-9]*")]
    return [pid for pid in numbers if works_in(pid, directory)]


def clean_environment() -> dict[str, str]:
    """No PG* variable of the user's reaches our server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, as much as can be read."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
