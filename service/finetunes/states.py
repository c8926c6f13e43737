"""Training states in an object store: each worker puts its part there, and whoever goes on copies it from there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.artifacts.store import ArtifactStore
from service.errors import FileMissing
from service.files import STATES

STATES_KEPT = 2
_DESCRIBED, _WEIGHTS = ".json", ".safetensors"


@dataclass(slots=True)
class StoredStates:
    """`finetune.worker_task.States` of one owner of a job, in a worker; it is sent there.

    A part is its weights, then their description: without both it counts for nothing. A state is as many parts as its
    first one says.
    """

    store: ArtifactStore
    job_id: str
    epoch: int
    _scratch: list[tempfile.TemporaryDirectory[str]] = field(default_factory=list)

    def newest(self) -> Path | None:
        """Of all owners that this job has had, the whole state with the most steps done, in a directory of this machine
        that lives as long as this process. Raises FilesUnreachable."""
        sizes = self.store.sizes(f"{self.job_id}/{STATES}")
        found = sorted((step, place) for place in _places(sizes) if (step := self._step(place, sizes)) is not None)
        for _, place in reversed(found):
            if (copy := self._copy(place, sizes)) is not None:
                return copy
        return None

    def save(self, step: int, write: Callable[[Path], bool]) -> None:
        """Put this worker's part into the store, and forget this owner's states before the last. Raises
        FilesUnreachable."""
        from ray import train

        place = f"{self.job_id}/{STATES}/owner-{self.epoch}/checkpoint_{step:09d}"
        with tempfile.TemporaryDirectory(prefix="ropewalk-state-") as scratch:
            wrote = write(Path(scratch))
            for path in sorted(Path(scratch).iterdir(), key=lambda one: one.suffix == _DESCRIBED):
                self.store.put(f"{place}/{path.name}", path)
        train.report({"step": step})  # returns when all workers are here
        if wrote and train.get_context().get_world_rank() == 0:
            self._forget_old()

    def _forget_old(self) -> None:
        mine = f"{self.job_id}/{STATES}/owner-{self.epoch}"
        for place in _places(self.store.sizes(mine))[:-STATES_KEPT]:
            self.store.remove(place)

    def _step(self, place: str, sizes: Mapping[str, int]) -> int | None:
        """Steps done of a whole state; None for one that is not."""
        first = self._part(place, 0, sizes)
        if first is None or any(self._part(place, rank, sizes) is None for rank in range(1, first["workers"])):
            return None
        return int(first["step"])

    def _part(self, place: str, rank: int, sizes: Mapping[str, int]) -> dict[str, Any] | None:
        from finetune.training_state import read_part

        described, weights = f"{place}/rank-{rank}{_DESCRIBED}", f"{place}/rank-{rank}{_WEIGHTS}"
        return read_part(self._text(described), sizes.get(weights)) if described in sizes else None

    def _text(self, key: str) -> bytes:
        try:
            return b"".join(self.store.read(key))
        except FileMissing:  # forgotten meanwhile
            return b""

    def _copy(self, place: str, sizes: Mapping[str, int]) -> Path | None:
        """Of the parts that this worker needs; None when one is not what was written."""
        from finetune.parallel import current_ranks
        from finetune.training_state import is_intact

        scratch = tempfile.TemporaryDirectory(prefix="ropewalk-state-")
        directory = Path(scratch.name)
        ranks = sum(key.startswith(f"{place}/") and key.endswith(_DESCRIBED) for key in sizes)
        rank = current_ranks().rank if ranks > 1 else 0
        for name in _named(place, sizes):
            if name.endswith(_DESCRIBED) or name == f"rank-{rank}{_WEIGHTS}":
                self._fetch(f"{place}/{name}", directory / name)
        is_mine = f"{place}/rank-{rank}{_DESCRIBED}" in sizes  # else it is of fewer workers, which restoring refuses
        if is_mine and not is_intact(directory, rank):
            shutil.rmtree(directory, ignore_errors=True)
            return None
        self._scratch.append(scratch)
        return directory

    def _fetch(self, key: str, path: Path) -> None:
        try:
            with path.open("wb") as out:
                for chunk in self.store.read(key):
                    out.write(chunk)
        except FileMissing:
            path.unlink()


def _places(sizes: Mapping[str, int]) -> list[str]:
    """The directories with states, oldest first for one owner."""
    return sorted({key.rpartition("/")[0] for key in sizes if key.rpartition("/")[2].startswith("rank-")})


def _named(place: str, sizes: Mapping[str, int]) -> Iterator[str]:
    return (key.removeprefix(f"{place}/") for key in sizes if key.startswith(f"{place}/"))
