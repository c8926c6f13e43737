"""Checkpoints in an object store, for programs that open files: each machine makes its own copy, once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service.artifacts.store import ArtifactStore, fetch
from storage.artifacts import Artifacts
from storage.postgres.database import Database
from storage.records import Artifact

CHECKPOINT = "checkpoint"
COPIES = "copies"  # below the home
KEPT_SECONDS = 7 * 86400.0  # after a copy was last opened
WEIGHTS = ".safetensors"


@dataclass(frozen=True, slots=True)
class StoredModel:
    """The files of a checkpoint in a store, and the directory that every machine keeps its copy in. Can be sent to
    other processes."""

    store: ArtifactStore
    files: tuple[Artifact, ...]
    path: Path

    def has(self, name: str) -> bool:
        """Whether a file of this name is in it."""
        return any(_below(file) == name for file in self.files)

    def fetch(self, *, weights: bool) -> None:
        """Make the files be at `path`, those with weights only if they are wanted; each appears whole, and is what the
        database knows.

        Raises:
            FileMissing, FileDamaged, FilesUnreachable: the store does not have it, or not now.
            OSError: this machine's disk does not take it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with _alone(self.path):
            for file in self.files:
                path = self.path / _below(file)
                if (weights or path.suffix != WEIGHTS) and not _is_there(path, file):
                    fetch(self.store, file, path)
            os.utime(self.path)
        _forget_old(self.path.parent)


class StoredModels:
    """Those of one database and one store, with copies below `home`."""

    def __init__(self, database: Database, store: ArtifactStore, home: Path) -> None:
        self._rows, self._store, self._home = Artifacts(database), store, home

    def of(self, job_id: str) -> StoredModel | None:
        """The checkpoint of a job; None where its files have paths anyhow, or there is none."""
        files = tuple(file for file in self._rows.of(job_id) if file.name.startswith(f"{CHECKPOINT}/"))
        if not files or self._store.directory(job_id) is not None:
            return None
        content = hashlib.sha256("\n".join(f"{file.name} {file.sha256}" for file in files).encode()).hexdigest()
        return StoredModel(self._store, files, self._home.absolute() / COPIES / content[:32])


def _below(file: Artifact) -> str:
    return file.name.removeprefix(f"{CHECKPOINT}/")


def _is_there(path: Path, file: Artifact) -> bool:
    with suppress(OSError):
        return path.stat().st_size == file.bytes
    return False


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Whoever else opens the model here waits for this copy instead of making it, too."""
    with directory.with_name(f".{directory.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _forget_old(copies: Path) -> None:
    for path in copies.iterdir():
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
