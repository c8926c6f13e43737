"""How what a training leaves comes into the store, from the worker that wrote it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from finetune.results import FinetuneResult
from finetune.worker_task import States
from service.artifacts.copies import CHECKPOINT
from service.artifacts.store import ArtifactStore, digested
from service.files import STATES
from service.finetunes.states import StoredStates
from storage.records import Artifact


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What a training did, and what it left: where users find the checkpoint, and its files in the store."""

    result: FinetuneResult
    checkpoint: str
    files: tuple[Artifact, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """Of one owner of a job; it is sent to the workers."""

    store: ArtifactStore
    job_id: str
    epoch: int

    @property
    def output(self) -> Path | None:
        """Where the checkpoint is written so that it need not be uploaded; None: anywhere. A directory of this owner's
        own: what a controller before it left half-done is in nobody's way."""
        directory = self.store.directory(self.job_id)
        return None if directory is None else directory.absolute() / f"{CHECKPOINT}-{self.epoch}"

    @property
    def states_directory(self) -> Path | None:
        """Where Ray Train keeps states itself; None: `states` does."""
        directory = self.store.directory(self.job_id)
        return None if directory is None else directory.absolute() / STATES

    def states(self) -> States | None:
        """Of a store that is no directory."""
        is_directory = self.states_directory is not None
        return None if is_directory else StoredStates(self.store, self.job_id, self.epoch)

    def checkpoint(self, written: Path) -> tuple[str, tuple[Artifact, ...]]:
        """Store the directory that was written; where it is, as users are told, and its files. Each upload has keys of
        its own: one that was killed, or is not the only one, is in nobody's way.

        Raises:
            FilesUnreachable: the store does not take it now.
        """
        if written == self.output:
            place = f"{self.job_id}/{written.name}"
        else:
            place = f"{self.job_id}/{CHECKPOINT}-{self.epoch}-{secrets.token_hex(4)}"
        files = []
        for path in sorted(written.rglob("*")):
            if path.is_file():
                name = path.relative_to(written).as_posix()
                files.append(self._store(path, name=f"{CHECKPOINT}/{name}", key=f"{place}/{name}"))
        return self.store.url(place), tuple(files)

    def _store(self, path: Path, *, name: str, key: str) -> Artifact:
        size, sha256 = digested(path)
        self.store.put(key, path)  # where it lies there already, that is all
        return Artifact(name=name, key=key, bytes=size, sha256=sha256)
