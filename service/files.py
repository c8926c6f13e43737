"""What jobs leave on the disk of the home: how much it is, and how it goes, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

ARTIFACTS, STATES, TOKENS = "artifacts", "training", "tokens"
GOING = ".going-"  # before a directory's name while it is being removed


class Files:
    """The files below one home. Thread-safe; any process with this home may remove what another has begun to."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def job_ids(self) -> tuple[str, ...]:
        """The jobs that have a directory."""
        with suppress(FileNotFoundError):
            return tuple(sorted(one.name for one in os.scandir(self._artifacts) if not one.name.startswith(".")))
        return ()

    def remove(self, job_id: str) -> int:
        """Remove all files of a job; their bytes."""
        return _remove(self._artifacts / job_id)

    def remove_states(self, job_id: str) -> int:
        """Remove what a training could be resumed from; its bytes."""
        return _remove(self._artifacts / job_id / STATES)

    def size(self, job_id: str) -> int:
        """Bytes of a job's files."""
        return size_of(self._artifacts / job_id)

    def has_states(self, job_id: str) -> bool:
        """Whether there is anything for `remove_states`."""
        return (self._artifacts / job_id / STATES).is_dir()

    def finish(self) -> None:
        """Remove what a process that died had begun to remove."""
        for pattern in (f"{GOING}*", f"*/{GOING}*"):
            for path in self._artifacts.glob(pattern):
                shutil.rmtree(path, ignore_errors=True)

    def sizes(self) -> Mapping[str, int]:
        """Bytes by part: artifacts, training_states, tokens."""
        states = sum(size_of(path) for path in self._artifacts.glob(f"*/{STATES}"))
        return {
            "artifacts": size_of(self._artifacts) - states,
            "training_states": states,
            "tokens": size_of(self._home / TOKENS),
        }

    @property
    def _artifacts(self) -> Path:
        return self._home / ARTIFACTS


def size_of(path: Path) -> int:
    """Bytes of all files below `path`; links are not followed, and what goes meanwhile does not count."""
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(directory, name)).st_size
    return total


def _remove(path: Path) -> int:
    """Moved aside first, so that nobody takes what is half removed for what it was.

    Raises:
        OSError: it cannot be removed; what is left is found again by `Files.finish`.
    """
    size = size_of(path)
    aside = path.with_name(f"{GOING}{path.name}")
    with suppress(FileNotFoundError):
        if aside.exists():  # of a process that died
            shutil.rmtree(aside)
        path.rename(aside)
        shutil.rmtree(aside)
    return size
