"""What jobs leave on disks and in stores: how much it is, and how it goes, whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from service.artifacts.directory import DirectoryStore, size_of
from service.artifacts.opening import DIRECTORY
from service.artifacts.store import ArtifactStore

STATES, TOKENS, COPIES = "training", "tokens", "copies"
# An upload's keys carry the epoch of the lease under which it was made.
_UPLOAD = re.compile(r"[^/]+/(?:checkpoint|training/owner)-(?P<epoch>\d+)(?:-[0-9a-f]+)?/.*")


class Files:
    """Those of one home and one store; by default the store is a directory of the home. Thread-safe; any process with
    this home may remove what another has begun to. Everything raises FilesUnreachable while the store is away."""

    def __init__(self, home: Path, store: ArtifactStore | None = None) -> None:
        self._home = home
        self.store = store or DirectoryStore(home / DIRECTORY)

    @property
    def is_directory(self) -> bool:
        """Whether files have paths that programs can open."""
        return self.store.directory("") is not None

    def job_ids(self) -> tuple[str, ...]:
        """The jobs that have files."""
        return self.store.job_ids()

    def remove(self, job_id: str) -> int:
        """Remove all files of a job; their bytes."""
        return self.store.remove(job_id)

    def remove_states(self, job_id: str) -> int:
        """Remove what a training could be resumed from; its bytes."""
        return self.store.remove(f"{job_id}/{STATES}")

    def remove_leftovers(self, job_id: str, *, known: Collection[str], below_epoch: int) -> int:
        """Remove uploads that no row names and none will, because their lease has gone: those of epochs below this one;
        their bytes. Training states have no rows, and stay."""
        removed = 0
        for key in self.store.sizes(job_id):
            upload = _UPLOAD.fullmatch(key)
            is_left = upload is not None and int(upload["epoch"]) < below_epoch and f"/{STATES}/" not in key
            if is_left and key not in known:
                removed += self.store.remove(key)
        return removed

    def size(self, job_ids: Collection[str]) -> int:
        """Bytes of the files of these jobs."""
        if not self.is_directory:  # one listing for all: a request for each job takes a while
            wanted = frozenset(job_ids)
            return sum(size for key, size in self.store.sizes().items() if key.partition("/")[0] in wanted)
        return sum(sum(self.store.sizes(job_id).values()) for job_id in job_ids)

    def has_states(self, job_id: str) -> bool:
        """Whether there is anything for `remove_states`."""
        return bool(self.store.sizes(f"{job_id}/{STATES}"))

    def finish(self) -> None:
        """Remove what a process that died had begun to remove."""
        self.store.finish()

    def sizes(self) -> Mapping[str, int]:
        """Bytes by part: artifacts, training_states, and of this home tokens and copies."""
        sizes = self.store.sizes()
        states = sum(size for key, size in sizes.items() if key.split("/")[1:2] == [STATES])
        return {
            "artifacts": sum(sizes.values()) - states,
            "training_states": states,
            "tokens": size_of(self._home / TOKENS),
            "copies": size_of(self._home / COPIES),
        }
