"""The contract of a store of files. What is in it counts as far as the database has a row of it, with a checksum."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

from service.errors import FileDamaged
from storage.records import Artifact

CHUNK_BYTES = 1 << 20


class ArtifactStore(Protocol):
    """Files by keys: names with slashes between them, of which the first is the id of a job. Thread-safe; it can be
    sent to other processes, where it finds the same files.

    A file appears whole or not at all. Whatever cannot be done now, because a disk is full or a server away, raises
    FilesUnreachable (an OSError), and may go well later.
    """

    @property
    def place(self) -> str:
        """Where it is, as operators write it."""

    def directory(self, job_id: str) -> Path | None:
        """Where a job's files lie, if programs of every machine can open them there; they may then be written there
        without `put`. None: only this contract reaches them."""

    def url(self, key: str) -> str:
        """What a user is told of where a file or a prefix is."""

    def put(self, key: str, file: Path) -> None:
        """Store a file, in place of one that had the key; nothing where it lies there already."""

    def read(self, key: str) -> Iterator[bytes]:
        """The content, in chunks. Raises: FileMissing, before the first; FilesUnreachable, then as well."""

    def sizes(self, prefix: str = "") -> Mapping[str, int]:
        """Bytes of every file below `prefix`, by key; what appears or goes meanwhile may be missing."""

    def job_ids(self) -> tuple[str, ...]:
        """The jobs that have files."""

    def remove(self, prefix: str) -> int:
        """Remove a file, or all below `prefix`; the bytes. What is not there is removed."""

    def finish(self) -> None:
        """Remove what a process that died had begun to remove."""

    def check(self) -> None:
        """Write, read and remove a file. Raises: FilesUnreachable, with what to do about it."""


def digested(file: Path) -> tuple[int, str]:
    """Bytes and sha256 of a file; it is read in chunks."""
    digest, size = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def verified(chunks: Iterable[bytes], file: Artifact) -> Iterator[bytes]:
    """The same chunks; the last one only when they are the content that the database knows.

    Raises:
        FileDamaged: they are not.
    """
    digest, size, held = hashlib.sha256(), 0, b""
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
        if held:
            yield held
        held = chunk
    if (size, digest.hexdigest()) != (file.bytes, file.sha256):
        raise FileDamaged(
            f"{file.key} must have the {file.bytes} bytes and the sha256 {file.sha256[:12]}... of when it was stored, "
            f"but has {size} bytes and {digest.hexdigest()[:12]}..."
        )
    if held:
        yield held


def fetch(store: ArtifactStore, file: Artifact, path: Path) -> None:
    """A copy of `file` at `path`, which appears whole or not at all. Raises: FileMissing, FileDamaged, OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
    try:
        with unfinished.open("wb") as out:
            for chunk in verified(store.read(file.key), file):
                out.write(chunk)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
