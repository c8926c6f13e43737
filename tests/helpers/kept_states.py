"""Training states kept in a directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from finetune.training_state import newest_state


class KeptStates:
    """States in one directory, and no more of them once a step was kept, as after a kill."""

    def __init__(self, directory: Path, *, dies_at: int | None = None) -> None:
        self._directory = directory
        self._dies_at = dies_at

    def newest(self) -> Path | None:
        return newest_state(list(self._directory.glob("*")))

    def save(self, step: int, write: Callable[[Path], bool]) -> None:
        directory = self._directory / str(step)
        directory.mkdir(exist_ok=True, parents=True)
        write(directory)
        if step == self._dies_at:
            raise Killed


class Killed(BaseException):
    pass
